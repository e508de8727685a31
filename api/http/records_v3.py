"""The v3 record: JSON to the fields of a log record, and the receipts that answer it.

Owns `{"partition_id","headers","key":{"type","data"},"value":{...},"timestamp"}`. Typed decoding does the work:
base64, text and raw JSON come out of the decoder as they go into the log, in one pass. A value of type JSON is stored
as its JSON text, byte for byte. `data: null` is a null key or value. Refuses unknown fields: a misspelt `value` must
not become an empty record.
"""

import datetime as dt
from typing import Annotated, ClassVar, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from api.http.errors import ApiError
from api.http.producing import Produce, Written
from metadata.bounds import MAX_INT32, MAX_INT64
from wire.record_batch import RecordFields

PartitionField = Annotated[int, Meta(ge=0, le=MAX_INT32)]
TimestampField = Annotated[int, Meta(ge=0, le=MAX_INT64)]
"""Milliseconds since the epoch; everywhere in this API."""

SHARED_RECEIPT_SIZE_MAX: Final = 4096

_NULL: Final = b"null"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)


class HeaderV3(Struct, gc=False, forbid_unknown_fields=True):
    """A record header; its value is base64."""

    name: str
    value: bytes | None = None


class DataReceipt(Struct, gc=False, frozen=True):
    """What a key or value was taken for, and its size in bytes as stored."""

    type: str
    size: int


class DataReceipts(dict[int, DataReceipt]):
    """The receipts of one type by size: sizes recur, so small ones are made once."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, size: int) -> DataReceipt:
        receipt = DataReceipt(self._kind, size)
        if size < SHARED_RECEIPT_SIZE_MAX:
            self[size] = receipt
        return receipt


class BinaryData(Struct, gc=False, forbid_unknown_fields=True, tag_field="type", tag="BINARY"):
    receipts: ClassVar[DataReceipts]
    data: bytes | None

    def content(self) -> bytes | None:
        return self.data


class StringData(Struct, gc=False, forbid_unknown_fields=True, tag_field="type", tag="STRING"):
    receipts: ClassVar[DataReceipts]
    data: str | None

    def content(self) -> bytes | None:
        return None if self.data is None else self.data.encode()


class JsonData(Struct, gc=False, forbid_unknown_fields=True, tag_field="type", tag="JSON"):
    receipts: ClassVar[DataReceipts]
    data: Raw

    def content(self) -> bytes | None:
        text = bytes(self.data)
        return None if text == _NULL else text


BinaryData.receipts = DataReceipts("BINARY")
StringData.receipts = DataReceipts("STRING")
JsonData.receipts = DataReceipts("JSON")

Data: TypeAlias = BinaryData | StringData | JsonData


class RecordV3(Struct, gc=False, forbid_unknown_fields=True):
    """One record as a caller sends it."""

    partition_id: PartitionField | None = None
    headers: list[HeaderV3] | None = None
    key: Data | None = None
    value: Data | None = None
    timestamp: TimestampField | dt.datetime | None = None


class EntryV3(RecordV3, gc=False, forbid_unknown_fields=True, kw_only=True):
    """One record of a batch, with the caller's own name for it."""

    id: Annotated[str, Meta(min_length=1, max_length=80)]


class BatchV3(Struct, forbid_unknown_fields=True):
    entries: list[EntryV3]


class ReceiptV3(Struct, gc=False):
    error_code: int
    cluster_id: str
    topic_name: str
    partition_id: int
    offset: int
    timestamp: int
    key: DataReceipt | None
    value: DataReceipt | None
    duplicate: bool | UnsetType = UNSET
    """True where the record was in the log before, at this offset; else left out."""


class EntryReceiptV3(Struct, gc=False):
    id: str
    error_code: int
    cluster_id: str
    topic_name: str
    partition_id: int
    offset: int
    timestamp: int
    key: DataReceipt | None
    value: DataReceipt | None
    duplicate: bool | UnsetType = UNSET


record_decoder: Final = msgspec.json.Decoder(RecordV3)
batch_decoder: Final = msgspec.json.Decoder(BatchV3)


def timestamp_ms(timestamp: int | dt.datetime | None, now_ms: int) -> int:
    """A record's time: as given (a time without a zone is UTC), else now."""
    if timestamp is None:
        return now_ms
    if isinstance(timestamp, int):
        return timestamp
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=dt.UTC)
    return (timestamp - _EPOCH) // _MILLISECOND


def fields_of(record: RecordV3, now_ms: int) -> RecordFields:
    """Key, value, headers and timestamp as they go into a record batch."""
    key, value, headers, timestamp = record.key, record.value, record.headers, record.timestamp
    return (
        None if key is None else key.content(),
        None if value is None else value.content(),
        [(header.name, header.value) for header in headers] if headers else (),
        now_ms if timestamp is None else timestamp_ms(timestamp, now_ms),
    )


def data_receipt(data: Data | None, content: bytes | None) -> DataReceipt | None:
    """The receipt of a key or value."""
    return None if data is None else data.receipts[0 if content is None else len(content)]


def receipt_of(
    produce: Produce, written: Written, index: int, record: RecordV3 | None, fields: RecordFields
) -> ReceiptV3:
    """The receipt of the record at `index` of a request; without `record` its key and value came as bytes."""
    key, value, _, timestamp = fields
    appended_ms = written.append_times_ms[index]
    return ReceiptV3(
        200,
        produce.context.node.cluster_id,
        produce.topic.name,
        written.partitions[index],
        written.offsets[index],
        timestamp if appended_ms < 0 else appended_ms,
        _bytes_receipt(key) if record is None else data_receipt(record.key, key),
        _bytes_receipt(value) if record is None else data_receipt(record.value, value),
        written.is_duplicate or UNSET,
    )


def _bytes_receipt(content: bytes | None) -> DataReceipt | None:
    return None if content is None else DataReceipt("BINARY", len(content))


class FailureV3(Struct, omit_defaults=True):
    """An entry that was not written, or nobody knows."""

    id: str
    error_code: int
    message: str
    outcome: str | None = None


def failure(entry_id: str, error: ApiError) -> FailureV3:
    return FailureV3(entry_id, error.error_code, error.message, error.outcome and error.outcome.value)
