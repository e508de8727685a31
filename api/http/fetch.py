"""`GET .../partitions/{p}/records`: pull by offset or by time, with a long poll, in JSON, NDJSON, MessagePack or as
batches.


"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from api.http.context import context_of
from api.http.errors import bad_request
from api.http.fetched_records import FORMATS, FetchedRecords, records_in, records_packed, records_v3
from api.http.fetching import EARLIEST, LATEST, FetchFrom, fetch_batches
from api.http.in_flight import held_by_request
from api.http.media import JSON, MSGPACK, NDJSON, RECORD_BATCH, accepted
from api.http.parameters import INT64_MAX, SHOWN_MAX, Parameters, parse_integer
from api.http.replies import body_reply
from api.http.routing import find_partition, find_topic, is_forwarded, redirect_to_leader

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.context import Context
    from api.http.fetching import Batches
    from api.http.settings import HttpSettings

MAX_BYTES_DEFAULT: Final = 1024 * 1024
MAX_INT32: Final = 2**31 - 1

_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class Shape(NamedTuple):
    """How an answer looks: media type, form of keys and values, how many records at most."""

    media_type: str
    format: str
    max_records: int


async def get_records(request: web.Request) -> web.StreamResponse:
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    parameters = Parameters(request)
    media_type = accepted(request, JSON, MSGPACK, NDJSON, RECORD_BATCH)
    wanted = fetch_from(parameters, context.settings)
    shape = Shape(media_type, "binary", MAX_INT32)
    if media_type != RECORD_BATCH:
        max_records = parameters.integer("max_records", MAX_INT32, minimum=1, maximum=MAX_INT32)
        shape = Shape(media_type, parameters.choice("format", "auto", tuple(FORMATS)), max_records)
    wants_redirect = parameters.flag("redirect")
    parameters.done()
    if wants_redirect:
        redirect_to_leader(context, request, topic, partition)
    batches = await fetch_batches(context, topic, partition, wanted, may_forward=not is_forwarded(request))
    return _answer(context, partition, batches, shape)


def fetch_from(parameters: Parameters, settings: HttpSettings) -> FetchFrom:
    """Where to read and how long to wait, from the query; `earliest` where it says nothing."""
    offset = parse_offset(parameters.text("offset"))
    timestamp_ms = parameters.optional_integer("timestamp")
    if offset is not None and timestamp_ms is not None:
        raise bad_request("offset and timestamp are both given: leave one out")
    max_bytes = parameters.integer("max_bytes", MAX_BYTES_DEFAULT, maximum=MAX_INT32)
    min_bytes = parameters.integer("min_bytes", 1, maximum=MAX_INT32)
    timeout_ms = parameters.integer("timeout", 0, maximum=settings.poll_timeout_ms_max)
    max_bytes = min(max_bytes, settings.fetch_bytes_max)
    timeout_ms = timeout_ms if max_bytes else 0
    if offset is None and timestamp_ms is None:
        offset = EARLIEST
    return FetchFrom(offset, timestamp_ms, max_bytes, min(min_bytes, max_bytes), timeout_ms)


def parse_offset(text: str | None) -> int | str | None:
    if text is None or text in (EARLIEST, LATEST):
        return text
    offset = parse_integer(text)
    if offset is None or not 0 <= offset <= INT64_MAX:
        raise bad_request(f"offset must be a whole number from 0, or {EARLIEST} or {LATEST}, not {text[:SHOWN_MAX]!r}")
    return offset


def _answer(context: Context, partition: int, batches: Batches, shape: Shape) -> web.StreamResponse:
    held = held_by_request()
    held.take(len(batches.data))
    if shape.media_type == RECORD_BATCH:
        return body_reply(bytes(batches.data), content_type=RECORD_BATCH, headers=batches.headers(context))
    taken, next_offset = records_in(batches, max_records=shape.max_records)
    batches = batches._replace(next_offset=next_offset)
    bounds = (next_offset, batches.high_watermark, batches.log_start_offset)
    if shape.media_type == MSGPACK:
        body = _encode_msgpack(FetchedRecords(records_packed(taken, partition), *bounds))
    else:
        records = records_v3(taken, partition, FORMATS[shape.format])
        body = _encode_lines(records) if shape.media_type == NDJSON else _encode_json(FetchedRecords(records, *bounds))
    held.take(len(body))
    return body_reply(body, content_type=shape.media_type, headers=batches.headers(context))
