"""How `kraft consume` prints a record: the `-f` template, JSON documents, or the plain value.

Values are bytes and stay so: nothing is decoded on the way to a template's output.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple


class ConsumedRecord(NamedTuple):
    """One record as it was pulled."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


Formatter = Callable[[ConsumedRecord], bytes]

PLAIN: Final = "%v\\n"
WIDE: Final = "%t\\t%p\\t%o\\t%T\\t%k\\t%v\\n"
_FIELDS: Final[dict[str, Formatter]] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "T": lambda record: b"%d" % record.timestamp_ms,
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "s": lambda record: record.value or b"",  # as in kcat
    "K": lambda record: b"%d" % (-1 if record.key is None else len(record.key)),
    "V": lambda record: b"%d" % (-1 if record.value is None else len(record.value)),
    "S": lambda record: b"%d" % (-1 if record.value is None else len(record.value)),
    "h": lambda record: b",".join(name.encode() + b"=" + (value or b"") for name, value in record.headers),
}
_ESCAPES: Final = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_TOKEN: Final = re.compile(r"%(?P<field>.?)|\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<escape>.?)", re.DOTALL)


def template(text: str) -> Formatter:
    """Compile a `-f` template; raises ValueError that names what is wrong with it."""
    pieces: list[bytes | Formatter] = []
    position = 0
    for match in _TOKEN.finditer(text):
        pieces.append(text[position : match.start()].encode())
        pieces.append(_piece(match))
        position = match.end()
    pieces.append(text[position:].encode())
    return _joined([piece for piece in pieces if piece != b""])


def _piece(match: re.Match[str]) -> bytes | Formatter:
    if match["hex"] is not None:
        return bytes.fromhex(match["hex"])
    if (escape := match["escape"]) is not None:
        if escape not in _ESCAPES:
            raise ValueError(f"\\{escape} is none of \\n \\t \\r \\0 \\\\ \\xNN")
        return _ESCAPES[escape]
    name = match["field"]
    if name == "%":
        return b"%"
    if name not in _FIELDS:
        raise ValueError(f"%{name} is none of " + " ".join(f"%{known}" for known in _FIELDS) + " %%")
    return _FIELDS[name]


def _joined(pieces: list[bytes | Formatter]) -> Formatter:
    value = _FIELDS["v"]
    if pieces == [value, b"\n"]:
        return lambda record: (record.value or b"") + b"\n"
    return lambda record: b"".join(piece if isinstance(piece, bytes) else piece(record) for piece in pieces)


def json_document(record: ConsumedRecord) -> bytes:
    """One JSON document on one line: text as text, other bytes as `{"base64": ...}`."""
    document = {
        "topic_name": record.topic,
        "partition_id": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _json_value(record.key),
        "value": _json_value(record.value),
        "headers": [{"name": name, "value": _json_value(value)} for name, value in record.headers],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _json_value(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def from_answer(topic: str, records: Iterable[dict[str, Any]]) -> list[ConsumedRecord]:
    """Records of an answer of the HTTP API."""
    return [
        ConsumedRecord(
            topic,
            record["partition_id"],
            record["offset"],
            record["timestamp"],
            _content(record["key"]),
            _content(record["value"]),
            tuple((header["name"], _decoded(header["value"])) for header in record["headers"]),
        )
        for record in records
    ]


def _content(data: dict[str, Any] | None) -> bytes | None:
    if data is None or data["data"] is None:
        return None
    text: str = data["data"]
    return text.encode() if data["type"] == "STRING" else base64.b64decode(text)


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
