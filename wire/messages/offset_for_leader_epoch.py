"""OffsetForLeaderEpoch: where an epoch ended at the leader, to truncate by (KIP-101, KIP-320)."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Int64, Message, Versions, empty, since

VERSIONS = Versions(2, 4, flexible_from=4)


class OffsetForLeaderPartition(Message, frozen=True):
    partition: Int32 = 0
    current_leader_epoch: Int32 = -1
    leader_epoch: Int32 = 0


class OffsetForLeaderTopic(Message, frozen=True):
    topic: str = ""
    partitions: list[OffsetForLeaderPartition] = empty()


class OffsetForLeaderEpochRequest(Message, frozen=True):
    """`replica_id` -2 is a debugger, who may see beyond the high watermark; -1 a consumer."""

    wire_versions: ClassVar = VERSIONS

    replica_id: Annotated[Int32, since(3)] = -2
    topics: list[OffsetForLeaderTopic] = empty()


class OffsetForLeaderPartitionResult(Message, frozen=True):
    """Kafka's schema calls it EpochEndOffset, as it does a smaller struct of Fetch."""

    error_code: Int16 = 0
    partition: Int32 = 0
    leader_epoch: Int32 = -1
    end_offset: Int64 = -1


class OffsetForLeaderTopicResult(Message, frozen=True):
    topic: str = ""
    partitions: list[OffsetForLeaderPartitionResult] = empty()


class OffsetForLeaderEpochResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    topics: list[OffsetForLeaderTopicResult] = empty()


OFFSET_FOR_LEADER_EPOCH = Api(ApiKey.OFFSET_FOR_LEADER_EPOCH, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse)
