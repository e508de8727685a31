"""The consumer groups of this broker: which partitions of `__consumer_offsets` it leads, and a `Shard` for each.

Owns the internal topic's creation on first use, the way from a group's name to its partition, and the life of the
shards: a broker that becomes the leader of a partition reads it and then coordinates its groups, one that does no
longer resigns at once. Refuses, with the codes by which clients look for the coordinator again:
COORDINATOR_NOT_AVAILABLE (no topic yet, or not as many brokers as it needs copies: never fewer), NOT_COORDINATOR,
COORDINATOR_LOAD_IN_PROGRESS.
Invariant: a shard answers only in the leader epoch for which it was made (S7), and after it has read its log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Final
from uuid import UUID

from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from broker.groups.coordinator import GroupCoordinator
from broker.groups.effects import Call, Now
from broker.groups.offsets import GroupOffsets
from broker.groups.settings import GroupSettings
from broker.groups.shard import Shard, ShardSurroundings, not_coordinator
from broker.producer_ids import Admin
from broker.replication.replica import Replica
from metadata import topic_configs
from metadata.delta import Delta
from metadata.image import Broker, Image
from metadata.requests import ConfigChange, CreateTopicRequest
from wire.errors import ErrorCode, RefusedError

OFFSETS_TOPIC: Final = "__consumer_offsets"
CREATE_TIMEOUT_S: Final = 10.0
EXPIRING_AT_ONCE: Final = 20
MAX_MESSAGE_BYTES: Final = 10 << 20
"""One record holds a whole group: its members' metadata (`group_metadata_bytes_max`) and assignments."""


def offsets_topic_configs(settings: GroupSettings) -> dict[str, str]:
    """The one place that says how the internal topic is kept: by key; by nothing at all where that is not offered."""
    policies = topic_configs.TOPIC_CONFIGS["cleanup.policy"].choices
    kept = {"cleanup.policy": "compact"} if "compact" in policies else {"retention.ms": "-1", "retention.bytes": "-1"}
    return kept | {
        "compression.type": "producer",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "segment.bytes": str(settings.topic_segment_bytes),
    }


@lru_cache(maxsize=10_000)
def group_hash(group_id: str) -> int:
    """Java's `String.hashCode` made positive: a group lies in the partition in which Kafka's tools look for it."""
    value = 0
    units = group_id.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return 0 if signed == -(1 << 31) else abs(signed)


