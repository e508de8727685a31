"""Judges a history of sends, polls and final reads; it knows nothing of the project that is judged.

Owns the names of what must not happen (S1, S6, S12, S14, S15 as a client can see them). Refuses nothing: an empty list
is the only praise. Its own tests plant each defect (`test_checker.py`).
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.faults.history import Creation, Final, Operation, Outcome, Poll, Send, counts, load


@dataclass(frozen=True, slots=True)
class Violation:
    """`name` is a kind that never changes, `what` is for people."""

    name: str
    partition: str
    what: str


@dataclass(slots=True)
class _Partition:
    """One partition's part of the history, and what of it has to be looked at one by one.

    Nearly all reads of a good history are parts of one and the same log. `reference` is that log: reads and sends that
    agree with it in every record need no second look, the odd ones and the reference itself are judged by each rule.
    """

    name: str
    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    unsettled: list[Final] = field(default_factory=list)
    """Read while the cluster was not whole."""
    reference: Final | None = None
    odd_sends: list[Send] = field(default_factory=list)
    """Acknowledged, and not found where they were said to be."""
    unplaced: list[Send] = field(default_factory=list)
    """Acknowledged as written before, and nobody said where."""
    odd_polls: list[Poll] = field(default_factory=list)
    odd_finals: list[Final] = field(default_factory=list)
    send_of: dict[str, Send] = field(default_factory=dict)

    def sort_out(self) -> None:
        """Find the reference, and what differs from it."""
        whole = (final for final in self.finals if _is_contiguous(final.log_start_offset, final.records))
        self.reference = reference = max(whole, key=lambda final: len(final.records), default=None)
        start = reference.log_start_offset if reference else 0
        log = reference.records if reference else ()
        values = [value for _, value in log]
        for send in self.sends:
            if send.outcome is Outcome.ACKNOWLEDGED and not send.offsets:
                self.unplaced.append(send)
            elif send.outcome is Outcome.ACKNOWLEDGED:
                first = send.offsets[0] - start
                lies_there = first >= 0 and values[first : first + len(send.values)] == list(send.values)
                if not lies_there or not _is_contiguous(
                    send.offsets[0], tuple(zip(send.offsets, send.values, strict=True))
                ):
                    self.odd_sends.append(send)
        for poll in self.polls:
            first = poll.records[0][0] - start if poll.records else 0
            if first < 0 or log[first : first + len(poll.records)] != poll.records:
                self.odd_polls.append(poll)
        for final in self.finals:
            if final is not reference and (final.records != log or final.log_start_offset != start):
                self.odd_finals.append(final)

    @property
    def judged_finals(self) -> list[Final]:
        return [*([self.reference] if self.reference else []), *self.odd_finals]

    def seen(self) -> Iterator[tuple[int, str]]:
        """Every record that a reader saw, with repetition only where readers differ."""
        for read in (*self.judged_finals, *self.odd_polls):
            yield from read.records


def _is_contiguous(first: int, records: tuple[tuple[int, str], ...]) -> bool:
    return [offset for offset, _ in records] == list(range(first, first + len(records)))


def check(history: Iterable[Operation], *, deleted_to: int = 0) -> list[Violation]:
    """Everything that the history proves wrong; each partition on its own.

    `deleted_to`: up to which offset records may have been deleted, by whoever was asked to.
    """
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
                    partition.send_of[value] = operation
            case Poll():
                partition.polls.append(operation)
            case Final():
                (partition.finals if operation.is_settled else partition.unsettled).append(operation)
    return [
        violation
        for partition in partitions.values()
        for violation in (*_check_partition(partition, home), *_nothing_is_left_out(partition, deleted_to))
    ]


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
    partition.sort_out()
    for rule in (_one_value_per_offset, _one_offset_per_value, _acknowledged_survive, _unplaced_survive, _read_survive):
        yield from rule(partition)
    yield from _only_what_was_sent(partition, home)
    for rule in (_reads_follow_sends, _reads_are_whole, _readers_go_on, _sends_are_whole, _real_time_order):
        yield from rule(partition)
    for rule in (_epochs_never_fall, _replicas_agree, _replicas_are_intact, _some_replica_has_it):
        yield from rule(partition)


def _nothing_is_left_out(partition: _Partition, deleted_to: int) -> Iterator[Violation]:
    """What is not there at the end is not excused by a log that begins later, nor by nobody's having looked."""
    for final in partition.finals:
        if final.log_start_offset > deleted_to:
            what = (
                f"{final.source} begins at {final.log_start_offset}; nobody has deleted anything from {deleted_to} on"
            )
            yield Violation("lost-beginning", partition.name, what)
    was_written = any(send.outcome is Outcome.ACKNOWLEDGED for send in partition.sends)
    if was_written and not partition.unsettled and not any(final.source == "leader" for final in partition.finals):
        yield Violation("never-read", partition.name, "was written, and not read at the end: nothing is proven of it")


