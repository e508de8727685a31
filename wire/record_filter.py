"""Record batches with some of their records taken out: what compaction does to a batch without knowing why.

Owns where each record of a batch lies (`RecordSpan`), and the making of a batch anew from those that stay: offsets,
leader epoch, producer id and sequences are the same as before, the codec too, and the bytes of a record that stays are
copied, not encoded again. Source: Kafka's MemoryRecords.filterTo; the delete horizon is KIP-534's: a batch with
tombstones may say when they can go, in the place of its base timestamp and marked by a bit of its attributes.
Refuses (INVALID_RECORD) what is not exactly the announced number of whole records.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from wire.compression import compress, decompress
from wire.record_batch import CODEC_MASK, HEADER_BYTES, RecordBatch, rebuilt
from wire.records import RECORD_BYTES_MIN, invalid, read_varint, varint

DELETE_HORIZON_BIT: Final = 0x40
NO_TIMESTAMP: Final = -1

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
    spans: list[RecordSpan] = []
    position = last_delta = 0
    try:
        for index in range(count):
            span = _span_at(data, position)
            if not (0 <= span.offset_delta <= batch.last_offset_delta) or (index and span.offset_delta <= last_delta):
                raise invalid(f"offset delta {span.offset_delta} of record {index} is not due there")
            spans.append(span)
            position, last_delta = span.end, span.offset_delta
    except IndexError:
        raise invalid("the records end inside a record") from None
    if position != len(data):
        raise invalid(f"{len(data) - position} bytes remain after the last of {count} records")
    return spans


def _span_at(data: bytes, start: int) -> RecordSpan:
    """The record that begins at `start`. One byte is what most varints have, and is read in line."""
    length, at = (byte >> 1, start + 1) if (byte := data[start]) < 0x80 and not byte & 1 else read_varint(data, start)
    end = at + length
    if length < RECORD_BYTES_MIN - 1 or end > len(data):
        raise invalid(f"a record claims {length} bytes, {len(data) - at} are left")
    at += 1  # the attributes, which mean nothing
    if (byte := data[at]) < 0x80:
        timestamp_delta, at = (byte >> 1) ^ -(byte & 1), at + 1
    else:
        timestamp_delta, at = read_varint(data, at, bytes_max=10)
    rest_at = at
    offset_delta, at = (byte >> 1, at + 1) if (byte := data[at]) < 0x80 and not byte & 1 else read_varint(data, at)
    key_bytes, at = (byte >> 1, at + 1) if (byte := data[at]) < 0x80 and not byte & 1 else read_varint(data, at)
    key = None
    if key_bytes >= 0:
        key = data[at : at + key_bytes]
        at += key_bytes
    if key_bytes < -1 or at >= end:
        raise invalid(f"a record's key claims {key_bytes} bytes, too many")
    value_bytes, at = (byte >> 1, at + 1) if (byte := data[at]) < 0x80 and not byte & 1 else read_varint(data, at)
    if value_bytes < -1 or at + max(value_bytes, 0) >= end:
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
