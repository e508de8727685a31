"""Where the logs of a topic's partitions stand: asked of this node's replicas, and of the other leaders.

One request for each leader, at the same time. What a leader does not answer in time is null: a description of a topic
must not fail because one of its brokers is down.
"""

import asyncio
from typing import Final

import msgspec
from msgspec import Struct

from api.http.context import Context
from api.http.errors import ApiError
from metadata.image import Broker, Topic
from wire.errors import RefusedError

ASK_TIMEOUT_S: Final = 1.0


class PartitionState(Struct):
    """Offsets as the leader knows them."""

    partition_id: int
    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    size_bytes: int


class _Listed(Struct):
    partition_id: int
    log_start_offset: int | None = None
    high_watermark: int | None = None
    log_end_offset: int | None = None
    size_bytes: int | None = None


class _Listing(Struct):
    """What another node's answer holds for us."""

    data: list[_Listed]


_decoder: Final = msgspec.json.Decoder(_Listing)


async def partition_states(
    context: Context, topic: Topic, partitions: list[int], *, may_forward: bool
) -> dict[int, PartitionState]:
    """By partition; one that nobody could tell is left out."""
    image, node = context.node.image, context.node
    states: dict[int, PartitionState] = {}
    elsewhere: dict[int, Broker] = {}
    for partition in partitions:
        leader = image.leader_of(topic, partition)
        if leader is None:
            continue
        if leader.broker_id != node.broker_id:
            elsewhere[leader.broker_id] = leader
        elif (state := _state_here(context, topic, partition)) is not None:
            states[partition] = state
    if elsewhere and may_forward:
        for found in await asyncio.gather(*(_ask(context, broker, topic) for broker in elsewhere.values())):
            for state in found:
                states.setdefault(state.partition_id, state)
    return states


def _state_here(context: Context, topic: Topic, partition: int) -> PartitionState | None:
    try:
        replica = context.node.replica(topic.topic_id, partition)
    except RefusedError:
        return None
    log = replica.log
    return PartitionState(
        partition, replica.earliest_offset, replica.high_watermark, log.log_end_offset, log.size_bytes
    )


async def _ask(context: Context, broker: Broker, topic: Topic) -> list[PartitionState]:
    path = f"/topics/{topic.name}/partitions"
    try:
        answer = await context.forwarder.get(broker, path, topic_id=topic.topic_id, timeout_s=ASK_TIMEOUT_S)
        listed = _decoder.decode(answer.body).data
    except (ApiError, msgspec.DecodeError):
        return []
    return [
        PartitionState(item.partition_id, item.log_start_offset, item.high_watermark, item.log_end_offset, size_bytes)
        for item in listed
        if item.log_start_offset is not None and item.high_watermark is not None and item.log_end_offset is not None
        for size_bytes in [item.size_bytes or 0]
    ]
