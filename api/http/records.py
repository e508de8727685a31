"""`POST .../records`: records into a topic or a partition, in every form but the batch of entries.

Owns the choice of form by Content-Type. One JSON document is answered with a real HTTP status; a stream of them
(`record_stream`) with 200 and a receipt for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api.http import json_guard
from api.http.appending import RECORD_OVERHEAD_BYTES, append_batches
from api.http.bodies import read_body
from api.http.context import context_of, now_ms
from api.http.errors import ApiError, bad_request
from api.http.idempotence import PRODUCER_SEQ, not_as_stream
from api.http.media import JSON, MSGPACK, NDJSON, OCTET_STREAM, RECORD_BATCH, content_type, unsupported
from api.http.one_record import named_partition, write_fields, write_one
from api.http.parameters import Parameters
from api.http.producing import Produce, check_count, open_produce, produce_route, write
from api.http.record_stream import post_stream, receipts_of, split_documents
from api.http.records_v2 import fields_of, json_content, line_decoder, packed_content, packed_decoder
from api.http.records_v3 import record_decoder
from api.http.replies import body_reply, json_reply
from api.http.routing import check_partition, find_partition, find_topic, leader_headers, redirect_to_leader
from api.http.v2_answers import offsets_reply
from metadata.bounds import MAX_INT32
from wire.record_batch import iterate_batches

if TYPE_CHECKING:
    from aiohttp import web

    from wire.record_batch import RecordFields

KNOWN_FORMS: Final = (JSON, MSGPACK, NDJSON, OCTET_STREAM, RECORD_BATCH)


@produce_route
async def post_records(request: web.Request) -> web.StreamResponse:
    """Into the topic, or the partition that the path or `?partition_id=` names."""
    context = context_of(request)
    topic = await find_topic(context, request)
    parameters = Parameters(request)
    produce = open_produce(context, request, topic, parameters)
    form = content_type(request)
    partition = None
    if "partition" in request.match_info:
        partition = find_partition(request, topic)
    elif form != JSON:
        partition = parameters.optional_integer("partition_id", maximum=MAX_INT32)
    key = parameters.text("key") if form == OCTET_STREAM else None
    parameters.done()
    if produce.wants_redirect and partition is not None:
        redirect_to_leader(context, request, topic, partition)
    if form == JSON:
        return await _post_json(produce, partition)
    if form == OCTET_STREAM:
        return await _post_octets(produce, partition, key)
    if form == NDJSON:
        return await _post_lines(produce, partition)
    if form == MSGPACK:
        return await _post_packed(produce, partition)
    if form == RECORD_BATCH:
        return await _post_batches(produce, partition)
    raise unsupported(form, *KNOWN_FORMS)


async def _post_json(produce: Produce, partition: int | None) -> web.StreamResponse:
    request, context = produce.request, produce.context
    is_idempotent = produce.options.producer is not None
    if request.content_length is None and request.can_read_body and not is_idempotent:
        return await post_stream(produce, partition)
    body = await read_body(request, context.settings)
    if not body:
        raise bad_request("the body is empty: send a JSON document")
    try:
        record = json_guard.decode(record_decoder, body)
    except ApiError as error:
        documents = split_documents(body)
        if len(documents) < 2:
            raise error from None
        if is_idempotent:
            raise not_as_stream() from None
        return body_reply(await receipts_of(produce, partition, documents))
    return await write_one(produce, partition, record, body_bytes=len(body))


async def _post_octets(produce: Produce, partition: int | None, key: str | None) -> web.Response:
    body = await read_body(produce.request, produce.context.settings)
    key_bytes = None if key is None else key.encode(errors="surrogatepass")
    fields: RecordFields = (key_bytes, body, (), now_ms())
    size = len(body) + len(key_bytes or b"")
    return await write_fields(produce, partition, fields, body_bytes=size)


async def _post_lines(produce: Produce, partition: int | None) -> web.Response:
    """NDJSON: every line is a value, stored as its JSON text."""
    body = await read_body(produce.request, produce.context.settings)
    values = json_guard.decode_lines(line_decoder, body)
    check_count(produce, len(values), "the body")
    now = now_ms()
    records: list[RecordFields] = [(None, json_content(value), (), now) for value in values]
    named = None if partition is None else [partition] * len(records)
    return await offsets_reply(produce, await write(produce, records, named, body_bytes=len(body)))


async def _post_packed(produce: Produce, partition: int | None) -> web.Response:
    body = await read_body(produce.request, produce.context.settings)
    packed = json_guard.decode_msgpack(packed_decoder, body).records
    check_count(produce, len(packed), "records")
    records = fields_of(packed, packed_content, now_ms())
    named = [named_partition(partition, record.named_partition) for record in packed]
    any_named = any(wanted is not None for wanted in named)
    written = await write(produce, records, named if any_named else None, body_bytes=len(body))
    return await offsets_reply(produce, written)


async def _post_batches(produce: Produce, partition: int | None) -> web.Response:
    """Record batches as they will lie in the log; the leader checks them."""
    context, topic = produce.context, produce.topic
    if partition is None:
        raise bad_request("record batches need a partition: POST to .../partitions/{p}/records, or name partition_id")
    check_partition(topic, partition)
    # What another node took as lines or as JSON may be larger as batches, by so much for each record.
    extra_bytes = RECORD_OVERHEAD_BYTES * context.settings.batch_records_max
    body = bytearray(await read_body(produce.request, context.settings, extra_bytes=extra_bytes))
    if produce.options.producer is not None:
        raise bad_request(
            f"{PRODUCER_SEQ} does not go with record batches: these carry their producer's ids themselves"
        )
    batches = list(iterate_batches(body))
    if len(batches) > 1 and any(batch.producer_id >= 0 for batch in batches):
        raise bad_request(f"a batch with a producer_id is sent by itself: the body has {len(batches)} batches")
    placed = await append_batches(context, topic, partition, body, produce.options)
    receipt = {
        "error_code": 200,
        "cluster_id": context.node.cluster_id,
        "topic_name": topic.name,
        "partition_id": partition,
        "base_offset": placed.base_offset,
        "last_offset": placed.last_offset,
        "record_count": sum(batch.record_count for batch in batches),
        "timestamp": placed.timestamp_ms,
    }
    if placed.is_duplicate:
        receipt["duplicate"] = True
    return json_reply(receipt, headers=leader_headers(context, placed.leader))
