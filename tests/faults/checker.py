"""Judges a history of sends, polls and final reads; it knows nothing of the project that is judged.

Owns the names of what must not happen (S1, S6, S12, S14, S15 as a client can see them). Refuses nothing: an empty list
is the only praise. Its own tests plant each defect (`test_checker.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.faults.history import Creation, Final, Operation, Outcome, Poll, Send


@dataclass(frozen=True, slots=True)
class Violation:
    """`name` is a kind that never changes, `what` is for people."""

    name: str
    partition: str
    what: str


@dataclass(slots=True)
class _Partition:
    """One partition's part of the history."""

    name: str
    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)

    def seen(self) -> Iterator[tuple[int, str]]:
        """Every record that a reader saw, with repetition."""
        for read in (*self.polls, *self.finals):
            yield from read.records


def check(history: Iterable[Operation]) -> list[Violation]:
    """Everything that the history proves wrong; each partition on its own."""
    partitions: dict[str, _Partition] = {}
    home: dict[str, str] = {}
    for operation in history:
        if isinstance(operation, Creation):
            continue
        partition = partitions.setdefault(operation.partition, _Partition(operation.partition))
        match operation:
            case Send():
                partition.sends.append(operation)
                for value in operation.values:
                    assert value not in home, f"the history itself sends {value} twice"
                    home[value] = operation.partition
            case Poll():
                partition.polls.append(operation)
            case Final():
                partition.finals.append(operation)
    return [violation for partition in partitions.values() for violation in _check_partition(partition, home)]


def check_topics(history: Iterable[Operation], found: Mapping[str, str]) -> list[Violation]:
    """`found`: the topics that exist in the end, name to id."""
    violations = []
    for creation in history:
        if not isinstance(creation, Creation):
            continue
        topic_id = found.get(creation.name)
        if creation.outcome is Outcome.ACKNOWLEDGED and topic_id is None:
            violations.append(Violation("lost-topic", creation.name, "was created and does not exist"))
        elif creation.outcome is Outcome.ACKNOWLEDGED and topic_id != creation.topic_id:
            what = f"was created as {creation.topic_id} and is {topic_id}"
            violations.append(Violation("changed-topic-id", creation.name, what))
        elif creation.outcome is Outcome.REFUSED and topic_id is not None:
            violations.append(Violation("aborted-topic", creation.name, f"was refused and exists as {topic_id}"))
    return violations


def _check_partition(partition: _Partition, home: Mapping[str, str]) -> Iterator[Violation]:
    for rule in (_one_value_per_offset, _one_offset_per_value, _acknowledged_and_read_survive):
        yield from rule(partition)
    yield from _only_what_was_sent(partition, home)
    for rule in (_reads_are_whole, _sends_are_whole, _real_time_order):
        yield from rule(partition)


def _one_value_per_offset(partition: _Partition) -> Iterator[Violation]:
    values: dict[int, set[str]] = defaultdict(set)
    for offset, value in partition.seen():
        values[offset].add(value)
    for send in partition.sends:
        for offset, value in zip(send.offsets, send.values, strict=bool(send.offsets)):
            values[offset].add(value)
    for offset, several in sorted(values.items()):
        if len(several) > 1:
            yield Violation("inconsistent-offset", partition.name, f"offset {offset} holds {sorted(several)}")


def _one_offset_per_value(partition: _Partition) -> Iterator[Violation]:
    offsets: dict[str, set[int]] = defaultdict(set)
    for offset, value in partition.seen():
        offsets[value].add(offset)
    for value, several in offsets.items():
        if len(several) > 1:
            yield Violation("duplicate", partition.name, f"{value} lies at offsets {sorted(several)}")


