"""Kafka's record batch v2, written and read by the letter of its specification, for tests from outside.

Owns a second opinion: it shares no line with the project's own codec. Refuses (ValueError) a batch whose CRC, magic or
offsets are not what they must be.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
CRC_COVERS_FROM = 21


def varint(value: int) -> bytes:
    zigzag = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*encoded, zigzag])


def read_varint(buffer: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), position


class Producer(NamedTuple):
    """What an idempotent producer writes into a batch (KIP-98); nothing of it by default."""

    producer_id: int = -1
    epoch: int = -1
    base_sequence: int = -1


NOBODY = Producer()


def encode(values: tuple[str, ...], *, timestamp_ms: int, producer: Producer = NOBODY) -> bytes:
    """One uncompressed batch of unkeyed records."""
    records = bytearray()
    for index, value in enumerate(values):
        content = value.encode()
        body = b"\0" + varint(0) + varint(index) + varint(-1) + varint(len(content)) + content + varint(0)
        records += varint(len(body)) + body
    count = len(values)
    tail = struct.pack(">hiqqqhii", 0, count - 1, timestamp_ms, timestamp_ms, *producer, count) + records
    head = struct.pack(">qiibI", 0, len(tail) + CRC_COVERS_FROM - 12, -1, 2, crc32c(tail))
    return head + tail


def decode(buffer: bytes) -> Iterator[tuple[int, str]]:
    """(offset, value) of every record of the batches in `buffer`."""
    position = 0
    while position < len(buffer):
        if position + HEADER.size > len(buffer):
            raise ValueError(f"{len(buffer) - position} bytes are no batch")
        base_offset, length, _, magic, crc, _, last_delta, *_, count = HEADER.unpack_from(buffer, position)
        end = position + 12 + length
        if magic != 2 or end > len(buffer) or crc != crc32c(buffer[position + CRC_COVERS_FROM : end]):
            raise ValueError(f"the batch at offset {base_offset} is broken")
        if last_delta != count - 1:
            raise ValueError(f"the batch at offset {base_offset} has {count} records up to offset delta {last_delta}")
        at = position + HEADER.size
        for index in range(count):
            at, record = _record(buffer, at)
            if record[0] != index:
                raise ValueError(f"the record {index} of the batch at {base_offset} has offset delta {record[0]}")
            yield base_offset + index, record[1]
        position = end


def _record(buffer: bytes, at: int) -> tuple[int, tuple[int, str]]:
    length, at = read_varint(buffer, at)
    end = at + length
    _, at = read_varint(buffer, at + 1)
    offset_delta, at = read_varint(buffer, at)
    key_bytes, at = read_varint(buffer, at)
    value_bytes, at = read_varint(buffer, at + max(0, key_bytes))
    return end, (offset_delta, buffer[at : at + value_bytes].decode())
