"""What an applied entry changed: where a reader of the new image has to look, so that it need not compare all of it.

A delta says *where*, the image says *what*. Deltas merge, so a reader that was busy sees several entries as one.
Invariant: a merged delta covers every difference between the image before its first entry and that after its last,
but for answers and producer ids, which only the asker needs; it may also name what changed and changed back.
"""

from collections.abc import Iterator, Mapping
from uuid import UUID

from msgspec import Struct

from metadata.image import Image, Topic

Indexes = frozenset[int]


class Delta(Struct, frozen=True, kw_only=True):
    """Changes by kind. A created topic's partitions are in `changed_partitions` too, a deleted topic's are not."""

    created_topics: frozenset[UUID] = frozenset()
    deleted_topics: Mapping[UUID, Topic] = {}
    """The topics as they were when they were deleted."""
    changed_partitions: Mapping[UUID, Indexes] = {}
    """New partitions, and those whose replicas, leadership or epochs changed, by topic."""
    changed_configs: frozenset[UUID] = frozenset()
    """Existing topics whose configs changed."""
    changed_brokers: frozenset[int] = frozenset()
    """Registered, re-registered, fenced, unfenced, stopping or unregistered. Whom a partition names as leader may
    lead no more: see `Image.leader_of`."""
    metadata_version_changed: bool = False
    replication_throttle_changed: bool = False
    broker_configs_changed: bool = False

    @property
    def is_empty(self) -> bool:
        """Nothing changed but the applied index."""
        return self == NOTHING

    def partitions(self) -> Iterator[tuple[UUID, int]]:
        """The changed partitions as (topic id, partition)."""
        for topic_id, indexes in self.changed_partitions.items():
            for partition in sorted(indexes):
                yield topic_id, partition

    def merge(self, later: "Delta") -> "Delta":
        """Both as one. A topic that came and went between them is not mentioned: ids never return (S17)."""
        gone = later.deleted_topics.keys()
        partitions = {t: indexes for t, indexes in self.changed_partitions.items() if t not in gone}
        for topic_id, indexes in later.changed_partitions.items():
            partitions[topic_id] = partitions.get(topic_id, frozenset()) | indexes
        unseen = {t: topic for t, topic in later.deleted_topics.items() if t not in self.created_topics}
        created = (self.created_topics - gone) | later.created_topics
        return Delta(
            created_topics=created,
            deleted_topics={**self.deleted_topics, **unseen},
            changed_partitions=partitions,
            changed_configs=((self.changed_configs - gone) | later.changed_configs) - created,
            changed_brokers=self.changed_brokers | later.changed_brokers,
            metadata_version_changed=self.metadata_version_changed or later.metadata_version_changed,
            replication_throttle_changed=self.replication_throttle_changed or later.replication_throttle_changed,
            broker_configs_changed=self.broker_configs_changed or later.broker_configs_changed,
        )

    @classmethod
    def between(cls, before: Image, after: Image) -> "Delta":
        """Exactly the differences of two images, for a reader that restored a snapshot; cost: all topics."""
        created = frozenset(after.topics.keys() - before.topics.keys())
        both = [(before.topics[t], topic) for t, topic in after.topics.items() if t not in created]
        partitions = {t: _all_indexes(after.topics[t]) for t in created}
        for old, new in both:
            if old.partitions is not new.partitions and (changed := _changed_indexes(old, new)):
                partitions[new.topic_id] = changed
        broker_ids = before.brokers.keys() | after.brokers.keys()
        return cls(
            created_topics=created,
            deleted_topics={t: topic for t, topic in before.topics.items() if t not in after.topics},
            changed_partitions=partitions,
            changed_configs=frozenset(new.topic_id for old, new in both if old.configs != new.configs),
            changed_brokers=frozenset(b for b in broker_ids if before.brokers.get(b) != after.brokers.get(b)),
            metadata_version_changed=before.cluster_metadata_version != after.cluster_metadata_version,
            replication_throttle_changed=(
                before.replication_throttle_bytes_per_s != after.replication_throttle_bytes_per_s
            ),
            broker_configs_changed=before.broker_configs != after.broker_configs,
        )


NOTHING = Delta()


def _all_indexes(topic: Topic) -> Indexes:
    return frozenset(range(len(topic.partitions)))


def _changed_indexes(old: Topic, new: Topic) -> Indexes:
    appended = range(len(old.partitions), len(new.partitions))
    pairs = enumerate(zip(old.partitions, new.partitions, strict=False))
    return frozenset(appended).union(index for index, (one, other) in pairs if one is not other and one != other)
