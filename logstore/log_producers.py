"""The idempotent producers of one log: their state, and how it is known again after a restart or a cut.

Owns the state in memory and when it is worth a snapshot. It is made when it is first needed: from the newest intact
snapshot, and from the headers of the batches between there and `end_offset`, beyond which no batch has a producer id.
That number is checkpointed beside the recovery point, and recovery reads everything beyond that anyway: so a log that
never saw an idempotent producer costs nothing at a start, and at an append one comparison. A header is believed where
it is what its producer sends next; any other has its batch's CRC checked, for a bit of it may have turned.
Upholds S13 across restarts, leader changes and cuts: what is known is what the batches in the log say, no more (a cut
forgets what it cut) and no less: each segment begins with a snapshot, so retention deletes nothing that only batches
know, and no cut goes behind the one at the first segment (S5).
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from logstore.batch_walk import BrokenBatchError, intact_batch_at
from logstore.damage import BrokenHeadersError, note_damage
from logstore.disk import read_refusal
from logstore.producer_snapshots import load_snapshot, remove_snapshots_beyond, snapshot_path
from logstore.producer_state import ANYTHING_FORGOTTEN, NOTHING_FORGOTTEN, ProducedBatch, ProducerState
from wire.record_batch import SEQUENCE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from logstore.batch_walk import BatchHead
    from logstore.disk import Disk
    from logstore.partition_log import PartitionLog
    from logstore.segment import Placed, Segment
    from logstore.segments import Segments
    from wire.record_batch import RecordBatch

SNAPSHOT_BATCHES: Final = 1000
"""So many new batches are worth a snapshot at the next checkpoint: a walk over them takes 3 ms."""
SNAPSHOT_BATCHES_AT_CLOSE: Final = 100
"""To walk over fewer takes less than the two syncs of a file: thousands of logs are closed one after another."""
SNAPSHOTS_KEPT: Final = 2
"""Below the synced end, beside those at the segments' beginnings; what lies above may go with a power cut."""


NOTHING: Final[Mapping[int, ProducerState]] = MappingProxyType({})
"""Shared by the thousands of logs that have nothing to save."""


