"""OffsetDelete: drops what a group committed for topics that it reads no more (KIP-496). It never became flexible."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import NEVER, Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 0, flexible_from=NEVER)


class OffsetDeleteRequestPartition(Message, frozen=True):
    partition_index: Int32 = 0


class OffsetDeleteRequestTopic(Message, frozen=True):
    name: str = ""
    partitions: list[OffsetDeleteRequestPartition] = empty()


class OffsetDeleteRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    topics: list[OffsetDeleteRequestTopic] = empty()


class OffsetDeleteResponsePartition(Message, frozen=True):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class OffsetDeleteResponseTopic(Message, frozen=True):
    name: str = ""
    partitions: list[OffsetDeleteResponsePartition] = empty()


class OffsetDeleteResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    error_code: Int16 = 0
    throttle_time_ms: Int32 = 0
    topics: list[OffsetDeleteResponseTopic] = empty()


OFFSET_DELETE = Api(ApiKey.OFFSET_DELETE, OffsetDeleteRequest, OffsetDeleteResponse)
