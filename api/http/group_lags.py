"""How far a group is behind: the committed offset of each partition against its high watermark.

Owns the figures: a lag is what is readable and not committed yet, 0 at the least; null where nothing was committed, or
where the partition's leader does not tell its high watermark now. Partitions are those with a committed offset and
those that a member reads; what belongs to deleted topics is left out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from api.http.consumer_groups import known_group
from api.http.coordinating import AtCoordinator, at_coordinator
from api.http.errors import PARTITION_NOT_FOUND, ApiError
from api.http.group_resources import assigned_to, group_path
from api.http.parameters import SHOWN_MAX, Parameters, parse_integer
from api.http.partition_states import Asked, States, partition_states
from api.http.replies import json_reply
from api.http.resources import Links
from broker.groups.offsets import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from api.http.context import Context
    from broker.groups.group import Group
    from broker.groups.member import Member
    from broker.groups.offsets import CommittedOffset


class Lag(NamedTuple):
    """One partition of a group."""

    partition: TopicPartition
    member: Member | None
    committed: CommittedOffset | None
    log_start_offset: int | None
    high_watermark: int | None

    @property
    def lag(self) -> int | None:
        if self.committed is None or self.high_watermark is None:
            return None
        return max(0, self.high_watermark - self.committed.offset)


async def lags_of(context: Context, group: Group, *, only: TopicPartition | None = None) -> list[Lag]:
    """By topic and partition."""
    readers = {partition: member for member in group.members for partition in assigned_to(group, member)}
    committed = dict(group.offsets)
    image = context.node.image
    partitions = sorted(
        one
        for one in ({*committed, *readers} if only is None else {only} & {*committed, *readers})
        if (topic := image.topic(one.topic)) is not None and 0 <= one.partition < len(topic.partitions)
    )
    states = await states_of(context, partitions)
    found = []
    for one in partitions:
        state = states.get((one.topic, one.partition))
        start, end = (None, None) if state is None else (state.log_start_offset, state.high_watermark)
        found.append(Lag(one, readers.get(one), committed.get(one), start, end))
    return found


async def states_of(context: Context, partitions: Iterable[TopicPartition]) -> States:
    """Where these partitions stand, as their leaders say; each leader is asked once a topic."""
    image = context.node.image
    by_topic: dict[str, list[int]] = {}
    for name, partition in partitions:
        by_topic.setdefault(name, []).append(partition)
    asking = []
    for name, indexes in by_topic.items():
        if (topic := image.topic(name)) is not None:
            asked = Asked(f"/topics/{name}/partitions", topic_id=topic.topic_id)
            asking.append(partition_states(context, [(topic, index) for index in indexes], asked, may_forward=True))
    states: States = {}
    for found in await asyncio.gather(*asking):
        states |= found
    return states


def _resource(links: Links, group_id: str, one: Lag) -> dict[str, Any]:
    (topic, partition), member, committed = one.partition, one.member, one.committed
    return links.resource(
        "KafkaConsumerLag",
        f"{group_path(group_id)}/lags/{topic}/partitions/{partition}",
        consumer_group_id=group_id,
        topic_name=topic,
        partition_id=partition,
        consumer_id=None if member is None else member.member_id,
        instance_id=None if member is None else member.instance_id,
        client_id=None if member is None else member.client_id,
        host=None if member is None else member.client_host,
        current_offset=None if committed is None else committed.offset,
        metadata_text=None if committed is None else committed.metadata,
        log_start_offset=one.log_start_offset,
        log_end_offset=one.high_watermark,
        lag=one.lag,
    )


async def list_lags(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _lags)


async def _lags(asked: AtCoordinator) -> web.Response:
    links, group = Links(asked.request), known_group(asked)
    data = [_resource(links, group.group_id, one) for one in await lags_of(asked.context, group)]
    return json_reply(links.listing("KafkaConsumerLagList", f"{group_path(group.group_id)}/lags", data))


async def get_lag(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _lag)


async def _lag(asked: AtCoordinator) -> web.Response:
    group, names = known_group(asked), asked.request.match_info
    partition = parse_integer(names["partition"])
    only = TopicPartition(names["topic"], -1 if partition is None else partition)
    for one in await lags_of(asked.context, group, only=only):
        return json_reply(_resource(Links(asked.request), group.group_id, one))
    where = f"partition {names['partition'][:SHOWN_MAX]} of topic {only.topic[:SHOWN_MAX]!r}"
    message = f"the group neither reads nor has committed {where}: see {group_path(group.group_id)}/lags"
    raise ApiError(404, PARTITION_NOT_FOUND, message)


async def get_lag_summary(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _summary)


async def _summary(asked: AtCoordinator) -> web.Response:
    links, group = Links(asked.request), known_group(asked)
    path, found = group_path(group.group_id), await lags_of(asked.context, group)
    known = [one for one in found if one.lag is not None]
    worst = max(known, key=lambda one: one.lag or 0, default=None)
    member = None if worst is None else worst.member
    summary = links.resource(
        "KafkaConsumerGroupLagSummary",
        f"{path}/lag-summary",
        consumer_group_id=group.group_id,
        max_lag_consumer_id=None if member is None else member.member_id,
        max_lag_instance_id=None if member is None else member.instance_id,
        max_lag_client_id=None if member is None else member.client_id,
        max_lag_topic_name=None if worst is None else worst.partition.topic,
        max_lag_partition_id=None if worst is None else worst.partition.partition,
        max_lag=None if worst is None else worst.lag,
        total_lag=sum(one.lag or 0 for one in known),
        partitions_count=len(found),
        unknown_count=len(found) - len(known),
    )
    return json_reply(summary)
