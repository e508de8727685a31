"""Makes this broker's disk and roles what the committed metadata says: folders, configs, leadership.

Owns the replicas of this broker. Works through what changed in slices, so that a topic of a thousand partitions does
not hold up the loop; whoever asks for a partition first gets it made at once. Invariants:
- S10: leads only under the broker epoch of this process's own registration, never under that of an earlier life.
- S17: folders go by topic id; one whose id a caught-up image does not hold belongs to a deleted topic, and goes. So
  does a replica that the image assigns to other brokers: its partition was moved.
- S3/S19: a replica on a failed disk is said to be lost as long as the image counts on it.
- S18: a damaged log neither leads nor follows before the image counts it nowhere; then it begins anew.
- L1: what a full disk refuses is tried again; nobody else says when there is room.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from uuid import UUID

from broker.event_log import logger
from broker.log_directories import LogDirectories
from broker.replication.fetchers import Fetchers
from broker.replication.replica import Replica
from logstore.log_config import LogConfig
from logstore.partition_log import PartitionLog
from metadata import topic_configs
from metadata.broker_settings import dynamic_topic_defaults
from metadata.delta import Delta
from metadata.image import Image, Partition, Topic
from wire.errors import ErrorCode, RefusedError

SLICE_S = 0.005
TRY_AGAIN_S = 5.0

MakeReplica = Callable[[PartitionLog], Replica]


class Reconciler:
    """The replicas of this broker, as the image that it saw last wants them."""

    def __init__(
        self,
        *,
        broker_id: int,
        image: Image,
        directories: LogDirectories,
        make_replica: MakeReplica,
        fetchers: Fetchers,
        topic_defaults: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        counted_in_vain: Callable[[tuple[UUID, int]], None],
        damaged: Callable[[Replica], bool],
    ) -> None:
        """`topic_defaults`: the broker's values of topic settings, by topic key.

        `counted_in_vain`: a partition counts on a replica of which the disk has failed; told with each of its changes.
        `damaged`: told of a damaged replica, it says whether the controller knows, and counts on it no more.
        """
        self._broker_id = broker_id
        self._fetchers = fetchers
        self._stated_defaults = topic_defaults
        self.topic_defaults = topic_defaults
        """What is in force for a topic that says nothing, by topic key: set while running, else `topic_defaults`."""
        self._broker_epoch: int | None = None
        self._image = image
        self._directories = directories
        self._log_defaults = directories.defaults
        self._make_replica = make_replica
        self._loop = loop
        self._counted_in_vain = counted_in_vain
        self._damaged = damaged
        self._due: dict[tuple[UUID, int], None] = {}
        self._slice: asyncio.Handle | None = None
        self._refused: set[tuple[UUID, int]] = set()
        self._next_try: asyncio.Handle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = logger()
        self.replicas: dict[tuple[UUID, int], Replica] = {}

    async def settled(self) -> None:
        """Return when everything that the last image asked for is done."""
        await self._idle.wait()

    def registered(self, broker_epoch: int) -> None:
        """This process has its epoch and a caught-up image: take the roles, and let deleted topics' folders go."""
        self._broker_epoch = broker_epoch
        for log in self._directories.logs():
            state = self._image.partition(*log.key)
            if state is None or self._broker_id not in state.replicas:
                self._log.info("folder that is no replica any more", topic=log.topic_name, partition=log.partition)
                self._delete(log.topic_id, log.partition)
        self._look_at_all()

    def missing(self) -> list[tuple[UUID, int]]:
        """Partitions that this broker should hold and of which it found no folder."""
        held = {log.key for log in self._directories.logs()}
        return [key for key in self._mine() if key not in held]

    def unregistered(self) -> None:
        """This process has no epoch: it leads nothing."""
        self._broker_epoch = None
        self.resign(self.replicas)

    def close(self) -> None:
        """This process stops: nothing is made or led any more."""
        self.unregistered()
        self._due.clear()
        for handle in (self._slice, self._next_try):
            if handle is not None:
                handle.cancel()
        self._slice = self._next_try = None

    def resign(self, partitions: Iterable[tuple[UUID, int]]) -> None:
        """Neither lead nor follow these, whatever the metadata says: their disk failed (S19), or this process stops."""
        for key in list(partitions):
            self._fetchers.unfollow(key)
            if (replica := self.replicas.get(key)) is not None:
                replica.abandon()

    def led(self) -> list[Replica]:
        """What this broker leads and others follow."""
        return [replica for replica in self.replicas.values() if replica.is_leader and replica.follower_states()]

    def hold_writes(self) -> list[Replica]:
        """Take no more writes of what another broker in service can lead; these partitions are returned."""
        held = [replica for replica in self.replicas.values() if replica.is_leader and self._has_successor(replica)]
        for replica in held:
            replica.hold_writes()
        return held

    def _has_successor(self, replica: Replica) -> bool:
        state = self._image.partition(*replica.key)
        others = () if state is None else (self._image.brokers.get(member) for member in state.in_sync_replicas)
        return any(one.in_service for one in others if one is not None and one.broker_id != self._broker_id)

    def see(self, image: Image, delta: Delta) -> None:
        """A new image, and what changed since the one before."""
        self._image = image
        if delta.broker_configs_changed:
            self._take_defaults()
        if self._broker_epoch is None:
            return  # `registered` looks at everything
        for topic_id, topic in delta.deleted_topics.items():
            for partition in range(len(topic.partitions)):
                self._delete(topic_id, partition)
        for topic_id in delta.changed_configs:
            self._configure(image.topics[topic_id])
        if delta.broker_configs_changed:
            for topic in image.topics.values():
                self._configure(topic)
        self.look_at(delta.partitions())  # also at what has moved away, however much came at once
        if self._broker_id in delta.changed_brokers:
            self._look_at_all()

    def replica(self, topic_id: UUID, partition: int) -> Replica:
        """The replica of a partition that this broker holds, made now where it is still due.

        Raises RefusedError: LEADER_NOT_AVAILABLE (starting), UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
        NOT_LEADER_OR_FOLLOWER (not assigned to this broker), KAFKA_STORAGE_ERROR (no log directory can hold it).
        """
        if self._broker_epoch is None:
            raise RefusedError(
                ErrorCode.LEADER_NOT_AVAILABLE, f"broker {self._broker_id} is starting: try again in a moment"
            )
        self._directories.check_online(topic_id, partition)
        key = (topic_id, partition)
        if key in self._due or key not in self.replicas:
            self._require_assigned(topic_id, partition)
            self._due.pop(key, None)
            try:
                self._reconcile(topic_id, partition)
            except RefusedError as refused:
                if key not in self._refused:
                    self._try_again(key, refused)
                raise
        replica = self.replicas.get(key)
        if replica is None:
            raise RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"broker {self._broker_id} holds no such replica")
        return replica

    def _require_assigned(self, topic_id: UUID, partition: int) -> None:
        topic = self._image.topics.get(topic_id)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, "this topic does not exist (any more)")
        if not 0 <= partition < len(topic.partitions):
            raise RefusedError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {topic.name} has no partition {partition}; it has {len(topic.partitions)}",
            )
        if self._broker_id not in topic.partitions[partition].replicas:
            raise RefusedError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {self._broker_id} holds no replica of {topic.name}-{partition}: ask its leader",
            )

    def _look_at_all(self) -> None:
        self.look_at(self._mine())

    def _mine(self) -> Iterator[tuple[UUID, int]]:
        for topic in self._image.topics.values():
            for index, partition in enumerate(topic.partitions):
                if self._broker_id in partition.replicas:
                    yield topic.topic_id, index

    def look_at(self, partitions: Iterable[tuple[UUID, int]]) -> None:
        """Do soon what the image says of these."""
        self._due.update(dict.fromkeys(partitions))
        if self._due and self._slice is None:
            self._idle.clear()
            self._slice = self._loop.call_soon(self._work)

    def _work(self) -> None:
        """One slice of what is due."""
        self._slice = None
        until_s = self._loop.time() + SLICE_S
        while self._due and self._loop.time() < until_s:
            topic_id, partition = next(iter(self._due))
            del self._due[topic_id, partition]
            try:
                self._reconcile(topic_id, partition)
            except RefusedError as refused:
                self._try_again((topic_id, partition), refused)
        if self._due:
            self._slice = self._loop.call_soon(self._work)
        else:
            self._idle.set()

    def _try_again(self, key: tuple[UUID, int], reason: RefusedError | OSError) -> None:
        self._log.error("partition not served", topic_id=str(key[0]), partition=key[1], reason=str(reason))
        self._refused.add(key)
        if self._next_try is None:
            self._next_try = self._loop.call_later(TRY_AGAIN_S, self._look_at_refused)

    def _look_at_refused(self) -> None:
        self._next_try = None
        refused, self._refused = self._refused, set()
        self.look_at(refused)

    def _reconcile(self, topic_id: UUID, partition: int) -> None:
        topic = self._image.topics.get(topic_id)
        if topic is None or partition >= len(topic.partitions):
            return
        state = topic.partitions[partition]
        if self._broker_id not in state.replicas:
            if (topic_id, partition) in self.replicas:
                self._log.info("replica moved away", topic=topic.name, partition=partition, now_on=state.replicas)
                self._delete(topic_id, partition)
            return
        replica = self.replicas.get((topic_id, partition))
        if replica is None:
            try:
                log = self._directories.log(topic_id, topic.name, partition, self._config_of(topic))
            except RefusedError:
                self._tell_if_counted((topic_id, partition), state)
                raise
            replica = self.replicas[topic_id, partition] = self._make_replica(log)
            if log.damaged_from is not None:
                self._damaged(replica)
        self._take_role(replica, topic, state)

    def _take_role(self, replica: Replica, topic: Topic, state: Partition) -> None:
        leader = self._image.leader_of(topic, replica.partition)
        if self._directories.is_offline(*replica.key):
            leader = None
            self._tell_if_counted(replica.key, state)
        if leader is not None and leader.broker_id == self._broker_id and leader.epoch == self._broker_epoch:
            self._fetchers.unfollow(replica.key)
            replica.lead(state, min_in_sync_replicas=self._min_in_sync_replicas(topic))
            return
        replica.resign()
        if leader is not None and leader.broker_id != self._broker_id and self._may_follow(replica, state):
            self._fetchers.follow(replica, state, leader)
        else:
            self._fetchers.unfollow(replica.key)

    def _tell_if_counted(self, key: tuple[UUID, int], state: Partition) -> None:
        if self._broker_id in (*state.in_sync_replicas, *state.eligible_leader_replicas):
            self._counted_in_vain(key)

    def _may_follow(self, replica: Replica, state: Partition) -> bool:
        """True unless its log is damaged; once nobody counts on it, a damaged one is dropped and fetched anew (S18).

        Nor may anybody be about to: what it fetched before may be on its way to the leader, a change with it to the
        controller. Both are void once the controller has dealt with the report of the damage (S3).
        """
        log = replica.log
        if log.damaged_from is None:
            return True
        is_reported = self._damaged(replica)
        if not is_reported or self._broker_id in (*state.in_sync_replicas, *state.eligible_leader_replicas):
            return False
        self._log.warning("damaged replica begins anew", log=log.name, damaged_from=log.damaged_from)
        self._fetchers.unfollow(replica.key)  # S11: what is asked for now is not for the log that begins anew
        try:
            replica.truncate_fully_and_start_at(log.log_start_offset)
        except (OSError, RefusedError) as error:
            self._try_again(replica.key, error)
            return False
        return log.damaged_from is None

    def _min_in_sync_replicas(self, topic: Topic) -> int:
        return topic_configs.min_in_sync_replicas(topic.configs, self.topic_defaults)

    def _take_defaults(self) -> None:
        """What was set for all brokers stands in for what their configurations say."""
        dynamic = dynamic_topic_defaults(self._image.broker_configs)
        self.topic_defaults = {**self._stated_defaults, **dynamic}
        self._log_defaults = LogConfig.from_topic_configs(dynamic, self._directories.defaults)

    def _configure(self, topic: Topic) -> None:
        config = self._config_of(topic)
        for partition in range(len(topic.partitions)):
            replica = self.replicas.get((topic.topic_id, partition))
            if replica is not None:
                log, was_relaxed = replica.log, replica.log.config.flush_messages > 1
                log.config = config
                if was_relaxed and config.flush_messages <= 1 and log.synced_end_offset < log.log_end_offset:
                    log.sync_again()  # what counted unsynced until now (S2)
                self.look_at([replica.key])  # min.insync.replicas decides when the high watermark moves

    def config_of(self, topic_id: UUID, _topic_name: str) -> LogConfig:
        """A topic's settings as the image has them, the broker's defaults for one that it does not know."""
        topic = self._image.topics.get(topic_id)
        return self._log_defaults if topic is None else self._config_of(topic)

    def _config_of(self, topic: Topic) -> LogConfig:
        return LogConfig.from_topic_configs(topic.configs, self._log_defaults)

    def _delete(self, topic_id: UUID, partition: int) -> None:
        self._due.pop((topic_id, partition), None)
        self._fetchers.unfollow((topic_id, partition))
        replica = self.replicas.pop((topic_id, partition), None)
        if replica is not None:
            replica.abandon()
        try:
            self._directories.delete(topic_id, partition)
        except OSError as error:
            self._log.error("folder not deleted", topic_id=str(topic_id), partition=partition, reason=str(error))
