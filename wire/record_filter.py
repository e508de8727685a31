"""Record batches with some of their records taken out: what compaction does to a batch without knowing why.

Owns where each record of a batch lies (`RecordSpan`), and the making of a batch anew from those that stay: offsets,
leader epoch, producer id and sequences are the same as before, the codec too, and the bytes of a record that stays are
copied, not encoded again. Source: Kafka's MemoryRecords.filterTo; the delete horizon is KIP-534's: a batch with
tombstones may say when they can go, in the place of its base timestamp and marked by a bit of its attributes.
Refuses (INVALID_RECORD) what is not exactly the announced number of whole records.
"""

from collections.abc import Sequence
from operator import le
from typing import Final, NamedTuple

from wire.compression import compress, decompress
from wire.record_batch import CODEC_MASK, HEADER_BYTES, RecordBatch, rebuilt
from wire.records import RECORD_BYTES_MIN, invalid, read_varint, varint

DELETE_HORIZON_BIT: Final = 0x40
NO_TIMESTAMP: Final = -1
REACH_BYTES: Final = 160
"""How far the in-line parser may look past a record that it misreads: 143 bytes."""

__all__ = ["RecordSpan", "delete_horizon_ms", "empty_batch", "filtered_batch", "has_null_key", "record_spans"]


class RecordSpan(NamedTuple):
    """One record: bytes [start, end) of the uncompressed records; `rest_at` is what follows its timestamp delta."""

    start: int
    end: int
    rest_at: int
    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    is_tombstone: bool


def delete_horizon_ms(batch: RecordBatch) -> int | None:
    """When the tombstones of this batch may go, by the wall clock; None where nobody has said so yet."""
    return batch.base_timestamp if batch.attributes & DELETE_HORIZON_BIT else None


def uncompressed_records(batch: RecordBatch) -> bytes:
    """The bytes of all records. RefusedError(INVALID_RECORD) where they do not decompress, or to too much."""
    start = batch.position + HEADER_BYTES
    data = bytes(memoryview(batch.source)[start : batch.position + batch.size_bytes])
    return decompress(batch.compression, data) if batch.compression else data


def has_null_key(batch: RecordBatch) -> bool:
    """Whether a record has no key. RefusedError(INVALID_RECORD) where the records are none."""
    return any(span.key is None for span in record_spans(batch, uncompressed_records(batch)))


def record_spans(batch: RecordBatch, data: bytes) -> list[RecordSpan]:
    """Every record of `batch`, whose uncompressed bytes are `data`, in order."""
    count = batch.record_count
    if count < 0 or count * RECORD_BYTES_MIN > len(data):
        raise invalid(f"the batch announces {count} records in {len(data)} bytes")
    try:
        spans = _spans(data, count)
    except IndexError:
        raise invalid("the records end inside a record") from None
    end = spans[-1].end if spans else 0
    if end != len(data):
        raise invalid(f"{len(data) - end} bytes remain after the last of {count} records")
    deltas = [span.offset_delta for span in spans]
    if deltas and not 0 <= deltas[0] <= deltas[-1] <= batch.last_offset_delta:
        raise invalid(f"the offsets of the records lie outside of their batch: {deltas[0]} to {deltas[-1]}")
    if any(map(le, deltas[1:], deltas)):
        raise invalid("the offsets of the records do not rise")
    return spans


