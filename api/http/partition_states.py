"""Where the logs of partitions and their followers stand: asked of this node's replicas, and of the other leaders.

One request for each leader, at the same time, for the same resource: a node that is asked by another tells no more than
the states of what it leads itself. What a leader does not answer in time is null: a description must not fail because
one of the brokers is down.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Struct

from api.http.context import Context
from api.http.errors import ApiError
from api.http.replies import json_reply
from broker.replication.replica import Replica
from metadata.image import Broker, Topic
from wire.errors import RefusedError

ASK_TIMEOUT_S: Final = 1.0
UNHEARD: Final = -1


class FollowerState(Struct):
    """How far a follower is, as its leader knows from its fetches: offsets that it holds durably."""

    broker_id: int
    is_in_sync: bool
    log_end_offset: int | None
    """None: not heard in this leader epoch."""
    lag: int | None
    caught_up_ms_ago: int | None
    """0 for one that is caught up. None: it never was in this leader epoch."""


class PartitionState(Struct):
    """Offsets as the leader knows them."""

    topic_name: str
    partition_id: int
    log_start_offset: int
    high_watermark: int | None
    """None: a new leader does not know it yet (KIP-207). Its own would be too low, acknowledged records lie above."""
    log_end_offset: int
    size_bytes: int
    followers: list[FollowerState]


class _Answer(Struct):
    data: list[PartitionState]


class Asked(NamedTuple):
    """The resource that tells of the partitions, as another node is to be asked for it; `path` from the cluster's."""

    path: str
    query: dict[str, str] | None = None
    topic_id: UUID | None = None


PartitionKey = tuple[str, int]
States = dict[PartitionKey, PartitionState]

_decoder: Final = msgspec.json.Decoder(_Answer)


async def partition_states(
    context: Context, partitions: Iterable[tuple[Topic, int]], asked: Asked, *, may_forward: bool
) -> States:
    """By topic name and partition; one that nobody could tell is left out."""
    image, node = context.node.image, context.node
    states: States = {}
    elsewhere: dict[int, Broker] = {}
    for topic, partition in partitions:
        leader = image.leader_of(topic, partition)
        if leader is None:
            continue
        if leader.broker_id != node.broker_id:
            elsewhere[leader.broker_id] = leader
        elif (state := _state_here(context, topic, partition)) is not None:
            states[topic.name, partition] = state
    if elsewhere and may_forward:
        for found in await asyncio.gather(*(_ask(context, broker, asked) for broker in elsewhere.values())):
            for state in found:
                states.setdefault((state.topic_name, state.partition_id), state)
    return states


def _state_here(context: Context, topic: Topic, partition: int) -> PartitionState | None:
    try:
        replica = context.node.replica(topic.topic_id, partition)
    except RefusedError:
        return None
    log = replica.log
    return PartitionState(
        topic.name,
        partition,
        replica.earliest_offset,
        replica.high_watermark if replica.knows_high_watermark else None,
        log.log_end_offset,
        log.size_bytes,
        followers_of(replica),
    )


def followers_of(replica: Replica) -> list[FollowerState]:
    """The followers of a partition that this broker leads."""
    end, now_ms = replica.log.log_end_offset, time.monotonic() * 1000
    found = []
    for state in replica.follower_states():
        is_known = state.log_end_offset != UNHEARD
        caught_up_ms = state.last_caught_up_ms
        lag = max(0, end - state.log_end_offset) if is_known else None
        ago_ms = None if caught_up_ms is None else 0 if lag == 0 else max(0, int(now_ms - caught_up_ms))
        found.append(
            FollowerState(state.broker_id, state.is_in_sync, state.log_end_offset if is_known else None, lag, ago_ms)
        )
    return found


def states_reply(states: States) -> web.Response:
    """What a node that was asked by another answers."""
    return json_reply({"data": list(states.values())})


async def _ask(context: Context, broker: Broker, asked: Asked) -> list[PartitionState]:
    try:
        answer = await context.forwarder.get(
            broker, asked.path, query=asked.query, topic_id=asked.topic_id, timeout_s=ASK_TIMEOUT_S
        )
        return _decoder.decode(answer.body).data
    except (ApiError, msgspec.DecodeError):
        return []
