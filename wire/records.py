"""The records inside a batch of format v2: bytes to `Record` and back.

Owns the varints, lengths and headers of a record. Refuses (INVALID_RECORD: sending it again would not help) bytes that
are not exactly the announced number of whole records with rising offsets: no length is trusted before it is compared
with the bytes that are there. Knows nothing of the batch around it. Source: Kafka protocol, "Record Batch" (KIP-98);
varints are Protocol Buffers' zigzag.

A record: length, attributes (one unused byte), timestamp delta, offset delta, key length, key, value length, value,
header count, then for each header key length, key, value length, value; a null key or value has length -1.

This is the hot path of every door that speaks JSON, so it is written for the interpreter: records of the common shapes
are handled in line, whatever is unusual goes to `_parse_record`, one field at a time.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import le
from typing import Final, NamedTuple

from wire.errors import ErrorCode, RefusedError

Header = tuple[str, bytes | None]
RecordFields = tuple[bytes | None, bytes | None, Sequence[Header], int]


class Record(NamedTuple):
    """One record as it lies in the log; `timestamp_ms` is the batch's own under LogAppendTime."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


RECORD_BYTES_MIN: Final = 7
# One compressed MiB can hold ten million empty records, whose objects would take gigabytes. Real batches hold
# thousands. Refused at the door and here alike, so nothing is stored that cannot be read.
RECORDS_PER_BATCH_MAX: Final = 1 << 19
TIMESTAMP_MAX: Final = 1 << 62  # also for deltas: sums of two stay within Kafka's 64 bits
_TABLE_SIZE: Final = 8192  # what two bytes of varint hold: 0 to 8191
_REACH_BYTES: Final = 160  # how far the in-line parser may look past a record that it misreads: 138 bytes
_NULL: Final = b"\x01"  # varint of -1
_ZERO: Final = b"\x00"


def encode_varint(value: int) -> bytes:
    """Zigzag varint of a signed 64-bit integer: 1 to 10 bytes."""
    unsigned = (value << 1) ^ (value >> 63)
    out = bytearray()
    while unsigned > 0x7F:
        out.append((unsigned & 0x7F) | 0x80)
        unsigned >>= 7
    out.append(unsigned)
    return bytes(out)


_VARINTS: Final = [
    *[bytes((value << 1,)) for value in range(64)],
    *[bytes(((value << 1) & 0x7F | 0x80, value >> 6)) for value in range(64, _TABLE_SIZE)],
]

# What stands between the length and the value's length of a record without key, stamped with the batch's base
# timestamp: attributes, timestamp delta 0, the offset delta, no key.
_PLAIN_PREFIXES: Final = [b"\x00\x00" + delta + _NULL for delta in _VARINTS]


def varint(value: int) -> bytes:
    """`encode_varint` with a table for the small lengths and deltas that nearly all records have."""
    return _VARINTS[value] if 0 <= value < _TABLE_SIZE else encode_varint(value)


def encode_records(records: Sequence[RecordFields], base_timestamp: int) -> list[bytes]:
    """The records as pieces to be joined; offsets count from 0, timestamps from `base_timestamp`."""
    pieces: list[bytes] = []
    add = pieces.extend
    varints, table_size = _VARINTS, _TABLE_SIZE
    for offset_delta, (key, value, headers, timestamp_ms) in enumerate(records):
        delta = timestamp_ms - base_timestamp
        timestamp = varints[delta] if 0 <= delta < table_size else encode_varint(delta)
        offset = varints[offset_delta] if offset_delta < table_size else encode_varint(offset_delta)
        if value is None:
            value, value_length = b"", _NULL  # noqa: PLW2901 - a null is written as its length alone
        else:
            value_length = varints[len(value)] if len(value) < table_size else encode_varint(len(value))
        size = len(timestamp) + len(offset) + len(value_length) + len(value)
        if key is None and not headers:
            size += 3
            length = varints[size] if size < table_size else encode_varint(size)
            add((length, _ZERO, timestamp, offset, _NULL, value_length, value, _ZERO))
        else:
            key_length = _NULL if key is None else varint(len(key))
            key = key or b""  # noqa: PLW2901 - as for the value
            tail = _encode_headers(headers) if headers else _ZERO
            size += 1 + len(key_length) + len(key) + len(tail)
            add((varint(size), _ZERO, timestamp, offset, key_length, key, value_length, value, tail))
    return pieces


