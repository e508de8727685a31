"""Where one segment ends and the next begins.

Owns when a segment is full (by size, by age in record time, by its index, by 2^31 offsets, as Kafka's
LogSegment.shouldRoll), and the seal: the old segment is synced before its successor has a byte. Else a power cut could
tear the one and keep the other, which would be damage (S18) though nothing acknowledged was lost.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from logstore.batch_walk import OFFSET_SPAN
from logstore.disk import OUT_OF_DESCRIPTORS, descriptor_refusal, read_refusal
from logstore.log_producers import known_producers
from logstore.segment import NO_TIMESTAMP

if TYPE_CHECKING:
    from logstore.log_config import LogConfig
    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment


def must_roll(segment: Segment, config: LogConfig, size_bytes: int, timestamp_ms: int, next_offset: int) -> bool:
    """Whether `size_bytes` that end before `next_offset` belong into the next segment."""
    if not segment.size_bytes:
        return next_offset - segment.base_offset >= OFFSET_SPAN
    if segment.size_bytes + size_bytes > config.segment_bytes or next_offset - segment.base_offset >= OFFSET_SPAN:
        return True
    try:
        if NO_TIMESTAMP < segment.first_timestamp_ms < timestamp_ms - config.roll_ms:
            return True
    except OSError as error:
        raise read_refusal(segment.file.path, error) from error
    index_entries_max = config.segment_index_bytes // segment.offset_index.ENTRY.size
    may_be_full = segment.size_bytes > index_entries_max * config.index_interval_bytes
    return may_be_full and len(segment.offset_index) >= index_entries_max


def roll(log: PartitionLog, base_offset: int) -> Segment:
    """See `PartitionLog.roll`."""
    old = log.segments.active
    if old is not None and old.base_offset == base_offset:
        return old
    if old is not None and not old.size_bytes:
        log.disk.attempt(partial(log.disk.discard_segments, log.segments.remove_from(old.base_offset)))
    elif old is not None:
        _seal(log, old)
        if not log.producers.never_were:
            known_producers(log)  # where it must be read first, and the disk hides some of it, that is noted
            log.producers.save(log.segments, base_offset)
    segment = log.new_segment(base_offset)
    log.segments.add(segment)
    return segment


def _seal(log: PartitionLog, old: Segment) -> None:
    """Sync what is not synced yet. Without descriptors it is refused here, and done again at the next append."""
    disk = log.disk
    try:
        old.flush_indexes()
        if log.recovery_point[1:] != (old.base_offset, old.size_bytes):
            handle = disk.open_files.handle(old.file)
            disk.attempt(partial(disk.storage.fdatasync, handle))
            disk.storage.fsync_directory(log.folder)
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS:
            raise descriptor_refusal(error) from error
        disk.fail(error)
        raise
    log.sync_later(paths=[old.offset_index.path, old.time_index.path], directories=[])
    log.forget_unsynced([old])
