"""Giving up the beginning of a log: by age, by size, or because someone asked (DeleteRecords).

Owns which segments go and in what order things happen: the log start moves in memory, is checkpointed, then the files
go, oldest first. Refuses to delete what is not committed (beyond the high watermark). Works in whole segments; the
active one goes only after it was rolled. Sources: Kafka's `UnifiedLog.deleteOldSegments`, KIP-107.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from logstore.damage import forget_gaps
from logstore.disk import OUT_OF_DESCRIPTORS
from logstore.log_answers import OffsetOutOfRangeError
from logstore.log_producers import secure_producers
from wire.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment


def expired_segments(log: PartitionLog, now_ms: int) -> int:
    """How many of the oldest segments retention gives up; only whole ones below the high watermark count."""
    config = log.config
    if not config.deletes_old_segments:
        return 0
    surplus_bytes = log.size_bytes - config.retention_bytes if config.retention_bytes >= 0 else -1
    count = 0
    for segment in log.segments:
        if segment.next_offset > log.high_watermark or not segment.size_bytes:
            break
        surplus_bytes -= segment.size_bytes
        is_old = config.retention_ms >= 0 and now_ms - _age_from_ms(segment) > config.retention_ms
        if not is_old and surplus_bytes < 0 and segment.next_offset > log.log_start_offset:
            break
        count += 1
    return count


def _age_from_ms(segment: Segment) -> int:
    """The newest record's time; the file's own where no record carries one."""
    return segment.max_timestamp_ms if segment.max_timestamp_ms >= 0 else segment.modified_ms


def expire_segments(logs: Iterable[PartitionLog], now_ms: int) -> int:
    """Apply retention to `logs`, all of one directory, with one checkpoint; the bytes freed.

    Never raises for the disk: what a lack of descriptors or of space stops is left for the next time; any other OSError
    takes the directory offline (S19), and ends the run.
    """
    removed: list[tuple[PartitionLog, list[Segment]]] = []
    for log in logs:
        count = _expired_or_none(log, now_ms)
        if log.disk.failure is not None:
            return 0
        if count:
            removed.append((log, _give_up(log, log.segments[count].base_offset)))
    if not removed:
        return 0
    freed_bytes = 0
    with contextlib.suppress(OSError):  # the directory is offline then
        removed[0][0].disk.write_checkpoints(must_succeed=False)
        for log, segments in removed:
            _remove(log, segments)
            freed_bytes += sum(segment.size_bytes for segment in segments)
    return freed_bytes


def _expired_or_none(log: PartitionLog, now_ms: int) -> int:
    """How many segments can be given up now; the active one only where a new one can take its place."""
    try:
        count = expired_segments(log, now_ms)
        if count:
            _ = log.leader_epochs  # read now, while nothing has changed
    except RefusedError:
        return 0
    except OSError as error:
        if error.errno not in OUT_OF_DESCRIPTORS:
            log.disk.fail(error)
        return 0
    if count and count == len(log.segments) and not _roll(log):
        count -= 1
    try:
        if count:
            secure_producers(log, log.segments[count].base_offset)
    except RefusedError:
        return 0
    return count


def _roll(log: PartitionLog) -> bool:
    try:
        log.roll()
    except (RefusedError, OSError):
        return False
    return True


def _give_up(log: PartitionLog, start_offset: int) -> list[Segment]:
    """Move the start up to `start_offset` in memory; the segments that lie wholly below it, taken out of the log."""
    log.log_start_offset = max(log.log_start_offset, start_offset)
    log.leader_epochs.truncate_from_start(log.log_start_offset)
    count = 0
    while count < len(log.segments) - 1 and log.segments[count + 1].base_offset <= log.log_start_offset:
        count += 1
    return log.segments.remove_first(count)


def _remove(log: PartitionLog, segments: list[Segment]) -> None:
    if not segments:
        return
    log.forget_unsynced(segments)
    log.disk.attempt(partial(log.disk.discard_segments, segments))
    if any(segment.gaps for segment in segments):
        forget_gaps(log)


def delete_records_before(log: PartitionLog, offset: int) -> None:
    """See `PartitionLog.delete_records_before`."""
    if offset > log.high_watermark:
        raise OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=log.high_watermark)
    if offset <= log.log_start_offset:
        return
    active = log.segments.active
    if active is not None and active.size_bytes and offset == log.log_end_offset:
        _roll(log)
    kept = next(log.segments.from_offset(offset), None)
    if kept is not None:
        secure_producers(log, kept.base_offset)
    old_start_offset, log.log_start_offset = log.log_start_offset, offset
    try:
        log.disk.write_checkpoints(must_succeed=True)
    except (RefusedError, OSError):
        log.log_start_offset = old_start_offset
        raise
    _remove(log, _give_up(log, offset))
