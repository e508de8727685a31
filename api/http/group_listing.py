"""`GET C/consumer-groups`: the groups of all coordinators, by name.

Each node tells what it coordinates itself; the one that was asked puts the list together. Refuses (503) to answer with
a list that lacks some, while a partition of the offsets topic has no leader, or a coordinator is reading its log or
does not answer: a list is taken for the whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from api.http.context import context_of
from api.http.coordinating import WAIT_FIRST_S, WAIT_MAX_S
from api.http.errors import RETRIABLE, ApiError, StaleRouteError
from api.http.group_errors import coordinator_away
from api.http.group_resources import GroupFacts, facts_of, group_resource
from api.http.parameters import SHOWN_MAX, Parameters
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_cluster, is_forwarded
from broker.groups.group_state import GroupState
from broker.groups.host import OFFSETS_TOPIC
from wire.errors import RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.context import Context
    from metadata.image import Broker


class _Answer(Struct):
    data: list[GroupFacts]


PATH: Final = "/consumer-groups"
_decoder: Final = msgspec.json.Decoder(_Answer)


async def list_groups(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    parameters = Parameters(request)
    state = parameters.text("state")
    parameters.done()
    wanted = None if state is None else _state(state)
    if is_forwarded(request):
        return json_reply({"data": _here(context)})
    found = await _patiently(context)
    links = Links(request)
    data: list[dict[str, Any]] = [
        group_resource(links, facts)
        for facts in sorted(found, key=lambda facts: facts.consumer_group_id)
        if wanted is None or facts.state == wanted
    ]
    return json_reply(links.listing("KafkaConsumerGroupList", PATH, data))


def _state(text: str) -> str:
    """By Kafka's spelling or by that of the answers."""
    for state in GroupState:
        if text.replace("_", "").lower() == state.lower():
            return state.value
    known = ", ".join(state for state in GroupState if state is not GroupState.DEAD)
    raise ApiError(400, 40002, f"state must be one of {known}, not {text[:SHOWN_MAX]!r}")


async def _patiently(context: Context) -> list[GroupFacts]:
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + context.settings.leader_wait_s
    pause_s = WAIT_FIRST_S
    while True:
        try:
            return await _everywhere(context)
        except StaleRouteError:
            if context.is_draining or loop.time() + pause_s > give_up_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, WAIT_MAX_S)


async def _everywhere(context: Context) -> list[GroupFacts]:
    coordinators = _coordinators(context)
    here = coordinators.pop(context.node.broker_id, None)
    found = _here(context) if here else []
    for others in await asyncio.gather(*(_there(context, broker) for broker in coordinators.values())):
        found += others
    return found


def _coordinators(context: Context) -> dict[int, Broker]:
    """Whoever leads a partition of the offsets topic; nobody while there is no such topic."""
    image = context.node.image
    topic = image.topic(OFFSETS_TOPIC)
    if topic is None:
        return {}
    found: dict[int, Broker] = {}
    for index in range(len(topic.partitions)):
        leader = image.leader_of(topic, index)
        if leader is None:
            raise coordinator_away(f"partition {index} of {OFFSETS_TOPIC} has no leader: groups cannot be listed now")
        found[leader.broker_id] = leader
    return found


def _here(context: Context) -> list[GroupFacts]:
    try:
        shards = context.node.groups.shards()
    except RefusedError as refused:
        raise coordinator_away(refused.message) from None
    broker_id = context.node.broker_id
    return [
        facts_of(group, broker_id)
        for shard in shards
        for group in shard.core.groups.values()
        if group.state is not GroupState.DEAD
    ]


async def _there(context: Context, broker: Broker) -> list[GroupFacts]:
    answer = await context.forwarder.get(broker, PATH, timeout_s=context.settings.fetch_timeout_s)
    try:
        return _decoder.decode(answer.body).data
    except msgspec.DecodeError:
        message = f"what broker {broker.broker_id} says of its groups cannot be read"
        raise ApiError(503, RETRIABLE, message) from None
