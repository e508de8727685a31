"""Partitions and replicas of a topic, and the offsets of one partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from api.http.context import context_of
from api.http.errors import NOT_FOUND, ApiError, bad_request
from api.http.fetching import latest_offset
from api.http.leading import Target, at_leader
from api.http.parameters import Parameters, parse_integer
from api.http.partition_resources import condition_of, partition_resource, replica_resource
from api.http.partition_states import Asked, partition_states, states_reply
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import find_partition, find_topic, is_forwarded, leader_headers, redirect_to_leader

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.context import Context
    from api.http.partition_states import States
    from broker.replication.replica import Replica
    from metadata.image import Broker, Topic


async def list_partitions(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    Parameters(request).done()
    path = f"/topics/{topic.name}/partitions"
    partitions = [(topic, index) for index in range(len(topic.partitions))]
    states = await partition_states(
        context, partitions, Asked(path, topic_id=topic.topic_id), may_forward=not is_forwarded(request)
    )
    if is_forwarded(request):
        return states_reply(states)
    links = Links(request)
    data = [described(context, links, topic, index, states) for _, index in partitions]
    return json_reply(links.listing("KafkaPartitionList", path, data))


async def get_partition(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    Parameters(request).done()
    states = await _states_of_one(request, topic, partition)
    if is_forwarded(request):
        return states_reply(states)
    headers = leader_headers(context, context.node.image.leader_of(topic, partition))
    return json_reply(described(context, Links(request), topic, partition, states), headers=headers)


def described(context: Context, links: Links, topic: Topic, index: int, states: States) -> dict[str, Any]:
    """The partition as a resource."""
    condition = condition_of(context.node.image, topic, index, context.node.topic_defaults)
    return partition_resource(links, topic, index, condition, states.get((topic.name, index)))


async def _states_of_one(request: web.Request, topic: Topic, partition: int) -> States:
    asked = Asked(f"/topics/{topic.name}/partitions/{partition}", topic_id=topic.topic_id)
    return await partition_states(
        context_of(request), [(topic, partition)], asked, may_forward=not is_forwarded(request)
    )


async def list_replicas(request: web.Request) -> web.Response:
    replicas, links, path = await _replicas(request)
    return json_reply(links.listing("KafkaReplicaList", path, replicas))


async def get_replica(request: web.Request) -> web.Response:
    text = request.match_info["broker_id"]
    broker_id = parse_integer(text)
    if broker_id is None:
        raise bad_request(f"broker_id must be an integer, not {text[:64]!r}")
    replicas, _, path = await _replicas(request)
    for replica in replicas:
        if replica["broker_id"] == broker_id:
            return json_reply(replica)
    raise ApiError(404, NOT_FOUND, f"broker {broker_id} has no replica of this partition: see {path}")


async def _replicas(request: web.Request) -> tuple[list[dict[str, Any]], Links, str]:
    context = context_of(request)
    topic = await find_topic(context, request)
    index = find_partition(request, topic)
    Parameters(request).done()
    state = (await _states_of_one(request, topic, index)).get((topic.name, index))
    links = Links(request)
    leader = context.node.image.leader_of(topic, index)
    leader_id = None if leader is None else leader.broker_id
    found = [
        replica_resource(links, topic, index, broker_id, leader_id=leader_id, state=state)
        for broker_id in topic.partitions[index].replicas
    ]
    return found, links, f"/topics/{topic.name}/partitions/{index}/replicas"


async def get_offset(request: web.Request) -> web.Response:
    """`earliest_offset`, `latest_offset` (the next that will be readable); `?timestamp=`: the first at or after it."""
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    parameters = Parameters(request)
    timestamp_ms = parameters.optional_integer("timestamp")
    wants_redirect = parameters.flag("redirect")
    parameters.done()
    if wants_redirect:
        redirect_to_leader(context, request, topic, partition)
    body, leader = await offsets_body(request, topic, partition, timestamp_ms)
    return json_reply(body, headers=leader_headers(context, leader))


async def offsets_body(
    request: web.Request, topic: Topic, partition: int, timestamp_ms: int | None
) -> tuple[dict[str, Any], Broker]:
    """The offsets as the leader tells them, and who that is."""
    may_forward = not is_forwarded(request)
    return await offsets_at_leader(context_of(request), topic, partition, timestamp_ms, may_forward=may_forward)


async def offsets_at_leader(
    context: Context, topic: Topic, partition: int, timestamp_ms: int | None = None, *, may_forward: bool = True
) -> tuple[dict[str, Any], Broker]:
    """As `offsets_body`, for whoever needs them for something else."""

    async def here(replica: Replica, leader: Broker) -> tuple[dict[str, Any], Broker]:
        return _offsets_of(replica, topic, partition, timestamp_ms), leader

    async def there(leader: Broker) -> tuple[dict[str, Any], Broker]:
        query = {} if timestamp_ms is None else {"timestamp": str(timestamp_ms)}
        path = f"/topics/{topic.name}/partitions/{partition}/offset"
        timeout_s = context.settings.fetch_timeout_s
        answer = await context.forwarder.get(leader, path, query=query, topic_id=topic.topic_id, timeout_s=timeout_s)
        return msgspec.json.decode(answer.body, type=dict[str, Any]), leader

    target = Target(context, topic, partition, may_forward)
    return await at_leader(target, here=here, there=there, wait_s=context.settings.fetch_timeout_s)


def _offsets_of(replica: Replica, topic: Topic, partition: int, timestamp_ms: int | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "topic_name": topic.name,
        "partition_id": partition,
        "earliest_offset": replica.earliest_offset,
        "latest_offset": latest_offset(replica),
        "leader_epoch": replica.leader_epoch,
    }
    if timestamp_ms is not None:
        found = replica.offset_for_timestamp(timestamp_ms)
        answer["offset"] = latest_offset(replica) if found is None else found.offset
        answer["timestamp"] = None if found is None else found.timestamp_ms
    return answer
