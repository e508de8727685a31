"""Reading a partition log: whole batches by offset, one record by timestamp.

Owns the way from an offset to bytes: bounds, segment, position (remembered for those who read on where they stopped,
else by index and walk), one pread of bounded size, and the check that what came are batches in order. Who reads on
through data that is not in memory finds it there: the disk fetches the next piece while this one is sent, and the loop
that reads, and that appends too, does not wait for it. Every read is its own pread, and holds nothing.
Refuses offsets outside the log (OffsetOutOfRangeError) and damaged ones (DamagedRangeError, with the next intact
offset).
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from crc32c import crc32c

from logstore.batch_walk import BASE_OFFSET_BYTES, BATCH_LENGTH_MIN, LENGTH_END, BatchHead, BrokenBatchError
from logstore.damage import mark_damaged, note_damage, note_missing_end
from logstore.disk import read_refusal
from logstore.log_answers import DamagedRangeError, LogSlice, OffsetOutOfRangeError, TimestampOffset
from wire.record_batch import ATTRIBUTES_AT, HEADER_BYTES, RecordBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment

# base_offset batch_length leader_epoch magic crc attributes last_offset_delta: what a read looks at, per batch
_PREFIX: Final = struct.Struct(">qiibIhi")
POSITIONS_MAX: Final = 64
READ_AHEAD_MIN: Final = 128 << 10
"""What lies closer to the end was written a moment ago, and is in memory."""
READ_AHEAD_MAX: Final = 2 << 20
"""As much as a reader may ask for next; more would be read in vain for one who stops."""


class ReadRequest(NamedTuple):
    """What `PartitionLog.read` was asked for."""

    offset: int
    max_bytes: int
    upper_offset: int
    at_least_one: bool
    check_crc: bool


def read_slice(log: PartitionLog, request: ReadRequest) -> LogSlice:
    """See `PartitionLog.read`."""
    offset = request.offset
    upper_offset = min(request.upper_offset, log.log_end_offset)
    if not log.log_start_offset <= offset <= log.log_end_offset:
        raise OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=upper_offset)
    for segment in log.segments.from_offset(offset) if offset < upper_offset else ():
        found = _in_spite_of_damage(log, segment, partial(_read_segment, log, segment, request))
        if found is not None:
            return found
    # Compaction took out all that lay from there to the end: a reader goes on where the next record will be.
    return LogSlice(b"", offset, max(offset, upper_offset))


Answer = TypeVar("Answer")


def _in_spite_of_damage(log: PartitionLog, segment: Segment, read: Callable[[], Answer]) -> Answer:
    """Read again around each damage that is met; a sector that cannot be read is damage too."""
    while True:
        try:
            return read()
        except BrokenBatchError as broken:
            note_damage(log, segment, broken)
        except OSError as error:
            if error.errno == errno.EIO:
                mark_damaged(log, segment.base_offset)
            raise read_refusal(segment.file.path, error) from error


def _read_segment(log: PartitionLog, segment: Segment, request: ReadRequest) -> LogSlice | None:
    """The slice; None where the segment holds nothing at or after the offset."""
    offset, max_bytes = request.offset, request.max_bytes
    position = _known_position(log, segment, offset)
    reads_on = position is not None
    if position is None:
        position = _position(log, segment, offset)
    if position is None:
        return None
    end = segment.size_bytes
    for gap in segment.gaps:
        if gap.position >= position:
            end = min(end, gap.position)
    data_bytes = min(max(max_bytes, HEADER_BYTES), end - position)
    if reads_on and end - position - data_bytes > READ_AHEAD_MIN:
        ahead_bytes = min(max(data_bytes, READ_AHEAD_MIN), READ_AHEAD_MAX, end - position - data_bytes)
        segment.read_ahead(ahead_bytes, position + data_bytes)
    data = segment.read_at(data_bytes, position)
    size_bytes, next_offset = _measure(data, position, end, request, segment=segment)
    if size_bytes == 0 and request.at_least_one:
        first_bytes = _announced_bytes(data)
        if first_bytes > len(data):
            data = segment.read_at(first_bytes, position)
            if len(data) < first_bytes:
                raise BrokenBatchError(position, f"{len(data)} bytes of a batch of {first_bytes} can be read")
            size_bytes, next_offset = _measure(data, position, end, request, segment=segment)
    if size_bytes == 0 or (size_bytes > max_bytes and not request.at_least_one):
        return LogSlice(b"", offset, offset)
    _remember(log, next_offset, segment, position + size_bytes)
    base_offset = int.from_bytes(data[:8], "big")
    return LogSlice(data if size_bytes == len(data) else memoryview(data)[:size_bytes], base_offset, next_offset)


def _known_position(log: PartitionLog, segment: Segment, offset: int) -> int | None:
    """Where the batch of `offset` begins, for one who reads on where a read has ended."""
    known = log.positions.get(offset) if log.positions is not None else None
    if known is not None and known[0] == segment.base_offset and known[1] < segment.size_bytes and not segment.gaps:
        return known[1]
    return None


def _position(log: PartitionLog, segment: Segment, offset: int) -> int | None:
    """Where the batch of `offset` begins, or the first after it; None where the segment ends before."""
    for gap in segment.gaps:
        if gap.offset <= offset < gap.next_offset:
            raise DamagedRangeError(log.name, offset=gap.offset, next_offset=gap.next_offset)
    head = segment.locate(offset)
    if head is not None:
        return head.position
    if segment.may_have_holes or offset >= segment.next_offset:
        return None
    note_missing_end(log, segment)
    return _position(log, segment, offset)


def _remember(log: PartitionLog, next_offset: int, segment: Segment, position: int) -> None:
    """Who reads on at `next_offset` need not search."""
    if log.positions is None:
        log.positions = {}
    elif len(log.positions) >= POSITIONS_MAX:
        del log.positions[next(iter(log.positions))]
    log.positions[next_offset] = (segment.base_offset, position)


def _measure(data: bytes, position: int, end: int, request: ReadRequest, *, segment: Segment) -> tuple[int, int]:
    """(bytes, next offset) of the whole batches in `data` that end below the upper offset; asserts their bounds."""
    offset, upper_offset = request.offset, request.upper_offset
    check_crc, holes, end_offset = request.check_crc, segment.may_have_holes, segment.next_offset
    at = last_at = 0
    expected, is_after_hole = offset, False
    data_bytes = len(data)
    unpack = _PREFIX.unpack_from
    while at + HEADER_BYTES <= data_bytes:
        base_offset, length, _, magic, crc, _, last_delta = unpack(data, at)
        size_bytes = LENGTH_END + length
        next_offset = base_offset + last_delta + 1
        if magic != 2 or length < BATCH_LENGTH_MIN or last_delta < 0 or position + at + size_bytes > end:
            raise BrokenBatchError(position + at, f"no batch: magic {magic}, length {length}")
        if (
            next_offset > end_offset
            or (base_offset > expected and not holes)
            or (at and base_offset < expected)
            or next_offset <= offset
        ):
            raise BrokenBatchError(position + at, f"offset {base_offset} is not due here")
        if at + size_bytes > data_bytes or next_offset > upper_offset:
            break
        if check_crc and crc32c(memoryview(data)[at + ATTRIBUTES_AT : at + size_bytes]) != crc:
            raise BrokenBatchError(position + at, "the CRC does not match the bytes")
        last_at, is_after_hole = at, base_offset > expected
        at += size_bytes
        expected = next_offset
    if is_after_hole and position + at < end:
        following = data[at : at + BASE_OFFSET_BYTES]
        if len(following) < BASE_OFFSET_BYTES:
            following = segment.read_at(min(BASE_OFFSET_BYTES, end - position - at), position + at)
        if int.from_bytes(following, "big") < expected:  # no CRC covers an offset: after a hole the next one tells
            raise BrokenBatchError(
                position + last_at, f"offsets up to {expected - 1}, and the next batch begins before"
            )
    return at, expected


def _announced_bytes(data: bytes) -> int:
    return LENGTH_END + int.from_bytes(data[8:12], "big", signed=True)


def find_timestamp(log: PartitionLog, timestamp_ms: int, upper_offset: int) -> TimestampOffset | None:
    """See `PartitionLog.offset_for_timestamp`."""
    upper_offset = min(upper_offset, log.log_end_offset)
    for segment in log.segments:
        if segment.next_offset <= log.log_start_offset:
            continue
        found = _in_spite_of_damage(log, segment, partial(_find_in_segment, log, segment, timestamp_ms))
        if found is not None:
            return found if found.offset < upper_offset else None
    return None


def _find_in_segment(log: PartitionLog, segment: Segment, timestamp_ms: int) -> TimestampOffset | None:
    if segment.max_timestamp_ms < timestamp_ms:
        return None
    for head in segment.heads(*segment.start_for_timestamp(timestamp_ms)):
        if head.max_timestamp_ms >= timestamp_ms and head.next_offset > log.log_start_offset:
            found = _find_in_batch(segment, head, timestamp_ms, log.log_start_offset)
            if found is not None:
                return found
    return None


def _find_in_batch(segment: Segment, head: BatchHead, timestamp_ms: int, start_offset: int) -> TimestampOffset | None:
    batch = RecordBatch(segment.read_at(head.size_bytes, head.position), 0)
    if not batch.crc_is_valid():
        raise BrokenBatchError(head.position, "the CRC does not match the bytes")
    for record in batch.records():
        if record.timestamp_ms >= timestamp_ms and record.offset >= start_offset:
            return TimestampOffset(record.offset, record.timestamp_ms, head.leader_epoch)
    return None
