"""Produce: append record batches.

Versions 0 to 2 are declared so that they can be answered UNSUPPORTED_VERSION; librdkafka compresses only where
version 0 is advertised (KAFKA-18659).
"""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.messages.leaders import LeaderIdAndEpoch, NodeEndpoint
from wire.schema import NO_UUID, Int16, Int32, Int64, Message, Records, Versions, empty, since, tag, until

VERSIONS = Versions(0, 13, flexible_from=9)


class PartitionProduceData(Message, frozen=True):
    index: Int32 = 0
    records: Records | None = None


class TopicProduceData(Message, frozen=True):
    """Named up to version 12, by its id from 13 on (KIP-516)."""

    name: Annotated[str, until(12)] = ""
    topic_id: Annotated[UUID, since(13)] = NO_UUID
    partition_data: list[PartitionProduceData] = empty()


class ProduceRequest(Message, frozen=True):
    """`acks`: 0 asks for no response, 1 for the leader, -1 for all in-sync replicas."""

    wire_versions: ClassVar = VERSIONS

    transactional_id: Annotated[str | None, since(3)] = None
    acks: Int16 = 0
    timeout_ms: Int32 = 0
    topic_data: list[TopicProduceData] = empty()


class BatchIndexAndErrorMessage(Message, frozen=True):
    batch_index: Int32 = 0
    batch_index_error_message: str | None = None


class PartitionProduceResponse(Message, frozen=True):
    index: Int32 = 0
    error_code: Int16 = 0
    base_offset: Int64 = 0
    log_append_time_ms: Annotated[Int64, since(2)] = -1
    log_start_offset: Annotated[Int64, since(5)] = -1
    record_errors: Annotated[list[BatchIndexAndErrorMessage], since(8)] = empty()
    error_message: Annotated[str | None, since(8)] = None
    current_leader: Annotated[LeaderIdAndEpoch, since(10), tag(0)] = LeaderIdAndEpoch()


class TopicProduceResponse(Message, frozen=True):
    name: Annotated[str, until(12)] = ""
    topic_id: Annotated[UUID, since(13)] = NO_UUID
    partition_responses: list[PartitionProduceResponse] = empty()


class ProduceResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    responses: list[TopicProduceResponse] = empty()
    throttle_time_ms: Annotated[Int32, since(1)] = 0
    node_endpoints: Annotated[list[NodeEndpoint], since(10), tag(0)] = empty()


PRODUCE = Api(ApiKey.PRODUCE, ProduceRequest, ProduceResponse)
