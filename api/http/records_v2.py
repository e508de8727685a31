"""The v2 record: `{"records":[{"key","value","partition"}]}` in JSON (a value is stored as its JSON text) or base64,
and msgpack.

Owns the shapes of all requests that carry many records and of their one answer,
`{"offsets":[{"partition","offset",...}]}`. Headers and timestamps, which the original v2 has not, may be given.
Refuses unknown fields and embedded formats that need a schema registry.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from api.http.errors import bad_request
from api.http.records_v3 import HeaderV3, PartitionField, TimestampField, timestamp_ms
from wire.record_batch import RecordFields

_NULL: Final = b"null"
_ABSENT: Final = Raw(b"")


class _Record(Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    partition: PartitionField | None = None
    headers: list[HeaderV3] | None = None
    timestamp: TimestampField | dt.datetime | None = None


class JsonRecord(_Record, gc=False, forbid_unknown_fields=True, kw_only=True):
    key: Raw = _ABSENT
    value: Raw = _ABSENT


class BinaryRecord(_Record, gc=False, forbid_unknown_fields=True, kw_only=True):
    key: bytes | None = None
    value: bytes | None = None


class JsonRecords(Struct, gc=False, forbid_unknown_fields=True):
    records: list[JsonRecord]


class BinaryRecords(Struct, gc=False, forbid_unknown_fields=True):
    records: list[BinaryRecord]


class PackedRecord(_Record, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A record in MessagePack: bytes are bytes, text is stored as UTF-8 (`packed_content` refuses anything else)."""

    key: Any = None
    value: Any = None
    partition_id: PartitionField | None = None

    @property
    def named_partition(self) -> int | None:
        """Under v3's name or v2's."""
        return self.partition if self.partition_id is None else self.partition_id


class PackedRecords(Struct, gc=False, forbid_unknown_fields=True):
    records: list[PackedRecord]


class OffsetV2(Struct, gc=False):
    partition: int
    offset: int | None
    error_code: int | None = None
    error: str | None = None
    outcome: str | None = None


class OffsetsV2(Struct, gc=False):
    offsets: Sequence[OffsetV2]
    key_schema_id: int | None = None
    value_schema_id: int | None = None
    duplicate: bool | UnsetType = UNSET
    """True where all of it was in the log before, at these offsets; else left out."""


json_decoder: Final = msgspec.json.Decoder(JsonRecords)
binary_decoder: Final = msgspec.json.Decoder(BinaryRecords)
packed_decoder: Final = msgspec.msgpack.Decoder(PackedRecords)
line_decoder: Final = msgspec.json.Decoder(Raw)


def json_content(raw: Raw) -> bytes | None:
    """The JSON text of a key or value; null and absent are null."""
    text = bytes(raw)
    return None if not text or text == _NULL else text


def binary_content(data: bytes | None) -> bytes | None:
    return data


def packed_content(data: Any) -> bytes | None:
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    raise bad_request(f"key and value must be bytes, a string or nil, not {type(data).__name__}")


def fields_of(
    records: Sequence[JsonRecord | BinaryRecord | PackedRecord], content: Callable[[Any], bytes | None], now_ms: int
) -> list[RecordFields]:
    """Key, value, headers and timestamp of every record, as they go into a record batch."""
    return [
        (
            content(record.key),
            content(record.value),
            [(header.name, header.value) for header in record.headers] if record.headers else (),
            now_ms if record.timestamp is None else timestamp_ms(record.timestamp, now_ms),
        )
        for record in records
    ]
