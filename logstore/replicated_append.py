"""Appending as a follower: the leader's batches, with the offsets and epochs that they have.

Owns the check that what came continues this log. Refuses (CORRUPT_MESSAGE, nothing was written) a batch whose CRC is
wrong, one of an older epoch (S4), and one that is not due: offsets rise without holes, except where compaction took
records out. The base offset is not covered by the CRC, so a hole in a log whose topic is not compacted may be a flipped
bit: it is believed when the leader, which then reads its disk with more suspicion, sends the same once more.
Invariant (S5): an epoch whose first records were compacted away begins here where the hole begins, at or before its
true start: whoever asks this log later where the epoch before ended, cuts too much rather than too little, and fetches
that again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from logstore.leader_epochs import NO_EPOCH
from logstore.log_answers import Appended
from logstore.log_producers import known_producers
from logstore.segment import NO_TIMESTAMP, Placed
from logstore.truncation import begin_with_whole_batch
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import iterate_batches

if TYPE_CHECKING:
    from logstore.partition_log import PartitionLog
    from wire.record_batch import RecordBatch


class _Checked(NamedTuple):
    """Batches that continue the log."""

    placed: list[Placed]
    batches: list[RecordBatch]
    epoch_starts: list[tuple[int, int]]
    size_bytes: int
    next_offset: int
    is_after_hole: bool


def append_replicated(log: PartitionLog, buffer: bytearray | bytes | memoryview, now_ms: int) -> Appended | None:
    """See `PartitionLog.append_replicated`."""
    begin_with_whole_batch(log, buffer)
    checked = _check(log, buffer)
    if not checked.placed:
        return None
    log.admit_append(checked.size_bytes, now_ms)
    is_idempotent = any(batch.producer_id >= 0 for batch in checked.batches)
    if is_idempotent or checked.is_after_hole:
        state = known_producers(log)  # it may have to be read, and the disk may refuse: before the write
        if checked.is_after_hole:
            state.may_have_forgotten_anybody()
            log.allow_holes()
    log.write(memoryview(buffer)[: checked.size_bytes], checked.placed, checked.next_offset)
    for epoch, start_offset in checked.epoch_starts:
        log.leader_epochs.assign(epoch, start_offset)
    if is_idempotent:
        log.producers.learn(log.segments, checked.batches, checked.placed)
    return Appended(checked.placed[0].base_offset, checked.next_offset - 1, checked.size_bytes, NO_TIMESTAMP)


def _check(log: PartitionLog, buffer: bytearray | bytes | memoryview) -> _Checked:
    epochs = log.leader_epochs
    epoch = epochs.latest if epochs.latest is not None else NO_EPOCH
    placed: list[Placed] = []
    batches: list[RecordBatch] = []
    starts: list[tuple[int, int]] = []
    position, offset, is_after_hole = 0, log.log_end_offset, False
    for batch in iterate_batches(buffer):
        if batch.base_offset < offset or batch.partition_leader_epoch < epoch or not batch.crc_is_valid():
            raise _refusal(log, batch, offset, epoch)
        if batch.base_offset > offset:
            is_after_hole = True
            _believe_hole(log, batch, offset, epoch)
        if batch.partition_leader_epoch != epoch:
            epoch = batch.partition_leader_epoch
            starts.append((epoch, offset))
        placed.append(Placed(position, batch.base_offset, batch.max_timestamp))
        batches.append(batch)
        position += batch.size_bytes
        offset = batch.next_offset
    return _Checked(placed, batches, starts, position, offset, is_after_hole)


def _believe_hole(log: PartitionLog, batch: RecordBatch, offset: int, epoch: int) -> None:
    """Or refuse it: the leader is asked again."""
    compaction = log.compaction
    if compaction.may_have_holes or log.config.compacts:
        return
    hole = offset, batch.base_offset
    if compaction.refused_hole != hole:
        compaction.refused_hole = hole
        raise _refusal(log, batch, offset, epoch)


def _refusal(log: PartitionLog, batch: RecordBatch, offset: int, epoch: int) -> RefusedError:
    return RefusedError(
        ErrorCode.CORRUPT_MESSAGE,
        f"{log.name}: a fetched batch at offset {batch.base_offset}, epoch {batch.partition_leader_epoch},"
        f" is broken, or not at offset {offset} and epoch {epoch} or later",
    )
