"""ListPartitionReassignments: the moves that are under way (KIP-455). Null topics ask for all."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 0, flexible_from=0)


class ListPartitionReassignmentsTopics(Message, frozen=True):
    name: str = ""
    partition_indexes: list[Int32] = empty()


class ListPartitionReassignmentsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    timeout_ms: Int32 = 60_000
    topics: list[ListPartitionReassignmentsTopics] | None = None


class OngoingPartitionReassignment(Message, frozen=True):
    partition_index: Int32 = 0
    replicas: list[Int32] = empty()
    adding_replicas: list[Int32] = empty()
    removing_replicas: list[Int32] = empty()


class OngoingTopicReassignment(Message, frozen=True):
    name: str = ""
    partitions: list[OngoingPartitionReassignment] = empty()


class ListPartitionReassignmentsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""
    topics: list[OngoingTopicReassignment] = empty()


LIST_PARTITION_REASSIGNMENTS = Api(
    ApiKey.LIST_PARTITION_REASSIGNMENTS, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse
)
