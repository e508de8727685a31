"""The committed offsets of a group, by hand: see them, commit them, set them anew, forget them.

Everything here means the next offset to read. To write, the group must be empty (409 else): a running consumer would
overwrite what is set with its next commit. Invariants: a commit or reset is all or none, and answered once it is safe
on all in-sync replicas (acks=all); a reset sets nothing outside of what the partition holds, and says what it moved.
"""

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.consumer_groups import known_group
from api.http.context import Context
from api.http.coordinating import AtCoordinator, at_coordinator
from api.http.errors import bad_request, topic_not_found
from api.http.group_errors import group_not_empty, refused_by_coordinator
from api.http.group_resources import group_path
from api.http.parameters import Parameters
from api.http.partitions import offsets_at_leader
from api.http.records_v3 import PartitionField, TimestampField, timestamp_ms
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_partition
from broker.groups.coordinator import OffsetsToCommit
from broker.groups.fencing import commit_refusal
from broker.groups.offsets import CommittedOffset, TopicPartition
from metadata.bounds import MAX_INT64
from metadata.image import Topic
from metadata.topic_names import check_name
from wire.errors import ErrorCode

OFFSETS_MAX: Final = 10_000
"""Of one request; it becomes one write of the coordinator's log."""
AT_ONCE: Final = 16
"""Leaders asked at the same time."""
NO_MEMBER: Final = ""
NO_GENERATION: Final = -1
OffsetField = Annotated[int, Meta(ge=0, le=MAX_INT64)]
ShiftField = Annotated[int, Meta(ge=-MAX_INT64, le=MAX_INT64)]


class NamedPartition(Struct, forbid_unknown_fields=True):
    topic_name: str
    partition_id: PartitionField


class OffsetToCommit(Struct, forbid_unknown_fields=True):
    topic_name: str
    partition_id: PartitionField
    offset: OffsetField
    metadata: str = ""
    leader_epoch: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1


class Commit(Struct, forbid_unknown_fields=True):
    offsets: Annotated[list[OffsetToCommit], Meta(min_length=1, max_length=OFFSETS_MAX)]


class Partitions(Struct, forbid_unknown_fields=True):
    partitions: Annotated[list[NamedPartition], Meta(min_length=1, max_length=OFFSETS_MAX)]


