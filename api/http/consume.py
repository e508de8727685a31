"""`POST .../partitions/-/records:consume`: many partitions in one pull.

Takes the positions in the body, or begins at the start or the end of every partition; waits (`?timeout=`) until one
partition has something. Partitions take turns in being first, so that a busy one does not starve the others of
`max_poll_records`. A caller's own mistake (an unknown partition, an offset out of range) fails the request; a
partition that cannot be read now is told in its place, and fails the request only where none could be read.
"""

import asyncio
import itertools
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import Context, context_of
from api.http.errors import ApiError, bad_request
from api.http.fetched_records import FORMATS, FetchedRecord, Form, records_in, records_v3
from api.http.fetching import EARLIEST, LATEST, Batches, FetchFrom, fetch_batches
from api.http.in_flight import held_by_request
from api.http.parameters import Parameters
from api.http.records_v3 import PartitionField, TimestampField
from api.http.replies import body_reply
from api.http.routing import check_partition, find_partition, find_topic
from metadata.bounds import MAX_INT32, MAX_INT64, MAX_PARTITIONS_PER_TOPIC
from metadata.image import Topic

CountField = Annotated[int, Meta(ge=1, le=MAX_INT32)]
OffsetField = Annotated[int, Meta(ge=0, le=MAX_INT64)]


class Position(Struct, forbid_unknown_fields=True):
    partition_id: PartitionField
    offset: OffsetField


class ConsumeRequest(Struct, forbid_unknown_fields=True):
    """All positions, or none: then every partition from its beginning, its end or a time."""

    offsets: Annotated[list[Position], Meta(max_length=MAX_PARTITIONS_PER_TOPIC)] | None = None
    from_beginning: bool = False
    timestamp: TimestampField | None = None
    max_poll_records: CountField = 500
    fetch_max_bytes: CountField = 1024 * 1024


class PartitionData(Struct):
    partition_id: int
    next_offset: int
    high_watermark: int
    log_start_offset: int
    records: list[FetchedRecord]


class PartitionFailure(Struct):
    partition_id: int
    error_code: int
    message: str
    next_offset: int | UnsetType = UNSET
    """Where to read on, past what is damaged."""


_decoder: Final = msgspec.json.Decoder(ConsumeRequest)
_encode: Final = msgspec.json.Encoder().encode
AT_ONCE: Final = 8
"""Partitions read at the same time: with a batch each, that is as much memory as a pull may take beyond its bound."""
_turns: Final = itertools.count()

Found = dict[int, Batches | ApiError]


async def post_consume(request: web.Request) -> web.StreamResponse:
    context = context_of(request)
    topic = await find_topic(context, request)
    only = None if request.match_info["partition"] == "-" else find_partition(request, topic)
    parameters = Parameters(request)
    timeout_ms = parameters.integer("timeout", 0, maximum=context.settings.poll_timeout_ms_max)
    form = FORMATS[parameters.choice("format", "auto", tuple(FORMATS))]
    parameters.done()
    body = await read_body(request, context.settings)
    wanted = json_guard.decode(_decoder, body or b"{}")
    positions = _positions(topic, wanted, only, context)
    max_bytes = min(wanted.fetch_max_bytes, context.settings.fetch_bytes_max)
    found = await _fetch_all(context, topic, positions, max_bytes=max_bytes, timeout_ms=timeout_ms)
    _raise_common_failure(found)
    held_by_request().take(sum(len(b.data) for b in found.values() if isinstance(b, Batches)))
    listed = _listed(found, form, wanted.max_poll_records)
    answer: dict[str, Any] = {
        "cluster_id": context.node.cluster_id,
        "topic_name": topic.name,
        "partition_data_list": [listed[partition] for partition in positions],
    }
    return body_reply(_encode(answer))


