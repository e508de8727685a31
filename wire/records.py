"""The records inside a batch of format v2: bytes to `Record` and back.

Owns the varints, lengths and headers of a record. Refuses (CORRUPT_MESSAGE) bytes that are not exactly the announced
number of whole records: no length is trusted before it is compared with the bytes that are there. Knows nothing of the
batch around it. Source: Kafka protocol, "Record Batch" (KIP-98), varints as in Protocol Buffers (zigzag).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from wire.errors import ErrorCode, RefusedError

Header = tuple[str, bytes | None]
RecordFields = tuple[bytes | None, bytes | None, Sequence[Header], int]

RECORD_BYTES_MIN: Final = 7


class Record(NamedTuple):
    """One record as it lies in the log; `timestamp_ms` is the batch's own under LogAppendTime."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


def encode_varint(value: int) -> bytes:
    """Zigzag varint of a signed integer (at most 10 bytes for 64 bits)."""
    unsigned = (value << 1) ^ (value >> 63)
    out = bytearray()
    while unsigned > 0x7F:
        out.append((unsigned & 0x7F) | 0x80)
        unsigned >>= 7
    out.append(unsigned)
    return bytes(out)


_VARINTS: Final = [encode_varint(value) for value in range(8192)]


def varint(value: int) -> bytes:
    """`encode_varint` with a table for the small lengths and deltas that nearly all records have."""
    return _VARINTS[value] if 0 <= value < 8192 else encode_varint(value)


def corrupt(message: str) -> RefusedError:
    return RefusedError(ErrorCode.CORRUPT_MESSAGE, message)


def read_varint(data: bytes, position: int, *, bytes_max: int = 5) -> tuple[int, int]:
    """Value, next position; refuses more than `bytes_max` bytes (5 for 32 bits, 10 for 64); IndexError at the end."""
    value = shift = 0
    for _ in range(bytes_max):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
    raise corrupt(f"a varint at byte {position} of the records has more than {bytes_max} bytes")


def encode_headers(headers: Sequence[Header]) -> bytes:
    parts = [varint(len(headers))]
    for key, value in headers:
        name = key.encode()
        parts += (varint(len(name)), name)
        parts += (b"\x01",) if value is None else (varint(len(value)), value)
    return b"".join(parts)


def encode_records(records: Sequence[RecordFields], base_timestamp: int) -> list[bytes]:
    """The records as pieces to be joined; offsets count from 0."""
    parts: list[bytes] = []
    for offset_delta, (key, value, headers, timestamp_ms) in enumerate(records):
        body = b"".join(
            (
                b"\0",
                varint(timestamp_ms - base_timestamp),
                varint(offset_delta),
                b"\x01" if key is None else varint(len(key)) + key,
                b"\x01" if value is None else varint(len(value)) + value,
                encode_headers(headers) if headers else b"\0",
            )
        )
        parts += (varint(len(body)), body)
    return parts


def parse_records(
    data: bytes, *, position: int, count: int, base_offset: int, base_timestamp: int, append_timestamp: int | None
) -> list[Record]:
    """Exactly `count` records from `position` to the end of `data`; every timestamp is `append_timestamp` if given."""
    if count < 0 or count * RECORD_BYTES_MIN > len(data) - position:
        raise corrupt(f"the batch announces {count} records in {len(data) - position} bytes")
    records: list[Record] = []
    try:
        for _ in range(count):
            record, position = _parse_record(data, position, base_offset, base_timestamp)
            records.append(record)
    except IndexError:
        raise corrupt("the records end inside a record") from None
    if position != len(data):
        raise corrupt(f"{len(data) - position} bytes remain after the last of {count} records")
    if append_timestamp is not None:
        return [record._replace(timestamp_ms=append_timestamp) for record in records]
    return records


def _parse_record(data: bytes, position: int, base_offset: int, base_timestamp: int) -> tuple[Record, int]:
    length, position = read_varint(data, position)
    end = position + length
    if length < RECORD_BYTES_MIN - 1 or end > len(data):
        raise corrupt(f"a record claims {length} bytes, {len(data) - position} are left")
    timestamp_delta, position = read_varint(data, position + 1, bytes_max=10)
    offset_delta, position = read_varint(data, position)
    key, position = _read_bytes(data, position, end, "key")
    value, position = _read_bytes(data, position, end, "value")
    count, position = read_varint(data, position)
    headers, position = _read_headers(data, position, end, count) if count else ((), position)
    if position != end:
        raise corrupt(f"a record of {length} bytes does not end where its fields do")
    return Record(base_offset + offset_delta, base_timestamp + timestamp_delta, key, value, headers), position


def _read_bytes(data: bytes, position: int, end: int, field: str) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position)
    if length == -1:
        return None, position
    if length < 0 or length > end - position:
        raise corrupt(f"a record's {field} claims {length} bytes, {end - position} are left in the record")
    return data[position : position + length], position + length


def _read_headers(data: bytes, position: int, end: int, count: int) -> tuple[tuple[Header, ...], int]:
    if count < 0 or count * 2 > end - position:
        raise corrupt(f"a record claims {count} headers in {end - position} bytes")
    headers: list[Header] = []
    for _ in range(count):
        name, position = _read_bytes(data, position, end, "header key")
        if name is None:
            raise corrupt("a record's header key is null")
        value, position = _read_bytes(data, position, end, "header value")
        try:
            headers.append((name.decode(), value))
        except UnicodeDecodeError:
            raise corrupt("a record's header key is not UTF-8") from None
    return tuple(headers), position