class Reset(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which partitions (none named: all that have a committed offset), and where to, one of the four."""

    topics: Annotated[list[str], Meta(max_length=OFFSETS_MAX)] | None = None
    partitions: Annotated[list[NamedPartition], Meta(max_length=OFFSETS_MAX)] | None = None
    to: Literal["earliest", "latest"] | None = None
    offset: OffsetField | None = None
    timestamp: TimestampField | dt.datetime | None = None
    shift: ShiftField | None = None
    dry_run: bool = False


_commit_decoder: Final = msgspec.json.Decoder(Commit)
_reset_decoder: Final = msgspec.json.Decoder(Reset)
_partitions_decoder: Final = msgspec.json.Decoder(Partitions)


# -- see and commit ---------------------------------------------------------------------------------------------------


async def list_offsets(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _listed)


async def _listed(asked: AtCoordinator) -> web.Response:
    group = known_group(asked)
    data = [
        _resource(asked, one, committed.offset)
        | {
            "metadata_text": committed.metadata,
            "leader_epoch": committed.leader_epoch if committed.leader_epoch >= 0 else None,
            "commit_timestamp": committed.commit_timestamp_ms,
        }
        for one, committed in sorted(group.offsets)
    ]
    return _listing(asked, data)


async def post_commit(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _commit, makes_topic=True)


async def _commit(asked: AtCoordinator) -> web.Response:
    wanted = json_guard.decode(_commit_decoder, asked.body).offsets
    metadata_bytes_max = asked.context.node.groups.settings.offset_metadata_bytes_max
    offsets: dict[TopicPartition, CommittedOffset] = {}
    for one in wanted:
        topic = named_topic(asked.context, one.topic_name)
        partition = TopicPartition(topic.name, check_partition(topic, one.partition_id))
        if partition in offsets:
            raise bad_request(f"offsets names partition {partition.partition} of {topic.name!r} twice: name it once")
        if len(one.metadata.encode()) > metadata_bytes_max:
            raise bad_request(f"metadata of {topic.name}-{one.partition_id} is above {metadata_bytes_max} bytes")
        offsets[partition] = CommittedOffset(one.offset, one.leader_epoch, one.metadata)
    await commit(asked, offsets)
    return _listing(asked, [_resource(asked, one, offset.offset) for one, offset in offsets.items()])


async def commit(asked: AtCoordinator, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
    """As an administrator, or as a consumer that assigns its partitions itself: the group must be empty."""
    to_commit = OffsetsToCommit(asked.group_id, NO_MEMBER, None, NO_GENERATION, offsets)
    groups = asked.context.node.groups
    answer = groups.ask(asked.group_id, lambda core, call, now: core.commit(call, to_commit, now))
    codes = await answer if isinstance(answer, asyncio.Future) else answer
    refused = codes if isinstance(codes, ErrorCode) else next(filter(None, codes.values()), ErrorCode.NONE)
    if refused is not ErrorCode.NONE:
        raise refused_by_coordinator(refused, asked.group_id, members_count=_members_count(asked))


def named_topic(context: Context, name: str) -> Topic:
    check_name(name)
    topic = context.node.image.topic(name)
    if topic is None:
        raise topic_not_found(name)
    return topic


def _members_count(asked: AtCoordinator) -> int:
    group = asked.context.node.groups.shard(asked.group_id).core.known(asked.group_id)
    return 0 if group is None else len(group.members)


# -- delete -----------------------------------------------------------------------------------------------------------


async def post_delete(request: web.Request) -> web.StreamResponse:
    """Forget what was committed for these partitions; a running group may still lose those that it reads no more."""
    Parameters(request).done()
    return await at_coordinator(request, _delete)


async def _delete(asked: AtCoordinator) -> web.Response:
    wanted = json_guard.decode(_partitions_decoder, asked.body).partitions
    partitions = [TopicPartition(one.topic_name, one.partition_id) for one in wanted]
    groups, group = asked.context.node.groups, known_group(asked)
    members_count = len(group.members)
    answer = groups.ask(asked.group_id, lambda core, call, _: core.delete_offsets(call, asked.group_id, partitions))
    codes = await answer if isinstance(answer, asyncio.Future) else answer
    refused = codes if isinstance(codes, ErrorCode) else next(filter(None, codes.values()), ErrorCode.NONE)
    if refused is ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC:
        raise group_not_empty(asked.group_id, members_count)
    if refused is not ErrorCode.NONE:
        raise refused_by_coordinator(refused, asked.group_id, members_count=members_count)
    return _listing(asked, [_resource(asked, one, None) for one in partitions])


# -- reset ------------------------------------------------------------------------------------------------------------


async def post_reset(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _reset, makes_topic=True)


async def _reset(asked: AtCoordinator) -> web.Response:
    wanted = json_guard.decode(_reset_decoder, asked.body)
    _check_one_way(wanted)
    targets = _targets(asked, wanted)
    group = asked.context.node.groups.shard(asked.group_id).core.known(asked.group_id)
    if group is not None and not wanted.dry_run:
        _check_empty(asked)
    committed = {} if group is None else dict(group.offsets)
    moves = await _moves(asked.context, wanted, targets, committed)
    offsets = {one: CommittedOffset(offset) for one, offset in moves.items()}
    if offsets and not wanted.dry_run:
        await commit(asked, offsets)
    data = []
    for one, offset in moves.items():
        old = committed.get(one)
        moved = {"old_offset": None if old is None else old.offset, "new_offset": offset}
        data.append(_resource(asked, one, offset if not wanted.dry_run else moved["old_offset"]) | moved)
    return _listing(asked, data, dry_run=wanted.dry_run)


def _check_one_way(wanted: Reset) -> None:
    ways = (wanted.to, wanted.offset, wanted.timestamp, wanted.shift)
    if sum(way is not None for way in ways) != 1:
        raise bad_request('say where to, once: "to" ("earliest" or "latest"), "offset", "timestamp" or "shift"')
    if wanted.topics is not None and wanted.partitions is not None:
        raise bad_request(
            "topics and partitions exclude each other: give one, or none for all that the group committed"
        )


def _check_empty(asked: AtCoordinator) -> None:
    """Early, before leaders are asked; the coordinator decides once more when it commits."""
    group = asked.context.node.groups.shard(asked.group_id).core.known(asked.group_id)
    if group is not None and commit_refusal(group, NO_MEMBER, None, NO_GENERATION) is not ErrorCode.NONE:
        raise group_not_empty(asked.group_id, len(group.members))


def _targets(asked: AtCoordinator, wanted: Reset) -> list[TopicPartition]:
    context = asked.context
    if wanted.partitions is not None:
        found = [
            TopicPartition(one.topic_name, check_partition(named_topic(context, one.topic_name), one.partition_id))
            for one in wanted.partitions
        ]
    elif wanted.topics is not None:
        topics = [named_topic(context, name) for name in wanted.topics]
        found = [TopicPartition(topic.name, index) for topic in topics for index in range(len(topic.partitions))]
    else:
        image = context.node.image
        found = [one for one, _ in known_group(asked).offsets if image.topic(one.topic) is not None]
    if len(found) > OFFSETS_MAX:
        raise bad_request(f"these are {len(found)} partitions: reset at most {OFFSETS_MAX} at once")
    return sorted(set(found))


async def _moves(
    context: Context,
    wanted: Reset,
    targets: Iterable[TopicPartition],
    committed: Mapping[TopicPartition, CommittedOffset],
) -> dict[TopicPartition, int]:
    """The new offset of each; a shift moves only what has a committed offset."""
    moment = None if wanted.timestamp is None else timestamp_ms(wanted.timestamp, 0)
    room = asyncio.Semaphore(AT_ONCE)

    async def move(one: TopicPartition) -> int:
        async with room:
            topic = named_topic(context, one.topic)
            bounds, _ = await offsets_at_leader(context, topic, one.partition, moment)
        earliest, latest = bounds["earliest_offset"], bounds["latest_offset"]
        if wanted.to is not None:
            return int(earliest if wanted.to == "earliest" else latest)
        if moment is not None:
            return int(bounds["offset"])
        place = committed[one].offset + wanted.shift if wanted.shift is not None else wanted.offset
        return int(max(earliest, min(latest, place)))

    moving = [one for one in targets if wanted.shift is None or one in committed]
    return dict(zip(moving, await asyncio.gather(*map(move, moving)), strict=True))


def _resource(asked: AtCoordinator, one: TopicPartition, offset: int | None) -> dict[str, Any]:
    group_id = asked.group_id
    return Links(asked.request).resource(
        "KafkaConsumerGroupOffset",
        f"{group_path(group_id)}/offsets/{one.topic}/partitions/{one.partition}",
        consumer_group_id=group_id,
        topic_name=one.topic,
        partition_id=one.partition,
        offset=offset,
    )


def _listing(asked: AtCoordinator, data: list[dict[str, Any]], **more: Any) -> web.Response:
    path = f"{group_path(asked.group_id)}/offsets"
    return json_reply(Links(asked.request).listing("KafkaConsumerGroupOffsetList", path, data) | more)
