"""Where the replicas of new partitions go: spread over the brokers as Kafka does, first replicas round robin.

Pure: the chance that Kafka draws inside comes in as `start` and `shift`. Racks are not looked at yet.
"""

from collections.abc import Sequence


def spread(
    broker_ids: Sequence[int],
    *,
    partitions: int,
    replication_factor: int,
    start: int,
    shift: int,
    first_partition: int = 0,
) -> list[tuple[int, ...]]:
    """The replicas of each partition, the preferred leader first (Kafka's `AdminUtils.assignReplicasToBrokers`).

    `start`: which broker leads partition 0. `shift`: how far the second replica lies from the first; it grows by one
    with each round, so that the followers of one broker's partitions are spread too. `first_partition`: the index of
    the first new partition where a topic grows.
    """
    count = len(broker_ids)
    assert 1 <= replication_factor <= count, (replication_factor, count)
    placed = []
    for partition in range(first_partition, first_partition + partitions):
        first = (partition + start) % count
        distance = shift + partition // count
        others = [(first + _step(distance + j, count)) % count for j in range(replication_factor - 1)]
        placed.append(tuple(broker_ids[position] for position in (first, *others)))
    return placed


def _step(distance: int, count: int) -> int:
    """From the first replica to another one: never 0, never the same for `count - 1` distances in a row."""
    return 1 + distance % (count - 1)