def _acknowledged_and_read_survive(partition: _Partition) -> Iterator[Violation]:
    for final in partition.finals:
        kept = dict(final.records)
        for send in partition.sends:
            if send.outcome is Outcome.ACKNOWLEDGED:
                for offset, value in zip(send.offsets, send.values, strict=True):
                    if offset >= final.log_start_offset and kept.get(offset) != value:
                        found = kept.get(offset, "nothing")
                        what = f"{value} was acknowledged at {offset}, where {final.source} has {found}"
                        yield Violation("lost-write", partition.name, what)
        for poll in partition.polls:
            for offset, value in poll.records:
                if offset >= final.log_start_offset and offset not in kept:
                    yield Violation(
                        "lost-read", partition.name, f"{value} was read at {offset}, where {final.source} has nothing"
                    )


def _only_what_was_sent(partition: _Partition, home: Mapping[str, str]) -> Iterator[Violation]:
    sends = {value: send for send in partition.sends for value in send.values}
    for offset, value in set(partition.seen()):
        if value not in sends:
            name = "misplaced" if value in home else "phantom"
            yield Violation(name, partition.name, f"{value} at {offset}; sent to {home.get(value, 'nobody')}")
        elif sends[value].outcome is Outcome.REFUSED:
            yield Violation("aborted-read", partition.name, f"{value} was refused and lies at {offset}")
    for poll in partition.polls:
        for offset, value in poll.records:
            if value in sends and poll.ended_s < sends[value].began_s:
                yield Violation("read-before-send", partition.name, f"{value} at {offset}")


def _reads_are_whole(partition: _Partition) -> Iterator[Violation]:
    for poll in partition.polls:
        yield from _contiguous(partition.name, "poll-skip", poll.asked_offset, poll.records)
        beyond = [offset for offset, _ in poll.records if offset >= poll.high_watermark]
        if beyond:
            what = f"offsets {beyond} were read, the high watermark was {poll.high_watermark}"
            yield Violation("read-beyond-high-watermark", partition.name, what)
    for final in partition.finals:
        yield from _contiguous(partition.name, "offset-gap", final.log_start_offset, final.records)


def _contiguous(name: str, kind: str, first: int, records: tuple[tuple[int, str], ...]) -> Iterator[Violation]:
    for position, (offset, _) in enumerate(records):
        if offset != first + position:
            yield Violation(kind, name, f"offset {first + position} was due and {offset} came")
            return


def _sends_are_whole(partition: _Partition) -> Iterator[Violation]:
    """A batch is written as one: all of it, together and in its order, or nothing."""
    for send in partition.sends:
        if send.offsets and send.offsets != tuple(range(send.offsets[0], send.offsets[0] + len(send.values))):
            yield Violation("scattered-send", partition.name, f"{send.values[0]}...: {send.offsets}")
    for final in partition.finals:
        offsets = {value: offset for offset, value in final.records}
        for send in partition.sends:
            found = [offsets[value] for value in send.values if value in offsets]
            last = send.values[-1]
            is_expired = bool(found) and last in offsets and offsets[last] < final.log_start_offset + len(send.values)
            if found and not is_expired and found != list(range(found[0], found[0] + len(send.values))):
                yield Violation("torn-send", partition.name, f"of {send.values[0]}... {found} is there")


def _real_time_order(partition: _Partition) -> Iterator[Violation]:
    """S14: what ended before another began lies before it, whoever sent it."""
    offsets = {value: offset for offset, value in partition.seen()}
    placed: list[tuple[Send, int, int]] = []
    for send in partition.sends:
        known = list(send.offsets) or [offsets[value] for value in send.values if value in offsets]
        if known:
            placed.append((send, min(known), max(known)))
    ended = sorted((entry for entry in placed if entry[0].outcome is Outcome.ACKNOWLEDGED), key=lambda e: e[0].ended_s)
    latest, at = -1, 0
    for send, lowest, _ in sorted(placed, key=lambda entry: entry[0].began_s):
        while at < len(ended) and ended[at][0].ended_s < send.began_s:
            latest = max(latest, ended[at][2])
            at += 1
        if lowest <= latest:
            what = f"{send.values[0]} lies at {lowest}, though {latest} had been acknowledged before it was sent"
            yield Violation("realtime-order", partition.name, what)
