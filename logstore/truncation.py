"""Cutting the end of a log: a follower drops what its leader does not have (KIP-101), or begins anew.

Owns the order that a crash at any point survives: first the checkpointed recovery point goes below the cut (else a
shorter file would look like damage, S18), then the snapshots of producers beyond it (they would be taken for the truth
once the log has grown again, S13), then segments go, newest first, then the file is cut and synced (else old
batches could come back behind new ones). Where to cut is the replica's decision (S5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logstore.batch_walk import BrokenBatchError
from logstore.checkpoints import RecoveryPoint
from logstore.damage import forget_gaps, note_damage
from logstore.leader_epochs import NO_OFFSET
from wire.record_batch import iterate_batches

if TYPE_CHECKING:
    from logstore.batch_walk import BatchHead
    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment


def truncate_to(log: PartitionLog, offset: int) -> None:
    """See `PartitionLog.truncate_to`."""
    if offset >= log.log_end_offset:
        return
    if offset <= log.log_start_offset:
        truncate_fully_and_start_at(log, offset)
        return
    segment = next(iter(log.segments.from_offset(offset)))
    head = _located(log, segment, offset)
    if head is not None and head.base_offset < log.log_start_offset:
        truncate_fully_and_start_at(log, log.log_start_offset)
        return
    position, end_offset = (segment.size_bytes if head is None else head.position), offset
    if head is not None and head.base_offset < offset:
        end_offset = head.base_offset
    for gap in segment.gaps:
        if gap.offset <= offset < gap.next_offset:
            position, end_offset = gap.position, gap.offset
    _secure_names(log)
    log.compaction.clean_end_offset = min(log.compaction.clean_end_offset, end_offset)
    _lower_recovery_point(log, RecoveryPoint(end_offset, segment.base_offset, position))
    log.producers.discard_snapshots(end_offset)
    _take_end(log, end_offset)
    _discard_from(log, segment.base_offset + 1)
    log.disk.attempt(lambda: segment.cut_to(position, end_offset))
    log.leader_epochs.truncate_from_end(end_offset)
    forget_gaps(log)


def _located(log: PartitionLog, segment: Segment, offset: int) -> BatchHead | None:
    """The batch at the cut. Damage on the way there is noted and gone around, as a reader does (S18)."""
    while True:
        try:
            return segment.locate(offset)
        except BrokenBatchError as broken:
            note_damage(log, segment, broken)


def truncate_fully_and_start_at(log: PartitionLog, offset: int) -> None:
    """See `PartitionLog.truncate_fully_and_start_at`."""
    first = log.segments[0].base_offset if len(log.segments) else log.log_start_offset
    _secure_names(log)
    log.compaction.clean_end_offset = 0
    lowest = min(first, log.log_start_offset, offset)
    _lower_recovery_point(log, RecoveryPoint(lowest, lowest, 0))
    log.producers.discard_snapshots(NO_OFFSET)
    _discard_from(log, 0)
    log.producers.begin_anew(offset)
    log.restart_at(offset)
    log.recovery_point = RecoveryPoint(offset, offset, 0)
    log.leader_epochs.truncate_from_end(0)
    forget_gaps(log)
    log.disk.write_checkpoints(must_succeed=True)


def begin_with_whole_batch(log: PartitionLog, buffer: bytes | bytearray | memoryview) -> None:
    """An empty log that begins in the middle of the first batch of `buffer` begins where that batch does instead.

    So begins a follower whose leader's records were deleted up to there: a batch comes whole or not at all.
    """
    if log.log_start_offset == log.log_end_offset:
        first = next(iterate_batches(buffer), None)
        spans_start = first is not None and first.base_offset < log.log_end_offset < first.next_offset
        if first is not None and spans_start and first.crc_is_valid():
            log.truncate_fully_and_start_at(first.base_offset)


def _secure_names(log: PartitionLog) -> None:
    """The recovery point may go to a segment that a cleaning has made: its name must be durable before."""
    if log.compaction.has_unsynced_names:
        log.disk.attempt(lambda: log.disk.storage.fsync_directory(log.folder))
        log.compaction.has_unsynced_names = False


def _lower_recovery_point(log: PartitionLog, point: RecoveryPoint) -> None:
    if point.offset < log.recovery_point.offset:
        known, log.recovery_point = log.recovery_point, point
        try:
            log.disk.write_checkpoints(must_succeed=True)
        except BaseException:
            log.recovery_point = known  # whoever tries again must write it before it cuts
            raise


def _discard_from(log: PartitionLog, base_offset: int) -> None:
    """Newest first and durably: none of them may come back beyond the cut."""
    removed = log.segments.remove_from(base_offset)
    log.begin_generation(removed)
    if removed:
        log.disk.attempt(lambda: log.disk.discard_segments(reversed(removed)))
        log.disk.attempt(lambda: log.disk.storage.fsync_directory(log.folder))


def _take_end(log: PartitionLog, end_offset: int) -> None:
    log.log_end_offset = end_offset
    log.durable_end_offset = min(log.durable_end_offset, end_offset)
    log.high_watermark = min(log.high_watermark, end_offset)
    log.producers.was_cut(end_offset)
