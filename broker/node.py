"""Everything that one process holds, wired together: quorum, image, controller, log directories, replicas, heartbeats.

Owns the order of start and stop. What a listener needs of a broker it asks here. Refuses to serve as a leader before
this process is registered (S10), and to run on once the quorum failed.
"""

import asyncio
import itertools
import ssl
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from broker.active_controller import ActiveController
from broker.cluster_image import ClusterImage
from broker.controller_link import ControllerLink
from broker.damage_reports import DamageReports
from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from broker.groups.host import GroupHost
from broker.groups.settings import GroupSettings
from broker.groups.shard import ShardSurroundings
from broker.health import Health, health_of
from broker.heartbeats import Heartbeats
from broker.isr_changes import InSyncReplicasChanges
from broker.log_cleaning import CleaningSettings, LogCleaning
from broker.log_directories import DirectoryState, LogDirectories
from broker.machine import THIS_MACHINE, Machine
from broker.meta_properties import Formation, MetaProperties
from broker.node_config import NodeConfig
from broker.producer_ids import ProducerIds
from broker.reconciler import Reconciler
from broker.replication.fetcher import FetchSettings
from broker.replication.fetchers import Fetchers
from broker.replication.replica import Replica
from broker.replication.surroundings import Surroundings
from broker.replication.throttle import ReplicationThrottle
from broker.waiting_room import WaitingRoom
from kraft.quorum import MetadataQuorum  # noqa: TC001 - a public attribute's type
from logstore.log_config import LogConfig
from logstore.partition_log import PartitionLog
from metadata import codec
from metadata.answers import AdminAnswer, Refused
from metadata.circumstances import TopicPolicy
from metadata.controller import Controller, ControllerSettings
from metadata.delta import Delta
from metadata.image import CommandId, Endpoint, Image
from metadata.requests import (
    AdminRequest,
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    Heartbeat,
    LostReplicasRequest,
    RegistrationRequest,
)
from wire.errors import ErrorCode, RefusedError

SHUTDOWN_HANDOVER_S: Final = 5.0
SHUTDOWN_HOLD_S: Final = 1.0
SHUTDOWN_POLL_S: Final = 0.02
REMOTE_REQUEST_TIMEOUT_S: Final = 10.0
OF_ITSELF: Final = (
    RegistrationRequest, Heartbeat, LostReplicasRequest, AlterPartitionRequest, AllocateProducerIdsRequest,
)  # fmt: skip
"""The requests by which a broker speaks of itself."""


