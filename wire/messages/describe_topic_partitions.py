"""DescribeTopicPartitions: the partitions of topics, page by page, with eligible leader replicas (KIP-966)."""

from typing import ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.messages.metadata import OPERATIONS_NOT_ASKED
from wire.schema import NO_UUID, Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 0, flexible_from=0)


class Cursor(Message, frozen=True):
    """The first partition of the page."""

    topic_name: str = ""
    partition_index: Int32 = 0


class TopicRequest(Message, frozen=True):
    name: str = ""


class DescribeTopicPartitionsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: list[TopicRequest] = empty()
    response_partition_limit: Int32 = 2000
    cursor: Cursor | None = None


class DescribeTopicPartitionsResponsePartition(Message, frozen=True):
    """Kafka's own tools fail on null `eligible_leader_replicas`: a broker answers an empty list."""

    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = -1
    replica_nodes: list[Int32] = empty()
    isr_nodes: list[Int32] = empty()
    eligible_leader_replicas: list[Int32] | None = None
    last_known_elr: list[Int32] | None = None
    offline_replicas: list[Int32] = empty()


class DescribeTopicPartitionsResponseTopic(Message, frozen=True):
    error_code: Int16 = 0
    name: str | None = ""
    topic_id: UUID = NO_UUID
    is_internal: bool = False
    partitions: list[DescribeTopicPartitionsResponsePartition] = empty()
    topic_authorized_operations: Int32 = OPERATIONS_NOT_ASKED


class DescribeTopicPartitionsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    topics: list[DescribeTopicPartitionsResponseTopic] = empty()
    next_cursor: Cursor | None = None


DESCRIBE_TOPIC_PARTITIONS = Api(
    ApiKey.DESCRIBE_TOPIC_PARTITIONS, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse
)
