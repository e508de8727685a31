"""The committed table of campaigns, `docs/proof/faults.md`: one line each, never rewritten.

Owns the form of a line. Refuses to judge: a campaign that found something gets its line too.
"""

import argparse
import subprocess
import time
from pathlib import Path

from tests.faults.history import Outcome
from tests.faults.tally import ALL, Tally

PROJECT = Path(__file__).resolve().parents[2]
TABLE = PROJECT / "docs" / "proof" / "faults.md"


def line(tally: Tally, options: argparse.Namespace, seed: int, found: list[str], *, commit: str, day: str) -> str:
    total = tally.rows[ALL]
    cells = (
        day, commit, f"{options.minutes:g}", options.nodes, options.only or "all", seed, total.cycles, tally.hit_leader,
        f"{total.acknowledged:,}", f"{total.refused:,}", f"{total.unknown:,}",
        f"{tally.outside_share:.1%}" if tally.outside[Outcome.ACKNOWLEDGED] else "-",
        total.lost, total.duplicated, total.diverged, f"{total.unavailable_s:.1f}", f"{total.heal_s:.1f}",
        ", ".join(sorted(set(found))) or "nothing",
    )  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def append_line(tally: Tally, options: argparse.Namespace, seed: int, found: list[str]) -> None:
    """At the end of the file, where the table is."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    commit = told.stdout.strip() or "?"
    with TABLE.open("a", encoding="utf-8") as file:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        file.write(line(tally, options, seed, found, commit=commit, day=day) + "\n")
