"""Leadership back to the preferred replicas from time to time, so that a restarted broker does its share again.

Pure. Kafka's rule (`auto.leader.rebalance.enable`): a broker whose preferred partitions are led by others to more than
`leader.imbalance.per.broker.percentage` gets back those that it is in sync for. Partitions on the move are left alone.
"""

from collections import defaultdict
from collections.abc import Collection

from metadata.bounds import MAX_CHANGES_PER_COMMAND
from metadata.commands import PartitionChange
from metadata.elections import led_by
from metadata.image import Image, Partition, Topic


def preferred_elections(image: Image, usable_brokers: Collection[int], *, percentage: int) -> list[PartitionChange]:
    """The elections that are due, at most as many as fit one command; cost: a glance at each partition."""
    preferred: dict[int, int] = defaultdict(int)
    led_by_others: dict[int, list[tuple[Topic, int, Partition]]] = defaultdict(list)
    for topic in image.topics.values():
        for index, partition in enumerate(topic.partitions):
            first = partition.replicas[0]
            preferred[first] += 1
            if partition.leader != first and not partition.is_reassigning:
                led_by_others[first].append((topic, index, partition))
    changes = []
    for broker_id, partitions in led_by_others.items():
        if broker_id in usable_brokers and 100 * len(partitions) > percentage * preferred[broker_id]:
            changes += [
                led_by(topic.topic_id, index, partition, broker_id, image.brokers, unclean=False)
                for topic, index, partition in partitions
                if may_take_over(partition, broker_id)
            ]
    return changes[:MAX_CHANGES_PER_COMMAND]


def may_take_over(partition: Partition, broker_id: int) -> bool:
    """In sync, and somebody leads from whom to take over; without a leader the ordinary election is under way."""
    return partition.leader not in (-1, broker_id) and broker_id in partition.in_sync_replicas
