"""DescribeTopicPartitions 0: topics and their partitions page by page, with eligible leader replicas (KIP-966).

Names come in their alphabetical order, no names ask for all; a page that was full says where the next one begins.
Eligible replicas are an empty list where there are none, never null: Kafka's own tools fail on null.
"""

from collections.abc import Iterator
from typing import Final

from api.kafka.context import Caller
from api.kafka.metadata import ALL_TOPIC_OPERATIONS, reachable_brokers
from metadata.image import Endpoint, Image, Topic
from metadata.topic_names import INTERNAL_TOPICS, check_name
from wire.errors import ErrorCode, RefusedError
from wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from wire.messages.headers import RequestHeader

PARTITIONS_MAX: Final = 2_000
"""Of one page, whatever is asked for: Kafka's max.request.partition.size.limit."""


def handle(
    caller: Caller, _: RequestHeader, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    image = caller.door.context.node.image
    page = _Page(image, reachable_brokers(caller, image), request)
    names = {topic.name for topic in request.topics} or image.topic_ids.keys()
    start = request.cursor or Cursor()
    for name in sorted(name for name in names if name >= start.topic_name):
        if not page.take(name, from_partition=max(0, start.partition_index) if name == start.topic_name else 0):
            break
    return DescribeTopicPartitionsResponse(topics=page.topics, next_cursor=page.next_cursor)


class _Page:
    """One answer as it fills."""

    def __init__(self, image: Image, reachable: dict[int, Endpoint], request: DescribeTopicPartitionsRequest) -> None:
        self.topics: list[DescribeTopicPartitionsResponseTopic] = []
        self.next_cursor: Cursor | None = None
        self._image = image
        self._reachable = reachable
        self._left = max(1, min(request.response_partition_limit, PARTITIONS_MAX))

    def take(self, name: str, *, from_partition: int) -> bool:
        """The topic, or as much of it as there is room for; False where the page is full."""
        topic = self._image.topic(name)
        if topic is None:
            self.topics.append(DescribeTopicPartitionsResponseTopic(_why_not(name), name, is_internal=_internal(name)))
            return True
        if not self._left:
            self.next_cursor = Cursor(name, from_partition)
            return False
        count = len(topic.partitions)
        indexes = range(from_partition, min(count, from_partition + self._left))
        self._left -= len(indexes)
        partitions = list(self._partitions(topic, indexes))
        self.topics.append(
            DescribeTopicPartitionsResponseTopic(
                0, name, topic.topic_id, _internal(name), partitions, ALL_TOPIC_OPERATIONS
            )
        )
        if indexes.stop < count:
            self.next_cursor = Cursor(name, indexes.stop)
        return self.next_cursor is None

    def _partitions(self, topic: Topic, indexes: range) -> Iterator[DescribeTopicPartitionsResponsePartition]:
        for index in indexes:
            state = topic.partitions[index]
            leader = self._image.leader_of(topic, index)
            is_led = leader is not None and leader.broker_id in self._reachable
            yield DescribeTopicPartitionsResponsePartition(
                0 if is_led else ErrorCode.LEADER_NOT_AVAILABLE,
                index,
                state.leader if is_led else -1,
                state.leader_epoch,
                list(state.replicas),
                list(state.in_sync_replicas),
                list(state.eligible_leader_replicas),
                [] if is_led or state.last_known_leader < 0 else [state.last_known_leader],
                [broker_id for broker_id in state.replicas if broker_id not in self._reachable],
            )


def _internal(name: str) -> bool:
    return name in INTERNAL_TOPICS


def _why_not(name: str) -> ErrorCode:
    try:
        check_name(name)
    except RefusedError as refused:
        return refused.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
