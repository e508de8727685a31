"""What campaigns on real processes leave in the committed proof: a line each, a table of kinds and one of campaigns.

Refuses to judge: a campaign that found something gets its line too.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from tests import proof
from tests.faults.tally import ALL, Row, Tally

RECORD: Final = "faults"
KINDS: Final = "kinds of faults"
CAMPAIGNS: Final = "campaigns"
MIXED: Final = "mixed"
COUNTED_HEAD: Final = ("acknowledged", "refused", "unknown", "lost", "duplicated", "diverged", "silent s", "healed s")
KINDS_HEAD: Final = ("kind (`--only`)", "minutes of its own", "cycles", *COUNTED_HEAD)
CAMPAIGNS_HEAD: Final = (
    "day", "commit", "again: `scripts/faults`", "network", "cycles", "hit", *COUNTED_HEAD, "quiet", "found",
)  # fmt: skip
Line = dict[str, Any]


def line(tally: Tally, options: argparse.Namespace, seed: int, minutes: float, found: list[str]) -> Line:
    """What came of it.

    `minutes`: how long it ran, of `asked_minutes`; `rows`: what was printed, by kind; `quiet`: the share acknowledged
    of what no fault overlapped; `unjudged`: requests that are in no row.
    """
    return {
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": proof.commit(),
        "minutes": round(minutes, 1),
        "asked_minutes": options.minutes,
        "nodes": options.nodes,
        "only": options.only,
        "network": options.network,
        "seed": seed,
        "hit": tally.hit_leader,
        "quiet": round(tally.outside_share, 4) if tally.outside else None,
        "unjudged": tally.unjudged,
        "rows": {name: asdict(row) for name, row in sorted(tally.rows.items())},
        "found": sorted(set(found)),
    }


def append_line(tally: Tally, options: argparse.Namespace, seed: int, minutes: float, found: list[str]) -> None:
    proof.add(RECORD, line(tally, options, seed, minutes, found))
    show()


def show() -> None:
    lines = proof.lines(RECORD)
    proof.show(KINDS, kinds_table(lines))
    proof.show(CAMPAIGNS, campaigns_table(lines), proof.RECORDS / f"{CAMPAIGNS}.md")


def kinds_table(lines: Iterable[Line]) -> str:
    """All campaigns together. A cycle with several kinds counts in the row of each, and once in the last."""
    rows: dict[str, Row] = {}
    minutes = Counter[str]()
    for one in lines:
        minutes.update(dict.fromkeys({ALL, one["only"] or MIXED}, one["minutes"]))
        for name, row in one["rows"].items():
            rows.setdefault(name, Row()).join(Row(**row))
    names = sorted(rows, key=lambda name: (name == ALL, name))
    cells = [(f"`{name}`", f"{minutes[name]:g}", rows[name].cycles, *_counted(rows[name])) for name in names]
    mixed = f"\n{minutes[MIXED]:g} of the {minutes[ALL]:g} minutes were of all kinds mixed.\n"
    return proof.markdown(KINDS_HEAD, cells) + mixed


def campaigns_table(lines: Iterable[Line]) -> str:
    return proof.markdown(CAMPAIGNS_HEAD, map(_campaign, lines))


def _campaign(one: Line) -> tuple[object, ...]:
    total = Row(**one["rows"].get(ALL, {}))
    again = f"--minutes {one.get('asked_minutes', one['minutes']):g} --seed {one['seed']}"
    again += f" --nodes {one['nodes']}" if one["nodes"] != 3 else ""
    again += f" --only {one['only']}" if one["only"] else ""
    quiet = "-" if one["quiet"] is None else f"{one['quiet']:.1%}"
    found = ", ".join(one["found"]) or "nothing"
    return (
        one["day"],
        one["commit"],
        f"`{again}`",
        one["network"],
        total.cycles,
        one["hit"],
        *_counted(total),
        quiet,
        found,
    )


def _counted(row: Row) -> tuple[object, ...]:
    counted = (f"{count:,}" for count in (row.acknowledged, row.refused, row.unknown))
    return (*counted, row.lost, row.duplicated, row.diverged, f"{row.unavailable_s:.1f}", f"{row.heal_s:.1f}")
