"""The committed offsets of one group: what is kept, for how long, and what a commit may carry.

Pure. Holds what is committed in the log and nothing else: the coordinator adds an offset when its record is below the
high watermark, in the order of the log, so what is read here survives the coordinator (L1) and never goes back.
Retention is by wall time (S20), as in Kafka (KIP-211, KIP-496): while a group is empty, its offsets count from the day
that it became so; a group that has members keeps what they read; a consumer that assigns its partitions itself has
only the time of its commits.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

NO_OFFSET = -1


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class CommittedOffset(NamedTuple):
    """How far a group has read: the next offset, in the epoch of its record's leader (-1: not said).

    `expire_timestamp_ms` only where a commit (versions 2 to 4) brought its own retention.
    """

    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp_ms: int = 0
    expire_timestamp_ms: int | None = None


class GroupOffsets:
    """One group's offsets by topic and partition."""

    __slots__ = ("_by_topic",)

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[int, CommittedOffset]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_topic.values()))

    def __bool__(self) -> bool:
        return bool(self._by_topic)

    def __iter__(self) -> Iterator[tuple[TopicPartition, CommittedOffset]]:
        for topic, partitions in self._by_topic.items():
            for partition, committed in partitions.items():
                yield TopicPartition(topic, partition), committed

    @property
    def by_topic(self) -> Mapping[str, Mapping[int, CommittedOffset]]:
        return self._by_topic

    def get(self, partition: TopicPartition) -> CommittedOffset | None:
        return self._by_topic.get(partition.topic, {}).get(partition.partition)

    def commit(self, partition: TopicPartition, committed: CommittedOffset) -> None:
        self._by_topic.setdefault(partition.topic, {})[partition.partition] = committed

    def forget(self, partition: TopicPartition) -> None:
        """No effect where there is none."""
        partitions = self._by_topic.get(partition.topic)
        if partitions is not None:
            partitions.pop(partition.partition, None)
            if not partitions:
                del self._by_topic[partition.topic]

    def of_topics(self, names: Iterable[str]) -> list[TopicPartition]:
        """The partitions of these topics that have an offset."""
        return [TopicPartition(name, partition) for name in names for partition in self._by_topic.get(name, ())]

    def expired(
        self, *, wall_ms: int, retention_ms: int, idle_since_ms: int | None, in_use: Collection[str] | None
    ) -> list[TopicPartition]:
        """What nobody is going to ask for.

        `idle_since_ms`: the group is empty since then; None: not known, or it manages no members. `in_use`: the topics
        that its members read; None: nobody can tell, so all are.
        """
        found = []
        for partition, committed in self:
            if committed.expire_timestamp_ms is not None:
                is_over = committed.expire_timestamp_ms <= wall_ms
            else:
                since_ms = committed.commit_timestamp_ms
                if idle_since_ms is not None:
                    since_ms = max(since_ms, idle_since_ms)
                is_over = since_ms + retention_ms <= wall_ms
            if is_over and in_use is not None and partition.topic not in in_use:
                found.append(partition)
        return found
