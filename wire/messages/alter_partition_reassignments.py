"""AlterPartitionReassignments: moves partitions to other replicas; null replicas cancel (KIP-455, KIP-860)."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 1, flexible_from=0)


class ReassignablePartition(Message, frozen=True):
    partition_index: Int32 = 0
    replicas: list[Int32] | None = None


class ReassignableTopic(Message, frozen=True):
    name: str = ""
    partitions: list[ReassignablePartition] = empty()


class AlterPartitionReassignmentsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    timeout_ms: Int32 = 60_000
    allow_replication_factor_change: Annotated[bool, since(1)] = True
    topics: list[ReassignableTopic] = empty()


class ReassignablePartitionResponse(Message, frozen=True):
    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""


class ReassignableTopicResponse(Message, frozen=True):
    name: str = ""
    partitions: list[ReassignablePartitionResponse] = empty()


class AlterPartitionReassignmentsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    allow_replication_factor_change: Annotated[bool, since(1)] = True
    error_code: Int16 = 0
    error_message: str | None = ""
    responses: list[ReassignableTopicResponse] = empty()


ALTER_PARTITION_REASSIGNMENTS = Api(
    ApiKey.ALTER_PARTITION_REASSIGNMENTS, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse
)
