"""Kafka's record batch, format v2 (magic 2): the one format of the log and of the wire.

Owns the 61-byte header, its CRC32C, the checks on what a producer sends, the stamps that a leader sets in place, and
the building of batches from records. `RecordBatch` is a view: it copies nothing and keeps the header as it was when it
was read, so a later `stamp` is not seen by it. Batches stay opaque on the broker: `records()` is for the doors that
speak JSON and for compaction.
Refuses anything but whole, intact v2 batches (RefusedError); a partial batch at the end of a buffer is no error for a
reader (a fetch may cut one), only for a producer.
Invariants: no size is trusted before it is compared with the bytes that are there; `base_offset` and
`partition_leader_epoch` lie before the bytes that the CRC covers, so stamping them never breaks it (KIP-98).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from crc32c import crc32c

from wire.compression import Compression, compress, decompress
from wire.errors import ErrorCode, RefusedError
from wire.records import (
    RECORDS_PER_BATCH_MAX,
    TIMESTAMP_MAX,
    Header,
    Record,
    RecordFields,
    encode_records,
    invalid,
    parse_records,
)

__all__ = [
    "HEADER_BYTES",
    "Compression",
    "Header",
    "Record",
    "RecordBatch",
    "RecordFields",
    "build_batch",
    "check_batches",
    "iterate_batches",
    "read_header",
    "rebuilt",
    "stamp",
    "stamp_log_append_time",
]

# base_offset batch_length leader_epoch magic crc attributes last_offset_delta base_timestamp max_timestamp producer_id
# producer_epoch base_sequence record_count
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_OFFSET: Final = struct.Struct(">q")
_EPOCH: Final = struct.Struct(">i")
_CRC: Final = struct.Struct(">I")
_ATTRIBUTES: Final = struct.Struct(">h")

HEADER_BYTES: Final = 61
LENGTH_END: Final = 12  # batch_length counts from here
EPOCH_AT: Final = 12
MAGIC_AT: Final = 16
CRC_AT: Final = 17
ATTRIBUTES_AT: Final = 21  # the CRC covers from here to the end
MAX_TIMESTAMP_AT: Final = 35

CODEC_MASK: Final = 0x07
LOG_APPEND_TIME_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20

NO_PRODUCER_ID: Final = -1
NO_SEQUENCE: Final = -1
SEQUENCE_MAX: Final = 2**31 - 1

Buffer = bytes | bytearray | memoryview

assert _HEADER.size == HEADER_BYTES


class RecordBatch:
    """One batch lying in `source` at `position`; the header's fields are attributes, the rest is computed."""

    __slots__ = (
        "attributes",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "batch_length",
        "crc",
        "last_offset_delta",
        "magic",
        "max_timestamp",
        "partition_leader_epoch",
        "position",
        "producer_epoch",
        "producer_id",
        "record_count",
        "source",
    )

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    def __init__(self, source: Buffer, position: int) -> None:
        self.source = source
        self.position = position
        (
            self.base_offset,
            self.batch_length,
            self.partition_leader_epoch,
            self.magic,
            self.crc,
            self.attributes,
            self.last_offset_delta,
            self.base_timestamp,
            self.max_timestamp,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            self.record_count,
        ) = _HEADER.unpack_from(source, position)

    @property
    def size_bytes(self) -> int:
        return LENGTH_END + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """The sequence of its last record; sequences go on with 0 after 2^31 - 1. -1 without a producer id."""
        if self.producer_id < 0:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MAX

    @property
    def compression(self) -> Compression:
        """RefusedError(INVALID_RECORD) for the codecs 5 to 7, which nobody has given a meaning."""
        codec = self.attributes & CODEC_MASK
        if codec > Compression.ZSTD:
            raise invalid(f"compression codec {codec} is unknown: use 0 to 4")
        return Compression(codec)

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def buffer(self) -> memoryview:
        """The bytes of the whole batch, not copied."""
        return memoryview(self.source)[self.position : self.position + self.size_bytes]

    def crc_is_valid(self) -> bool:
        view = memoryview(self.source)
        return bool(crc32c(view[self.position + ATTRIBUTES_AT : self.position + self.size_bytes]) == self.crc)

    def records(self) -> list[Record]:
        """All records, decompressed under a cap; RefusedError(INVALID_RECORD)."""
        start = self.position + HEADER_BYTES
        data = bytes(memoryview(self.source)[start : self.position + self.size_bytes])
        compression = self.compression
        return parse_records(
            decompress(compression, data) if compression else data,
            count=self.record_count,
            base_offset=self.base_offset,
            last_offset_delta=self.last_offset_delta,
            base_timestamp=self.base_timestamp,
            append_timestamp=self.max_timestamp if self.is_log_append_time else None,
        )

    def __repr__(self) -> str:
        return f"RecordBatch({self.base_offset}..{self.last_offset}, {self.record_count} records, {self.size_bytes} B)"


