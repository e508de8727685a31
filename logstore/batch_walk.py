"""Walking over the batches of a segment file: by headers alone, or with every CRC checked.

Owns the reading of headers in windows of bounded size, so a walk over 1 GiB holds a few KiB (or one batch), and the
search for the next intact batch after damage. Refuses bytes that are no batch: `BrokenBatchError` says where and why;
whether that is a torn tail or damage is recovery's judgement (S18).
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from wire.errors import RefusedError
from wire.record_batch import HEADER_BYTES, RecordBatch, read_header

ReadAt = Callable[[int, int], bytes]
"""(size_bytes, position) -> at most that many bytes."""

# base_offset batch_length leader_epoch magic crc attributes last_offset_delta base_timestamp max_timestamp producer_id
# producer_epoch base_sequence
HEAD: Final = struct.Struct(">qiibIhiqqqhi")
LENGTH_END: Final = 12
BATCH_LENGTH_MIN: Final = HEADER_BYTES - LENGTH_END
WINDOW_BYTES: Final = 8 << 10
SCAN_BYTES: Final = 1 << 20
OFFSET_SPAN: Final = 2**31
BASE_OFFSET_BYTES: Final = 8


class BrokenBatchError(Exception):
    """What lies at `position` is no intact batch."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"byte {position}: {reason}")
        self.position = position
        self.reason = reason


class BatchHead(NamedTuple):
    """What the walk knows of a batch without its records."""

    position: int
    size_bytes: int
    base_offset: int
    next_offset: int
    leader_epoch: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int


def walk_heads(
    read_at: ReadAt, position: int, end: int, expected_offset: int, *, end_offset: int, may_have_holes: bool
) -> Iterator[BatchHead]:
    """The batches from `position` to `end` by their headers; BrokenBatchError where bounds or offsets make no sense."""
    window = b""
    window_start = position
    while position < end:
        at = position - window_start
        if at + HEADER_BYTES > len(window):
            window = read_at(min(WINDOW_BYTES, end - position), position)
            window_start, at = position, 0
        head = head_at(window, at, position, end)
        check_offset(position, head.base_offset, expected_offset, may_have_holes=may_have_holes)
        if head.next_offset > end_offset:
            raise BrokenBatchError(position, f"offsets up to {head.next_offset - 1} where all end below {end_offset}")
        yield head
        expected_offset = head.next_offset
        position += head.size_bytes


def head_at(window: bytes, at: int, position: int, end: int) -> BatchHead:
    """The batch at `window[at]`, which is byte `position` of a file whose batches end at `end`."""
    if len(window) - at < HEADER_BYTES:
        raise BrokenBatchError(position, f"{len(window) - at} bytes remain, a header has {HEADER_BYTES}")
    base_offset, length, epoch, magic, _, _, last_delta, _, max_timestamp_ms, *producer = HEAD.unpack_from(window, at)
    if magic != 2 or length < BATCH_LENGTH_MIN or last_delta < 0 or base_offset < 0:
        raise BrokenBatchError(position, f"no batch header: magic {magic}, length {length}, offset {base_offset}")
    if position + LENGTH_END + length > end:
        raise BrokenBatchError(position, f"a batch of {LENGTH_END + length} bytes, {end - position} remain")
    next_offset = base_offset + last_delta + 1
    return BatchHead(position, LENGTH_END + length, base_offset, next_offset, epoch, max_timestamp_ms, *producer)


def check_offset(position: int, base_offset: int, expected_offset: int, *, may_have_holes: bool) -> None:
    """The base offset is not covered by the CRC: only its neighbours tell whether it is right."""
    if base_offset < expected_offset or (base_offset != expected_offset and not may_have_holes):
        raise BrokenBatchError(position, f"offset {base_offset} where {expected_offset} is due")


