"""The committed proof: a JSON line in docs/proof/ for all that was run, and the tables that documents show of them.

Lines are added and never changed, so that campaigns of many days add up; the tables are rendered from all of them. A
line names the commit that it ran at: the same seed is another run where the code is another.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[1]
RECORDS: Final = PROJECT / "docs" / "proof"
PAGE: Final = PROJECT / "docs" / "reliability.md"


def commit() -> str:
    """Of the checkout, and whether it was changed since in more than documents."""
    changed = _git("diff", "--stat", "HEAD", "--", ".", ":!docs")
    return (_git("rev-parse", "--short=7", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def add(record: str, line: dict[str, Any]) -> None:
    """To `docs/proof/<record>.jsonl`."""
    with (RECORDS / f"{record}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def lines(record: str) -> list[dict[str, Any]]:
    path = RECORDS / f"{record}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def show(section: str, table: str, page: Path = PAGE) -> None:
    """Put the table into its place on the page, between two comments that bear its name."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {section} -->\n")
    _, end, after = rest.partition(f"<!-- end of {section} -->\n")
    assert begin, f"{page} has no place for {section}"
    assert end, f"{page}: the place of {section} has no end"
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; its cells as they read."""
    all_rows = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in all_rows)
