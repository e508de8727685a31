"""One request's records, spread over partitions and appended: the core that every produce route shares.

Owns the grouping by partition and the outcome of every single record. Partitions are appended at the same time, the
records of one partition in the order of the request (S14). Refuses what a request cannot mean: an expected offset for
several partitions, a producer's sequence for what is not one batch of one partition.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from api.http.appending import (
    ACKS,
    Placed,
    ProduceOptions,
    append_batches,
    build_batches,
    build_idempotent_batch,
)
from api.http.errors import BATCH, ApiError, Outcome, bad_request, partition_not_found
from api.http.idempotence import one_named_partition, producer_stamp
from api.http.routing import check_partition, is_forwarded, leader_headers, redirect_to_leader
from metadata.topic_names import check_not_internal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from api.http.context import Context
    from api.http.idempotence import ProducerStamp
    from api.http.parameters import Parameters
    from metadata.image import Broker, Topic
    from wire.record_batch import RecordFields


class Written(NamedTuple):
    """What became of the records, by their index in the request."""

    partitions: Sequence[int]
    offsets: Sequence[int]
    """-1 where the record was not written, or nobody knows."""
    append_times_ms: Sequence[int]
    """-1 where the record kept its own timestamp."""
    errors: dict[int, ApiError]
    leaders: dict[int, Broker]
    """By broker id."""
    is_duplicate: bool = False
    """All of it was in the log before, at these offsets (S13)."""

    def headers(self, context: Context) -> dict[str, str]:
        """`X-Leader-*`, where one partition's leader took everything."""
        return leader_headers(context, next(iter(self.leaders.values()))) if len(self.leaders) == 1 else {}


class Produce(NamedTuple):
    """One request to write: where, how, and whether the caller would rather be sent to the leader."""

    context: Context
    request: web.Request
    topic: Topic
    options: ProduceOptions
    wants_redirect: bool


def open_produce(context: Context, request: web.Request, topic: Topic, parameters: Parameters) -> Produce:
    """Read what all produce routes take from the query and the headers; call before the body is read.

    RefusedError(INVALID_TOPIC_EXCEPTION) for a topic of the cluster itself: what lies there, its coordinators believe.
    """
    check_not_internal(topic.name, "write to")
    producer = producer_stamp(request)
    acks = ACKS[parameters.choice("acks", "all", tuple(ACKS))]
    timeout_ms = parameters.integer(
        "timeout", context.settings.produce_timeout_ms, minimum=1, maximum=context.settings.produce_timeout_ms_max
    )
    expected_offset = parameters.optional_integer("expected_offset")
    wants_redirect = parameters.flag("redirect")
    options = ProduceOptions(acks, timeout_ms, expected_offset, not is_forwarded(request), producer)
    return Produce(context, request, topic, options, wants_redirect)


def check_count(produce: Produce, count: int, what: str) -> None:
    if count == 0:
        raise ApiError(422, BATCH, f"{what} is empty: send at least one record")
    limit = produce.context.settings.batch_records_max
    if count > limit:
        raise ApiError(422, BATCH, f"{what} has {count} records, at most {limit} are taken: send smaller batches")


async def write(
    produce: Produce,
    records: Sequence[RecordFields],
    named: Sequence[int | None] | None,
    *,
    body_bytes: int,
) -> Written:
    """Append all records. `named`: the partition that each asks for; `body_bytes`: what they came in."""
    context, topic = produce.context, produce.topic
    if produce.options.producer is not None:
        return await _write_idempotent(produce, records, one_named_partition(named), produce.options.producer)
    if named is None and _are_unkeyed(records):
        partition = context.partition_choice.next_partition(context.node.image, topic)
        return await _write_one(produce, partition, records, body_bytes)
    assigned = context.partition_choice.assign(context.node.image, topic, records, named)
    first = assigned[0]
    if assigned.count(first) == len(assigned) and first < len(topic.partitions):
        if produce.wants_redirect:
            redirect_to_leader(context, produce.request, topic, first)
        return await _write_one(produce, first, records, body_bytes)
    if produce.options.expected_offset is not None:
        raise bad_request("expected_offset needs records of one partition: name the partition, or leave it out")
    return await _write_many(produce, assigned, records, body_bytes)


