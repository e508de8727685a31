"""OffsetForLeaderEpoch 2-4: where a leader epoch ended, for consumers that check for truncation (KIP-320).

2: the epoch that the client believes in. 3: who asks. 4: flexible. Followers learn the same from Fetch (KIP-595).
"""

from api.kafka.context import Caller
from api.kafka.leaders import code_by_name, led_replica, topic_named
from metadata.image import Image
from wire.errors import RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderPartitionResult,
    OffsetForLeaderTopicResult,
)


def handle(caller: Caller, _: RequestHeader, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
    image = caller.door.context.node.image
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic.topic, [_end_offset(caller, image, topic.topic, asked) for asked in topic.partitions]
            )
            for topic in request.topics
        ]
    )


def _end_offset(
    caller: Caller, image: Image, name: str, asked: OffsetForLeaderPartition
) -> OffsetForLeaderPartitionResult:
    try:
        topic = topic_named(image, name)
        replica = led_replica(caller, topic, asked.partition, current_leader_epoch=asked.current_leader_epoch)
        epoch, end_offset = replica.end_offset_for_epoch(asked.leader_epoch)
    except RefusedError as refused:
        return OffsetForLeaderPartitionResult(code_by_name(refused.code), asked.partition)
    return OffsetForLeaderPartitionResult(0, asked.partition, epoch, end_offset)