class LogProducers:
    """Belongs to one `PartitionLog`; its owner's loop only."""

    __slots__ = (
        "_disk",
        "_due",
        "_folder",
        "_known_from",
        "_saving",
        "_snapshots",
        "_state",
        "_unsaved_batches",
        "end_offset",
    )

    def __init__(self, disk: Disk, folder: str, *, snapshots: list[int], end_offset: int) -> None:
        """`snapshots`: the offsets of the snapshot files, ascending."""
        self.end_offset = end_offset
        self._disk = disk
        self._folder = folder
        self._snapshots = tuple(snapshots)
        self._state: ProducerState | None = None
        self._known_from = 0
        self._unsaved_batches = 0
        self._due = NOTHING
        self._saving = NOTHING

    def __len__(self) -> int:
        """Producers in memory."""
        return len(self._state.entries) if self._state is not None else 0

    @property
    def never_were(self) -> bool:
        """No batch of this log ever had a producer id."""
        return not self.end_offset

    def state(self, segments: Segments) -> ProducerState:
        """RefusedError(KAFKA_STORAGE_ERROR) where the disk cannot read what it takes; BrokenHeadersError at damage that
        no gap names yet: behind it lies what producers wrote last (S13).
        """
        if self._state is None:
            try:
                self._make_state(list(segments))
            except OSError as error:
                raise read_refusal(self._folder, error) from error
        assert self._state is not None
        return self._state

    def _make_state(self, segments: Sequence[Segment], end_position: int | None = None) -> None:
        self._known_from, self._state, self._unsaved_batches = self._state_at(
            self.end_offset, segments, self._snapshots, end_position
        )

    def _state_at(
        self,
        end_offset: int,
        segments: Sequence[Segment],
        snapshots: Sequence[int],
        end_position: int | None = None,
    ) -> tuple[int, ProducerState, int]:
        """What is known below `end_offset`: (where the reading began, state, batches read).

        From the newest intact one of `snapshots` on; where there is none, from the first segment on.
        """
        known_from = segments[0].base_offset if segments else 0
        is_whole = not known_from or self.never_were
        if self.never_were and any(segment.may_have_holes for segment in segments):
            is_whole = False  # all that a producer wrote may have been compacted away, here or at the leader
        state = ProducerState(forgotten_up_to=NOTHING_FORGOTTEN if is_whole else ANYTHING_FORGOTTEN)
        for offset in reversed(snapshots):
            found = load_snapshot(self._disk.storage, self._folder, offset, now_ms=self._disk.uptime_ms)
            if found is not None:
                if offset < min(known_from, end_offset):
                    found.forgotten_up_to = ANYTHING_FORGOTTEN  # what lay between is gone
                state, known_from = found, offset
                break
        batches, due_offset = 0, known_from
        before: dict[int, tuple[Segment, BatchHead]] = {}
        for segment, head in _heads(segments, known_from, end_offset, end_position):
            if head.base_offset > due_offset:
                state.may_have_forgotten_anybody()
            due_offset = head.next_offset
            if not state.expects(head.producer_id, head.producer_epoch, head.base_sequence):
                _check_crc(segment, head)
                if head.producer_id in before:
                    _check_crc(*before[head.producer_id])
            if head.producer_id >= 0:
                before[head.producer_id] = segment, head
                self._note(state, head, head.base_offset, head.next_offset - 1, head.max_timestamp_ms)
                batches += 1
        return known_from, state, batches

    # ---- appending

    def learn(self, segments: Segments, batches: Sequence[RecordBatch], placed: Sequence[Placed]) -> None:
        """These batches were written; those without a producer id are passed over."""
        state = self.state(segments)
        if self.never_were and segments[0].base_offset:
            self.save(segments, placed[0].base_offset)  # else a restart could not tell that nothing was forgotten
        for batch, (_, base_offset, timestamp_ms) in zip(batches, placed, strict=True):
            if batch.producer_id >= 0:
                last_offset = base_offset + batch.last_offset_delta
                self._note(state, batch, base_offset, last_offset, timestamp_ms)
                self._unsaved_batches += 1
                self.end_offset = last_offset + 1

    def _note(
        self,
        state: ProducerState,
        batch: RecordBatch | BatchHead,
        base_offset: int,
        last_offset: int,
        timestamp_ms: int,
    ) -> None:
        last_sequence = (batch.base_sequence + last_offset - base_offset) & SEQUENCE_MAX
        produced = ProducedBatch(batch.base_sequence, last_sequence, base_offset, last_offset, timestamp_ms)
        state.learn(batch.producer_id, batch.producer_epoch, produced, now_ms=self._disk.uptime_ms)

    def expire(self, before_ms: int) -> None:
        """Forget who was not heard of since `before_ms` by `Disk.uptime_ms`."""
        if self._state is not None:
            self._state.expire(before_ms)

    def forget_oldest(self, count: int) -> None:
        if self._state is not None:
            self._state.forget_oldest(count)

    # ---- recovery

    def begin_scan(self, segments: Sequence[Segment], offset: int, position: int, *, is_known_before: bool) -> None:
        """Recovery reads every batch from `offset` on, which is due at `position` of the last of `segments`; the
        checkpoints say what lies before, or nobody does.

        OSError as the disk raises it; BrokenHeadersError at damage that no gap names yet.
        """
        self.end_offset = min(self.end_offset, offset) if is_known_before else offset
        if self._snapshots or not self.never_were:
            self._make_state(segments, position)

    def scanned(self, batch: RecordBatch, *, is_after_hole: bool) -> None:
        """The next one; the hole before it may have held anybody's."""
        if is_after_hole and self._state is not None:
            self._state.may_have_forgotten_anybody()
        if batch.producer_id < 0:
            return
        self.end_offset = max(self.end_offset, batch.next_offset)
        if batch.base_offset < self._known_from:
            return  # the snapshot knows it
        if self._state is None:
            self._state = ProducerState()
        self._note(self._state, batch, batch.base_offset, batch.last_offset, batch.max_timestamp)
        self._unsaved_batches += 1

    def end_scan(self, log_end_offset: int) -> None:
        """Snapshots that a crash left beyond the end go, durably."""
        if self._snapshots and self._snapshots[-1] > log_end_offset:
            remove_snapshots_beyond(self._disk.storage, self._folder, log_end_offset)
            self._snapshots = tuple(known for known in self._snapshots if known <= log_end_offset)
            self.was_cut(log_end_offset)

    # ---- cutting

    def discard_snapshots(self, offset: int) -> None:
        """The log is about to be cut at `offset`: those beyond go, durably. OSError takes the directory offline."""
        if self._saving:
            self._disk.finish_checkpoint()
        self._due = {known: state for known, state in self._due.items() if known <= offset}
        if self._snapshots or not self.never_were:
            self._disk.attempt(partial(remove_snapshots_beyond, self._disk.storage, self._folder, offset))
            self._snapshots = tuple(known for known in self._snapshots if known <= offset)

    def was_cut(self, end_offset: int) -> None:
        """The log ends there now."""
        if self.end_offset > end_offset or self._known_from > end_offset:
            self.end_offset = min(self.end_offset, end_offset)
            self._state = None

    def begin_anew(self, offset: int) -> None:
        """The log is empty, its next offset is `offset`."""
        self._state = ProducerState(forgotten_up_to=ANYTHING_FORGOTTEN if offset else NOTHING_FORGOTTEN)
        self._known_from = self.end_offset = offset
        self._unsaved_batches = 0

    # ---- snapshots

    def save(self, segments: Segments, offset: int) -> None:
        """A segment begins at `offset`, the log's end: make a snapshot with the next checkpoint.

        RefusedError(KAFKA_STORAGE_ERROR) where the disk cannot read what it takes.
        """
        self._due = {**self._due, offset: self.state(segments).copy()}

    def secure(self, segments: Segments, base_offset: int) -> None:
        """Segments below the one at `base_offset` are about to go: the checkpoint before that keeps what they say.

        It does so anyway, but where a crash took the snapshot made at the roll. RefusedError(KAFKA_STORAGE_ERROR).
        """
        snapshots = [offset for offset in self._snapshots if offset <= base_offset]
        newest = max([0, *snapshots, *(offset for offset in self._due if offset <= base_offset)])
        if newest < min(base_offset, self.end_offset):
            try:
                _, state, _ = self._state_at(base_offset, list(segments), snapshots)
            except OSError as error:
                raise read_refusal(self._folder, error) from error
            self._due = {**self._due, base_offset: state}

    def save_if_new(self, segments: Segments, offset: int, *, batches_min: int = SNAPSHOT_BATCHES) -> None:
        """At the log's end `offset`, where so many batches came since the last one."""
        if self._unsaved_batches >= batches_min and self._state is not None:
            self.save(segments, offset)

    def begin_save(self) -> dict[str, ProducerState]:
        """Paths and contents of the snapshots that are due."""
        if not self._due:
            return {}
        assert not self._saving
        self._saving, self._due = self._due, NOTHING
        self._unsaved_batches = 0
        return {snapshot_path(self._folder, offset): state for offset, state in self._saving.items()}

    def end_save(self, segments: Segments, *, synced_end_offset: int) -> list[str]:
        """They are durable; the paths of those that nobody needs any more."""
        known = sorted({*self._snapshots, *self._saving})
        self._saving = NOTHING
        first = segments[0].base_offset if len(segments) else 0
        kept = {segment.base_offset for segment in segments}
        kept.update([offset for offset in known if offset <= synced_end_offset][-SNAPSHOTS_KEPT:])
        kept.update([offset for offset in known if offset <= first][-1:])
        kept.update(offset for offset in known if offset > synced_end_offset)
        self._snapshots = tuple(offset for offset in known if offset in kept)
        return [snapshot_path(self._folder, offset) for offset in known if offset not in kept]

    def save_failed(self) -> None:
        """They are due again."""
        self._due, self._saving = {**self._saving, **self._due}, NOTHING