def _encode_headers(headers: Sequence[Header]) -> bytes:
    pieces = [varint(len(headers))]
    for key, value in headers:
        try:
            name = key.encode()
        except UnicodeEncodeError:
            raise invalid(f"the header name {key!a} is not Unicode text") from None
        pieces += (varint(len(name)), name)
        pieces += (_NULL,) if value is None else (varint(len(value)), value)
    return b"".join(pieces)


def parse_records(
    data: bytes,
    *,
    count: int,
    base_offset: int,
    last_offset_delta: int,
    base_timestamp: int,
    append_timestamp: int | None = None,
) -> list[Record]:
    """Exactly `count` records that fill `data`; every timestamp is `append_timestamp` where that is given.

    RefusedError(INVALID_RECORD) where the bytes are anything else. Memory taken is bounded by the size of `data`.
    """
    if count < 0 or count * RECORD_BYTES_MIN > len(data):
        raise invalid(f"the batch announces {count} records in {len(data)} bytes")
    if count > RECORDS_PER_BATCH_MAX:
        raise invalid(f"the batch holds {count} records, more than {RECORDS_PER_BATCH_MAX}: send smaller batches")
    if not -TIMESTAMP_MAX <= base_timestamp <= TIMESTAMP_MAX:
        raise invalid(f"the batch's base timestamp {base_timestamp} is out of range")
    try:
        records, position = _parse_plain_records(data, count, base_offset, base_timestamp)
        position = _parse_common_records(data, count, base_offset, base_timestamp, position=position, records=records)
        while len(records) < count:
            record, position = _parse_record(data, position, base_offset, base_timestamp)
            records.append(record)
    except IndexError:
        raise invalid("the records end inside a record") from None
    if position != len(data):
        raise invalid(f"{len(data) - position} bytes remain after the last of {count} records")
    _check_offsets([record.offset for record in records], base_offset, base_offset + last_offset_delta)
    if append_timestamp is not None:
        return [record._replace(timestamp_ms=append_timestamp) for record in records]
    return records


def _check_offsets(offsets: list[int], first: int, last: int) -> None:
    """They rise (a compacted batch has gaps) and lie within the batch."""
    if offsets and not first <= offsets[0] <= offsets[-1] <= last:
        raise invalid(
            f"the offsets {offsets[0]} to {offsets[-1]} of records lie outside of their batch {first} to {last}"
        )
    if any(map(le, offsets[1:], offsets)):
        raise invalid("the offsets of the records do not rise")


def _parse_plain_records(data: bytes, count: int, base_offset: int, base_timestamp: int) -> tuple[list[Record], int]:
    """The leading records that have no key, no headers, the base timestamp and gapless offsets, and where they end.

    That is what HTTP producers make. Only the two lengths are decoded; the rest is one comparison.
    """
    values: list[bytes] = []
    add = values.append
    starts_with = data.startswith
    position = 0
    for prefix in _PLAIN_PREFIXES[:count]:
        at = position + 1
        length = data[position]
        if length > 0x7F:
            length = length & 0x7F | data[at] << 7
            at += 1
        if not starts_with(prefix, at):
            break
        end = at + (length >> 1) - 1  # of the value: one byte for "no headers" follows
        at += len(prefix)
        size = data[at]
        at += 1
        if size > 0x7F:
            size = size & 0x7F | data[at] << 7
            at += 1
        # Odd: a negative length. Above 0x3fff: a varint of three bytes or more, of which two were read.
        if (length | size) & ~0x3FFE or at + (size >> 1) != end or data[end]:
            break
        add(data[at:end])
        position = end + 1
    fields = zip(
        range(base_offset, base_offset + len(values)), repeat(base_timestamp), repeat(None), values, repeat(())
    )
    return list(map(Record._make, fields)), position


