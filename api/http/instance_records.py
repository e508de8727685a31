"""`GET /consumers/{group}/instances/{instance}/records`: what an instance reads next.

Waits for the assignment first, within `timeout`, which bounds everything, then until any partition has records. In v2's
form by the media type (JSON, base64, MessagePack), or, with `format`, in the form of v3, by partition with headers and
timestamps. Invariant: positions move in the same step in which the answer is made; what could not be shown in the form
that was asked for is not passed over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from api.http.consumer_instances import at_instance
from api.http.context import context_of
from api.http.coordinating import while_client_listens
from api.http.errors import ApiError, bad_request
from api.http.fetch import MAX_BYTES_DEFAULT, MAX_INT32
from api.http.fetched_records import FORMATS, records_in, records_packed, records_v2, records_v3
from api.http.group_pull import Wish, pull
from api.http.in_flight import held_by_request
from api.http.media import BINARY_V2, JSON, JSON_V2, MSGPACK, accepted
from api.http.parameters import Parameters
from api.http.replies import body_reply

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.consumer_instance import ConsumerInstance
    from api.http.context import Context
    from api.http.coordinating import AtCoordinator
    from api.http.fetching import Batches
    from api.http.group_pull import Pulled
    from broker.groups.offsets import TopicPartition
    from wire.record_batch import Record

OUT_OF_RANGE: Final = 416
PAUSE_S: Final = 0.05
"""Before partitions that cannot be read now are tried again."""
_encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


class Shape(NamedTuple):
    """What is wanted, and how it looks."""

    media_type: str
    form: str | None
    max_bytes: int
    max_records: int
    timeout_ms: int | None


class Part(NamedTuple):
    """Some records of one partition."""

    partition: TopicPartition
    batches: Batches
    taken: list[tuple[str, list[Record]]]
    next_offset: int


async def get_records(request: web.Request) -> web.StreamResponse:
    context = context_of(request)
    parameters = Parameters(request)
    form = parameters.choice("format", "", tuple(FORMATS)) or None
    timeout_ms = parameters.optional_integer("timeout", maximum=context.settings.poll_timeout_ms_max)
    max_bytes = parameters.integer("max_bytes", MAX_BYTES_DEFAULT, minimum=1)
    max_records = parameters.integer("max_records", MAX_INT32, minimum=1, maximum=MAX_INT32)
    parameters.done()
    media_type = accepted(request, JSON, JSON_V2, BINARY_V2, MSGPACK)
    shape = Shape(media_type, form, min(max_bytes, context.settings.fetch_bytes_max), max_records, timeout_ms)

    async def poll(asked: AtCoordinator, instance: ConsumerInstance) -> web.StreamResponse:
        return await _poll(asked, instance, shape)

    wait_s = (context.settings.poll_timeout_ms_max if timeout_ms is None else timeout_ms) / 1000
    return await at_instance(request, poll, is_repeatable=False, wait_s=wait_s)


async def _poll(asked: AtCoordinator, instance: ConsumerInstance, shape: Shape) -> web.StreamResponse:
    timeout_ms = instance.settings.request_timeout_ms if shape.timeout_ms is None else shape.timeout_ms
    until_s = asyncio.get_running_loop().time() + timeout_ms / 1000
    waiting = _next_records(asked.context, instance, shape, until_s)
    parts = await while_client_listens(asked.request, asked.context.poll(waiting))
    return _reply(instance, shape, [part for part in parts or [] if _is_next(instance, part)])


async def _next_records(context: Context, instance: ConsumerInstance, shape: Shape, until_s: float) -> list[Part]:
    """As many as are wanted of what is there, and none where nothing came in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(max(until_s, loop.time())):
            await instance.polling.acquire()
    except TimeoutError:
        return []  # another poll has all there is
    try:
        instance.polled()
        if not instance.has_work:
            raise bad_request("this instance reads nothing yet: POST its subscription (or its assignments) first")
        await instance.commit_if_due()
        while True:
            if not await instance.settled(until_s - loop.time()):
                return []
            changed = instance.changed
            await instance.find_positions()
            left_ms = int((until_s - loop.time()) * 1000)
            wish = Wish(shape.max_bytes, max(1, instance.settings.fetch_min_bytes), left_ms)
            asked = dict(instance.positions)
            found = await pull(context, asked, wish, changed)
            parts = _parts(instance, found, asked, shape.max_records)
            if parts:
                return parts
            if loop.time() >= until_s:
                _raise_what_all_failed_for(found)
                return []
            if not found or any(isinstance(one, ApiError) for one in found.values()):
                await _pause(changed, min(PAUSE_S if found else until_s - loop.time(), until_s - loop.time()))
    finally:
        instance.polling.release()


def _is_next(instance: ConsumerInstance, part: Part) -> bool:
    """Not after a seek, a rebalance or another poll that came between the reading and the answer."""
    return instance.positions.get(part.partition) == part.batches.start_offset


async def _pause(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return


def _parts(instance: ConsumerInstance, found: Pulled, asked: dict[TopicPartition, int], max_records: int) -> list[Part]:
    parts: list[Part] = []
    left = max_records
    for one, batches in found.items():
        if instance.positions.get(one) != asked[one] or left == 0:
            continue  # it was sought, or taken away, meanwhile
        if isinstance(batches, ApiError):
            if batches.status == OUT_OF_RANGE:
                instance.out_of_range(one, batches)
            continue
        try:
            taken, next_offset = records_in(batches, max_records=left)
        except ApiError as error:
            if parts:
                break
            error.details |= {"topic": one.topic, "partition": one.partition}
            raise
        if taken:
            parts.append(Part(one, batches, taken, next_offset))
            left -= sum(len(records) for _, records in taken)
        else:
            instance.positions[one] = max(asked[one], next_offset)  # past what are no records
    return parts


def _raise_what_all_failed_for(found: Pulled) -> None:
    """Never an empty answer for a failure: where nothing could be read, the caller is told why."""
    errors = {one: error for one, error in found.items() if isinstance(error, ApiError)}
    if errors and len(errors) == len(found):
        one, error = next(iter(errors.items()))
        error.details |= {"topic": one.topic, "partition": one.partition}
        raise error


def _reply(instance: ConsumerInstance, shape: Shape, parts: list[Part]) -> web.StreamResponse:
    held = held_by_request()
    held.take(sum(len(part.batches.data) for part in parts))
    media_type = shape.media_type
    body: bytes
    if shape.form is not None:
        body, media_type = _encode({"partition_data_list": [_in_v3(part, shape.form) for part in parts]}), JSON
    elif shape.media_type == MSGPACK:
        packed = [
            {"topic": part.partition.topic, **msgspec.structs.asdict(record)}
            for part in parts
            for record in records_packed(part.taken, part.partition.partition)
        ]
        body = _encode_msgpack(packed)
    else:
        if media_type == JSON:
            media_type = JSON_V2 if instance.settings.format == "json" else BINARY_V2
        as_base64 = media_type == BINARY_V2
        records: list[Any] = []
        for part in parts:
            records += records_v2(part.taken, *part.partition, as_base64=as_base64)
        body = _encode(records)
    held.take(len(body))
    for part in parts:
        instance.positions[part.partition] = part.next_offset
    return body_reply(body, content_type=media_type)


def _in_v3(part: Part, form: str) -> dict[str, Any]:
    return {
        "topic_name": part.partition.topic,
        "partition_id": part.partition.partition,
        "next_offset": part.next_offset,
        "high_watermark": part.batches.high_watermark,
        "log_start_offset": part.batches.log_start_offset,
        "records": records_v3(part.taken, part.partition.partition, FORMATS[form]),
    }
