"""Reassignments: partitions that move while they are written and read (KIP-455): begun, watched, cancelled.

Owns the resource `KafkaReassignment` with its progress as the leader knows it, and the request for many partitions at
once. What is a possible assignment is the controller's to say.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import Context, context_of
from api.http.errors import NOT_FOUND, ApiError
from api.http.parameters import Parameters
from api.http.partition_listing import Found, cut, next_path, page_of, partitions_of
from api.http.partition_outcomes import (
    AT_ONCE,
    PARTITIONS_MAX,
    Key,
    NamedPartition,
    check_once,
    error_of,
    outcomes_reply,
    refusals_in,
)
from api.http.partition_states import Asked, PartitionState, partition_states, states_reply
from api.http.replies import json_reply, no_content
from api.http.resources import Links
from api.http.routing import check_cluster, find_partition, find_topic, is_forwarded
from metadata.bounds import MAX_INT32, MAX_INT64, MAX_REPLICAS
from metadata.image import Topic
from metadata.requests import PartitionReassignment, ReassignPartitionsRequest

if TYPE_CHECKING:
    from metadata.answers import PartitionRefusal

ReplicasField = Annotated[list[Annotated[int, Meta(ge=0, le=MAX_INT32)]], Meta(min_length=1, max_length=MAX_REPLICAS)]
ThrottleField = Annotated[int, Meta(ge=1, le=MAX_INT64)]


class NewReplicas(Struct, forbid_unknown_fields=True):
    """Where a partition shall lie, the preferred leader first."""

    replicas: ReplicasField
    throttle_bytes_per_s: ThrottleField | None = None


class Reassignment(NamedPartition, forbid_unknown_fields=True, frozen=True, kw_only=True):
    replicas: ReplicasField | None
    """null: cancel what is in progress."""


class Reassignments(Struct, forbid_unknown_fields=True):
    reassignments: Annotated[list[Reassignment], Meta(min_length=1, max_length=PARTITIONS_MAX)]
    throttle_bytes_per_s: ThrottleField | None = None
    validate_only: bool = False


_one_decoder: Final = msgspec.json.Decoder(NewReplicas)
_many_decoder: Final = msgspec.json.Decoder(Reassignments)

EVERY: Final = "-"


# -- what is in progress ----------------------------------------------------------------------------------------------


async def get_reassignment(request: web.Request) -> web.Response:
    """Of one partition, of one topic (`partitions/-`) or of all (`topics/-/partitions/-`)."""
    if request.match_info["partition"] == EVERY:
        return await _list_reassignments(request)
    topic = await find_topic(context_of(request), request)
    index = find_partition(request, topic)
    Parameters(request).done()
    if not topic.partitions[index].is_reassigning:
        raise ApiError(404, NOT_FOUND, f"partition {index} of topic {topic.name!r} is not being reassigned")
    return json_reply(await _described(request, topic, index))


async def _list_reassignments(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    name = request.match_info["topic"]
    topic = None if name == EVERY else await find_topic(context, request)
    parameters = Parameters(request)
    page = page_of(parameters)
    parameters.done()
    everything = partitions_of(context.node.image, page, topic)
    found, after = cut((one for one in everything if one[0].partitions[one[1]].is_reassigning), page)
    path = f"/topics/{name}/partitions/-/reassignment"
    asked = Asked(path, dict(request.query))
    if is_forwarded(request):
        return states_reply(await partition_states(context, found, asked, may_forward=False))
    data = await _resources(request, found, asked)
    following = None if after is None else next_path(path, request, after)
    return json_reply(Links(request).listing("KafkaReassignmentList", path, data, following=following))


async def _described(request: web.Request, topic: Topic, index: int) -> dict[str, Any]:
    asked = Asked(f"/topics/{topic.name}/partitions/{index}", topic_id=topic.topic_id)
    (resource,) = await _resources(request, [(topic, index)], asked)
    return resource


async def _resources(request: web.Request, found: Found, asked: Asked) -> list[dict[str, Any]]:
    context, links = context_of(request), Links(request)
    states = await partition_states(context, found, asked, may_forward=not is_forwarded(request))
    return [_resource(context, links, topic, index, states.get((topic.name, index))) for topic, index in found]


def _resource(context: Context, links: Links, topic: Topic, index: int, state: PartitionState | None) -> dict[str, Any]:
    partition = topic.partitions[index]
    leader = context.node.image.leader_of(topic, index)
    path = f"/topics/{topic.name}/partitions/{index}"
    followers = [] if state is None else [f for f in state.followers if f.broker_id in partition.adding_replicas]
    lags = [follower.lag for follower in followers if follower.lag is not None]
    is_known = state is not None and len(lags) == len(partition.adding_replicas)
    return links.resource(
        "KafkaReassignment",
        f"{path}/reassignment",
        topic_name=topic.name,
        partition_id=index,
        leader_id=None if leader is None else leader.broker_id,
        replica_ids=partition.replicas,
        target_replica_ids=[b for b in partition.replicas if b not in partition.removing_replicas],
        adding_replica_ids=partition.adding_replicas,
        removing_replica_ids=partition.removing_replicas,
        in_sync_replica_ids=partition.in_sync_replicas,
        log_start_offset=None if state is None else state.log_start_offset,
        high_watermark=None if state is None else state.high_watermark,
        log_end_offset=None if state is None else state.log_end_offset,
        size_bytes=None if state is None else state.size_bytes,
        followers=None if state is None else state.followers,
        remaining_offsets=max(lags, default=0) if is_known else None,
        replicas=links.related(f"{path}/replicas"),
    )


# -- begun and cancelled ----------------------------------------------------------------------------------------------


async def put_reassignment(request: web.Request) -> web.Response:
    """Begin to move one partition, or change where it moves to."""
    context = context_of(request)
    topic = await find_topic(context, request)
    index = find_partition(request, topic)
    Parameters(request).done()
    wanted = json_guard.decode(_one_decoder, await read_body(request, context.settings))
    await _reassign_one(context, topic, index, tuple(wanted.replicas), wanted.throttle_bytes_per_s)
    topic = context.node.image.topics.get(topic.topic_id, topic)
    return json_reply(await _described(request, topic, index), status=202)


async def delete_reassignment(request: web.Request) -> web.Response:
    """Cancel: the partition lies again where it lay before."""
    context = context_of(request)
    topic = await find_topic(context, request)
    index = find_partition(request, topic)
    Parameters(request).done()
    await _reassign_one(context, topic, index, None, None)
    return no_content()


async def _reassign_one(
    context: Context, topic: Topic, index: int, replicas: tuple[int, ...] | None, throttle: int | None
) -> None:
    one = PartitionReassignment(name=topic.name, topic_id=topic.topic_id, partition=index, replicas=replicas)
    answer = await context.admin(ReassignPartitionsRequest(assignments=(one,), throttle_bytes_per_s=throttle))
    for refusal in refusals_in(answer).values():
        raise error_of(context.node.image, refusal)


async def post_reassign(request: web.Request) -> web.Response:
    """Many partitions, each with its own outcome."""
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    wanted = json_guard.decode(_many_decoder, await read_body(request, context.settings))
    keys = [(one.topic_name, one.partition_id) for one in wanted.reassignments]
    check_once(keys)
    assignments = [
        PartitionReassignment(
            name=one.topic_name,
            partition=one.partition_id,
            replicas=None if one.replicas is None else tuple(one.replicas),
        )
        for one in wanted.reassignments
    ]
    refusals: dict[Key, PartitionRefusal] = {}
    for start in range(0, len(assignments), AT_ONCE):
        some = ReassignPartitionsRequest(
            assignments=tuple(assignments[start : start + AT_ONCE]),
            throttle_bytes_per_s=wanted.throttle_bytes_per_s,
            validate_only=wanted.validate_only,
        )
        refusals |= refusals_in(await context.admin(some))
    successes: list[dict[str, Any]] = [
        {"topic_name": topic, "partition_id": partition}
        for topic, partition in keys
        if (topic, partition) not in refusals
    ]
    return outcomes_reply(context.node.image, successes, refusals)