def _parse_common_records(
    data: bytes, count: int, base_offset: int, base_timestamp: int, *, position: int, records: list[Record]
) -> int:
    """Append to `records` up to `count`, or until the bytes that are left get few; returns where the last one ends."""
    add, make = records.append, Record._make
    last_safe_position = len(data) - _REACH_BYTES
    for _ in range(count - len(records)):
        if position > last_safe_position:
            break
        at = position + 1
        length = data[position]
        if length > 0x7F:
            length = length & 0x7F | data[at] << 7
            at += 1
        end = at + (length >> 1)
        delta = data[at + 1]  # after the attributes
        at += 2
        if delta > 0x7F:
            delta = delta & 0x7F | data[at] << 7
            at += 1
        offset = data[at]
        at += 1
        if offset > 0x7F:
            offset = offset & 0x7F | data[at] << 7
            at += 1
            if offset > 0x3FFF:
                offset = offset & 0x3FFF | data[at] << 14
                at += 1
        key_size = data[at]
        at += 1
        key = None
        if key_size != 1:
            key = data[at : at + (key_size >> 1)]
            at += key_size >> 1
        size = data[at]
        at += 1
        if size > 0x7F:
            size = size & 0x7F | data[at] << 7
            at += 1
        tail = at + (size >> 1)
        # As above; what is odd (null, negative) or long is read again, one field at a time.
        if (
            (length | size) & ~0x3FFE
            or delta > 0x3FFF
            or offset & ~0x1FFFFE
            or (key_size & ~0x7E and key_size != 1)
            or tail >= end
            or end > len(data)
        ):
            record, position = _parse_record(data, position, base_offset, base_timestamp)
        else:
            headers = _parse_headers(data, tail, end) if tail + 1 != end or data[tail] else ()
            timestamp_ms = base_timestamp + ((delta >> 1) ^ -(delta & 1))
            record = make((base_offset + (offset >> 1), timestamp_ms, key, data[at:tail], headers))
            position = end
        add(record)
    return position


def _parse_record(data: bytes, position: int, base_offset: int, base_timestamp: int) -> tuple[Record, int]:
    """One record of any shape and where it ends. IndexError where `data` ends inside a varint."""
    length, position = read_varint(data, position)
    end = position + length
    if length < RECORD_BYTES_MIN - 1 or end > len(data):
        raise invalid(f"a record claims {length} bytes, {len(data) - position} are left")
    timestamp_delta, position = read_varint(data, position + 1, bytes_max=10)
    if not -TIMESTAMP_MAX <= timestamp_delta <= TIMESTAMP_MAX:
        raise invalid(f"a record's timestamp delta {timestamp_delta} is out of range")
    offset_delta, position = read_varint(data, position)
    key, position = _read_bytes(data, position, end, "key")
    value, position = _read_bytes(data, position, end, "value")
    headers = _parse_headers(data, position, end)
    return Record(base_offset + offset_delta, base_timestamp + timestamp_delta, key, value, headers), end


def _read_bytes(data: bytes, position: int, end: int, field: str) -> tuple[bytes | None, int]:
    size = data[position]
    if not size & ~0x7E:  # one byte and not negative, as nearly always
        last = position + 1 + (size >> 1)
        if last <= end:
            return data[position + 1 : last], last
    length, position = read_varint(data, position)
    if length == -1:
        return None, position
    if length < 0 or length > end - position:
        raise invalid(f"a record's {field} claims {length} bytes, {end - position} are left in the record")
    return data[position : position + length], position + length


def _parse_headers(data: bytes, position: int, end: int) -> tuple[Header, ...]:
    """What follows a record's value: the header count at `position`, then headers up to `end`, no more, no less."""
    count, position = read_varint(data, position)
    if count < 0 or count * 2 > end - position:
        raise invalid(f"a record claims {count} headers in {end - position} bytes")
    headers: list[Header] = []
    for _ in range(count):
        name, position = _read_bytes(data, position, end, "header key")
        if name is None:
            raise invalid("a record's header key is null")
        value, position = _read_bytes(data, position, end, "header value")
        try:
            headers.append((name.decode(), value))
        except UnicodeDecodeError:
            raise invalid("a record's header key is not UTF-8") from None
    if position != end:
        raise invalid("a record does not end where its fields do")
    return tuple(headers)


def read_varint(data: bytes, position: int, *, bytes_max: int = 5) -> tuple[int, int]:
    """Value and next position; at most `bytes_max` bytes (5 for 32 bits, 10 for 64). IndexError past the end."""
    value = shift = 0
    for at in range(position, position + bytes_max):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at + 1
        shift += 7
    raise invalid(f"the varint at byte {position} of the records has more than {bytes_max} bytes")


def invalid(message: str) -> RefusedError:
    return RefusedError(ErrorCode.INVALID_RECORD, message)