def _are_unkeyed(records: Sequence[RecordFields]) -> bool:
    return all(record[0] is None for record in records)


async def _write_one(produce: Produce, partition: int, records: Sequence[RecordFields], body_bytes: int) -> Written:
    count = len(records)
    partitions = [partition] * count
    try:
        batches = build_batches(produce.context, produce.topic, records, records_bytes_max=body_bytes)
    except ApiError:  # one of them is too large for any batch
        if count == 1 or produce.options.expected_offset is not None:
            raise
        return await _write_many(produce, partitions, records, body_bytes)
    return await _append_all(produce, partition, batches, count)


async def _write_idempotent(
    produce: Produce, records: Sequence[RecordFields], partition: int, producer: ProducerStamp
) -> Written:
    """All of them or none: they are one batch."""
    context, topic = produce.context, produce.topic
    check_partition(topic, partition)
    if produce.wants_redirect:
        redirect_to_leader(context, produce.request, topic, partition)
    batch = build_idempotent_batch(context, topic, records, producer)
    return await _append_all(produce, partition, batch, len(records))


async def _append_all(produce: Produce, partition: int, batches: bytearray, count: int) -> Written:
    placed = await append_batches(produce.context, produce.topic, partition, batches, produce.options)
    offsets = range(placed.base_offset, placed.base_offset + count)
    times = [placed.timestamp_ms] * count
    return Written(
        [partition] * count, offsets, times, {}, {placed.leader.broker_id: placed.leader}, placed.is_duplicate
    )


async def _write_many(
    produce: Produce, assigned: list[int], records: Sequence[RecordFields], body_bytes: int
) -> Written:
    """By partition; a record that cannot be written fails alone, the others of its partition are written."""
    errors: dict[int, ApiError] = {}
    groups: dict[int, list[int]] = {}
    for index, partition in enumerate(assigned):
        groups.setdefault(partition, []).append(index)
    written = Written(assigned, [-1] * len(records), [-1] * len(records), errors, {})
    await asyncio.gather(*(_write_group(produce, group, records, body_bytes, written) for group in groups.values()))
    return written


async def _write_group(
    produce: Produce,
    group: list[int],
    records: Sequence[RecordFields],
    body_bytes: int,
    written: Written,
) -> None:
    context, topic = produce.context, produce.topic
    partition = written.partitions[group[0]]
    try:
        if partition >= len(topic.partitions):
            raise partition_not_found(topic.name, partition, len(topic.partitions))
        try:
            batches = build_batches(context, topic, [records[i] for i in group], records_bytes_max=body_bytes)
        except ApiError:
            group, batches = _without_too_large(produce, group, records, written.errors)
        if not group:
            return
        placed = await append_batches(context, topic, partition, batches, produce.options)
    except ApiError as error:
        written.errors.update(dict.fromkeys(group, error.with_outcome(Outcome.NOT_WRITTEN)))
        return
    _note(written, group, placed)


def _without_too_large(
    produce: Produce, group: list[int], records: Sequence[RecordFields], errors: dict[int, ApiError]
) -> tuple[list[int], bytearray]:
    """Leave out the records that no batch can hold."""
    kept: list[int] = []
    batches = bytearray()
    for index in group:
        try:
            build_batches(produce.context, produce.topic, [records[index]], records_bytes_max=2**62)
        except ApiError as error:
            errors[index] = error.with_outcome(Outcome.NOT_WRITTEN)
        else:
            kept.append(index)
    if kept:
        wanted = [records[index] for index in kept]
        batches = build_batches(produce.context, produce.topic, wanted, records_bytes_max=2**62)
    return kept, batches


def _note(written: Written, group: list[int], placed: Placed) -> None:
    offsets, times = written.offsets, written.append_times_ms
    assert isinstance(offsets, list)
    assert isinstance(times, list)
    for position, index in enumerate(group):
        offsets[index] = placed.base_offset + position
        times[index] = placed.timestamp_ms
    written.leaders[placed.leader.broker_id] = placed.leader


def produce_route(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A route that writes: whatever it refuses says that nothing was written, unless an append said otherwise."""

    async def route(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            if error.status != 307:
                error.with_outcome(Outcome.NOT_WRITTEN)
            raise

    return route
