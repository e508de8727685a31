"""One consumer group of v3: describe and delete it, its members, what each of them reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from api.http.coordinating import AtCoordinator, at_coordinator
from api.http.errors import NOT_FOUND, ApiError
from api.http.group_errors import group_not_found, refused_by_coordinator
from api.http.group_resources import assigned_to, consumer_resource, facts_of, group_path, group_resource
from api.http.parameters import SHOWN_MAX, Parameters
from api.http.replies import json_reply, no_content
from api.http.resources import Links
from wire.errors import ErrorCode

if TYPE_CHECKING:
    from aiohttp import web

    from broker.groups.group import Group
    from broker.groups.member import Member


def known_group(asked: AtCoordinator) -> Group:
    """404 where there is none."""
    group = asked.context.node.groups.shard(asked.group_id).core.known(asked.group_id)
    if group is None or group.is_nothing:
        raise group_not_found(asked.group_id)
    return group


def _known_member(asked: AtCoordinator, group: Group) -> Member:
    member_id = asked.request.match_info["consumer"]
    member = group.members.get(member_id)
    if member is None:
        path = f"{group_path(asked.group_id)}/consumers"
        raise ApiError(404, NOT_FOUND, f"the group has no member {member_id[:SHOWN_MAX]!r} now: see {path}")
    return member


async def get_group(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _described)


async def _described(asked: AtCoordinator) -> web.Response:
    facts = facts_of(known_group(asked), asked.context.node.broker_id)
    return json_reply(group_resource(Links(asked.request), facts))


async def list_consumers(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _consumers)


async def _consumers(asked: AtCoordinator) -> web.Response:
    links, group = Links(asked.request), known_group(asked)
    data = [consumer_resource(links, group.group_id, member) for member in group.members]
    return json_reply(links.listing("KafkaConsumerList", f"{group_path(group.group_id)}/consumers", data))


async def get_consumer(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _consumer)


async def _consumer(asked: AtCoordinator) -> web.Response:
    group = known_group(asked)
    return json_reply(consumer_resource(Links(asked.request), group.group_id, _known_member(asked, group)))


async def list_assignments(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _assignments)


async def _assignments(asked: AtCoordinator) -> web.Response:
    links, group = Links(asked.request), known_group(asked)
    member = _known_member(asked, group)
    own = consumer_resource(links, group.group_id, member)["assignments"]["related"]
    path = own.removeprefix(links.url(""))
    data: list[dict[str, Any]] = [
        links.resource(
            "KafkaConsumerAssignment",
            f"{path}/{topic}/partitions/{partition}",
            consumer_group_id=group.group_id,
            consumer_id=member.member_id,
            topic_name=topic,
            partition_id=partition,
            partition=links.related(f"/topics/{topic}/partitions/{partition}"),
            lag=links.related(f"{group_path(group.group_id)}/lags/{topic}/partitions/{partition}"),
        )
        for topic, partition in sorted(assigned_to(group, member))
    ]
    return json_reply(links.listing("KafkaConsumerAssignmentList", path, data))


async def delete_group(request: web.Request) -> web.StreamResponse:
    """An empty one, with all that it committed."""
    Parameters(request).done()
    return await at_coordinator(request, _delete, is_repeatable=False)


async def _delete(asked: AtCoordinator) -> web.Response:
    members_count = len(known_group(asked).members)
    groups = asked.context.node.groups
    answer = groups.ask(asked.group_id, lambda core, call, _: core.delete_group(call, asked.group_id))
    code = await answer if isinstance(answer, asyncio.Future) else answer
    if code is not ErrorCode.NONE:
        raise refused_by_coordinator(code, asked.group_id, members_count=members_count)
    return no_content()
