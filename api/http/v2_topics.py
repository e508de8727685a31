"""The v2 routes (Confluent REST Proxy, Pandaproxy, Strimzi Bridge, Karapace): a facade over the same handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import context_of, now_ms
from api.http.fetch import MAX_INT32, fetch_from
from api.http.fetched_records import records_in, records_packed, records_v2
from api.http.fetching import fetch_batches
from api.http.in_flight import held_by_request
from api.http.media import BINARY_V2, JSON, JSON_V2, MSGPACK, accepted, content_type, unsupported
from api.http.one_record import named_partition
from api.http.parameters import Parameters
from api.http.partitions import offsets_body
from api.http.producing import Produce, check_count, open_produce, produce_route, write
from api.http.records_v2 import (
    binary_content,
    binary_decoder,
    fields_of,
    json_content,
    json_decoder,
    packed_content,
    packed_decoder,
)
from api.http.replies import body_reply, json_reply
from api.http.routing import find_partition, find_topic, is_forwarded, leader_headers, redirect_to_leader
from api.http.v2_answers import offsets_reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from metadata.image import Topic
    from wire.record_batch import RecordFields

PLAIN_V2: Final = "application/vnd.kafka.v2+json"
PLAIN_V1: Final = "application/vnd.kafka+json"
_encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


async def list_topics(request: web.Request) -> web.Response:
    Parameters(request).done()
    return json_reply(sorted(context_of(request).node.image.topic_ids))


async def get_topic(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    partitions = [_partition(topic, index) for index in range(len(topic.partitions))]
    return json_reply({"name": topic.name, "configs": topic.configs, "partitions": partitions})


async def list_partitions(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    return json_reply([_partition(topic, index) for index in range(len(topic.partitions))])


async def get_partition(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    partition = find_partition(request, topic)
    Parameters(request).done()
    return json_reply(_partition(topic, partition))


def _partition(topic: Topic, index: int) -> dict[str, Any]:
    partition = topic.partitions[index]
    replicas = [
        {"broker": broker, "leader": broker == partition.leader, "in_sync": broker in partition.in_sync_replicas}
        for broker in partition.replicas
    ]
    return {"partition": index, "leader": partition.leader, "replicas": replicas}


async def get_offsets(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    Parameters(request).done()
    body, leader = await offsets_body(request, topic, partition, None)
    answer = {"beginning_offset": body["earliest_offset"], "end_offset": body["latest_offset"]}
    return json_reply(answer, headers=leader_headers(context, leader))


@produce_route
async def post_records(request: web.Request) -> web.StreamResponse:
    """Into the topic, or into the partition that the path names."""
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic) if "partition" in request.match_info else None
    parameters = Parameters(request)
    produce = open_produce(context, request, topic, parameters)
    parameters.done()
    if produce.wants_redirect and partition is not None:
        redirect_to_leader(context, request, topic, partition)
    form = content_type(request)
    body = await read_body(request, context.settings)
    records, named = _records(produce, form, body)
    if partition is not None:
        for wanted in named:
            named_partition(partition, wanted)
        named = [partition] * len(records)
    any_named = any(wanted is not None for wanted in named)
    written = await write(produce, records, named if any_named else None, body_bytes=len(body))
    return await offsets_reply(produce, written)


def _records(produce: Produce, form: str, body: bytes) -> tuple[list[RecordFields], Sequence[int | None]]:
    """The records of a v2 body, and the partition that each names."""
    now = now_ms()
    if form in (JSON, JSON_V2, PLAIN_V2, PLAIN_V1):
        in_json = json_guard.decode(json_decoder, body).records
        check_count(produce, len(in_json), "records")
        return fields_of(in_json, json_content, now), [record.partition for record in in_json]
    if form == BINARY_V2:
        in_base64 = json_guard.decode(binary_decoder, body).records
        check_count(produce, len(in_base64), "records")
        return fields_of(in_base64, binary_content, now), [record.partition for record in in_base64]
    if form == MSGPACK:
        packed = json_guard.decode_msgpack(packed_decoder, body).records
        check_count(produce, len(packed), "records")
        return fields_of(packed, packed_content, now), [record.named_partition for record in packed]
    raise unsupported(form, JSON_V2, BINARY_V2, JSON, MSGPACK)


async def get_records(request: web.Request) -> web.StreamResponse:
    """Pandaproxy's fetch: a list of records from `offset` on."""
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    media_type = accepted(request, JSON_V2, BINARY_V2, MSGPACK)
    parameters = Parameters(request)
    wanted = fetch_from(parameters, context.settings)
    max_records = parameters.integer("max_records", MAX_INT32, minimum=1, maximum=MAX_INT32)
    wants_redirect = parameters.flag("redirect")
    parameters.done()
    if wants_redirect:
        redirect_to_leader(context, request, topic, partition)
    batches = await fetch_batches(context, topic, partition, wanted, may_forward=not is_forwarded(request))
    held = held_by_request()
    held.take(len(batches.data))
    taken, next_offset = records_in(batches, max_records=max_records)
    headers = batches._replace(next_offset=next_offset).headers(context)
    if media_type == MSGPACK:
        body = _encode_msgpack(records_packed(taken, partition))
    else:
        body = _encode(records_v2(taken, topic.name, partition, as_base64=media_type == BINARY_V2))
    held.take(len(body))
    return body_reply(body, content_type=media_type, headers=headers)
