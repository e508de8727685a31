"""ElectLeaders: the preferred leader, or an unclean one (KIP-460). Null partitions mean all."""

from typing import Annotated, ClassVar, Final

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 2, flexible_from=2)

PREFERRED: Final = 0
UNCLEAN: Final = 1


class TopicPartitions(Message, frozen=True):
    topic: str = ""
    partitions: list[Int32] = empty()


class ElectLeadersRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    election_type: Annotated[Int8, since(1)] = PREFERRED
    topic_partitions: list[TopicPartitions] | None = empty()
    timeout_ms: Int32 = 60_000


class PartitionResult(Message, frozen=True):
    partition_id: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""


class ReplicaElectionResult(Message, frozen=True):
    topic: str = ""
    partition_result: list[PartitionResult] = empty()


class ElectLeadersResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(1)] = 0
    replica_election_results: list[ReplicaElectionResult] = empty()


ELECT_LEADERS = Api(ApiKey.ELECT_LEADERS, ElectLeadersRequest, ElectLeadersResponse)