def _one_value_per_offset(partition: _Partition) -> Iterator[Violation]:
    first: dict[int, str] = {}
    several: dict[int, set[str]] = defaultdict(set)
    told = (pair for send in partition.odd_sends for pair in zip(send.offsets, send.values, strict=True))
    for offset, value in (*partition.seen(), *told):
        if first.setdefault(offset, value) != value:
            several[offset] |= {first[offset], value}
    for offset, values in sorted(several.items()):
        yield Violation("inconsistent-offset", partition.name, f"offset {offset} holds {sorted(values)}")


def _one_offset_per_value(partition: _Partition) -> Iterator[Violation]:
    first: dict[str, int] = {}
    several: dict[str, set[int]] = defaultdict(set)
    for offset, value in partition.seen():
        if first.setdefault(value, offset) != offset:
            several[value] |= {first[value], offset}
    for value, offsets in several.items():
        yield Violation("duplicate", partition.name, f"{value} lies at offsets {sorted(offsets)}")


def _acknowledged_survive(partition: _Partition) -> Iterator[Violation]:
    """Through the leader, and on each replica's own disk."""
    for final in partition.finals:
        is_reference = not any(final is odd for odd in partition.odd_finals)
        suspects = partition.odd_sends if is_reference else partition.sends
        kept = dict(final.records) if suspects else {}
        name = "lost-write" if final.source == "leader" else "acked-not-on-replica"
        for send in suspects:
            if send.outcome is Outcome.ACKNOWLEDGED and send.offsets:
                for offset, value in zip(send.offsets, send.values, strict=True):
                    if offset >= final.log_start_offset and kept.get(offset) != value:
                        found = kept.get(offset, "nothing")
                        what = f"{value} was acknowledged at {offset}, where {final.source} has {found}"
                        yield Violation(name, partition.name, what)


def _unplaced_survive(partition: _Partition) -> Iterator[Violation]:
    for final in partition.judged_finals if partition.unplaced else ():
        kept = {value for _, value in final.records}
        for send in partition.unplaced:
            if final.log_start_offset == 0 and not kept.issuperset(send.values):
                name = "lost-write" if final.source == "leader" else "acked-not-on-replica"
                yield Violation(name, partition.name, f"{send.values[0]}... was acknowledged, {final.source} lacks it")


def _read_survive(partition: _Partition) -> Iterator[Violation]:
    for final in partition.finals:
        is_reference = not any(final is odd for odd in partition.odd_finals)
        kept = {offset for offset, _ in final.records} if partition.odd_polls or not is_reference else set()
        for poll in partition.odd_polls if is_reference else partition.polls:
            for offset, value in poll.records:
                if offset >= final.log_start_offset and offset not in kept:
                    what = f"{value} was read at {offset}, where {final.source} has nothing"
                    yield Violation("lost-read", partition.name, what)


def _only_what_was_sent(partition: _Partition, home: Mapping[str, str]) -> Iterator[Violation]:
    sends = partition.send_of
    for offset, value in dict.fromkeys(partition.seen()):
        send = sends.get(value)
        if send is None:
            name = "misplaced" if value in home else "phantom"
            yield Violation(name, partition.name, f"{value} at {offset}; sent to {home.get(value, 'nobody')}")
        elif send.outcome is Outcome.REFUSED:
            yield Violation("aborted-read", partition.name, f"{value} was refused and lies at {offset}")


def _reads_follow_sends(partition: _Partition) -> Iterator[Violation]:
    sends = partition.send_of
    log = partition.reference.records if partition.reference else ()
    start = partition.reference.log_start_offset if partition.reference else 0
    never = float("-inf")
    began_s = [sends[value].began_s if value in sends else never for _, value in log]
    odd = {id(poll) for poll in partition.odd_polls}
    for poll in partition.polls:
        if poll.records and id(poll) not in odd:
            first = poll.records[0][0] - start
            if max(began_s[first : first + len(poll.records)]) <= poll.ended_s:
                continue
        for offset, value in poll.records:
            if value in sends and poll.ended_s < sends[value].began_s:
                yield Violation("read-before-send", partition.name, f"{value} at {offset}")


def _reads_are_whole(partition: _Partition) -> Iterator[Violation]:
    odd = {id(poll) for poll in partition.odd_polls}
    for poll in partition.polls:
        if not poll.records:
            continue
        if id(poll) in odd or poll.records[0][0] != poll.asked_offset:
            name = "nonmonotonic-poll" if poll.records[0][0] < poll.asked_offset else "poll-skip"
            yield from _contiguous(partition.name, name, poll.asked_offset, poll.records)
        if poll.records[-1][0] >= poll.high_watermark or id(poll) in odd:
            beyond = [offset for offset, _ in poll.records if offset >= poll.high_watermark]
            if beyond:
                what = f"offsets {beyond} were read, the high watermark was {poll.high_watermark}"
                yield Violation("read-beyond-high-watermark", partition.name, what)
    for final in partition.odd_finals:
        yield from _contiguous(partition.name, "offset-gap", final.log_start_offset, final.records)


