"""The house rules that no linter knows: each message says what to do.

Rules are over what git would commit (tracked, or new and not ignored), so a file is judged before it is added. Where a
rule names a marker comment, the comment's reason is what a reviewer judges.
"""

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = {"api", "broker", "cli", "kraft", "logstore", "metadata", "wire"}
PURE_ROOMS = {"metadata", "wire"}
TOP_LEVEL = ROOMS | {
    *(".ci", ".gitignore", "scripts", "tests", "docs"),
    *("pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"),
}

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
README_LINES_MAX = 120
DECISION_LINES_MAX = 60

NAMES_OF_NOTHING = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
KAFKA_WORDS = {
    "hw": "high_watermark",
    "leo": "log_end_offset",
    "isr": "in_sync_replicas",
    "elr": "eligible_leader_replicas",
}
FIELDS_OF_A_PROTOCOL = frozenset({"isr_nodes", "last_known_elr", "is_under_min_isr"})
"""Spelled as the wire or the HTTP body spells them; everything that is ours to name is written whole."""
IMPURE_CALLS = {"open", "print", "input", "uuid1", "uuid4", "now", "utcnow", "today", "fromtimestamp"}
POSTPONED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")


@functools.cache
def committed() -> tuple[Path, ...]:
    """Every file that git has or would add, relative to the checkout."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=PROJECT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("not a git checkout: there is nothing to tell project files from others by")
    paths = {Path(name) for name in answer.stdout.split("\0") if name}
    return tuple(sorted(path for path in paths if (PROJECT / path).is_file()))


def python_files(*, only: str | None = None) -> list[Path]:
    return [path for path in committed() if path.suffix == ".py" and only in (None, path.parts[0])]


@functools.cache
def text_of(path: Path) -> str:
    return (PROJECT / path).read_text(encoding="utf-8", errors="replace")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), filename=str(path))


def is_script(path: Path) -> bool:
    return path.suffix == ".sh" or (path.suffix == "" and text_of(path).startswith("#!"))


def prose_and_code() -> list[Path]:
    known = {".py", ".md", ".toml", ".sh"}
    return [path for path in committed() if path.suffix in known or path.parts[0] in {"scripts", ".ci"}]


def none_of(violations: Iterator[str]) -> None:
    """Fail with the list itself, without a stack trace that says nothing more."""
    found = list(violations)
    if found:
        pytest.fail("\n".join(["", *found]), pytrace=False)


def called_name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


# --- size: what grows past these holds two ideas ---------------------------------------------------------------------


def test_a_module_fits_in_a_head():
    def too_long() -> Iterator[str]:
        for path in committed():
            if (path.suffix == ".py" or is_script(path)) and (lines := text_of(path).count("\n")) > MODULE_LINES_MAX:
                yield f"{path}: {lines} lines, at most {MODULE_LINES_MAX}: split it, one idea a file, named by its noun"

    none_of(too_long())


def test_a_function_fits_on_a_screen():
    def too_long() -> Iterator[str]:
        for path in python_files():
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    if lines > FUNCTION_LINES_MAX:
                        yield (
                            f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}: "
                            "name its second idea and make it a function"
                        )

    none_of(too_long())


def test_the_readme_is_read_in_one_sitting():
    lines = text_of(Path("README.md")).count("\n")
    assert lines <= README_LINES_MAX, f"README.md has {lines} lines, at most {README_LINES_MAX}: move detail to docs/"


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_file_is_named_by_its_concept():
    def nameless() -> Iterator[str]:
        for path in python_files():
            for part in [*path.parts[:-1], path.stem]:
                if words := NAMES_OF_NOTHING & set(part.split("_")):
                    yield f"{path}: '{words.pop()}' names no concept: call it by the one thing that it holds"

    none_of(nameless())


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        for attribute in ("id", "arg", "attr", "name"):
            name = getattr(node, attribute, None)
            if isinstance(name, str):
                yield getattr(node, "lineno", 0), name


def test_kafkas_words_are_written_whole():
    def abbreviated() -> Iterator[str]:
        for path in python_files():
            for line, name in identifiers(tree_of(path)):
                if name in FIELDS_OF_A_PROTOCOL:
                    continue
                for word in set(name.lower().split("_")) & KAFKA_WORDS.keys():
                    yield f"{path}:{line}: {name}: write {KAFKA_WORDS[word]}, not {word}"

    none_of(abbreviated())


def test_a_module_opens_by_saying_what_it_owns():
    def silent() -> Iterator[str]:
        for path in python_files():
            if not ast.get_docstring(tree_of(path)):
                yield f"{path}: opens without a docstring: say what it owns, what it refuses, and its invariants"

    none_of(silent())


# --- nothing is left for later, nothing is silenced without a word ----------------------------------------------------


def test_nothing_is_left_for_later():
    def postponed() -> Iterator[str]:
        for path in prose_and_code():
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if mark := POSTPONED.search(line):
                    yield f"{path}:{number}: {mark[0]}: do it now, or write in docs/ what is missing and why"

    none_of(postponed())


SILENCED_WITH_REASON = re.compile(
    r"#\s*(?:ruff:\s*)?noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*\s*[^\w\s]+\s*\w+"  # code, then a dash or #, then words
    r"|#\s*type:\s*ignore\[[\w,\s-]+\]\s*#\s*\w+"
    r"|#\s*pragma: no cover\s*[^\w\s]+\s*\w+"
)
SILENCED = re.compile(r"#\s*(?:(?:ruff:\s*)?noqa\b|type:\s*ignore\b|pragma: no cover)")


def test_a_silenced_check_says_why():
    def unexplained() -> Iterator[str]:
        for path in python_files():
            if path == Path(__file__).resolve().relative_to(PROJECT):
                continue
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if len(SILENCED.findall(line)) > len(SILENCED_WITH_REASON.findall(line)):
                    yield (
                        f"{path}:{number}: add the code and the reason in the same line: "
                        "`# noqa: S603 - the command is our own` or `# type: ignore[misc]  # untyped library`"
                    )

    none_of(unexplained())


def test_a_skipped_test_says_why():
    def unexplained() -> Iterator[str]:
        for path in python_files(only="tests"):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail"}:
                    line = text_of(path).splitlines()[node.lineno - 1 : node.lineno + 4]
                    if "mark" in ast.unparse(node) and "reason=" not in "".join(line):
                        yield f"{path}:{node.lineno}: {node.attr} without reason=: say what would make it run"

    none_of(unexplained())


# --- purity and patience ---------------------------------------------------------------------------------------------


def test_pure_rooms_are_given_time_chance_and_bytes():
    """What an import contract cannot see: the builtin `open`, `datetime.now`, `uuid4`."""

    def impure() -> Iterator[str]:
        for path in python_files():
            if path.parts[0] in PURE_ROOMS:
                for node in ast.walk(tree_of(path)):
                    if isinstance(node, ast.Call) and (name := called_name(node)) in IMPURE_CALLS:
                        yield f"{path}:{node.lineno}: calls {name}(): take the value as an argument instead"

    none_of(impure())


def test_tests_wait_for_conditions_not_for_guesses():
    def guesses() -> Iterator[str]:
        for path in python_files(only="tests"):
            lines = text_of(path).splitlines()
            for node in ast.walk(tree_of(path)):
                sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
                if sleeps and not re.search(r"# sleeps: \w+", lines[node.lineno - 1]):
                    yield (
                        f"{path}:{node.lineno}: sleeps: wait for the condition itself; the pause inside a loop "
                        "that polls one carries `# sleeps: why there is nothing to wait on`"
                    )

    none_of(guesses())


# --- the shape of the checkout ---------------------------------------------------------------------------------------


def test_the_top_level_is_fixed():
    def strangers() -> Iterator[str]:
        for name in sorted({path.parts[0] for path in committed()} - TOP_LEVEL):
            yield f"{name}: not one of the fixed top-level names: it belongs inside a room, scripts/, tests/ or docs/"

    none_of(strangers())


def test_no_package_hides_under_tests():
    def packages() -> Iterator[str]:
        for path in python_files(only="tests"):
            if path.name == "__init__.py":
                yield f"{path}: remove it: pytest imports tests by path (--import-mode=importlib)"

    none_of(packages())


def test_what_has_a_shebang_can_be_run():
    def unrunnable() -> Iterator[str]:
        for path in committed():
            if path.parts[0] in {"scripts", ".ci"} and path.suffix in {"", ".sh", ".py"}:
                runnable = bool((PROJECT / path).stat().st_mode & 0o100)
                if runnable != text_of(path).startswith("#!"):
                    yield f"{path}: what is run has a shebang and its executable bit (chmod +x), what is not has none"

    none_of(unrunnable())


def test_decisions_are_numbered_and_short():
    decisions = [path for path in committed() if path.parts[:2] == ("docs", "decisions")]
    assert [f"{number:04}" for number in range(1, len(decisions) + 1)] == [path.name[:4] for path in decisions], (
        "docs/decisions/ counts 0001, 0002, ... without a gap or a double: rename the newer one"
    )
    for path in decisions:
        assert text_of(path).count("\n") <= DECISION_LINES_MAX, f"{path}: half a page: context, decision, consequences"


def test_links_between_pages_lead_somewhere():
    def broken() -> Iterator[str]:
        for path in committed():
            if path.suffix == ".md":
                for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path)):
                    if "://" not in target and not (PROJECT / path.parent / target).exists():
                        yield f"{path}: links to {target}, which is not there"

    none_of(broken())