class Node:
    """One broker and its end of the quorum. All methods on the loop that called `start`."""

    def __init__(
        self,
        config: NodeConfig,
        identity: MetaProperties,
        formation: Formation | None,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self.config = config
        self.broker_id = config.node_id
        self.cluster_id = identity.cluster_id
        self.is_draining = False
        self.listeners_open = False
        self._identity = identity
        self._log = logger()
        self._loop = asyncio.get_running_loop()
        self.machine = machine
        self._clock = machine.clock
        self.waiting_room = WaitingRoom(self._loop)
        """Where answers wait for a partition's progress: keys are those of its `Replica`."""
        self._cluster_image = ClusterImage(identity.cluster_id, post=self._loop.call_soon_threadsafe, on_bug=self.fail)
        self.quorum: MetadataQuorum = machine.quorum_for(config, identity, formation, self._cluster_image)
        self._controller = ActiveController(
            self.quorum,
            Controller(controller_settings_of(config)),
            node_id=config.node_id,
            image=lambda: self.image,
            clock=self._clock,
            new_id=machine.new_id,
            on_bug=self.fail,
        )
        self._link = ControllerLink(self.quorum, broker_id=self.broker_id, handle_here=self._controller.handle)
        self._directories = LogDirectories(
            config,
            cluster_id=identity.cluster_id,
            defaults=LogConfig.from_topic_configs(config.topic_defaults),
            loop=self._loop,
            machine=machine,
            on_offline=self._disk_failed,
        )
        self._replication_tls: ssl.SSLContext | None = None
        self._heartbeats: Heartbeats | None = None
        self._fetchers = Fetchers(self._fetch_settings(), self._run)
        self._damage_reports = DamageReports(lambda: self.image, self._fetchers, lambda: self._heartbeats)
        self._reconciler = Reconciler(
            broker_id=self.broker_id,
            image=self._cluster_image.image,
            directories=self._directories,
            make_replica=self._make_replica,
            fetchers=self._fetchers,
            topic_defaults=config.topic_defaults,
            loop=self._loop,
            counted_in_vain=lambda key: self._disk_failed([key]),
            damaged=self._damage_reports.tell,
        )
        self._in_sync_changes = InSyncReplicasChanges(
            self.admin,
            broker_id=self.broker_id,
            broker_epoch=lambda: self.broker_epoch,
            led=self._reconciler.led,
            check_interval_s=config.replica_lag_time_max_ms / 2000,
        )
        self.producer_ids = self._producer_ids()
        self._surroundings = self._replica_surroundings()
        self.groups = self._group_host(config)
        self._cleaning = self._log_cleaning()
        self._sequence = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None

    @property
    def image(self) -> Image:
        """The cluster as this node last saw it; hold one for the length of a request."""
        return self._cluster_image.image

    @property
    def broker_epoch(self) -> int | None:
        """The epoch of this process's registration; None before it."""
        return None if self._heartbeats is None else self._heartbeats.broker_epoch

    # -- life ---------------------------------------------------------------------------------------------------

    async def start_quorum(self) -> None:
        """First of all: elections take a while, and everything else can be done meanwhile."""
        self.quorum.on_failure(self._quorum_failed)
        self.quorum.on_request(self._answer_peer)
        self._cluster_image.observe(self._introduce_peers)
        self._cluster_image.observe(self._fetchers.see)
        self._cluster_image.observe(self._reconciler.see)
        self._cluster_image.observe(self.groups.see)
        self._cluster_image.observe(self._controller.see)
        await self.quorum.start()
        self._run(self._controller.run(), "controller")

    async def start(
        self,
        *,
        http: Endpoint,
        listeners: Mapping[str, Endpoint] | None = None,
        replication_tls: ssl.SSLContext | None = None,
    ) -> None:
        """Open the log directories, register, heartbeat; returns before the broker is unfenced (see `readiness`).

        `listeners`: the Kafka listeners as advertised, by name; followers come to the one that the configuration names
        for replication. `replication_tls`: what this broker's own fetchers show and trust there; None: no TLS.
        """
        self._replication_tls = replication_tls
        await self._directories.open(self._reconciler.config_of)
        self._heartbeats = Heartbeats(
            self._link,
            self.quorum,
            self._registration(http, listeners or {}),
            interval_ms=self.config.broker_heartbeat_interval_ms,
            image=lambda: self.image,
            missing_replicas=self._reconciler.missing,
            on_registered=self._reconciler.registered,
            on_reported=self._reconciler.look_at,
        )
        self._heartbeats.lost("DAMAGED", self._directories.damaged())
        self._heartbeats.lost("MISSING", self._directories.vanished())
        self._run(self._heartbeats.run(), "heartbeats")
        self._run(self._in_sync_changes.run(), "in-sync replicas")
        self._run(self._directories.maintain(), "log maintenance")
        self._run(self.groups.run(), "consumer groups")
        if self.config.log_cleaner_enable:
            self._run(self._cleaning.run(), "log cleaning")

    async def hand_over(self) -> None:
        """Controlled shutdown: not ready any more; let the controller move what this broker leads, for a while.

        First nothing new is written where another replica can lead, and what is under way is answered: the successor
        has it then, and nobody is told "unknown". Bounded, since an in-sync replica may be silent.
        """
        self.is_draining = True
        await self._hand_over_leaderships()
        self.groups.resign()

    async def _hand_over_leaderships(self) -> None:
        if self._heartbeats is None or self.broker_epoch is None:
            return
        held = self._reconciler.hold_writes()
        until_s = self._loop.time() + SHUTDOWN_HOLD_S
        while any(one.is_leader and one.high_watermark < one.log.log_end_offset for one in held):
            if self._loop.time() > until_s:
                self._log.warning("handing over with writes under way")
                break
            await asyncio.sleep(SHUTDOWN_POLL_S)
        self._heartbeats.ask_to_shut_down()
        until_s = self._loop.time() + SHUTDOWN_HANDOVER_S
        while not self._heartbeats.may_shut_down.is_set():
            if self.quorum.leader_id is None or self._loop.time() > until_s:
                self._log.warning("stopping without the controller's leave", controller=self.quorum.leader_id)
                return
            await asyncio.sleep(SHUTDOWN_POLL_S)

    async def stop(self) -> None:
        """Flush, close, leave the clean-shutdown marker; safe after a failed start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.producer_ids.close()
        await self.groups.close()
        self._reconciler.close()
        self._cleaning.close()
        await self._directories.close()
        self.waiting_room.close()
        await self.quorum.stop()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task of the node never ends by itself: what ended it is a bug, and the node stops."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _quorum_failed(self, error: BaseException) -> None:
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """A bug or a dead quorum: whoever waits for `failed` stops this process."""
        if self.failure is None:
            self.failure = error
            self.failed.set()

    def _disk_failed(self, partitions: Iterable[tuple[UUID, int]]) -> None:
        """S19: their leaderships move where there is another replica; the only one stays what it is until a restart."""
        partitions = list(partitions)
        self._reconciler.resign(partitions)
        if self._heartbeats is not None:
            states = ((key, self.image.partition(*key)) for key in partitions)
            self._heartbeats.lost("MISSING", [key for key, state in states if state and len(state.replicas) > 1])

    def _epoch_in_service(self, broker_id: int) -> int | None:
        broker = self.image.brokers.get(broker_id)
        return broker.epoch if broker is not None and broker.in_service else None

    def _replica_surroundings(self) -> Surroundings:
        """What this broker's replicas need of it."""
        return Surroundings(
            broker_id=self.broker_id,
            clock=self._clock,
            waiting_room=self.waiting_room,
            lag_time_max_ms=self.config.replica_lag_time_max_ms,
            epoch_in_service=self._epoch_in_service,
            wants_in_sync_change=self._in_sync_changes.consider,
            damaged=self._damage_reports.tell,
            is_heard=self._is_heard,
        )

    def _is_heard(self) -> bool:
        return self._heartbeats is not None and self._heartbeats.is_heard(self.config.broker_session_timeout_ms)

    def _log_cleaning(self) -> LogCleaning:
        return LogCleaning(
            CleaningSettings.of(self.config),
            directories=self._directories,
            image=lambda: self.image,
            machine=self.machine,
        )

    def _group_host(self, config: NodeConfig) -> GroupHost:
        """The coordinators of consumer groups whose offsets this broker leads."""
        return GroupHost(
            broker_id=self.broker_id,
            broker_epoch=lambda: self.broker_epoch,
            image=lambda: self.image,
            replica=self.replica,
            settled=self._reconciler.settled,
            admin=self.admin,
            surroundings=ShardSurroundings(
                settings=group_settings_of(config),
                clock=self._clock,
                waiting_room=self.waiting_room,
                loop=self._loop,
            ),
            on_bug=self.fail,
        )

    def _fetch_settings(self) -> FetchSettings:
        config = self.config
        return FetchSettings(
            broker_id=self.broker_id,
            cluster_id=self.cluster_id,
            broker_epoch=lambda: self.broker_epoch,
            clock=self._clock,
            throttle=ReplicationThrottle(),
            tls=lambda: self._replication_tls,
            max_wait_ms=config.replica_fetch_wait_max_ms,
            min_bytes=config.replica_fetch_min_bytes,
            partition_max_bytes=config.replica_fetch_max_bytes,
            response_max_bytes=config.replica_fetch_response_max_bytes,
            answer_timeout_s=config.replica_socket_timeout_ms / 1000,
            reconnect_s=config.replica_fetch_backoff_ms / 1000,
        )

    def _producer_ids(self) -> ProducerIds:
        return ProducerIds(
            self.admin,
            broker_id=self.broker_id,
            broker_epoch=lambda: self.broker_epoch,
            next_producer_id=lambda: self.image.next_producer_id,
        )

    def _registration(self, http: Endpoint, listeners: Mapping[str, Endpoint]) -> RegistrationRequest:
        host, port = self.config.advertised_peer
        return RegistrationRequest(
            broker_id=self.broker_id,
            cluster_id=self.cluster_id,
            incarnation_id=self.machine.new_id(),
            directory_ids=self._directories.directory_ids,
            http=http,
            peer=Endpoint(host, port),
            listeners=listeners,
            replication_listener=self.config.replication_listener if listeners else None,
            rack=self.config.rack,
            clean_shutdown=self._directories.was_clean,
        )

    # -- what listeners ask -------------------------------------------------------------------------------------

    async def admin(self, request: AdminRequest, *, timeout_s: float) -> AdminAnswer:
        """Ask the active controller; returns when this node has applied the answer's index.

        Raises RefusedError (nothing changed) or OutcomeUnknownError.
        """
        deadline_s = self._loop.time() + timeout_s
        if self.broker_epoch is None:
            raise RefusedError(
                ErrorCode.BROKER_NOT_AVAILABLE,
                f"node {self.broker_id} is starting, nothing was changed: try again soon",
            )
        command_id = CommandId(broker_id=self.broker_id, broker_epoch=self.broker_epoch, sequence=next(self._sequence))
        answer = await self._link.ask(request, timeout_s=timeout_s, command_id=command_id)
        try:
            await self.quorum.wait_applied(answer.index, timeout_s=max(0.1, deadline_s - self._loop.time()))
        except TimeoutError:
            raise OutcomeUnknownError(
                ErrorCode.REQUEST_TIMED_OUT, f"done, but node {self.broker_id} has not applied it yet: look again soon"
            ) from None
        return answer

    @property
    def topic_defaults(self) -> Mapping[str, str]:
        """What is in force for a topic that says nothing, by topic key: set for all brokers while they run, else by
        this node's configuration; only what was set.
        """
        return self._reconciler.topic_defaults

    def replica(self, topic_id: UUID, partition: int) -> Replica:
        """The replica on this broker; raises RefusedError where there is none (see `Reconciler.replica`)."""
        return self._reconciler.replica(topic_id, partition)

    def directory_states(self) -> list[DirectoryState]:
        """This broker's log directories and what lies in them."""
        return self._directories.states()

    def readiness(self) -> list[str]:
        """Why this node should get no traffic; empty when it is ready."""
        reasons = []
        if not self.listeners_open:
            reasons.append("listeners are not open yet")
        if self.is_draining:
            reasons.append("shutting down")
        if self.quorum.leader_id is None:
            reasons.append("the metadata quorum has no leader")
        mine = self.image.brokers.get(self.broker_id)
        if self.broker_epoch is None:
            reasons.append("not registered yet")
        elif mine is None or mine.epoch != self.broker_epoch or mine.fenced:
            reasons.append("fenced: the controller has not taken this broker into service yet")
        if not self._is_seated():
            reasons.append("the quorum has not let this voter's new metadata directory in yet")
        if self._directories.all_offline:
            reasons.append("every log directory is offline")
        return reasons

    def _is_seated(self) -> bool:
        """A voter that came back with an empty directory does not count in the quorum until it has caught up (S16)."""
        voters = self.quorum.status().voters if self.config.is_voter else ()
        return all(voter.directory_ok for voter in voters if voter.node_id == self.broker_id)

    def health(self) -> Health:
        """The cluster's state as this node sees it."""
        return health_of(
            self.image,
            leader_id=self.quorum.leader_id,
            disk_reasons=self._directories.reasons(),
            broker_defaults=self.config.topic_defaults,
        )

    # -- what others ask ----------------------------------------------------------------------------------------

    async def _answer_peer(self, node_id: int, payload: bytes) -> bytes:
        try:
            envelope = codec.decode_request(payload)
            _check_speaks_for_itself(node_id, envelope.request)
        except RefusedError as refused:
            return codec.encode_answer(Refused.of(refused, index=0))
        return codec.encode_answer(await self._controller.handle(envelope, REMOTE_REQUEST_TIMEOUT_S))

    def _introduce_peers(self, image: Image, delta: Delta) -> None:
        """Brokers that are no voters are known by their registration."""
        for broker_id in delta.changed_brokers:
            if broker_id in self.config.voters or broker_id == self.broker_id:
                continue
            if (broker := image.brokers.get(broker_id)) is None:
                self.quorum.forget_peer(broker_id)
            else:
                self.quorum.set_peer_endpoint(broker_id, broker.peer.host, broker.peer.port)

    def _make_replica(self, log: PartitionLog) -> Replica:
        return Replica(log, self._surroundings)


def _check_speaks_for_itself(node_id: int, request: AdminRequest) -> None:
    """What a broker says of itself counts only from its own node, whose id the peer link has checked."""
    if isinstance(request, OF_ITSELF) and request.broker_id != node_id:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"node {node_id} spoke for broker {request.broker_id}: a broker speaks for itself",
        )


