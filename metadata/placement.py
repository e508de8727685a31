"""Where the replicas of new partitions go: spread over brokers and racks as Kafka does, first replicas round robin.

Pure: the chance that Kafka draws inside comes in as `start` and `shift` (Kafka's `AdminUtils`, KIP-36). Invariants: the
replicas of a partition lie on different brokers, and on as many racks as there are, if there are enough replicas.
"""

from collections.abc import Mapping, Sequence


def spread(
    broker_ids: Sequence[int],
    *,
    partitions: int,
    replication_factor: int,
    start: int,
    shift: int,
    first_partition: int = 0,
    racks: Mapping[int, str | None] | None = None,
) -> list[tuple[int, ...]]:
    """The replicas of each partition, the preferred leader first.

    `start`: which broker leads partition 0. `shift`: how far the second replica lies from the first; it grows by one
    with each round, so that the followers of one broker's partitions are spread too. `first_partition`: the index of
    the first new partition where a topic grows. `racks`: by broker id; brokers without one share a rack without a name.
    """
    count = len(broker_ids)
    assert 1 <= replication_factor <= count, (replication_factor, count)
    rack_of = {broker_id: None if racks is None else racks.get(broker_id) for broker_id in broker_ids}
    racks_count = len(set(rack_of.values()))
    order = in_rack_order(broker_ids, rack_of)
    placed = []
    for partition in range(first_partition, first_partition + partitions):
        first = (partition + start) % count
        distance = (shift + partition // count) * racks_count
        others = [order[(first + _step(distance + j, count)) % count] for j in range(count - 1)]
        placed.append(_chosen(order[first], others, replication_factor, rack_of, racks_count))
    return placed


def in_rack_order(broker_ids: Sequence[int], rack_of: Mapping[int, str | None]) -> list[int]:
    """The brokers with the racks taking turns (Kafka's `getRackAlternatedBrokerList`); of one rack: as they come."""
    by_rack: dict[str | None, list[int]] = {}
    for broker_id in broker_ids:
        by_rack.setdefault(rack_of[broker_id], []).append(broker_id)
    lists = [by_rack[rack] for rack in sorted(by_rack, key=lambda rack: rack or "")]
    rounds = range(max(map(len, lists), default=0))
    return [brokers[turn] for turn in rounds for brokers in lists if turn < len(brokers)]


def _chosen(
    first: int, others: Sequence[int], replication_factor: int, rack_of: Mapping[int, str | None], racks_count: int
) -> tuple[int, ...]:
    """The first replica and then whoever comes, but nobody of a rack that has one while another rack has none.

    Kafka keeps on stepping from where it stands; who was passed over gets its turn once every rack has a replica.
    """
    chosen, used = [first], {rack_of[first]}
    position = 0
    while len(chosen) < replication_factor:
        candidate = others[position % len(others)]
        position += 1
        if candidate not in chosen and (rack_of[candidate] not in used or len(used) == racks_count):
            chosen.append(candidate)
            used.add(rack_of[candidate])
    return tuple(chosen)


def _step(distance: int, count: int) -> int:
    """From the first replica to another one: never 0, never the same for `count - 1` distances in a row."""
    return 1 + distance % (count - 1)
