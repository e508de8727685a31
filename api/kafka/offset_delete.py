"""OffsetDelete 0: drops what a group committed for topics that it reads no more (KIP-496).

GROUP_SUBSCRIBED_TO_TOPIC for those that its members read. Answered once the log has forgotten them.
"""

import asyncio

from api.kafka.context import Caller
from api.kafka.group_calls import respond
from broker.groups.coordinator import Codes
from broker.groups.offsets import TopicPartition
from metadata.image import Image
from wire.errors import ErrorCode
from wire.messages.headers import RequestHeader
from wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


def handle(
    caller: Caller, _: RequestHeader, request: OffsetDeleteRequest
) -> OffsetDeleteResponse | asyncio.Future[OffsetDeleteResponse]:
    node = caller.door.context.node
    partitions = [
        TopicPartition(topic.name, one.partition_index)
        for topic in request.topics
        for one in topic.partitions
        if _exists(node.image, topic.name, one.partition_index)
    ]
    answer = node.groups.ask(
        request.group_id, lambda core, call, _: core.delete_offsets(call, request.group_id, partitions)
    )
    return respond(answer, lambda codes: _response(request, codes))


def _exists(image: Image, name: str, partition: int) -> bool:
    topic = image.topic(name)
    return topic is not None and 0 <= partition < len(topic.partitions)


def _response(request: OffsetDeleteRequest, codes: Codes | ErrorCode) -> OffsetDeleteResponse:
    if isinstance(codes, ErrorCode):
        return OffsetDeleteResponse(error_code=codes)
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponseTopic(
                topic.name,
                [
                    OffsetDeleteResponsePartition(
                        one.partition_index, codes.get(TopicPartition(topic.name, one.partition_index), missing)
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
