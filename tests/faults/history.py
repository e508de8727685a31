"""What clients saw of a cluster under faults: one value per finished operation, as a checker wants it.

Owns the vocabulary of histories and nothing else: no clock, no socket, nothing of the project. Every value in a history
is unique, times are monotonic seconds. `unknown` is legal either way; `refused` claims that nothing was written.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """What a client was told."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """Values sent into one partition as one batch, in this order; `offsets` where they were acknowledged.

    Acknowledged without offsets: they lie there, written by an earlier try, and nobody said where.
    """

    partition: str
    values: tuple[str, ...]
    began_s: float
    ended_s: float
    outcome: Outcome
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Poll:
    """One answered fetch that asked for everything from `asked_offset` on.

    Those of one `process` follow each other: each asks for what the one before it left, from the beginning on.
    """

    partition: str
    began_s: float
    ended_s: float
    asked_offset: int
    records: tuple[tuple[int, str], ...]
    high_watermark: int
    process: str = ""
    """Empty where each poll stands for itself."""


@dataclass(frozen=True, slots=True)
class Final:
    """All that a partition held when the faults were over, read through its leader or from one replica's disk."""

    partition: str
    records: tuple[tuple[int, str], ...]
    log_start_offset: int = 0
    source: str = "leader"
    epochs: tuple[tuple[int, int], ...] = ()
    """Where it is known: (first offset, leader epoch) of each run of batches with the same epoch."""
    damage: str = ""
    """What of it could not be read, and is not in `records`."""
    is_settled: bool = True
    """False where the cluster was not whole: this replica may lack what others have, and hold what nobody counts on."""


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


# --- as lines of JSON, the form in which a history is kept ------------------------------------------------------------


def save(history: Iterable[Operation], file: Path) -> None:
    """One line an operation."""
    with file.open("w", encoding="utf-8") as lines:
        for operation in history:
            lines.write(json.dumps(as_line(operation), separators=(",", ":")) + "\n")


def load(file: Path) -> Iterator[Operation]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield from_line(json.loads(line))


def as_line(operation: Operation) -> dict[str, Any]:
    """`f` function, `p` process, `k` partition, `v` values, `o` offsets, `t0` and `t1` monotonic seconds."""
    match operation:
        case Send(partition, values, began_s, ended_s, outcome, offsets):
            kind = _TYPES[outcome]
            return {"f": "send", "k": partition, "v": values, "t0": began_s, "t1": ended_s, "type": kind, "o": offsets}
        case Poll(partition, began_s, ended_s, asked_offset, records, high_watermark, process):
            told = {"f": "poll", "p": process, "k": partition, "t0": began_s, "t1": ended_s, "from": asked_offset}
            return told | {"m": records, "high_watermark": high_watermark}
        case Final(partition, records, log_start_offset, source, epochs, damage, is_settled):
            told = {"f": "final", "k": partition, "src": source, "m": records, "start": log_start_offset, "e": epochs}
            return told | {"damage": damage, "settled": is_settled}
        case Creation(name, outcome, topic_id):
            return {"f": "create", "k": name, "type": _TYPES[outcome], "id": topic_id}


def from_line(line: Mapping[str, Any]) -> Operation:
    match line["f"]:
        case "send":
            outcome = _OUTCOMES[line["type"]]
            return Send(line["k"], tuple(line["v"]), line["t0"], line["t1"], outcome, tuple(line["o"]))
        case "poll":
            records = _pairs(line["m"])
            told = line["t0"], line["t1"], line["from"], records, line["high_watermark"], line.get("p", "")
            return Poll(line["k"], *told)
        case "final":
            state = line.get("damage", ""), line.get("settled", True)
            return Final(line["k"], _pairs(line["m"]), line["start"], line["src"], _pairs(line["e"]), *state)
        case _:
            return Creation(line["k"], _OUTCOMES[line["type"]], line["id"])


def _pairs(lists: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    return tuple(map(tuple, lists))


_TYPES = {Outcome.ACKNOWLEDGED: "ok", Outcome.REFUSED: "fail", Outcome.UNKNOWN: "info"}
_OUTCOMES = {kind: outcome for outcome, kind in _TYPES.items()}
