"""ListOffsets: the offset of a timestamp, of the earliest, the latest or the newest record."""

from typing import Annotated, ClassVar, Final

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Int64, Message, Versions, empty, since

VERSIONS = Versions(1, 11, flexible_from=6)

# What `timestamp` means below zero.
LATEST_TIMESTAMP: Final = -1
EARLIEST_TIMESTAMP: Final = -2
MAX_TIMESTAMP: Final = -3  # the record with the greatest timestamp (KIP-734)
EARLIEST_LOCAL_TIMESTAMP: Final = -4  # KIP-405
LATEST_TIERED_TIMESTAMP: Final = -5  # KIP-1005
EARLIEST_PENDING_UPLOAD_TIMESTAMP: Final = -6  # KIP-1023


class ListOffsetsPartition(Message, frozen=True):
    partition_index: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(4)] = -1
    timestamp: Int64 = 0


class ListOffsetsTopic(Message, frozen=True):
    name: str = ""
    partitions: list[ListOffsetsPartition] = empty()


class ListOffsetsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    replica_id: Int32 = 0
    isolation_level: Annotated[Int8, since(2)] = 0
    topics: list[ListOffsetsTopic] = empty()
    timeout_ms: Annotated[Int32, since(10)] = 0


class ListOffsetsPartitionResponse(Message, frozen=True):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    timestamp: Int64 = -1
    offset: Int64 = -1
    leader_epoch: Annotated[Int32, since(4)] = -1


class ListOffsetsTopicResponse(Message, frozen=True):
    name: str = ""
    partitions: list[ListOffsetsPartitionResponse] = empty()


class ListOffsetsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(2)] = 0
    topics: list[ListOffsetsTopicResponse] = empty()


LIST_OFFSETS = Api(ApiKey.LIST_OFFSETS, ListOffsetsRequest, ListOffsetsResponse)
