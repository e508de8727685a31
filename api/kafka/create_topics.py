"""CreateTopics 2-7: topics with their partitions, placement and settings; each stands alone.

4: -1 partitions or replicas means the cluster's default (KIP-464; served in all versions). 5: flexible; the answer says
what was made, with the settings in force (KIP-525). 6: nothing new. 7: the topic's id (KIP-516).
"""

import asyncio
from typing import Final

from api.kafka.admin_calls import AdminCall, Failure, repeated
from api.kafka.config_answers import source_of
from api.kafka.context import Caller
from metadata.answers import TopicCreated
from metadata.broker_settings import dynamic_topic_defaults
from metadata.requests import ConfigChange, CreateTopicRequest
from metadata.topic_configs import describe
from wire.errors import ErrorCode, RefusedError
from wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from wire.messages.headers import RequestHeader
from wire.schema import NO_UUID

DEFAULT: Final = -1
PARTITIONS_MAX: Final = 10_000
"""Of one request, as in Kafka: so many can be made before its client gives up."""


def handle(caller: Caller, _: RequestHeader, request: CreateTopicsRequest) -> asyncio.Future[CreateTopicsResponse]:
    return asyncio.ensure_future(_created(caller, request))


async def _created(caller: Caller, request: CreateTopicsRequest) -> CreateTopicsResponse:
    call = AdminCall(caller, timeout_ms=request.timeout_ms)
    twice = repeated(topic.name for topic in request.topics)
    wanted = {topic.name: topic for topic in request.topics}
    too_many = sum(_partitions_count(topic) for topic in wanted.values()) > PARTITIONS_MAX

    async def create(topic: CreatableTopic) -> CreatableTopicResult:
        if topic.name in twice:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "the topic is named twice: name it once")
        if too_many:
            raise RefusedError(
                ErrorCode.POLICY_VIOLATION, f"more than {PARTITIONS_MAX} partitions in one request: ask for fewer"
            )
        asked = _request(topic, validate_only=request.validate_only)
        answer = await call.ask(asked)
        assert isinstance(answer, TopicCreated), answer
        return _result(call, asked, answer)

    results = await call.each(wanted.values(), create)
    return CreateTopicsResponse(
        topics=[
            _refusal(name, result) if isinstance(result, Failure) else result
            for name, result in zip(wanted, results, strict=True)
        ]
    )


def _refusal(name: str, failure: Failure) -> CreatableTopicResult:
    return CreatableTopicResult(name, error_code=failure.code, error_message=failure.message)


def _partitions_count(topic: CreatableTopic) -> int:
    return len(topic.assignments) or max(1, topic.num_partitions)


def _request(topic: CreatableTopic, *, validate_only: bool) -> CreateTopicRequest:
    """What the client wishes, in the words of the metadata; RefusedError where it contradicts itself."""
    if topic.assignments and (topic.num_partitions, topic.replication_factor) != (DEFAULT, DEFAULT):
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            "with assignments both num_partitions and replication_factor must be -1: leave out one or the other",
        )
    for config in topic.configs:
        if config.value is None:
            raise RefusedError(ErrorCode.INVALID_CONFIG, f"config {config.name!r} has no value: leave it out")
    return CreateTopicRequest(
        name=topic.name,
        partitions_count=None if topic.assignments else topic.num_partitions,
        replication_factor=None if topic.assignments else topic.replication_factor,
        replicas_assignments=_assignments(topic),
        configs=tuple(ConfigChange(name=config.name, value=config.value) for config in topic.configs),
        validate_only=validate_only,
    )


def _assignments(topic: CreatableTopic) -> tuple[tuple[int, ...], ...] | None:
    if not topic.assignments:
        return None
    given = {one.partition_index: tuple(one.broker_ids) for one in topic.assignments}
    if len(given) != len(topic.assignments) or sorted(given) != list(range(len(given))):
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "assignments must name every partition from 0 up, each once"
        )
    return tuple(given[index] for index in range(len(given)))


def _result(call: AdminCall, asked: CreateTopicRequest, answer: TopicCreated) -> CreatableTopicResult:
    configs = {change.name: change.value for change in asked.configs if change.value is not None}
    topic = call.node.image.topics.get(answer.topic_id)
    dynamic = dynamic_topic_defaults(call.node.image.broker_configs)
    entries = describe(configs if topic is None else topic.configs, call.node.config.topic_defaults, dynamic)
    return CreatableTopicResult(
        answer.name,
        topic_id=NO_UUID if asked.validate_only else answer.topic_id,
        error_message=None,
        num_partitions=answer.partitions_count,
        replication_factor=answer.replication_factor,
        configs=[
            CreatableTopicConfigs(entry.config.name, entry.value, config_source=source_of(entry.source))
            for entry in entries
        ],
    )