def scan_batches(
    read_at: ReadAt,
    position: int,
    end: int,
    expected_offset: int,
    *,
    end_offset: int | None = None,
    may_have_holes: bool,
) -> Iterator[tuple[int, RecordBatch]]:
    """(position, batch) from `position` to `end`, read sequentially, every CRC and offset checked.

    `may_have_holes`: compaction removes records, so offsets need only rise; else each batch begins where one ended.
    `end_offset`: all are known to end there or before; None where nobody knows.
    """
    window = b""
    window_start = position
    while position < end:
        at = position - window_start
        batch = _whole_batch(window, at)
        if batch is None:
            size_bytes = _announced_size(read_at, position, end)
            window = read_at(min(max(SCAN_BYTES, size_bytes), end - position), position)
            window_start = position
            batch = _whole_batch(window, 0)
        if batch is None:
            raise BrokenBatchError(position, "no whole batch lies here")
        if not batch.crc_is_valid():
            raise BrokenBatchError(position, "the CRC does not match the bytes")
        check_offset(position, batch.base_offset, expected_offset, may_have_holes=may_have_holes)
        if end_offset is not None and batch.next_offset > end_offset:
            raise BrokenBatchError(position, f"offsets up to {batch.next_offset - 1} where all end below {end_offset}")
        if batch.base_offset > expected_offset:
            _check_hole(read_at, position, end, batch, expected_offset)
        yield position, batch
        expected_offset = batch.next_offset
        position += batch.size_bytes


def _check_hole(read_at: ReadAt, position: int, end: int, batch: RecordBatch, expected_offset: int) -> None:
    """BrokenBatchError where the hole is none: it spans more than a segment can, or the next batch belongs into it."""
    if batch.next_offset - expected_offset >= OFFSET_SPAN:
        raise BrokenBatchError(position, f"offset {batch.base_offset}, too far beyond {expected_offset}")
    after = position + batch.size_bytes
    found = read_at(min(BASE_OFFSET_BYTES, end - after), after)
    if len(found) == BASE_OFFSET_BYTES and expected_offset <= int.from_bytes(found, "big") < batch.next_offset:
        base_offset = intact_batch_at(read_at, after, end, expected_offset)
        if base_offset is not None:
            raise BrokenBatchError(position, f"offset {batch.base_offset}, and the next batch has {base_offset}")


def _whole_batch(window: bytes, at: int) -> RecordBatch | None:
    try:
        return read_header(window, at)
    except RefusedError:
        return None


def _announced_size(read_at: ReadAt, position: int, end: int) -> int:
    """Bytes that the batch at `position` claims, at most what the file has."""
    header = read_at(min(HEADER_BYTES, end - position), position)
    return head_at(header, 0, position, end).size_bytes


def intact_batch_at(read_at: ReadAt, position: int, end: int, expected_offset: int) -> int | None:
    """The base offset of the batch at `position`, if it is intact and may follow `expected_offset`."""
    header = read_at(min(HEADER_BYTES, end - position), position)
    try:
        head = head_at(header, 0, position, end)
    except BrokenBatchError:
        return None
    if not expected_offset <= head.base_offset < expected_offset + OFFSET_SPAN:
        return None
    batch = _whole_batch(read_at(head.size_bytes, position), 0)
    return head.base_offset if batch is not None and batch.crc_is_valid() else None


def find_intact_batch(read_at: ReadAt, position: int, end: int, expected_offset: int) -> tuple[int, int] | None:
    """(position, base offset) of the first intact batch at or after `position` that may follow `expected_offset`.

    Every byte is tried: a flipped length must not hide what comes after it.
    """
    high = struct.pack(">q", expected_offset)[:4], struct.pack(">q", expected_offset + OFFSET_SPAN)[:4]
    choice = b"|".join(re.escape(prefix) for prefix in dict.fromkeys(high))
    candidate = re.compile(b"(?=(?:" + choice + b").{4}[\\x00-\\x7f].{3}.{4}\\x02)", re.DOTALL)
    while position < end:
        window = read_at(min(SCAN_BYTES, end - position), position)
        for found in candidate.finditer(window):
            base_offset = intact_batch_at(read_at, position + found.start(), end, expected_offset)
            if base_offset is not None:
                return position + found.start(), base_offset
        if len(window) < HEADER_BYTES:
            return None
        position += len(window) - HEADER_BYTES + 1
    return None
