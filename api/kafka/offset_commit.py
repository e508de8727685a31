"""OffsetCommit 2-10: how far a group has read.

2 to 4: with a retention of its own. 3: throttle time. 6: leader epochs. 7: static members (KIP-345). 8: flexible. 9:
GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION for a group that is not known (KIP-848). 10: topic ids (KIP-516).
Each partition has its own code; one that does not exist is refused, the others are committed all the same.
"""

import asyncio
from typing import Final

from api.kafka.context import Caller
from api.kafka.group_calls import respond
from api.kafka.leaders import topic_named, topic_of
from broker.groups.coordinator import Codes, OffsetsToCommit
from broker.groups.offsets import CommittedOffset, TopicPartition
from metadata.image import Image, Topic
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

RETENTION_UNTIL: Final = 4
NOT_FOUND_SINCE: Final = 9
IDS_SINCE: Final = 10


def handle(
    caller: Caller, header: RequestHeader, request: OffsetCommitRequest
) -> OffsetCommitResponse | asyncio.Future[OffsetCommitResponse]:
    node = caller.door.context.node
    committing = _Committing(node.image, header.api_version, request)
    if not request.group_id:
        return committing.response(ErrorCode.INVALID_GROUP_ID)
    if not committing.offsets:
        return committing.response({})
    has_retention = header.api_version <= RETENTION_UNTIL and request.retention_time_ms >= 0
    commit = OffsetsToCommit(
        request.group_id,
        request.member_id,
        request.group_instance_id,
        request.generation_id_or_member_epoch,
        committing.offsets,
        request.retention_time_ms if has_retention else None,
    )
    answer = node.groups.ask(request.group_id, lambda core, call, now: core.commit(call, commit, now))
    return respond(answer, committing.response)


class _Committing:
    """One request: what it commits, and what of it cannot be."""

    def __init__(self, image: Image, version: int, request: OffsetCommitRequest) -> None:
        self._version = version
        self._request = request
        self._topics = [self._topic(image, asked) for asked in request.topics]
        self.offsets: dict[TopicPartition, CommittedOffset] = {}
        for asked, topic in zip(request.topics, self._topics, strict=True):
            if isinstance(topic, ErrorCode):
                continue
            for one in asked.partitions:
                if 0 <= one.partition_index < len(topic.partitions):
                    self.offsets[TopicPartition(topic.name, one.partition_index)] = CommittedOffset(
                        one.committed_offset, one.committed_leader_epoch, one.committed_metadata or ""
                    )

    def _topic(self, image: Image, asked: OffsetCommitRequestTopic) -> Topic | ErrorCode:
        try:
            return topic_of(image, asked.topic_id) if self._version >= IDS_SINCE else topic_named(image, asked.name)
        except RefusedError as refused:
            return refused.code

    def response(self, answer: Codes | ErrorCode) -> OffsetCommitResponse:
        topics = []
        for asked, topic in zip(self._request.topics, self._topics, strict=True):
            partitions = [
                OffsetCommitResponsePartition(one.partition_index, self._code(answer, topic, one.partition_index))
                for one in asked.partitions
            ]
            topics.append(OffsetCommitResponseTopic(asked.name, asked.topic_id, partitions))
        return OffsetCommitResponse(topics=topics)

    def _code(self, answer: Codes | ErrorCode, topic: Topic | ErrorCode, partition: int) -> ErrorCode:
        if isinstance(topic, ErrorCode):
            return topic
        if isinstance(answer, ErrorCode):
            return answer
        code = answer.get(TopicPartition(topic.name, partition), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if code is ErrorCode.GROUP_ID_NOT_FOUND and self._version < NOT_FOUND_SINCE:
            return ErrorCode.ILLEGAL_GENERATION
        return code
