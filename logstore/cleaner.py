"""What of a log can be cleaned now, and how the result of a cleaning is taken in: the owner's side of compaction.

Owns the bounds: nothing above the high watermark, in the active segment, younger than `min.compaction.lag.ms`, or where
a restart may begin to read, is touched; a log that is damaged (S18) or could not be read is left alone. A cleaning runs
elsewhere meanwhile (`Cleaning`), so what it made is taken in only where the very segments still lie that it was made
of. Source: Kafka's LogCleanerManager, KIP-354 for the greatest lag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from logstore.cleaning import CleaningPlan, SegmentFile
from logstore.damage import add_gaps, mark_damaged
from logstore.log_config import FOREVER_MS
from logstore.segment_swap import CleanedSegment, swap_in

if TYPE_CHECKING:
    from logstore.cleaning import Cleaning, DamagedSegmentError
    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment

NO_BATCHES: Final[frozenset[int]] = frozenset()


class Cleanable(NamedTuple):
    """What of a log may be cleaned: its first `segments`, dirty from `first_dirty_offset` on."""

    log: PartitionLog
    segments: int
    first_dirty_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool
    """By `max.compaction.lag.ms`, or because tombstones may go."""

    @property
    def dirty_ratio(self) -> float:
        total_bytes = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total_bytes if total_bytes else 0.0

    @property
    def is_due(self) -> bool:
        return self.is_overdue or self.dirty_ratio > self.log.config.min_cleanable_dirty_ratio


def cleanable(log: PartitionLog, now_ms: int, *, drops_tombstones: bool) -> Cleanable | None:
    """None where nothing may be cleaned; `now_ms` by the wall clock. OSError or RefusedError: the disk cannot say."""
    compaction = log.compaction
    if not log.config.compacts or log.is_closed or log.damaged_from is not None or log.disk.failure is not None:
        return None
    if compaction.stopped_by is not None or not compaction.holes_are_written:
        return None
    segments = list(log.segments)
    count = _cleanable_segments(log, segments, now_ms)
    if not count:
        return None
    first_dirty_offset = max(compaction.clean_end_offset, log.log_start_offset, segments[0].base_offset)
    first_dirty_offset = min(first_dirty_offset, segments[count - 1].next_offset)
    dirty = [segment for segment in segments[:count] if segment.next_offset > first_dirty_offset]
    dirty_bytes = sum(segment.size_bytes for segment in dirty)
    due_ms = compaction.tombstones_due_ms
    return Cleanable(
        log,
        count,
        first_dirty_offset,
        clean_bytes=sum(segment.size_bytes for segment in segments[:count]) - dirty_bytes,
        dirty_bytes=dirty_bytes,
        is_overdue=(drops_tombstones and due_ms is not None and due_ms <= now_ms) or _lags(log, dirty, now_ms),
    )


def _cleanable_segments(log: PartitionLog, segments: list[Segment], now_ms: int) -> int:
    lag_ms, restart_at = log.config.min_compaction_lag_ms, log.compaction.written_point.segment_base_offset
    for index, segment in enumerate(segments[:-1]):
        if segment.next_offset > log.high_watermark or segment.base_offset >= restart_at:
            return index
        newest_ms = segment.max_timestamp_ms if lag_ms else 0
        if lag_ms and now_ms - (newest_ms if newest_ms >= 0 else segment.modified_ms) < lag_ms:
            return index
    return max(0, len(segments) - 1)


def _lags(log: PartitionLog, dirty: list[Segment], now_ms: int) -> bool:
    lag_ms = log.config.max_compaction_lag_ms
    return lag_ms < FOREVER_MS and any(0 <= segment.first_timestamp_ms < now_ms - lag_ms for segment in dirty)


def plan_cleaning(found: Cleanable, now_ms: int, *, drops_tombstones: bool) -> CleaningPlan:
    """`drops_tombstones`: every replica has what lies below the high watermark, so none can bring a deleted key back.

    RefusedError(KAFKA_STORAGE_ERROR) where the disk cannot say which producers there are.
    """
    log = found.log
    segments = tuple(log.segments)[: found.segments]
    return CleaningPlan(
        folder=log.folder,
        segments=segments,
        files=tuple(
            SegmentFile(segment.file.path, segment.base_offset, segment.next_offset, segment.size_bytes)
            for segment in segments
        ),
        first_dirty_offset=found.first_dirty_offset,
        config=log.config,
        now_ms=now_ms,
        drops_tombstones=drops_tombstones,
        batch_ends_kept=_remembered_batches(log),
        reserved_bytes=log.disk.reserved_bytes,
        generation=log.generation,
    )


def _remembered_batches(log: PartitionLog) -> frozenset[int]:
    if log.producers.never_were:
        return NO_BATCHES
    entries = log.producers.state(log.segments).entries.values()
    return frozenset(batch.last_offset for entry in entries for batch in entry.batches)


def is_current(log: PartitionLog, plan: CleaningPlan) -> bool:
    """Nothing happened to the log since that makes the cleaning void."""
    return (
        not log.is_closed
        and log.damaged_from is None
        and log.disk.failure is None
        and log.generation == plan.generation
        and log.config.compacts
    )


def take_in(log: PartitionLog, plan: CleaningPlan, cleaned: CleanedSegment) -> bool:
    """Put a cleaned segment in place; False where that cannot be any more, and the cleaning is void.

    OSError takes the directory offline.
    """
    if not is_current(log, plan) or not log.segments.holds(cleaned.replaced):
        return False
    log.compaction.may_have_holes = True
    for segment in log.segments:
        segment.may_have_holes = True
    swap_in(log, cleaned)
    return True


def complete(log: PartitionLog, cleaning: Cleaning) -> None:
    """Every step was taken in, and the folder is synced: the log is clean up to there."""
    compaction = log.compaction
    if not is_current(log, cleaning.plan):
        return
    compaction.has_unsynced_names = False
    compaction.clean_end_offset = max(compaction.clean_end_offset, cleaning.end_offset)
    compaction.tombstones_due_ms = cleaning.first_horizon_ms


def note_damage_found(log: PartitionLog, plan: CleaningPlan, damaged: DamagedSegmentError) -> bool:
    """S18: the log takes no more appends, and its replica is copied anew where there is another.

    False where the segment was cut or deleted while it was read: then that is all that was found.
    """
    if not is_current(log, plan) or not log.segments.holds((damaged.segment,)):
        return False
    log.positions = None
    add_gaps([damaged.segment], [damaged.gap])
    mark_damaged(log, damaged.gap.offset)
    return True