class GroupHost:
    """Used on the node's loop."""

    def __init__(
        self,
        *,
        broker_id: int,
        broker_epoch: Callable[[], int | None],
        image: Callable[[], Image],
        replica: Callable[[UUID, int], Replica],
        settled: Callable[[], Awaitable[None]],
        admin: Admin,
        surroundings: ShardSurroundings,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        """`settled`: returns when this broker's replicas have the roles of the last image."""
        self.settings = surroundings.settings
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._image = image
        self._replica = replica
        self._settled = settled
        self._admin = admin
        self._of = surroundings
        self._on_bug = on_bug
        self._shards: dict[int, Shard] = {}
        self._due: set[int] = set()
        self._loads: set[asyncio.Task[None]] = set()
        self._working: asyncio.Task[None] | None = None
        self._creating: asyncio.Task[None] | None = None
        self._is_closing = False
        self._log = logger()

    # ---- who coordinates

    def partition_of(self, group_id: str) -> int | None:
        """The group's partition of the offsets topic; None while there is no such topic."""
        topic = self._image().topic(OFFSETS_TOPIC)
        return None if topic is None else group_hash(group_id) % len(topic.partitions)

    def coordinator_of(self, group_id: str) -> Broker:
        """The broker that coordinates this group. RefusedError(COORDINATOR_NOT_AVAILABLE): there is none now."""
        image = self._image()
        topic = image.topic(OFFSETS_TOPIC)
        if topic is None:
            raise _not_available("there is no offsets topic yet")
        broker = image.leader_of(topic, group_hash(group_id) % len(topic.partitions))
        if broker is None:
            raise _not_available("its partition of the offsets topic has no leader now")
        return broker

    @property
    def has_topic(self) -> bool:
        return self._image().topic(OFFSETS_TOPIC) is not None

    async def make_topic(self) -> None:
        """On first use. RefusedError(COORDINATOR_NOT_AVAILABLE) with the reason why it cannot be made yet."""
        if self._creating is None:
            self._creating = self._of.loop.create_task(self._create(), name="offsets topic")
            self._creating.add_done_callback(self._created_or_not)
        await asyncio.shield(self._creating)

    def _created_or_not(self, task: asyncio.Task[None]) -> None:
        self._creating = None
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _create(self) -> None:
        settings = self.settings
        request = CreateTopicRequest(
            name=OFFSETS_TOPIC,
            partitions_count=settings.topic_partitions,
            replication_factor=settings.topic_replication_factor,
            configs=tuple(
                ConfigChange(name=name, value=value) for name, value in offsets_topic_configs(settings).items()
            ),
            internal=True,
        )
        try:
            await self._admin(request, timeout_s=CREATE_TIMEOUT_S)
        except RefusedError as refused:
            if refused.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise _not_available(f"the offsets topic cannot be made yet: {refused.message}") from refused
        except OutcomeUnknownError as unknown:
            raise _not_available(f"the offsets topic is being made: {unknown.message}") from unknown

    def shard(self, group_id: str) -> Shard:
        """The one that coordinates this group. RefusedError: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS."""
        if self._is_closing:
            raise not_coordinator()
        partition = self.partition_of(group_id)
        shard = None if partition is None else self._shards.get(partition)
        if shard is not None and shard.leads:
            if shard.is_loaded:
                return shard
            raise _loading()
        if partition is None:
            raise not_coordinator()
        self._look_at({partition})
        if self._leads_by_image(partition):
            raise _loading()
        raise not_coordinator()

    def shards(self) -> list[Shard]:
        """All that can be asked. RefusedError(COORDINATOR_LOAD_IN_PROGRESS) while any is being read."""
        leading = [shard for shard in self._shards.values() if shard.leads]
        if self._due or not all(shard.is_loaded for shard in leading):
            raise _loading()
        return leading

    # ---- what doors ask

    def ask(self, group_id: str, question: Callable[[GroupCoordinator, Call, Now], None]) -> Any:
        """The core's answer, or a future of it (see `Shard.ask`); an ErrorCode where there is no such shard here."""
        try:
            return self.shard(group_id).ask(group_id, question)
        except RefusedError as refused:
            return refused.code

    def tell(self, group_id: str, event: Callable[[GroupCoordinator, Now], Any]) -> Any:
        """What the core says at once; raises as `shard`."""
        return self.shard(group_id).tell(event)

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation_id: int) -> ErrorCode:
        """Raises as `shard`."""
        shard = self.shard(group_id)
        return shard.core.heartbeat(group_id, member_id, instance_id, generation_id, shard.now())

    def offsets_of(self, group_id: str) -> GroupOffsets:
        """Raises as `shard`."""
        return self.shard(group_id).core.offsets_of(group_id)

    # ---- leading and not

    def see(self, image: Image, delta: Delta) -> None:
        """A new image: resign at once what others lead now, read what is ours when its replica is there."""
        topic = image.topic(OFFSETS_TOPIC)
        if topic is None:
            for shard in self._shards.values():
                shard.resign()
            self._shards.clear()
            return
        changed = set(delta.changed_partitions.get(topic.topic_id, ()))
        if delta.changed_brokers:
            changed.update(range(len(topic.partitions)))
        for partition in changed & self._shards.keys():
            if not self._leads_by_image(partition):
                self._resign(partition)
        self._look_at(changed)
        self._forget_deleted(delta)

    def _forget_deleted(self, delta: Delta) -> None:
        names = {topic.name for topic in delta.deleted_topics.values()}
        if names:
            for shard in self._shards.values():
                if shard.leads and shard.is_loaded:
                    shard.tell(lambda core, _: core.forget_topics(names))

    async def expire_offsets(self) -> None:
        """Called every `offsets.retention.check.interval.ms`; a few groups at a time, so that others get their turn."""
        for shard in list(self._shards.values()):
            group_ids = list(shard.core.groups) if shard.is_loaded else []
            for at in range(0, len(group_ids), EXPIRING_AT_ONCE):
                if shard.leads:
                    shard.tell(partial(_expire_offsets, group_ids[at : at + EXPIRING_AT_ONCE]))
                await asyncio.sleep(0)

    async def run(self) -> None:
        """As long as the node runs."""
        while True:
            await asyncio.sleep(self.settings.offsets_retention_check_interval_ms / 1000)
            await self.expire_offsets()

    def resign(self) -> None:
        """This broker is about to stop: whoever waits looks for another coordinator, or for this one later."""
        self._is_closing = True
        for partition in list(self._shards):
            self._resign(partition)

    async def close(self) -> None:
        """The node stops."""
        self.resign()
        tasks = [task for task in (self._working, self._creating, *self._loads) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leads_by_image(self, partition: int) -> bool:
        image = self._image()
        topic = image.topic(OFFSETS_TOPIC)
        if topic is None or partition >= len(topic.partitions):
            return False
        leader = image.leader_of(topic, partition)
        if leader is None or leader.broker_id != self._broker_id:
            return False
        return leader.epoch == self._broker_epoch()

    def _resign(self, partition: int) -> None:
        shard = self._shards.pop(partition)
        if shard.is_loaded and shard.core.groups:
            self._log.info("groups handed over", log=shard.replica.name, groups=len(shard.core.groups))
        shard.resign()

    def _look_at(self, partitions: set[int]) -> None:
        self._due |= partitions
        if self._due and self._working is None:
            self._working = self._of.loop.create_task(self._work(), name="groups")
            self._working.add_done_callback(self._worked)

    async def _work(self) -> None:
        await self._settled()
        while self._due:
            self._take_up(self._due.pop())

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_bug(error)
        elif not task.cancelled():
            self._look_at(set())

    def _take_up(self, partition: int) -> None:
        """Make the shard of a partition that is led here in an epoch that has none yet."""
        topic = self._image().topic(OFFSETS_TOPIC)
        if topic is None or self._is_closing or not self._leads_by_image(partition):
            return
        try:
            replica = self._replica(topic.topic_id, partition)
        except RefusedError as refused:
            self._log.warning("groups not served", partition=partition, reason=refused.message)
            return
        shard = self._shards.get(partition)
        if not replica.is_leader or (shard is not None and shard.leads):
            return
        if shard is not None:
            self._resign(partition)
        shard = self._shards[partition] = Shard(replica, self._of)
        task = self._of.loop.create_task(self._load(shard), name=f"load {replica.name}")
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load(self, shard: Shard) -> None:
        began_s = self._of.loop.time()
        try:
            await shard.load(lambda: self._image().topic_ids)
        except (RefusedError, OutcomeUnknownError) as error:
            self._log.warning("groups not read", log=shard.replica.name, reason=error.message)
            shard.resign()
        except Exception as error:  # noqa: BLE001 - a group that cannot be read is a bug, and the node says so
            self._on_bug(error)
        if shard.is_loaded and shard.core.groups:
            groups, took_s = len(shard.core.groups), round(self._of.loop.time() - began_s, 3)
            self._log.info("groups taken over", log=shard.replica.name, groups=groups, seconds=took_s)


def _expire_offsets(group_ids: list[str], core: GroupCoordinator, now: Now) -> None:
    core.expire_offsets(group_ids, now)


def _not_available(reason: str) -> RefusedError:
    return RefusedError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"the group has no coordinator yet: {reason}")


def _loading() -> RefusedError:
    return RefusedError(
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "the coordinator is reading what it must know of the group: try again"
    )
