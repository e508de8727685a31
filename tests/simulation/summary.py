"""What simulated runs were worth, told at the end of a test run: tests that pass say nothing else.

Tests record what they ran as properties of their reports, which come here from whichever process ran them.
"""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any, Final

SIMULATED: Final = "simulated"
"""A list of [acknowledged sends, faults, elections, events], one a seed."""
CPU_S: Final = "simulated CPU s"
HUNTED: Final = "hunted"
"""A line on a mutant."""


def lines(reports: Iterable[Any]) -> Iterator[str]:
    """For people; none where nothing was simulated."""
    properties = [one for report in reports for one in getattr(report, "user_properties", ())]
    runs = [run for name, value in properties if name == SIMULATED for run in value]
    if runs:
        acknowledged, faults, elections, events = zip(*runs, strict=True)
        cpu_s = sum(value for name, value in properties if name == CPU_S)
        yield (
            f"simulated clusters: {len(runs):,} seeds, {sum(acknowledged):,} acknowledged sends, {sum(faults):,} "
            f"faults, {sum(events) / max(cpu_s, 0.1):,.0f} events/s; the median run {median(acknowledged):,.0f} sends, "
            f"{median(faults):.0f} faults, {median(elections):.0f} changes of leaders"
        )
    yield from sorted(f"mutant {value}" for name, value in properties if name == HUNTED)
