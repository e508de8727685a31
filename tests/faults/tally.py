"""What a campaign proves, in numbers: a row for each kind of fault, and one for all.

Owns the arithmetic between a history and the times at which faults were on. Refuses to praise: a row says how much was
acknowledged, refused and in doubt while its fault was on, so that an empty run shows. What was not judged is counted
apart. A cycle with several kinds counts in the row of each; one without any fault in its own row only.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from tests.faults.checker import Violation
from tests.faults.fault_kinds import NOTHING
from tests.faults.history import Operation, Outcome, Send

QUIET_SHARE_MIN = 0.5
ANSWERED_S = 10.0
"""Whoever still does not know after so long was not answered by the time-out of his request."""
LOST = {"lost-write", "acked-not-on-replica", "lost-read", "offset-gap", "torn-send", "lost-topic", "lost-beginning"}
DUPLICATED = {"duplicate"}
ALL = "all"
HEAD = ("fault", "cycles", "acked", "failed", "unknown", "lost", "duplicated", "diverged", "silent", "healed in")


@dataclass(slots=True)
class Cycle:
    """From the strike until everything was whole again (monotonic seconds)."""

    kinds: tuple[str, ...]
    began_s: float
    hit_leader: bool
    ended_s: float = inf
    """Without an end where L1 never held: nothing after it is outside of faults."""
    heal_s: float = 0.0
    """From the end of the faults until L1 held, or was given up."""

    @property
    def is_fault(self) -> bool:
        return self.kinds != (NOTHING,)

    def overlaps(self, send: Send) -> bool:
        return send.ended_s >= self.began_s and send.began_s <= self.ended_s


@dataclass(slots=True)
class Row:
    cycles: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    lost: int = 0
    duplicated: int = 0
    diverged: int = 0
    unavailable_s: float = 0.0
    heal_s: float = 0.0

    def add(self, outcomes: Counter[Outcome]) -> None:
        self.acknowledged += outcomes[Outcome.ACKNOWLEDGED]
        self.refused += outcomes[Outcome.REFUSED]
        self.unknown += outcomes[Outcome.UNKNOWN]

    def join(self, other: "Row") -> None:
        """Another campaign's row of the same name."""
        for name in ("cycles", "acknowledged", "refused", "unknown", "lost", "duplicated", "diverged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unavailable_s = max(self.unavailable_s, other.unavailable_s)
        self.heal_s = max(self.heal_s, other.heal_s)

    def blame(self, violations: Iterable[Violation]) -> None:
        for violation in violations:
            if violation.name in LOST:
                self.lost += 1
            elif violation.name in DUPLICATED:
                self.duplicated += 1
            else:
                self.diverged += 1


@dataclass(slots=True)
class Tally:
    """Rows by kind; requests, not records."""

    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    hit_leader: int = 0
    outside: Counter[Outcome] = field(default_factory=Counter)
    """Requests that no fault overlapped, of all rounds."""
    unanswered: list[Send] = field(default_factory=list)
    """Those of them that nobody answered by their time-outs."""
    records: int = 0
    unjudged: int = 0
    """Requests of rounds that could not be judged, or not as a whole: they are in no row."""

    def add(
        self, history: Iterable[Operation], cycles: list[Cycle], violations: list[Violation], *, is_judged: bool
    ) -> None:
        """One round."""
        sends = [operation for operation in history if isinstance(operation, Send)]
        faults = [cycle for cycle in cycles if cycle.is_fault]
        quiet = [send for send in sends if not any(cycle.overlaps(send) for cycle in faults)]
        self.outside += Counter(send.outcome for send in quiet)
        self.unanswered += (s for s in quiet if s.outcome is Outcome.UNKNOWN and s.ended_s - s.began_s >= ANSWERED_S)
        self.hit_leader += sum(cycle.hit_leader for cycle in faults)
        for cycle in cycles:
            unavailable_s = longest_silence_s(sends, cycle.began_s, cycle.ended_s)
            for name in (ALL, *cycle.kinds) if cycle.is_fault else cycle.kinds:
                row = self.rows[name]
                row.cycles += 1
                row.unavailable_s = max(row.unavailable_s, unavailable_s)
                row.heal_s = max(row.heal_s, cycle.heal_s)
        for name in {ALL, *(kind for cycle in cycles for kind in cycle.kinds)}:
            self.rows[name].blame(violations)
        if is_judged:
            self._count(sends, cycles)
        else:
            self.unjudged += len(sends)

    def _count(self, sends: list[Send], cycles: list[Cycle]) -> None:
        self.rows[ALL].add(Counter(send.outcome for send in sends))
        self.records += sum(len(send.values) for send in sends if send.outcome is Outcome.ACKNOWLEDGED)
        for cycle in cycles:
            within = Counter(send.outcome for send in sends if cycle.overlaps(send))
            for kind in cycle.kinds:
                self.rows[kind].add(within)

    @property
    def outside_share(self) -> float:
        """Acknowledged of what was sent while nothing was broken."""
        return self.outside[Outcome.ACKNOWLEDGED] / max(1, self.outside.total())

    def found_outside(self) -> list[Violation]:
        """What must not happen while nothing is broken: requests refused or in doubt by the half, or not answered."""
        found = [
            Violation("unanswered", send.partition, f"{send.values[0]}... for {send.ended_s - send.began_s:.1f} s")
            for send in self.unanswered
        ]
        if self.outside and self.outside_share < QUIET_SHARE_MIN:
            what = f"outside of faults {self.outside_share:.1%} of {self.outside.total():,} requests were acknowledged"
            found.append(Violation("unavailable", "-", what))
        return found

    def table(self) -> str:
        """For people; `lost` to `diverged` count violations."""
        names = sorted(self.rows, key=lambda name: (name == ALL, name))
        lines = [HEAD, *(_line(name, self.rows[name]) for name in names)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(_cell, line, widths)) for line in lines)


def _line(name: str, row: Row) -> tuple[str, ...]:
    counted = (row.cycles, row.acknowledged, row.refused, row.unknown, row.lost, row.duplicated, row.diverged)
    return (name, *(f"{count:,}" for count in counted), f"{row.unavailable_s:.1f} s", f"{row.heal_s:.1f} s")


def _cell(text: str, width: int) -> str:
    return text.rjust(width) if text[:1].isdigit() else text.ljust(width)


def longest_silence_s(sends: Iterable[Send], began_s: float, ended_s: float) -> float:
    """Between two acknowledgements of one partition that touch this time: how long clients saw nobody write there."""
    times: dict[str, list[float]] = defaultdict(list)
    for send in sends:
        if send.outcome is Outcome.ACKNOWLEDGED:
            times[send.partition].append(send.ended_s)
    longest = 0.0
    for acknowledged in times.values():
        acknowledged.sort()
        first, last = bisect_left(acknowledged, began_s) - 1, bisect_right(acknowledged, ended_s)
        touching = acknowledged[max(0, first) : last + 1]
        longest = max(longest, *(b - a for a, b in pairwise(touching)), 0.0)
    return longest
