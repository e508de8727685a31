"""Entries about topics: create, delete, configs, more partitions.

Invariants: names are unique, also with every `.` read as `_` (metrics can't tell them apart); a topic id never
returns (S17); partitions are only ever appended.
"""

from collections.abc import Mapping
from typing import TypeVar
from uuid import UUID

from msgspec import structs

from metadata.answers import Done, TopicCreated
from metadata.applied import Applied
from metadata.commands import (
    AlterTopicConfigs,
    Assignments,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionAssignment,
)
from metadata.delta import NOTHING, Delta
from metadata.image import Image, Partition, Topic
from metadata.topic_names import check_name_is_free
from wire.errors import ErrorCode, RefusedError

_K = TypeVar("_K")
_V = TypeVar("_V")


def create(image: Image, index: int, command: CreateTopic) -> Applied:
    check_name_is_free(image, command.name)
    if command.topic_id in image.topics:
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"topic_id {command.topic_id} is in use: choose another")
    _check_replicas(image, command.assignments)
    topic = Topic(
        topic_id=command.topic_id,
        name=command.name,
        partitions=_partitions(image, command.assignments),
        configs=command.configs,
    )
    dotted = image.dotted_names
    after = structs.replace(
        image,
        topics={**image.topics, topic.topic_id: topic},
        topic_ids={**image.topic_ids, topic.name: topic.topic_id},
        dotted_names={**dotted, topic.name.replace(".", "_"): topic.name} if "." in topic.name else dotted,
    )
    delta = Delta(
        created_topics=frozenset((topic.topic_id,)),
        changed_partitions={topic.topic_id: frozenset(range(len(topic.partitions)))},
    )
    answer = TopicCreated(
        index=index,
        topic_id=topic.topic_id,
        name=topic.name,
        partitions_count=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
    )
    return Applied(after, delta, answer)


def delete(image: Image, index: int, command: DeleteTopic) -> Applied:
    topic = _topic(image, command.topic_id)
    dotted = topic.name.replace(".", "_")
    after = structs.replace(
        image,
        topics=_without(image.topics, topic.topic_id),
        topic_ids=_without(image.topic_ids, topic.name),
        dotted_names=_without(image.dotted_names, dotted) if "." in topic.name else image.dotted_names,
    )
    return Applied(after, Delta(deleted_topics={topic.topic_id: topic}), Done(index=index))


def alter_configs(image: Image, index: int, command: AlterTopicConfigs) -> Applied:
    topic = _topic(image, command.topic_id)
    configs = {name: value for name, value in topic.configs.items() if name not in command.deleted_configs}
    configs.update(command.set_configs)
    partitions = topic.partitions
    if command.min_in_sync_replicas is not None:
        partitions = tuple(_under_minimum(p, command.min_in_sync_replicas) for p in partitions)
    changed = frozenset(i for i, (a, b) in enumerate(zip(topic.partitions, partitions, strict=True)) if a is not b)
    if configs == topic.configs and not changed:
        return Applied(image, NOTHING, Done(index=index))
    delta = Delta(
        changed_configs=frozenset((topic.topic_id,)) if configs != topic.configs else frozenset(),
        changed_partitions={topic.topic_id: changed} if changed else {},
    )
    return Applied(
        _with_topic(image, structs.replace(topic, configs=configs, partitions=partitions)), delta, Done(index=index)
    )


def _under_minimum(partition: Partition, min_in_sync_replicas: int) -> Partition:
    """S3: where the in-sync replicas suffice the high watermark moves on without the eligible ones, so they leave.

    Every partition epoch grows: a change that was decided under the old minimum may make somebody eligible who is not.
    """
    needed = min(min_in_sync_replicas, partition.assigned_count)
    suffice = len(partition.in_sync_replicas) >= needed
    return structs.replace(
        partition,
        eligible_leader_replicas=() if suffice else partition.eligible_leader_replicas,
        partition_epoch=partition.partition_epoch + 1,
    )


def create_partitions(image: Image, index: int, command: CreatePartitions) -> Applied:
    topic = _topic(image, command.topic_id)
    count = len(topic.partitions)
    if count != command.expected_partitions_count:
        raise RefusedError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {topic.name!r} has {count} partitions, not the expected {command.expected_partitions_count}: "
            "its partitions_count changed meanwhile, look again",
        )
    _check_replicas(image, command.assignments)
    partitions = topic.partitions + _partitions(image, command.assignments)
    appended = frozenset(range(count, len(partitions)))
    return Applied(
        _with_topic(image, structs.replace(topic, partitions=partitions)),
        Delta(changed_partitions={topic.topic_id: appended}),
        Done(index=index),
    )


def _in_sync_at_first(image: Image, assignment: PartitionAssignment) -> tuple[int, ...]:
    """The leader and all replicas in service, since the log is empty; without a leader all, so that the first to come
    may lead.
    """
    if assignment.leader == -1:
        return assignment.replicas
    return tuple(r for r in assignment.replicas if r == assignment.leader or image.brokers[r].in_service)


def _partitions(image: Image, assignments: Assignments) -> tuple[Partition, ...]:
    return tuple(
        Partition(
            replicas=assignment.replicas,
            in_sync_replicas=_in_sync_at_first(image, assignment),
            leader=assignment.leader,
            leader_broker_epoch=assignment.leader_broker_epoch,
            last_known_leader=assignment.leader,
        )
        for assignment in assignments
    )


def _check_replicas(image: Image, assignments: Assignments) -> None:
    for partition, assignment in enumerate(assignments):
        replicas = assignment.replicas
        if len(set(replicas)) != len(replicas) or assignment.leader not in (-1, *replicas):
            raise RefusedError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"the assignment of new partition {partition} names a replica twice or a leader that is no replica",
            )
        for broker_id in replicas:
            if broker_id not in image.brokers:
                raise RefusedError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"replica {broker_id} of new partition {partition} is no registered broker",
                )


def _topic(image: Image, topic_id: UUID) -> Topic:
    topic = image.topics.get(topic_id)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, f"topic_id {topic_id} does not exist (any more)")
    return topic


def _with_topic(image: Image, topic: Topic) -> Image:
    return structs.replace(image, topics={**image.topics, topic.topic_id: topic})


def _without(mapping: Mapping[_K, _V], key: _K) -> dict[_K, _V]:
    kept = dict(mapping)
    del kept[key]
    return kept
