"""CreateTopics: from version 4 on -1 partitions or replicas means the broker's default (KIP-464)."""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.schema import NO_UUID, Int8, Int16, Int32, Message, Versions, empty, since, tag

VERSIONS = Versions(2, 7, flexible_from=5)


class CreatableReplicaAssignment(Message, frozen=True):
    partition_index: Int32 = 0
    broker_ids: list[Int32] = empty()


class CreatableTopicConfig(Message, frozen=True):
    name: str = ""
    value: str | None = ""


class CreatableTopic(Message, frozen=True):
    name: str = ""
    num_partitions: Int32 = 0
    replication_factor: Int16 = 0
    assignments: list[CreatableReplicaAssignment] = empty()
    configs: list[CreatableTopicConfig] = empty()


class CreateTopicsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: list[CreatableTopic] = empty()
    timeout_ms: Int32 = 60_000
    validate_only: bool = False


class CreatableTopicConfigs(Message, frozen=True):
    name: str = ""
    value: str | None = ""
    read_only: bool = False
    config_source: Int8 = -1
    is_sensitive: bool = False


class CreatableTopicResult(Message, frozen=True):
    """`topic_config_error_code` says why `configs` is null."""

    name: str = ""
    topic_id: Annotated[UUID, since(7)] = NO_UUID
    error_code: Int16 = 0
    error_message: str | None = ""
    topic_config_error_code: Annotated[Int16, since(5), tag(0)] = 0
    num_partitions: Annotated[Int32, since(5)] = -1
    replication_factor: Annotated[Int16, since(5)] = -1
    configs: Annotated[list[CreatableTopicConfigs] | None, since(5)] = empty()


class CreateTopicsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    topics: list[CreatableTopicResult] = empty()


CREATE_TOPICS = Api(ApiKey.CREATE_TOPICS, CreateTopicsRequest, CreateTopicsResponse)
