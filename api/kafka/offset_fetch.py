"""OffsetFetch 1-10: what groups have committed.

2: all of a group's (null topics), an error for the whole. 3: throttle time. 5: leader epochs. 6: flexible. 7: stable
offsets only (nothing is transactional here: all are). 8: many groups (KIP-709). 9: who asks (of consequence to the new
consumer groups only, KIP-848). 10: topic ids (KIP-516); topics that are gone are left out of all.
A partition without a committed offset has -1, which is no error.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from api.kafka.context import Caller
from broker.groups.offsets import NO_OFFSET, CommittedOffset, GroupOffsets
from metadata.image import Image
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from wire.schema import NO_UUID

ERROR_SINCE: Final = 2
MANY_SINCE: Final = 8
IDS_SINCE: Final = 10
NOTHING: Final = CommittedOffset(NO_OFFSET)


class _Asked(NamedTuple):
    name: str
    topic_id: UUID
    partitions: Iterable[int]
    error: ErrorCode = ErrorCode.NONE


def handle(caller: Caller, header: RequestHeader, request: OffsetFetchRequest) -> OffsetFetchResponse:
    version = header.api_version
    if version >= MANY_SINCE:
        return OffsetFetchResponse(groups=[_group(caller, version, group) for group in request.groups])
    topics = None
    if request.topics is not None:
        topics = [OffsetFetchRequestTopics(one.name, NO_UUID, one.partition_indexes) for one in request.topics]
    found = _group(caller, version, OffsetFetchRequestGroup(request.group_id, topics=topics))
    if found.error_code and version < ERROR_SINCE:
        return OffsetFetchResponse(topics=[_refused(one, found.error_code) for one in topics or ()])
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                topic.name,
                [
                    OffsetFetchResponsePartition(
                        one.partition_index, one.committed_offset, one.committed_leader_epoch, one.metadata
                    )
                    for one in topic.partitions
                ],
            )
            for topic in found.topics
        ],
        error_code=found.error_code,
    )


def _refused(asked: OffsetFetchRequestTopics, code: int) -> OffsetFetchResponseTopic:
    partitions = [OffsetFetchResponsePartition(index, NO_OFFSET, error_code=code) for index in asked.partition_indexes]
    return OffsetFetchResponseTopic(asked.name, partitions)


def _group(caller: Caller, version: int, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    node = caller.door.context.node
    try:
        offsets = node.groups.offsets_of(asked.group_id)
    except RefusedError as refused:
        return OffsetFetchResponseGroup(asked.group_id, error_code=refused.code)
    topics = [
        OffsetFetchResponseTopics(topic.name, topic.topic_id, _partitions(offsets, topic))
        for topic in _asked(node.image, version, offsets, asked.topics)
    ]
    return OffsetFetchResponseGroup(asked.group_id, topics)


def _asked(
    image: Image, version: int, offsets: GroupOffsets, topics: list[OffsetFetchRequestTopics] | None
) -> Iterable[_Asked]:
    if topics is None:
        for name, committed in offsets.by_topic.items():
            if version < IDS_SINCE or name in image.topic_ids:
                yield _Asked(name, image.topic_ids.get(name, NO_UUID), sorted(committed))
        return
    for one in topics:
        if version < IDS_SINCE:
            yield _Asked(one.name, NO_UUID, one.partition_indexes)
        elif (topic := image.topics.get(one.topic_id)) is not None:
            yield _Asked(topic.name, one.topic_id, one.partition_indexes)
        else:
            yield _Asked("", one.topic_id, one.partition_indexes, ErrorCode.UNKNOWN_TOPIC_ID)


def _partitions(offsets: GroupOffsets, asked: _Asked) -> list[OffsetFetchResponsePartitions]:
    committed: Mapping[int, CommittedOffset] = {} if asked.error else offsets.by_topic.get(asked.name, {})
    found = ((index, committed.get(index, NOTHING)) for index in asked.partitions)
    return [
        OffsetFetchResponsePartitions(index, one.offset, one.leader_epoch, one.metadata, asked.error)
        for index, one in found
    ]
