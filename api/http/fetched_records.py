"""Record batches as records of JSON or MessagePack.

Owns the shape of a fetched record in v3, v2 and MessagePack, and the choice of form: `auto` (text where the bytes are
valid UTF-8, else base64), `string`, `json`, `binary`. Refuses (422, naming the offset) `json` for a value that is not
JSON and `string` for one that is not UTF-8: a reader is never given bytes in a disguise; and (500, with `next_offset`)
a batch whose inside nobody can read, as one may lie there that was written unopened. Control batches are not records
and are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

from api.http.errors import SERIALIZATION, ApiError, damaged
from api.http.media import RECORD_BATCH
from wire.errors import RefusedError
from wire.record_batch import Record, RecordBatch, iterate_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.http.fetching import Batches

CREATE_TIME: Final = "CREATE_TIME"
LOG_APPEND_TIME: Final = "LOG_APPEND_TIME"


# None of these can be part of a cycle, so the garbage collector need not look at thousands of them.


class FetchedData(Struct, gc=False):
    type: str
    data: str | Raw | bytes


class FetchedHeader(Struct, gc=False):
    name: str
    value: bytes | None


class FetchedRecord(Struct, gc=False):
    partition_id: int
    offset: int
    timestamp: int
    timestamp_type: str
    headers: list[FetchedHeader]
    key: FetchedData | None
    value: FetchedData | None


class PackedFetchedRecord(Struct, gc=False):
    """In MessagePack, keys, values and header values are bytes."""

    partition_id: int
    offset: int
    timestamp: int
    timestamp_type: str
    headers: list[FetchedHeader]
    key: bytes | None
    value: bytes | None


class FetchedRecordV2(Struct, gc=False):
    topic: str
    key: Raw | bytes | None
    value: Raw | bytes | None
    partition: int
    offset: int


class FetchedRecords(Struct, gc=False):
    """The body of a fetch."""

    records: list[Any]
    next_offset: int
    high_watermark: int
    log_start_offset: int


Form: TypeAlias = "Callable[[bytes, int], FetchedData]"
_raw_decoder: Final = msgspec.json.Decoder(Raw)


def as_auto(content: bytes, _offset: int) -> FetchedData:
    try:
        return FetchedData("STRING", content.decode())
    except UnicodeDecodeError:
        return FetchedData("BINARY", content)


def as_binary(content: bytes, _offset: int) -> FetchedData:
    return FetchedData("BINARY", content)


def as_string(content: bytes, offset: int) -> FetchedData:
    try:
        return FetchedData("STRING", content.decode())
    except UnicodeDecodeError:
        raise _not_of_form(offset, "valid UTF-8", "format=auto or format=binary") from None


def as_json(content: bytes, offset: int) -> FetchedData:
    return FetchedData("JSON", json_text(content, offset, fix="format=auto or format=binary"))


def json_text(content: bytes, offset: int, *, fix: str) -> Raw:
    """The bytes as a piece of a JSON document; 422 where they are none."""
    try:
        if not content.isascii():
            content.decode()
        return _raw_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_of_form(offset, "JSON", fix) from None


def _not_of_form(offset: int, form: str, fix: str) -> ApiError:
    return ApiError(422, SERIALIZATION, f"the record at offset {offset} is not {form}: read it with {fix}")


FORMATS: Final[dict[str, Form]] = {"auto": as_auto, "string": as_string, "json": as_json, "binary": as_binary}


def records_in(batches: Batches, *, max_records: int) -> tuple[list[tuple[str, list[Record]]], int]:
    """The records from `start_offset` on, with each batch's timestamp type, and the offset to read on from."""
    taken: list[tuple[str, list[Record]]] = []
    left = max_records
    start = batches.start_offset
    for batch in iterate_batches(batches.data):
        if batch.is_control or batch.last_offset < start:
            continue
        try:
            records = batch.records()
        except RefusedError as refused:
            if taken:  # what comes before it is the answer now; the next fetch is told
                return taken, batch.base_offset
            raise _unreadable(batch, refused) from None
        if batch.base_offset < start:
            records = [record for record in records if record.offset >= start]
        cut_short = len(records) > left
        if cut_short:
            records = records[:left]
        if records:
            taken.append((LOG_APPEND_TIME if batch.is_log_append_time else CREATE_TIME, records))
        left -= len(records)
        if left == 0:
            last = records[-1].offset + 1 if cut_short else batch.next_offset
            return taken, last
    return taken, batches.next_offset


def _unreadable(batch: RecordBatch, refused: RefusedError) -> ApiError:
    message = (
        f"offsets {batch.base_offset} to {batch.last_offset} cannot be read: {refused.message}; read on at offset"
        f" {batch.next_offset}, or take the bytes with Accept: {RECORD_BATCH}"
    )
    return damaged(message, batch.base_offset, batch.next_offset)


_NO_HEADERS: Final[list[FetchedHeader]] = []


def _headers(record: Record) -> list[FetchedHeader]:
    return [FetchedHeader(name, value) for name, value in record.headers] if record.headers else _NO_HEADERS


def records_v3(taken: list[tuple[str, list[Record]]], partition: int, form: Form) -> list[FetchedRecord]:
    return [
        FetchedRecord(
            partition,
            offset,
            timestamp,
            timestamp_type,
            [FetchedHeader(name, content) for name, content in headers] if headers else _NO_HEADERS,
            None if key is None else form(key, offset),
            None if value is None else form(value, offset),
        )
        for timestamp_type, records in taken
        for offset, timestamp, key, value, headers in records
    ]


def records_packed(taken: list[tuple[str, list[Record]]], partition: int) -> list[PackedFetchedRecord]:
    return [
        PackedFetchedRecord(
            partition, record.offset, record.timestamp_ms, timestamp_type, _headers(record), record.key, record.value
        )
        for timestamp_type, record in _flat(taken)
    ]


def _flat(taken: list[tuple[str, list[Record]]]) -> Iterator[tuple[str, Record]]:
    return ((timestamp_type, record) for timestamp_type, records in taken for record in records)


_V2_FIX: Final = "Accept: application/vnd.kafka.binary.v2+json"


def records_v2(
    taken: list[tuple[str, list[Record]]], topic: str, partition: int, *, as_base64: bool
) -> list[FetchedRecordV2]:
    if as_base64:
        return [FetchedRecordV2(topic, r.key, r.value, partition, r.offset) for _, r in _flat(taken)]
    return [
        FetchedRecordV2(
            topic,
            None if record.key is None else json_text(record.key, record.offset, fix=_V2_FIX),
            None if record.value is None else json_text(record.value, record.offset, fix=_V2_FIX),
            partition,
            record.offset,
        )
        for _, record in _flat(taken)
    ]
