"""Metadata: the brokers, the topics and who leads each partition.

`topics` null asks for all topics, empty for none; in version 0, which has no null, empty asks for all.
"""

from typing import Annotated, ClassVar, Final
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.schema import NO_UUID, Int16, Int32, Message, Versions, between, empty, nullable, since

VERSIONS = Versions(0, 13, flexible_from=9)

OPERATIONS_NOT_ASKED: Final = -(1 << 31)  # authorized operations that nobody asked for


class MetadataRequestTopic(Message, frozen=True):
    """By its id, with a null name, from version 12 on."""

    topic_id: Annotated[UUID, since(10)] = NO_UUID
    name: Annotated[str | None, nullable(since=10)] = ""


class MetadataRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: Annotated[list[MetadataRequestTopic] | None, nullable(since=1)] = empty()
    allow_auto_topic_creation: Annotated[bool, since(4)] = True
    include_cluster_authorized_operations: Annotated[bool, between(8, 10)] = False
    include_topic_authorized_operations: Annotated[bool, since(8)] = False


class MetadataResponseBroker(Message, frozen=True):
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    rack: Annotated[str | None, since(1)] = None


class MetadataResponsePartition(Message, frozen=True):
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, since(7)] = -1
    replica_nodes: list[Int32] = empty()
    isr_nodes: list[Int32] = empty()
    offline_replicas: Annotated[list[Int32], since(5)] = empty()


class MetadataResponseTopic(Message, frozen=True):
    error_code: Int16 = 0
    name: Annotated[str | None, nullable(since=12)] = ""
    topic_id: Annotated[UUID, since(10)] = NO_UUID
    is_internal: Annotated[bool, since(1)] = False
    partitions: list[MetadataResponsePartition] = empty()
    topic_authorized_operations: Annotated[Int32, since(8)] = OPERATIONS_NOT_ASKED


class MetadataResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(3)] = 0
    brokers: list[MetadataResponseBroker] = empty()
    cluster_id: Annotated[str | None, since(2)] = None
    controller_id: Annotated[Int32, since(1)] = -1
    topics: list[MetadataResponseTopic] = empty()
    cluster_authorized_operations: Annotated[Int32, between(8, 10)] = OPERATIONS_NOT_ASKED
    error_code: Annotated[Int16, since(13)] = 0


METADATA = Api(ApiKey.METADATA, MetadataRequest, MetadataResponse)
