"""Which partition a record goes to: as its key says, or one partition for all unkeyed records of a request.

Unkeyed records stick together because a batch costs what a record costs; the next request takes the next partition
that has a leader, so that load spreads (Kafka's sticky partitioner, KIP-480). Keyed ones go where every Kafka client
would send them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wire.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from metadata.image import Image, Topic
    from wire.record_batch import RecordFields

TOPICS_MAX: Final = 10_000


class PartitionChoice:
    """One node's turns, by topic."""

    def __init__(self) -> None:
        self._turns: dict[UUID, int] = {}

    def next_partition(self, image: Image, topic: Topic) -> int:
        """The next partition that has a leader; any, where none has."""
        count = len(topic.partitions)
        first = self._turns.get(topic.topic_id, -1) + 1
        if len(self._turns) >= TOPICS_MAX:
            self._turns.clear()  # forgetting a turn costs nothing, and deleted topics must not stay
        for turn in range(first, first + count):
            if image.leader_of(topic, turn % count) is not None:
                self._turns[topic.topic_id] = turn % count
                return turn % count
        return first % count

    def assign(
        self, image: Image, topic: Topic, records: Sequence[RecordFields], named: Sequence[int | None] | None
    ) -> list[int]:
        """The partition of each record; a named one is taken as it is, and checked by whoever appends."""
        count = len(topic.partitions)
        unkeyed: int | None = None
        assigned: list[int] = []
        for index, record in enumerate(records):
            partition = named[index] if named is not None else None
            if partition is None:
                key = record[0]
                if key is not None:
                    partition = partition_for_key(key, count) if count > 1 else 0
                else:
                    if unkeyed is None:
                        unkeyed = self.next_partition(image, topic)
                    partition = unkeyed
            assigned.append(partition)
        return assigned
