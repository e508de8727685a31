"""CreatePartitions: more partitions for a topic; `count` is the new total."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 3, flexible_from=2)


class CreatePartitionsAssignment(Message, frozen=True):
    broker_ids: list[Int32] = empty()


class CreatePartitionsTopic(Message, frozen=True):
    name: str = ""
    count: Int32 = 0
    assignments: list[CreatePartitionsAssignment] | None = empty()


class CreatePartitionsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: list[CreatePartitionsTopic] = empty()
    timeout_ms: Int32 = 0
    validate_only: bool = False


class CreatePartitionsTopicResult(Message, frozen=True):
    name: str = ""
    error_code: Int16 = 0
    error_message: str | None = None


class CreatePartitionsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    results: list[CreatePartitionsTopicResult] = empty()


CREATE_PARTITIONS = Api(ApiKey.CREATE_PARTITIONS, CreatePartitionsRequest, CreatePartitionsResponse)