def _readers_go_on(partition: _Partition) -> Iterator[Violation]:
    """Whoever reads on asks for what he has not had yet, and for all of it."""
    due: dict[str, int] = {}
    for poll in partition.polls:
        if poll.process:
            expected = due.get(poll.process, 0)
            if poll.asked_offset != expected:
                name = "nonmonotonic-poll" if poll.asked_offset < expected else "poll-skip"
                what = f"{poll.process} asked from {poll.asked_offset} on, {expected} was due"
                yield Violation(name, partition.name, what)
            due[poll.process] = poll.records[-1][0] + 1 if poll.records else poll.asked_offset


def _contiguous(name: str, kind: str, first: int, records: tuple[tuple[int, str], ...]) -> Iterator[Violation]:
    for position, (offset, _) in enumerate(records):
        if offset != first + position:
            yield Violation(kind, name, f"offset {first + position} was due and {offset} came")
            return


def _sends_are_whole(partition: _Partition) -> Iterator[Violation]:
    """A batch is written as one: all of it, together and in its order, or nothing."""
    for send in partition.odd_sends:
        if send.offsets != tuple(range(send.offsets[0], send.offsets[0] + len(send.values))):
            yield Violation("scattered-send", partition.name, f"{send.values[0]}...: {send.offsets}")
    odd = {id(send) for send in partition.odd_sends}
    for final in partition.judged_finals:
        offsets = {value: offset for offset, value in final.records}
        for send in partition.sends:
            is_found = send.outcome is Outcome.ACKNOWLEDGED and id(send) not in odd and final is partition.reference
            found = [] if is_found else [offsets[value] for value in send.values if value in offsets]
            last = send.values[-1]
            is_expired = bool(found) and last in offsets and offsets[last] < final.log_start_offset + len(send.values)
            if found and not is_expired and found != list(range(found[0], found[0] + len(send.values))):
                yield Violation("torn-send", partition.name, f"of {send.values[0]}... {found} is there")


def _real_time_order(partition: _Partition) -> Iterator[Violation]:
    """S14: what ended before another began lies before it, whoever sent it."""
    offsets = {value: offset for offset, value in partition.seen()}
    placed: list[tuple[Send, int, int]] = []
    for send in partition.sends:
        known = send.offsets or [offsets[value] for value in send.values if value in offsets]
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


def _epochs_never_fall(partition: _Partition) -> Iterator[Violation]:
    """S4: along one log."""
    for final in (*partition.finals, *partition.unsettled):
        for (_, before), (offset, after) in pairwise(final.epochs):
            if after < before:
                what = f"at {offset} the leader epoch falls from {before} to {after} on {final.source}"
                yield Violation("epoch-regression", partition.name, what)


def _replicas_agree(partition: _Partition) -> Iterator[Violation]:
    """S6: in length, in every record, and in the epoch in which it was written."""
    replicas = [final for final in partition.finals if final.source != "leader"]
    for one, other in pairwise(replicas):
        start = max(one.log_start_offset, other.log_start_offset)
        if one.records != other.records:
            mine, theirs = ({pair for pair in final.records if pair[0] >= start} for final in (one, other))
            differing = sorted(mine ^ theirs)
            if differing:
                what = f"{one.source} and {other.source} differ in {len(differing)} records, first at {differing[0][0]}"
                yield Violation("replica-divergence", partition.name, what)
        if one.log_start_offset == other.log_start_offset and one.epochs != other.epochs:
            what = f"{one.source} has the epochs {one.epochs}, {other.source} {other.epochs}"
            yield Violation("replica-divergence", partition.name, what)


def _replicas_are_intact(partition: _Partition) -> Iterator[Violation]:
    """S18: a replica that is in sync has met its damage, and is whole again."""
    for final in partition.finals:
        if final.damage:
            yield Violation("damaged-replica", partition.name, f"{final.source}: {final.damage}")


def _some_replica_has_it(partition: _Partition) -> Iterator[Violation]:
    """S1 where the cluster was not whole at the end: any replica may lack what was acknowledged or read, not each.

    No more can be said of such logs: records that nobody counts on may lie in them.
    """
    if not partition.unsettled:
        return
    kept = {pair for final in partition.unsettled for pair in final.records}
    values = {value for _, value in kept}
    for send in partition.sends:
        placed = zip(send.offsets, send.values, strict=bool(send.offsets))
        is_kept = kept.issuperset(placed) and values.issuperset(send.values)
        if send.outcome is Outcome.ACKNOWLEDGED and not is_kept:
            what = f"{send.values[0]}... was acknowledged at {send.offsets or 'some offset'}: no replica has it there"
            yield Violation("lost-write", partition.name, what)
    for poll in partition.polls:
        if missing := set(poll.records) - kept:
            yield Violation("lost-read", partition.name, f"{min(missing)} was read, and no replica has it")


def main() -> int:
    """`python -m tests.faults.checker history.jsonl`: judge a history that was kept."""
    history = list(load(Path(sys.argv[1])))
    violations = check(history)
    for violation in violations:
        sys.stdout.write(f"{violation.name} {violation.partition}: {violation.what}\n")
    sys.stdout.write(f"{len(history):,} operations ({counts(history)}): {len(violations)} violations\n")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
