"""Topics by name or id, and the replicas here that lead their partitions, for those who ask for them again and again.

Refuses (RefusedError) a name or id that no topic has. Invariant: what is remembered is true of one image and forgotten
with the next, so that a deleted topic leaves nothing behind and a moved leadership is seen by whoever asks first (S7).
"""

from collections.abc import Callable
from uuid import UUID

from broker.replication.replica import Replica
from metadata.image import Image, Topic
from wire.errors import ErrorCode, RefusedError


def topic_named(image: Image, name: str) -> Topic:
    """RefusedError(UNKNOWN_TOPIC_OR_PARTITION)."""
    topic = image.topic(name)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
    return topic


def topic_of(image: Image, topic_id: UUID) -> Topic:
    """RefusedError(UNKNOWN_TOPIC_ID) also for the id of a deleted topic of the same name (S17)."""
    topic = image.topics.get(topic_id)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, "there is no topic of this id (any more)")
    return topic


class LedTopic:
    """One topic, and those of its replicas that were asked for."""

    __slots__ = ("_find", "_replicas", "topic")

    def __init__(self, topic: Topic, find: Callable[[UUID, int], Replica]) -> None:
        self.topic = topic
        self._find = find
        self._replicas: dict[int, Replica] = {}

    def replica(self, partition: int) -> Replica:
        """The replica here; raises RefusedError as `Reconciler.replica`."""
        replica = self._replicas.get(partition)
        if replica is None or not replica.is_leader:
            replica = self._replicas[partition] = self._find(self.topic.topic_id, partition)
        return replica


class LedReplicas:
    """By the image of now; a topic's id is looked up once an image, for its hash is not cheap."""

    __slots__ = ("_find", "_image", "_seen", "_topics")

    def __init__(self, *, image: Callable[[], Image], find: Callable[[UUID, int], Replica]) -> None:
        self._image = image
        self._find = find
        self._seen: Image | None = None
        self._topics: dict[UUID | str, LedTopic] = {}

    def topic(self, key: UUID | str) -> LedTopic:
        """Raises RefusedError where there is none."""
        image = self._image()
        if image is not self._seen:
            self._seen = image
            self._topics.clear()
        known = self._topics.get(key)
        if known is None:
            topic = topic_of(image, key) if isinstance(key, UUID) else topic_named(image, key)
            known = self._topics[key] = LedTopic(topic, self._find)
        return known