def controller_settings_of(config: NodeConfig) -> ControllerSettings:
    """What this node decides by, should it become the active controller."""
    return ControllerSettings(
        session_timeout_ms=config.broker_session_timeout_ms,
        rebalances_leaders=config.auto_leader_rebalance_enable,
        leader_imbalance_check_interval_ms=config.leader_imbalance_check_interval_seconds * 1000,
        leader_imbalance_per_broker_percentage=config.leader_imbalance_per_broker_percentage,
        topics=TopicPolicy(
            default_partitions_count=config.num_partitions,
            default_replication_factor=config.default_replication_factor,
            broker_defaults=config.topic_defaults,
        ),
    )


def group_settings_of(config: NodeConfig) -> GroupSettings:
    """What this node coordinates groups by."""
    replication_factor = config.offsets_topic_replication_factor
    return GroupSettings(
        session_timeout_ms_min=config.group_session_timeout_ms_min,
        session_timeout_ms_max=config.group_session_timeout_ms_max,
        initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
        members_max=config.group_members_max,
        offset_metadata_bytes_max=config.offset_metadata_bytes_max,
        offsets_retention_ms=config.offsets_retention_minutes * 60_000,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        offsets_commit_timeout_ms=config.offsets_commit_timeout_ms,
        topic_partitions=config.offsets_topic_num_partitions,
        topic_replication_factor=(
            config.default_replication_factor if replication_factor is None else replication_factor
        ),
        topic_segment_bytes=config.offsets_topic_segment_bytes,
    )
