"""Media types: what a body is, and what an answer may be.

Refuses (415, 406) what no route here reads or writes, naming what it does. Parameters such as charset are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api.http.errors import NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, ApiError

if TYPE_CHECKING:
    from aiohttp import web

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
OCTET_STREAM: Final = "application/octet-stream"
NDJSON: Final = "application/x-ndjson"
RECORD_BATCH: Final = "application/vnd.kafka.recordbatch"
JSON_V2: Final = "application/vnd.kafka.json.v2+json"
BINARY_V2: Final = "application/vnd.kafka.binary.v2+json"

# curl -d says x-www-form-urlencoded where a person says nothing, aiohttp octet-stream: the header itself is read.
_PLAIN_JSON: Final = frozenset({"", JSON, "application/x-www-form-urlencoded", "application/json-seq"})
_SYNONYMS: Final = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK, "application/ndjson": NDJSON}


def content_type(request: web.Request) -> str:
    """What the body claims to be; plain JSON for all that people send when they mean JSON."""
    claimed = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return JSON if claimed in _PLAIN_JSON else _SYNONYMS.get(claimed, claimed)


def unsupported(claimed: str, *known: str) -> ApiError:
    return ApiError(
        415, UNSUPPORTED_MEDIA_TYPE, f"Content-Type {claimed[:100]!r} is not supported here: use {', '.join(known)}"
    )


def accepted(request: web.Request, *known: str) -> str:
    """The first media type in the client's list that this route writes; `known[0]` where any will do."""
    header = request.headers.get("Accept")
    if header is None:
        return known[0]
    for item in header.split(","):
        wanted = item.partition(";")[0].strip().lower()
        wanted = _SYNONYMS.get(wanted, wanted)
        if wanted in known:
            return wanted
        if wanted in ("*/*", "application/*", "", "application/vnd.kafka.v2+json", JSON):
            return known[0]
    raise ApiError(406, NOT_ACCEPTABLE, f"Accept {header[:100]!r} cannot be met: this route writes {', '.join(known)}")