def _spans(data: bytes, count: int) -> list[RecordSpan]:
    """Written for the interpreter, as the parser of `wire/records.py`: common shapes are handled in line."""
    spans: list[RecordSpan] = []
    add, make = spans.append, RecordSpan._make
    position, last_safe_position = 0, len(data) - REACH_BYTES
    for _ in range(count):
        if position > last_safe_position:
            add(_span_at(data, position))
            position = spans[-1].end
            continue
        at = position + 1
        length = data[position]
        if length > 0x7F:
            length = length & 0x7F | data[at] << 7
            at += 1
        end = at + (length >> 1)
        timestamp = data[at + 1]  # after the attributes, which mean nothing
        at += 2
        if timestamp > 0x7F:
            timestamp = timestamp & 0x7F | data[at] << 7
            at += 1
        rest_at = at
        offset = data[at]
        at += 1
        if offset > 0x7F:
            offset = offset & 0x7F | data[at] << 7
            at += 1
        key_size = data[at]
        at += 1
        key = None
        if key_size != 1:
            key = data[at : at + (key_size >> 1)]
            at += key_size >> 1
        value_size = data[at]
        at += 1
        if value_size > 0x7F:
            value_size = value_size & 0x7F | data[at] << 7
            at += 1
        # Varints of more than two bytes, and whatever is negative or makes no sense: one field at a time.
        if (
            (length | offset) & ~0x3FFE
            or timestamp > 0x3FFF
            or (key_size & ~0x7E and key_size != 1)
            or (value_size & ~0x3FFE and value_size != 1)
            or at + (value_size >> 1) >= end
            or end > len(data)
        ):
            span = _span_at(data, position)
        else:
            delta = (timestamp >> 1) ^ -(timestamp & 1)
            span = make((position, end, rest_at, delta, offset >> 1, key, value_size == 1))
        add(span)
        position = span.end
    return spans


def _span_at(data: bytes, start: int) -> RecordSpan:
    """A record of any shape. IndexError where `data` ends inside a varint."""
    length, at = read_varint(data, start)
    end = at + length
    if length < RECORD_BYTES_MIN - 1 or end > len(data):
        raise invalid(f"a record claims {length} bytes, {len(data) - at} are left")
    timestamp_delta, rest_at = read_varint(data, at + 1, bytes_max=10)
    offset_delta, at = read_varint(data, rest_at)
    key_bytes, at = read_varint(data, at)
    key = data[at : at + key_bytes] if key_bytes >= 0 else None
    at += max(0, key_bytes)
    if key_bytes < -1 or at >= end:
        raise invalid(f"a record's key claims {key_bytes} bytes, too many")
    value_bytes, at = read_varint(data, at)
    if value_bytes < -1 or at + max(0, value_bytes) >= end:
        raise invalid(f"a record's value claims {value_bytes} bytes, too many")
    return RecordSpan(start, end, rest_at, timestamp_delta, offset_delta, key, value_bytes < 0)


def filtered_batch(
    batch: RecordBatch, data: bytes, kept: Sequence[RecordSpan], *, horizon_ms: int | None = None
) -> bytearray:
    """`batch` with only its records `kept`, at least one, of its uncompressed bytes `data`.

    `horizon_ms`: the delete horizon that it gets, whatever it had; None: what it has stays.
    """
    assert kept, "a batch without records is an empty_batch"
    old_base, base_timestamp, attributes = batch.base_timestamp, batch.base_timestamp, batch.attributes
    if horizon_ms is None or (horizon_ms == old_base and attributes & DELETE_HORIZON_BIT):
        payload = b"".join([data[span.start : span.end] for span in kept])
    else:
        base_timestamp, attributes = horizon_ms, attributes | DELETE_HORIZON_BIT
        payload = b"".join([_with_timestamp(data, span, old_base - horizon_ms) for span in kept])
    max_timestamp = batch.max_timestamp
    if not batch.is_log_append_time:
        max_timestamp = old_base + max(span.timestamp_delta for span in kept)
    return rebuilt(
        batch,
        compress(batch.compression, payload),
        attributes=attributes,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        record_count=len(kept),
    )


def _with_timestamp(data: bytes, span: RecordSpan, shift_ms: int) -> bytes:
    """The record, its timestamp counted from another base."""
    body = data[span.rest_at : span.end]
    timestamp = varint(span.timestamp_delta + shift_ms)
    return b"".join((varint(1 + len(timestamp) + len(body)), b"\x00", timestamp, body))


def empty_batch(batch: RecordBatch) -> bytearray:
    """The header of `batch` alone: its offsets, epoch and sequences, and no record."""
    return rebuilt(
        batch,
        b"",
        attributes=batch.attributes & ~(CODEC_MASK | DELETE_HORIZON_BIT),
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=batch.max_timestamp,
        record_count=0,
    )
