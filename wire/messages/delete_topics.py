"""DeleteTopics: by name, from version 6 on by name or id."""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.schema import NO_UUID, Int16, Int32, Message, Versions, empty, nullable, since, until

VERSIONS = Versions(1, 6, flexible_from=4)


class DeleteTopicState(Message, frozen=True):
    """By `name`, or with a null name by `topic_id`."""

    name: str | None = None
    topic_id: UUID = NO_UUID


class DeleteTopicsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: Annotated[list[DeleteTopicState], since(6)] = empty()
    topic_names: Annotated[list[str], until(5)] = empty()
    timeout_ms: Int32 = 0


class DeletableTopicResult(Message, frozen=True):
    name: Annotated[str | None, nullable(since=6)] = ""
    topic_id: Annotated[UUID, since(6)] = NO_UUID
    error_code: Int16 = 0
    error_message: Annotated[str | None, since(5)] = None


class DeleteTopicsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    responses: list[DeletableTopicResult] = empty()


DELETE_TOPICS = Api(ApiKey.DELETE_TOPICS, DeleteTopicsRequest, DeleteTopicsResponse)