def _listed(found: Found, form: Form, max_records: int) -> dict[int, PartitionData | PartitionFailure]:
    """The records, as many as are wanted; whose records are cut off is told to read on from there."""
    listed: dict[int, PartitionData | PartitionFailure] = {}
    left = max_records
    for partition, batches in found.items():
        if isinstance(batches, ApiError):
            listed[partition] = _failure(partition, batches)
            continue
        try:
            taken, following = records_in(batches, max_records=left) if left else ([], batches.start_offset)
        except ApiError as error:
            if len(found) == 1:
                raise
            listed[partition] = _failure(partition, error)
            continue
        records = records_v3(taken, partition, form)
        left -= len(records)
        bounds = (following, batches.high_watermark, batches.log_start_offset)
        listed[partition] = PartitionData(partition, *bounds, records)
    return listed


def _failure(partition: int, error: ApiError) -> PartitionFailure:
    return PartitionFailure(partition, error.error_code, error.message, error.details.get("next_offset", UNSET))


def _positions(topic: Topic, wanted: ConsumeRequest, only: int | None, context: Context) -> dict[int, FetchFrom]:
    ways = [bool(wanted.offsets), wanted.from_beginning, wanted.timestamp is not None]
    if sum(ways) > 1:
        raise bad_request("offsets, from_beginning and timestamp exclude each other: give one")
    where: dict[int, int | str | None] = {}
    for position in wanted.offsets or ():
        check_partition(topic, position.partition_id)
        if position.partition_id in where:
            raise bad_request(f"offsets names partition_id {position.partition_id} twice: name it once")
        if only not in (None, position.partition_id):
            raise bad_request(f"offsets names partition_id {position.partition_id}, but the path says {only}")
        where[position.partition_id] = position.offset
    if not where:
        everywhere = None if wanted.timestamp is not None else EARLIEST if wanted.from_beginning else LATEST
        where = dict.fromkeys(range(len(topic.partitions)) if only is None else (only,), everywhere)
    total_bytes = min(wanted.fetch_max_bytes, context.settings.fetch_bytes_max)
    max_bytes = max(1, total_bytes // len(where))
    return {p: FetchFrom(offset, wanted.timestamp, max_bytes, 1, 0) for p, offset in where.items()}


async def _fetch_all(
    context: Context, topic: Topic, positions: dict[int, FetchFrom], *, max_bytes: int, timeout_ms: int
) -> Found:
    """In turns: another partition is the first one each time. By partition, in the order in which they were read."""
    found: Found = {}
    answer_by_s = asyncio.get_running_loop().time() + timeout_ms / 1000 + context.settings.fetch_timeout_s
    fetch = partial(_fetch, context, topic, answer_by_s)
    left_bytes = max_bytes
    order = list(positions)
    turn = next(_turns) % len(order)
    order = order[turn:] + order[:turn]
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        # Even the smallest fetch brings a whole batch: what is beyond the bound is not fetched at all.
        each_bytes = max(left_bytes // len(some), 1) if left_bytes > 0 else 0
        wanted = [positions[partition]._replace(max_bytes=each_bytes) for partition in some]
        batches = await asyncio.gather(*map(fetch, some, wanted))
        found.update(zip(some, batches, strict=True))
        left_bytes -= sum(len(outcome.data) for outcome in batches if isinstance(outcome, Batches))
    if timeout_ms == 0 or not all(isinstance(b, Batches) and not b.data for b in found.values()):
        return found
    waiting = {
        asyncio.ensure_future(fetch(p, FetchFrom(batches.start_offset, None, positions[p].max_bytes, 1, timeout_ms))): p
        for p, batches in found.items()
        if isinstance(batches, Batches)
    }
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            if not task.done():
                task.cancel()
    found.update({p: task.result() for task, p in waiting.items() if task.done() and not task.cancelled()})
    return found


async def _fetch(
    context: Context, topic: Topic, answer_by_s: float, partition: int, wanted: FetchFrom
) -> Batches | ApiError:
    try:
        return await fetch_batches(context, topic, partition, wanted, may_forward=True, answer_by_s=answer_by_s)
    except ApiError as error:
        return error


def _raise_common_failure(found: Found) -> None:
    errors = {partition: outcome for partition, outcome in found.items() if isinstance(outcome, ApiError)}
    for partition, error in errors.items():
        if error.status < 500 or len(errors) == len(found):
            error.details.setdefault("partition_id", partition)
            raise error
