"""Metadata 0-13: the brokers and who leads what, by the endpoints of the listener on which it was asked.

0: an empty list asks for all topics. 1: null does; controller. 2: cluster id. 4: whether topics may be created. 5:
offline replicas. 7: leader epochs. 8-10: authorized operations (without an authorizer all of them). 10: topic ids. 12:
topics asked for by id. 13: an error of its own, which a node that answers has none of.
Only brokers in service with an endpoint of this name are told; a partition whose leader is not among them has none.
A missing topic is created where `auto.create.topics.enable` and the request allow it, and told in the same answer.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from api.kafka.context import Caller
from broker.errors import OutcomeUnknownError
from metadata.image import Broker, Endpoint, Image, Partition, Topic
from metadata.requests import CreateTopicRequest
from metadata.topic_names import INTERNAL_TOPICS, check_name
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.metadata import (
    OPERATIONS_NOT_ASKED,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from wire.schema import NO_UUID

ALL_TOPIC_OPERATIONS: Final = sum(1 << code for code in (3, 4, 5, 6, 7, 8, 10, 11))
"""READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS (Kafka's AclOperation)."""
ALL_CLUSTER_OPERATIONS: Final = sum(1 << code for code in (5, 7, 8, 9, 10, 11, 12))
"""CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE."""
IDS_SINCE: Final = 12

Failures = Mapping[str, ErrorCode]


def handle(
    caller: Caller, header: RequestHeader, request: MetadataRequest
) -> MetadataResponse | asyncio.Future[MetadataResponse]:
    context = caller.door.context
    if context.settings.creates_topics and request.allow_auto_topic_creation and request.topics:
        missing = {
            topic.name: None
            for topic in request.topics
            if topic.name and topic.topic_id == NO_UUID and topic.name not in context.node.image.topic_ids
        }
        if missing:
            return asyncio.ensure_future(_created(caller, header.api_version, request, list(missing)))
    return _answer(caller, header.api_version, request, {})


async def _created(caller: Caller, version: int, request: MetadataRequest, names: list[str]) -> MetadataResponse:
    """Create the topics, all at once; what could not be is told for each."""
    outcomes = await asyncio.gather(*(_create(caller, name) for name in names))
    failures = {name: code for name, code in zip(names, outcomes, strict=True) if code is not None}
    return _answer(caller, version, request, failures)


async def _create(caller: Caller, name: str) -> ErrorCode | None:
    context = caller.door.context
    try:
        check_name(name)
        await context.node.admin(CreateTopicRequest(name=name), timeout_s=context.settings.admin_timeout_s)
    except RefusedError as refused:
        return None if refused.code is ErrorCode.TOPIC_ALREADY_EXISTS else refused.code
    except OutcomeUnknownError:
        return ErrorCode.LEADER_NOT_AVAILABLE  # clients ask again
    return None


def _answer(caller: Caller, version: int, request: MetadataRequest, failures: Failures) -> MetadataResponse:
    node = caller.door.context.node
    image = node.image
    reachable = reachable_brokers(caller, image)
    describing = _Describing(image, reachable, told_operations=request.include_topic_authorized_operations)
    brokers = [
        MetadataResponseBroker(broker_id, endpoint.host, endpoint.port, image.brokers[broker_id].rack)
        for broker_id, endpoint in reachable.items()
    ]
    controller_id = node.quorum.leader_id
    return MetadataResponse(
        brokers=brokers,
        cluster_id=node.cluster_id,
        controller_id=controller_id if controller_id is not None and controller_id in reachable else -1,
        topics=describing.topics(version, request.topics, failures),
        cluster_authorized_operations=(
            ALL_CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else OPERATIONS_NOT_ASKED
        ),
    )


def reachable_brokers(caller: Caller, image: Image) -> dict[int, Endpoint]:
    """Brokers in service, by the endpoint that this listener's clients reach."""
    found = {}
    for broker_id, broker in image.brokers.items():
        endpoint = caller.door.endpoint(broker)
        if endpoint is not None and not broker.fenced:
            found[broker_id] = endpoint
    return found


class _Describing:
    """The topics of one answer, out of one image."""

    def __init__(self, image: Image, reachable: Mapping[int, Endpoint], *, told_operations: bool) -> None:
        self._image = image
        self._reachable = reachable
        self._operations = ALL_TOPIC_OPERATIONS if told_operations else OPERATIONS_NOT_ASKED

    def topics(
        self, version: int, asked: list[MetadataRequestTopic] | None, failures: Failures
    ) -> list[MetadataResponseTopic]:
        if asked is None or (version == 0 and not asked):
            return [self._topic(topic) for topic in self._image.topics.values()]
        return [self._asked(version, topic, failures) for topic in self._each_once(asked)]

    @staticmethod
    def _each_once(asked: Iterable[MetadataRequestTopic]) -> list[MetadataRequestTopic]:
        return list({(topic.name, topic.topic_id): topic for topic in asked}.values())

    def _asked(self, version: int, asked: MetadataRequestTopic, failures: Failures) -> MetadataResponseTopic:
        image, name = self._image, asked.name
        if asked.topic_id != NO_UUID and version >= IDS_SINCE:
            found = image.topics.get(asked.topic_id)
            return self._topic(found) if found else self._none(ErrorCode.UNKNOWN_TOPIC_ID, None, asked)
        if not name:
            return self._none(
                ErrorCode.INVALID_REQUEST if name is None else ErrorCode.INVALID_TOPIC_EXCEPTION, "", asked
            )
        if (found := image.topic(name)) is not None:
            return self._topic(found)
        try:
            check_name(name)
        except RefusedError as refused:
            return self._none(refused.code, name, asked)
        return self._none(failures.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), name, asked)

    @staticmethod
    def _none(code: ErrorCode, name: str | None, asked: MetadataRequestTopic) -> MetadataResponseTopic:
        return MetadataResponseTopic(code, name, asked.topic_id, is_internal=name in INTERNAL_TOPICS)

    def _topic(self, topic: Topic) -> MetadataResponseTopic:
        partitions = [self._partition(topic, index, state) for index, state in enumerate(topic.partitions)]
        is_internal = topic.name in INTERNAL_TOPICS
        return MetadataResponseTopic(0, topic.name, topic.topic_id, is_internal, partitions, self._operations)

    def _partition(self, topic: Topic, index: int, state: Partition) -> MetadataResponsePartition:
        reachable = self._reachable
        leader: Broker | None = self._image.leader_of(topic, index)
        is_led = leader is not None and leader.broker_id in reachable
        return MetadataResponsePartition(
            0 if is_led else ErrorCode.LEADER_NOT_AVAILABLE,
            index,
            state.leader if is_led else -1,
            state.leader_epoch,
            list(state.replicas),
            list(state.in_sync_replicas),
            [broker_id for broker_id in state.replicas if broker_id not in reachable],
        )