def known_producers(log: PartitionLog) -> ProducerState:
    """What an append needs to know; RefusedError(KAFKA_STORAGE_ERROR) where the disk hides it, and damage is noted."""
    try:
        return log.producers.state(log.segments)
    except BrokenHeadersError as found:
        note_damage(log, found.segment, found.broken)
        raise


def secure_producers(log: PartitionLog, base_offset: int) -> None:
    """See `LogProducers.secure`; damage is noted."""
    try:
        log.producers.secure(log.segments, base_offset)
    except BrokenHeadersError as found:
        note_damage(log, found.segment, found.broken)
        raise


def _check_crc(segment: Segment, head: BatchHead) -> None:
    """A header that fits nothing known may be rotten, or the one before was: BrokenHeadersError where it is (S13)."""
    if intact_batch_at(segment.read_at, head.position, segment.size_bytes, head.base_offset) is None:
        raise BrokenHeadersError(segment, BrokenBatchError(head.position, "the CRC does not match the bytes"))


def _heads(
    segments: Sequence[Segment], offset: int, end_offset: int, end_position: int | None
) -> Iterator[tuple[Segment, BatchHead]]:
    """The headers of the batches from `offset` on, below `end_offset`, around gaps; BrokenHeadersError at new ones.

    Nothing is read from `end_position` of the last segment on: what lies there may be the torn tail of a crash.
    """
    for segment in segments if offset < end_offset else ():
        if segment.next_offset <= offset or segment.base_offset >= end_offset:
            continue
        end = end_position if segment is segments[-1] else None
        try:
            first = segment.locate(offset) if offset > segment.base_offset else None
            position, base_offset = (0, segment.base_offset) if first is None else (first.position, first.base_offset)
            if end is not None and position >= end:
                return
            for head in segment.heads(position, base_offset):
                if head.base_offset >= end_offset:
                    break
                if head.base_offset >= offset:
                    yield segment, head
                if head.next_offset >= end_offset or (end is not None and head.position + head.size_bytes >= end):
                    break
        except BrokenBatchError as broken:
            raise BrokenHeadersError(segment, broken) from broken
