"""The topics and partitions that a request means: by name, by id, or by both where they agree (S17).

Owns the words of the refusals, and the gathering of changes and refusals of a request over many partitions.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from metadata.answers import PartitionRefusal
from metadata.bounds import MAX_MESSAGE_CHARACTERS
from metadata.commands import PartitionChange
from metadata.image import Image, Partition, Topic
from metadata.partition_entries import partition_of
from metadata.requests import InSyncReplicasChange, PartitionName, PartitionReassignment
from metadata.topic_names import check_name
from wire.errors import ErrorCode, RefusedError

Wish = PartitionName | PartitionReassignment | InSyncReplicasChange
_W = TypeVar("_W", bound=Wish)


def topic_of(image: Image, *, name: str | None, topic_id: UUID | None) -> Topic:
    """The topic; raises RefusedError(UNKNOWN_TOPIC_ID | UNKNOWN_TOPIC_OR_PARTITION | INCONSISTENT_TOPIC_ID | ...)."""
    if topic_id is None:
        if name is None:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "name the topic by topic_name or topic_id")
        return topic_named(image, name)
    topic = image.topics.get(topic_id)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, f"topic_id {topic_id} does not exist")
    if name not in (None, topic.name):
        raise RefusedError(
            ErrorCode.INCONSISTENT_TOPIC_ID, f"topic_id {topic_id} is that of {topic.name!r}, not of {name!r}"
        )
    return topic


def topic_named(image: Image, name: str) -> Topic:
    topic = image.topic(name)
    if topic is None:
        check_name(name)
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic_name {name!r} does not exist")
    return topic


def partition_meant(image: Image, wish: PartitionName | PartitionReassignment) -> tuple[Topic, Partition]:
    """The topic and the partition that a wish means; raises RefusedError."""
    topic = topic_of(image, name=wish.name, topic_id=wish.topic_id)
    return topic, partition_of(image, topic.topic_id, wish.partition)


def gather(
    image: Image, wishes: Iterable[_W], decide: Callable[[_W], PartitionChange | None]
) -> tuple[list[PartitionChange], list[PartitionRefusal]]:
    """What `decide` makes of each wish: changes, and a refusal for each RefusedError. None: it is so already.

    A second wish for the same partition is refused: it was made without knowing of the first.
    """
    changes: dict[tuple[UUID, int], PartitionChange] = {}
    refusals = []
    for wish in wishes:
        try:
            change = decide(wish)
        except RefusedError as error:
            refusals.append(_refusal(image, wish, error))
            continue
        if change is None:
            continue
        key = (change.topic_id, change.partition)
        if key in changes:
            twice = f"partition {wish.partition} is named twice: name it once"
            refusals.append(_refusal(image, wish, RefusedError(ErrorCode.INVALID_REQUEST, twice)))
        else:
            changes[key] = change
    return list(changes.values()), refusals


def _refusal(image: Image, wish: Wish, error: RefusedError) -> PartitionRefusal:
    name = None if isinstance(wish, InSyncReplicasChange) else wish.name
    topic_id = wish.topic_id
    if topic_id is None and name is not None:
        topic_id = image.topic_ids.get(name)
    message = error.message[:MAX_MESSAGE_CHARACTERS]
    return PartitionRefusal(topic_id=topic_id, partition=wish.partition, code=error.code, message=message, name=name)