def read_header(buffer: Buffer, position: int = 0) -> RecordBatch | None:
    """The batch at `position`; None where the buffer ends inside it.

    RefusedError: CORRUPT_MESSAGE for a length shorter than a header or an unknown magic,
    UNSUPPORTED_FOR_MESSAGE_FORMAT for the message formats of before Kafka 0.11 (magic 0 and 1).
    """
    left = len(buffer) - position
    if left > MAGIC_AT and buffer[position + MAGIC_AT] != 2:
        raise _wrong_magic(buffer[position + MAGIC_AT], position)
    if left < HEADER_BYTES:
        return None
    batch = RecordBatch(buffer, position)
    if batch.batch_length < HEADER_BYTES - LENGTH_END:
        raise _corrupt(f"the batch at byte {position} states a length of {batch.batch_length} bytes")
    return batch if batch.batch_length + LENGTH_END <= left else None


def _wrong_magic(magic: int, position: int) -> RefusedError:
    if magic in (0, 1):
        return RefusedError(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"the batch at byte {position} has the old message format {magic}: send record batches of format 2",
        )
    return _corrupt(f"the batch at byte {position} has magic {magic}, only 2 is known")


def _corrupt(message: str) -> RefusedError:
    return RefusedError(ErrorCode.CORRUPT_MESSAGE, message)


def iterate_batches(buffer: Buffer) -> Iterator[RecordBatch]:
    """The whole batches of `buffer` in order; stops at a partial one at the end. Raises as `read_header`."""
    position = 0
    while (batch := read_header(buffer, position)) is not None:
        yield batch
        position += batch.batch_length + LENGTH_END


def check_batches(buffer: Buffer, *, max_batch_bytes: int) -> list[RecordBatch]:
    """What a producer sent: one or more whole intact batches and nothing else, else RefusedError.

    CORRUPT_MESSAGE (CRC, lengths, trailing bytes), MESSAGE_TOO_LARGE (a batch above `max_batch_bytes`), INVALID_RECORD
    (counts, control and transactional batches, unknown codec, a producer id without epoch or sequence),
    INVALID_TIMESTAMP (LogAppendTime is the broker's to set), UNSUPPORTED_FOR_MESSAGE_FORMAT (magic 0 and 1). Rules:
    Kafka's LogValidator. Without a producer id, epoch and sequence mean nothing: there are clients that leave 0 there.
    """
    batches: list[RecordBatch] = []
    position = 0
    while position < len(buffer):
        batch = read_header(buffer, position)
        if batch is None:
            raise _corrupt(f"the batch at byte {position} is cut short: {len(buffer) - position} bytes are there")
        _check_batch(batch, max_batch_bytes)
        batches.append(batch)
        position += batch.size_bytes
    if not batches:
        raise invalid("there is no record batch: send at least one")
    return batches


def _check_batch(batch: RecordBatch, max_batch_bytes: int) -> None:
    size_bytes = batch.batch_length + LENGTH_END
    if size_bytes > max_batch_bytes:
        raise RefusedError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"a record batch of {size_bytes} bytes is above max.message.bytes={max_batch_bytes}: send smaller batches",
        )
    if not batch.crc_is_valid():
        raise _corrupt(f"the CRC of the batch at byte {batch.position} does not match its bytes")
    reason = _invalid_reason(batch)
    if reason is not None:
        raise invalid(f"the batch at byte {batch.position}: {reason}")
    if batch.attributes & LOG_APPEND_TIME_BIT:
        raise RefusedError(
            ErrorCode.INVALID_TIMESTAMP, "a producer must not set the timestamp type LogAppendTime: clear the bit"
        )


