"""CreatePartitions 0-3: more partitions for topics that exist; `count` is the new total.

1: throttle time. 2: flexible. 3: nothing new.
"""

import asyncio

from api.kafka.admin_calls import AdminCall, Failure, repeated
from api.kafka.context import Caller
from metadata.requests import CreatePartitionsRequest as PartitionsRequest
from wire.errors import ErrorCode, RefusedError
from wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from wire.messages.headers import RequestHeader


def handle(
    caller: Caller, _: RequestHeader, request: CreatePartitionsRequest
) -> asyncio.Future[CreatePartitionsResponse]:
    return asyncio.ensure_future(_created(caller, request))


async def _created(caller: Caller, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    call = AdminCall(caller, timeout_ms=request.timeout_ms)
    twice = repeated(topic.name for topic in request.topics)
    wanted = {topic.name: topic for topic in request.topics}

    async def grow(topic: CreatePartitionsTopic) -> None:
        if topic.name in twice:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "the topic is named twice: name it once")
        given = topic.assignments
        await call.ask(
            PartitionsRequest(
                name=topic.name,
                partitions_count=topic.count,
                replicas_assignments=None if given is None else tuple(tuple(one.broker_ids) for one in given),
                validate_only=request.validate_only,
            )
        )

    results = await call.each(wanted.values(), grow)
    return CreatePartitionsResponse(
        results=[_result(name, result) for name, result in zip(wanted, results, strict=True)]
    )


def _result(name: str, result: Failure | None) -> CreatePartitionsTopicResult:
    if result is None:
        return CreatePartitionsTopicResult(name)
    return CreatePartitionsTopicResult(name, result.code, result.message)
