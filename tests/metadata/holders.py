"""Which replicas hold everything that was acknowledged (S3), told from the metadata log alone.

The worst that data can do within the rules of a leader: as soon as enough replicas are in sync something is
acknowledged that nobody else holds (S2); who joins has caught up (S8); who comes back on other disks, or uncleanly
where flushing is relaxed, holds nothing (S10).
"""

from uuid import UUID

from metadata import topic_configs
from metadata.commands import ChangePartitions, Command, RegisterBroker
from metadata.image import Image, Partition, Topic


class Holders:
    """For each partition, its replicas that lack nothing."""

    def __init__(self) -> None:
        self._holders: dict[tuple[UUID, int], set[int]] = {}

    def of(self, topic_id: UUID, partition: int) -> set[int]:
        return self._holders[topic_id, partition]

    def see(self, before: Image, after: Image, command: Command) -> None:
        """One entry of the log was applied; raises AssertionError where S3 is broken."""
        if isinstance(command, RegisterBroker):
            self._registered(before, after, command)
        for topic in after.topics.values():
            for index, partition in enumerate(topic.partitions):
                old = before.partition(topic.topic_id, index)
                if old is None:
                    self._holders[topic.topic_id, index] = set(partition.replicas)
                elif old is not partition:
                    self._changed(topic, index, old, partition, command)
                self._acknowledge(after, topic, index, partition)
                self._judge(after, topic, index, partition)

    def _registered(self, before: Image, after: Image, command: RegisterBroker) -> None:
        broker = after.brokers.get(command.broker_id)
        if broker is None or before.brokers.get(command.broker_id) is broker:
            return
        for (topic_id, index), holders in self._holders.items():
            partition = after.partition(topic_id, index)
            if partition is None:
                continue
            relaxed = topic_configs.counts_unsynced_offsets(after.topics[topic_id].configs, {})
            if broker.lost_everything or (relaxed and not command.clean_shutdown):
                holders.discard(command.broker_id)

    def _changed(self, topic: Topic, index: int, old: Partition, new: Partition, command: Command) -> None:
        holders = self._holders[topic.topic_id, index]
        holders &= set(new.replicas)
        if not isinstance(command, ChangePartitions):
            return
        if command.cause.endswith("lost replicas"):
            holders.discard(int(command.cause.split()[1]))
        if any(c.unclean and (c.topic_id, c.partition) == (topic.topic_id, index) for c in command.changes):
            holders.clear()  # given up by an operator's choice, what the new leader has is all there is
            holders.add(new.leader)
        if new.leader == old.leader != -1:
            holders |= set(new.in_sync_replicas) - set(old.in_sync_replicas)

    def _acknowledge(self, image: Image, topic: Topic, index: int, partition: Partition) -> None:
        minimum = topic_configs.min_in_sync_replicas(topic.configs, {})
        enough = len(partition.in_sync_replicas) >= partition.in_sync_replicas_needed(minimum)
        if enough and image.leader_of(topic, index) is not None:
            self._holders[topic.topic_id, index] &= set(partition.in_sync_replicas)

    def _judge(self, image: Image, topic: Topic, index: int, partition: Partition) -> None:
        counted = {*partition.in_sync_replicas, *partition.eligible_leader_replicas}
        running = {r for r in counted if not image.brokers[r].fenced}
        holders = self._holders[topic.topic_id, index]
        if not counted & holders and topic_configs.counts_unsynced_offsets(topic.configs, {}):
            holders |= counted & {partition.last_known_leader}  # all stopped uncleanly: what it has is all there is
        lacking = running - holders
        assert not lacking, f"S3: {lacking} of {topic.name}-{index} count and lack something: {partition}"
