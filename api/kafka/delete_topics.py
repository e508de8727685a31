"""DeleteTopics 1-6: topics with their records; each stands alone.

1: throttle time. 4: flexible. 5: messages. 6: by name or by id (KIP-516). Topics of the cluster itself stay.
"""

import asyncio
from typing import Final

from api.kafka.admin_calls import AdminCall, Failure, repeated
from api.kafka.context import Caller
from metadata.image import Image
from metadata.requests import DeleteTopicRequest
from wire.errors import ErrorCode, RefusedError
from wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from wire.messages.headers import RequestHeader
from wire.schema import NO_UUID

IDS_SINCE: Final = 6


def handle(caller: Caller, header: RequestHeader, request: DeleteTopicsRequest) -> asyncio.Future[DeleteTopicsResponse]:
    by_name = [DeleteTopicState(name) for name in request.topic_names]
    topics = request.topics if header.api_version >= IDS_SINCE else by_name
    return asyncio.ensure_future(_deleted(caller, topics, request.timeout_ms))


async def _deleted(caller: Caller, topics: list[DeleteTopicState], timeout_ms: int) -> DeleteTopicsResponse:
    call = AdminCall(caller, timeout_ms=timeout_ms)
    image = call.node.image
    named = [_named(image, topic) for topic in topics]
    wanted = dict(zip(named, topics, strict=True))
    twice = repeated(named)

    async def delete(one: tuple[str | None, object]) -> None:
        topic = wanted[one]
        if one in twice:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "the topic is named twice: name it once")
        if (topic.name is None) == (topic.topic_id == NO_UUID):
            raise RefusedError(ErrorCode.INVALID_REQUEST, "name a topic by its name or by its id, not by both")
        topic_id = None if topic.topic_id == NO_UUID else topic.topic_id
        await call.ask(DeleteTopicRequest(name=topic.name, topic_id=topic_id))

    results = await call.each(wanted, delete)
    return DeleteTopicsResponse(
        responses=[_result(image, topic, result) for topic, result in zip(wanted.values(), results, strict=True)]
    )


def _named(image: Image, topic: DeleteTopicState) -> tuple[str | None, object]:
    """The same for a topic that is named by its name and, again, by its id."""
    known = image.topics.get(topic.topic_id)
    return (topic.name, topic.topic_id) if known is None or topic.name else (known.name, NO_UUID)


def _result(image: Image, topic: DeleteTopicState, result: Failure | None) -> DeletableTopicResult:
    known = image.topic(topic.name) if topic.name is not None else image.topics.get(topic.topic_id)
    name, topic_id = (topic.name, topic.topic_id) if known is None else (known.name, known.topic_id)
    if result is None:
        return DeletableTopicResult(name, topic_id)
    return DeletableTopicResult(name, topic_id, result.code, result.message)
