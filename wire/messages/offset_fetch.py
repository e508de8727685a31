"""OffsetFetch: what groups have committed.

One group up to version 7, many from version 8 on (KIP-709), topics by id from version 10 on.
Null topics ask for all.
"""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.schema import NO_UUID, Int16, Int32, Int64, Message, Versions, between, empty, nullable, since, until

VERSIONS = Versions(1, 10, flexible_from=6)


class OffsetFetchRequestTopic(Message, frozen=True):
    name: str = ""
    partition_indexes: list[Int32] = empty()


class OffsetFetchRequestTopics(Message, frozen=True):
    name: Annotated[str, until(9)] = ""
    topic_id: Annotated[UUID, since(10)] = NO_UUID
    partition_indexes: list[Int32] = empty()


class OffsetFetchRequestGroup(Message, frozen=True):
    group_id: str = ""
    member_id: Annotated[str | None, since(9)] = None
    member_epoch: Annotated[Int32, since(9)] = -1
    topics: list[OffsetFetchRequestTopics] | None = empty()


class OffsetFetchRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    group_id: Annotated[str, until(7)] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, until(7), nullable(since=2)] = empty()
    groups: Annotated[list[OffsetFetchRequestGroup], since(8)] = empty()
    require_stable: Annotated[bool, since(7)] = False


class OffsetFetchResponsePartition(Message, frozen=True):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(5)] = -1
    metadata: str | None = ""
    error_code: Int16 = 0


class OffsetFetchResponseTopic(Message, frozen=True):
    name: str = ""
    partitions: list[OffsetFetchResponsePartition] = empty()


class OffsetFetchResponsePartitions(Message, frozen=True):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Int32 = -1
    metadata: str | None = ""
    error_code: Int16 = 0


class OffsetFetchResponseTopics(Message, frozen=True):
    name: Annotated[str, until(9)] = ""
    topic_id: Annotated[UUID, since(10)] = NO_UUID
    partitions: list[OffsetFetchResponsePartitions] = empty()


class OffsetFetchResponseGroup(Message, frozen=True):
    group_id: str = ""
    topics: list[OffsetFetchResponseTopics] = empty()
    error_code: Int16 = 0


class OffsetFetchResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(3)] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], until(7)] = empty()
    error_code: Annotated[Int16, between(2, 7)] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], since(8)] = empty()


OFFSET_FETCH = Api(ApiKey.OFFSET_FETCH, OffsetFetchRequest, OffsetFetchResponse)
