"""What clients saw of a cluster under faults: one value per finished operation, as a checker wants it.

Owns the vocabulary of histories and nothing else: no clock, no socket, nothing of the project. Every value in a history
is unique, times are monotonic seconds. `unknown` is legal either way; `refused` claims that nothing was written.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a client was told."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """Values sent into one partition as one batch, in this order; `offsets` where they were acknowledged."""

    partition: str
    values: tuple[str, ...]
    began_s: float
    ended_s: float
    outcome: Outcome
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Poll:
    """One answered fetch that asked for everything from `asked_offset` on."""

    partition: str
    began_s: float
    ended_s: float
    asked_offset: int
    records: tuple[tuple[int, str], ...]
    high_watermark: int


@dataclass(frozen=True, slots=True)
class Final:
    """All that a partition held when the faults were over, read through its leader or from one replica's disk."""

    partition: str
    records: tuple[tuple[int, str], ...]
    log_start_offset: int = 0
    source: str = "leader"


@dataclass(frozen=True, slots=True)
class Creation:
    """One attempt to create a topic under a name that nobody else uses."""

    name: str
    outcome: Outcome
    topic_id: str | None = None


Operation = Send | Poll | Final | Creation


def counts(history: Iterable[Operation]) -> str:
    """How much a run proves: one without acknowledgements proves nothing."""
    seen: Counter[str] = Counter()
    for operation in history:
        match operation:
            case Send(outcome=outcome, values=values):
                seen[f"records {outcome}"] += len(values)
            case Poll(records=records):
                seen["records polled"] += len(records)
            case Final(records=records):
                seen["records at the end"] += len(records)
            case Creation(outcome=outcome):
                seen[f"topics {outcome}"] += 1
    return ", ".join(f"{count} {what}" for what, count in sorted(seen.items()))
