"""ListPartitionReassignments 0: the moves that are under way (KIP-455), of named partitions or of all.

What is not moving, or not there, is left out, as in Kafka.
"""

from collections.abc import Iterable

from api.kafka.context import Caller
from metadata.image import Partition, Topic
from wire.messages.headers import RequestHeader
from wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)


def handle(
    caller: Caller, _: RequestHeader, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    image = caller.door.context.node.image
    if request.topics is None:
        found = [_ongoing(topic, range(len(topic.partitions))) for topic in image.topics.values()]
    else:
        named = [(image.topic(one.name), one.partition_indexes) for one in request.topics]
        found = [_ongoing(topic, dict.fromkeys(indexes)) for topic, indexes in named if topic is not None]
    return ListPartitionReassignmentsResponse(error_message=None, topics=[topic for topic in found if topic.partitions])


def _ongoing(topic: Topic, indexes: Iterable[int]) -> OngoingTopicReassignment:
    partitions = [
        _described(index, topic.partitions[index])
        for index in indexes
        if 0 <= index < len(topic.partitions) and topic.partitions[index].is_reassigning
    ]
    return OngoingTopicReassignment(topic.name, partitions)


def _described(index: int, partition: Partition) -> OngoingPartitionReassignment:
    return OngoingPartitionReassignment(
        index, list(partition.replicas), list(partition.adding_replicas), list(partition.removing_replicas)
    )
