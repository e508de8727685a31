"""OffsetCommit: how far a group has read, per partition; by topic id from version 10 on."""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.schema import NO_UUID, Int16, Int32, Int64, Message, Versions, empty, since, until

VERSIONS = Versions(2, 10, flexible_from=8)


class OffsetCommitRequestPartition(Message, frozen=True):
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(6)] = -1
    committed_metadata: str | None = ""


class OffsetCommitRequestTopic(Message, frozen=True):
    name: Annotated[str, until(9)] = ""
    topic_id: Annotated[UUID, since(10)] = NO_UUID
    partitions: list[OffsetCommitRequestPartition] = empty()


class OffsetCommitRequest(Message, frozen=True):
    """Without a member, generation -1: a consumer that assigns its partitions itself."""

    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    generation_id_or_member_epoch: Int32 = -1
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(7)] = None
    retention_time_ms: Annotated[Int64, until(4)] = -1
    topics: list[OffsetCommitRequestTopic] = empty()


class OffsetCommitResponsePartition(Message, frozen=True):
    partition_index: Int32 = 0
    error_code: Int16 = 0


class OffsetCommitResponseTopic(Message, frozen=True):
    name: Annotated[str, until(9)] = ""
    topic_id: Annotated[UUID, since(10)] = NO_UUID
    partitions: list[OffsetCommitResponsePartition] = empty()


class OffsetCommitResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(3)] = 0
    topics: list[OffsetCommitResponseTopic] = empty()


OFFSET_COMMIT = Api(ApiKey.OFFSET_COMMIT, OffsetCommitRequest, OffsetCommitResponse)
