"""docs/kafka-compatibility.md: written from what the tests of this folder saw, and read back by a test.

Owns everything between the page's two markers; the prose around them is a person's.
"""

import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.clients.features import CLIENTS, FEATURES

BEGIN = "<!-- written by scripts/compatibility -->"
END = "<!-- end of what is written by scripts/compatibility -->"


class Outcome(NamedTuple):
    """`verdict`: yes, no, "cannot" (the client has no such thing, `reason` says why) or "not run"."""

    verdict: str
    reason: str


@dataclass
class Results:
    """What one run saw."""

    versions: dict[str, str] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)


VERSION_ROW = "version"
_NOTE = re.compile(r"^(\d+)\. [\w-]+: (.*)$", re.MULTILINE)
NOT_RUN = Outcome("not run", "")


def render(results: Results) -> str:
    """The table and its notes."""
    rows = [["", *CLIENTS], ["---"] * (len(CLIENTS) + 1)]
    rows.append([VERSION_ROW, *(results.versions.get(client) or "-" for client in CLIENTS)])
    notes: dict[str, int] = {}
    for key, row in FEATURES.items():
        outcomes = [results.outcomes.get((client, key), NOT_RUN) for client in CLIENTS]
        rows.append([row, *(_cell(outcome, client, notes) for outcome, client in zip(outcomes, CLIENTS, strict=True))])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if notes:
        lines.append("")
    lines += [f"{number}. {note}" for note, number in notes.items()]
    return "\n".join(lines)


def _cell(outcome: Outcome, client: str, notes: dict[str, int]) -> str:
    if outcome.verdict == "cannot":
        number = notes.setdefault(f"{client}: {outcome.reason}", len(notes) + 1)
        return f"- ({number})"
    return outcome.verdict


def write_page(page: Path, results: Results) -> None:
    """Put the table of this run into the page; what was not run keeps what an earlier run has seen."""
    text = page.read_text(encoding="utf-8")
    if BEGIN + "\n\n|" in text:
        results = _merged(read_results(text), results)
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page} has the first marker"
    assert end, f"{page} has the second marker"
    where = f"Python {platform.python_version()}, {platform.system()}, three nodes on one machine."
    page.write_text(f"{before}{begin}\n\n{render(results)}\n\n{where}\n\n{end}{after}", encoding="utf-8")


def _merged(earlier: Results, now: Results) -> Results:
    ran = {cell: outcome for cell, outcome in now.outcomes.items() if outcome.verdict != NOT_RUN.verdict}
    versions = {client: version for client, version in now.versions.items() if version}
    return Results(earlier.versions | versions, earlier.outcomes | ran)


def read_results(text: str) -> Results:
    """What a page says, as the run that wrote it saw it."""
    notes = dict(_NOTE.findall(text))
    keys = {row: key for key, row in FEATURES.items()}
    results = Results()
    for (client, row), verdict in _cells(text).items():
        if row == VERSION_ROW:
            results.versions[client] = verdict.removeprefix("-")
        elif client in CLIENTS and row in keys:
            number = verdict.removeprefix("- (").removesuffix(")")
            outcome = Outcome(verdict, "") if number == verdict else Outcome("cannot", notes[number])
            results.outcomes[client, keys[row]] = outcome
    return results


def read_page(text: str) -> dict[tuple[str, str], str]:
    """(client, row) -> verdict, of what the page's table says; ValueError where there is no such table."""
    return {cell: verdict for cell, verdict in _cells(text).items() if cell[1] != VERSION_ROW}


def _cells(text: str) -> dict[tuple[str, str], str]:
    _, begin, rest = text.partition(BEGIN)
    table, end, _ = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no markers")
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    (_, *clients), _, *features = rows
    return {(client, row[0]): verdict for row in features for client, verdict in zip(clients, row[1:], strict=True)}