def _invalid_reason(batch: RecordBatch) -> str | None:
    count, attributes = batch.record_count, batch.attributes
    reason = None
    if count <= 0 or batch.last_offset_delta != count - 1:
        reason = f"record_count {count} does not fit last_offset_delta {batch.last_offset_delta}"
    elif count > RECORDS_PER_BATCH_MAX:
        reason = f"{count} records are more than {RECORDS_PER_BATCH_MAX}: send smaller batches"
    elif attributes & CODEC_MASK > Compression.ZSTD:
        reason = f"compression codec {attributes & CODEC_MASK} is unknown: use 0 to 4"
    elif attributes & CONTROL_BIT:
        reason = "control batches are the broker's to write"
    elif attributes & TRANSACTIONAL_BIT:
        reason = "transactions are not supported: send the batch without the transactional bit"
    elif batch.producer_id != NO_PRODUCER_ID:
        reason = _producer_reason(batch)
    return reason


def _producer_reason(batch: RecordBatch) -> str | None:
    """Why an idempotent batch (KIP-98) cannot be one."""
    if batch.producer_id < 0:
        return f"producer_id {batch.producer_id} is none: send the one that InitProducerId gave, or {NO_PRODUCER_ID}"
    if batch.base_sequence < 0 or batch.producer_epoch < 0:
        return f"producer_id {batch.producer_id} needs a base_sequence and a producer_epoch of 0 or more"
    return None


def stamp(buffer: bytearray | memoryview, position: int, *, base_offset: int, leader_epoch: int) -> None:
    """Set the two fields that the leader owns, in place; the CRC does not cover them."""
    _OFFSET.pack_into(buffer, position, base_offset)
    _EPOCH.pack_into(buffer, position + EPOCH_AT, leader_epoch)


def stamp_log_append_time(buffer: bytearray | memoryview, position: int, *, timestamp_ms: int) -> None:
    """Mark the batch LogAppendTime with `timestamp_ms` for all its records, in place, and renew its CRC."""
    view = memoryview(buffer)
    (batch_length,) = _EPOCH.unpack_from(view, position + 8)
    (attributes,) = _ATTRIBUTES.unpack_from(view, position + ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(view, position + ATTRIBUTES_AT, attributes | LOG_APPEND_TIME_BIT)
    _OFFSET.pack_into(view, position + MAX_TIMESTAMP_AT, timestamp_ms)
    crc = crc32c(view[position + ATTRIBUTES_AT : position + LENGTH_END + batch_length])
    _CRC.pack_into(view, position + CRC_AT, crc)


def build_batch(
    records: Sequence[RecordFields],
    *,
    compression: Compression = Compression.NONE,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """One batch of `records` (key, value, headers, timestamp_ms), at least one.

    As Kafka's clients do, a batch that compression would make larger is sent plain. RefusedError: INVALID_TIMESTAMP
    beyond +-2^62 ms, INVALID_RECORD for a header name that is no Unicode text.
    """
    assert records, "a record batch has at least one record"
    timestamps = [record[3] for record in records]
    base_timestamp, max_timestamp = timestamps[0], max(timestamps)
    if max_timestamp > TIMESTAMP_MAX or min(timestamps) < -TIMESTAMP_MAX:
        raise RefusedError(ErrorCode.INVALID_TIMESTAMP, "a record's timestamp is out of range: give milliseconds")
    parts = encode_records(records, base_timestamp)
    if compression is not Compression.NONE:
        plain = b"".join(parts)
        packed = compress(compression, plain)
        if len(packed) < len(plain):
            parts = [packed]
        else:
            compression, parts = Compression.NONE, [plain]
    buffer = bytearray().join([bytes(HEADER_BYTES), *parts])
    _HEADER.pack_into(
        buffer,
        0,
        base_offset,
        len(buffer) - LENGTH_END,
        leader_epoch,
        2,
        0,
        int(compression),
        len(records) - 1,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    _CRC.pack_into(buffer, CRC_AT, crc32c(memoryview(buffer)[ATTRIBUTES_AT:]))
    return buffer


def rebuilt(
    batch: RecordBatch,
    payload: Buffer,
    *,
    attributes: int,
    base_timestamp: int,
    max_timestamp: int,
    record_count: int,
) -> bytearray:
    """`batch` with other records: its offsets, leader epoch, producer and sequences stay, and its CRC is true again."""
    buffer = bytearray().join([bytes(HEADER_BYTES), payload])
    _HEADER.pack_into(
        buffer,
        0,
        batch.base_offset,
        len(buffer) - LENGTH_END,
        batch.partition_leader_epoch,
        2,
        0,
        attributes,
        batch.last_offset_delta,
        base_timestamp,
        max_timestamp,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
        record_count,
    )
    _CRC.pack_into(buffer, CRC_AT, crc32c(memoryview(buffer)[ATTRIBUTES_AT:]))
    return buffer
