"""One broker of the model: the real leader and follower cores, driven as a broker drives them, over a `ListLog`.

A process is what lives between `start` and `stop`; events and answers of an earlier life are dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.replication import follower as following
from broker.replication.follower import FetchAnswer, FetchPosition, PartitionFollower
from broker.replication.leader import Acknowledged, Diverging, FollowerFetch, OutOfRange, PartitionLeader
from metadata.image import Image
from metadata.requests import AlterPartitionRequest, Heartbeat, InSyncReplicasChange, RegistrationRequest
from tests.broker.replication.model_log import ListLog, Record
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from tests.broker.replication.model_cluster import ModelCluster

LAG_TIME_MAX_MS = 400
FETCH_TIMEOUT_MS = 150
FETCH_RECORDS_MAX = 8
LONG_POLL_MS = 12
CHANGE_TIMEOUT_MS = 200


@dataclass(frozen=True, slots=True)
class Cores:
    """The classes under test; a mutant puts its own in."""

    leader: type[PartitionLeader] = PartitionLeader
    follower: type[PartitionFollower] = PartitionFollower


@dataclass(slots=True)
class Waiting:
    """A send that waits for the high watermark."""

    offset: int
    value: int
    sent_after: int
    leader: PartitionLeader


class ModelBroker:
    """A broker id, its disk, and at most one process."""

    def __init__(self, broker_id: int, cluster: "ModelCluster") -> None:
        self.broker_id = broker_id
        self.cluster = cluster
        self.log = ListLog(counts_unsynced=cluster.relaxed)
        self.directory = broker_id
        self.incarnation = 0
        self.is_running = False
        self.is_paused = False
        self.clean_shutdown = False
        self.slow_sync_ms = 0
        self._while_paused: list[Callable[[], None]] = []
        self._begin()

    def _begin(self) -> None:
        self.broker_epoch: int | None = None
        self.image: Image | None = None
        self.leader: PartitionLeader | None = None
        self.follower: PartitionFollower | None = None
        self.waiting: list[Waiting] = []
        self._asking = False

    # ---- life

    def start(self) -> None:
        assert not self.is_running
        self.incarnation += 1
        self.is_running = True
        self._begin()
        self.log.recovered()
        self._register()
        self._poll_metadata()
        self._heartbeat()
        self._look_at_members()

    def stop(self) -> None:
        self.is_running = self.is_paused = False
        self._while_paused.clear()
        self._begin()

    def resume(self) -> None:
        self.is_paused = False
        events, self._while_paused = self._while_paused, []
        for event in events:
            self._run(self.incarnation, event)

    def later(self, delay_ms: float, event: Callable[[], None]) -> None:
        """Run `event` in this life of the process."""
        incarnation = self.incarnation
        self.cluster.at(delay_ms, lambda: self._run(incarnation, event))

    def _run(self, incarnation: int, event: Callable[[], None]) -> None:
        if not self.is_running or incarnation != self.incarnation:
            return
        if self.is_paused:
            self._while_paused.append(event)
        else:
            event()

    # ---- metadata

    def _register(self) -> None:
        if self.broker_epoch is not None:
            return
        request = RegistrationRequest(
            broker_id=self.broker_id,
            cluster_id=self.cluster.image.cluster_id,
            incarnation_id=self.cluster.an_id(self.broker_id * 1000 + self.incarnation),
            directory_ids=(self.cluster.an_id(9_000_000 + self.directory),),
            http=self.cluster.endpoint,
            peer=self.cluster.endpoint,
            clean_shutdown=self.clean_shutdown,
        )
        life = self.incarnation
        self.cluster.to_controller(self, lambda: self.cluster.register(self, life, request))
        self.later(100, self._register)

    def registered(self, broker_epoch: int) -> None:
        self.broker_epoch = broker_epoch
        if self.image is not None:
            self.see(self.image)

    def unregistered(self, broker_epoch: int) -> None:
        """The controller does not know this epoch: a registration of an earlier life came late, and won."""
        if self.broker_epoch == broker_epoch:
            self.broker_epoch = None
            self._rest()
            self._register()

    def _poll_metadata(self) -> None:
        life = self.incarnation
        self.cluster.to_controller(self, lambda: self.cluster.give_image(self, life))
        self.later(self.cluster.rng.uniform(4, 20), self._poll_metadata)

    def _heartbeat(self) -> None:
        if self.broker_epoch is not None and self.image is not None:
            heartbeat = Heartbeat(
                broker_id=self.broker_id,
                broker_epoch=self.broker_epoch,
                applied_index=self.image.applied_index,
                reported_lost_replicas=True,
            )
            life = self.incarnation
            self.cluster.to_controller(self, lambda: self.cluster.heard(self, life, heartbeat))
        self.later(40, self._heartbeat)

    def see(self, image: Image) -> None:
        """Take the role that the image gives this broker, in its present broker epoch only (S10)."""
        if self.image is not None and image.applied_index < self.image.applied_index:
            return
        self.image = image
        topic = image.topic("pay")
        me = image.brokers.get(self.broker_id)
        if topic is None or self.broker_epoch is None or me is None or me.epoch != self.broker_epoch:
            return
        state = topic.partitions[0]
        leads = image.leader_of(topic, 0)
        if leads is not None and leads.broker_id == self.broker_id:
            self._lead()
        elif state.leader in (-1, self.broker_id) or self.broker_id not in state.replicas:
            self._rest()
        elif self.follower is None or self.follower.leader_epoch != state.leader_epoch:
            self._rest()
            self.follower = self.cluster.cores.follower(leader_id=state.leader, leader_epoch=state.leader_epoch)
            self.cluster.follows(self)
            self._fetch(self.follower)

    def _rest(self) -> None:
        self.leader = self.follower = None
        self.waiting.clear()

    def _lead(self) -> None:
        assert self.image is not None
        assert self.broker_epoch is not None
        state = self.image.topics[self.cluster.topic_id].partitions[0]
        needed = self.cluster.min_in_sync_replicas
        if self.leader is not None and self.leader.leader_epoch == state.leader_epoch:
            self.leader.committed(state, min_in_sync_replicas=needed)
            self._show_watermark(self.leader)
            self._consider()
            return
        self._rest()
        self.cluster.checkers.leads(self.broker_id, self.broker_epoch, state.leader_epoch)
        self.leader = self.cluster.cores.leader(
            broker_id=self.broker_id,
            state=state,
            min_in_sync_replicas=needed,
            high_watermark=self.log.high_watermark,
            log_end_offset=self.log.log_end_offset,
            durable_end_offset=self.log.durable_end_offset,
            lag_time_max_ms=LAG_TIME_MAX_MS,
            now_ms=self.cluster.now_ms,
            epoch_in_service=self._epoch_in_service,
        )
        self._show_watermark(self.leader)

    def _epoch_in_service(self, broker_id: int) -> int | None:
        assert self.image is not None
        broker = self.image.brokers.get(broker_id)
        return broker.epoch if broker is not None and broker.in_service else None

    # ---- leading

    def produce(self, value: int, sent_after: int) -> None:
        leader = self.leader
        if leader is None or not leader.has_enough_in_sync:
            return
        offset = self.log.log_end_offset
        self.log.append([(leader.leader_epoch, value)])
        self.cluster.checkers.appended(self.broker_id, offset)
        self.waiting.append(Waiting(offset, value, sent_after, leader))
        if self.cluster.relaxed:
            self._durable()
        self._sync()

    def _sync(self) -> None:
        end_offset, generation = self.log.log_end_offset, self.log.generation

        def synced() -> None:
            self.log.synced(end_offset, generation)
            self._durable()

        self.later(self.cluster.sync_ms() + self.slow_sync_ms, synced)

    def _durable(self) -> None:
        if self.leader is not None:
            self.leader.durable(self.log.durable_end_offset, now_ms=self.cluster.now_ms)
            self._show_watermark(self.leader)
        elif self.follower is not None:
            self._take_watermark(self.follower)

    def _show_watermark(self, leader: PartitionLeader) -> None:
        if leader.high_watermark <= self.log.high_watermark:
            return
        self.log.high_watermark = leader.high_watermark
        maximal = frozenset(leader.maximal_in_sync_replicas)
        self.cluster.checkers.led_watermark_moved(self.broker_id, maximal, enough=self._has_enough(leader))
        done = [one for one in self.waiting if one.offset < leader.high_watermark]
        self.waiting = [one for one in self.waiting if one.offset >= leader.high_watermark]
        for one in done:
            if one.leader is leader:
                self.cluster.acknowledge(self, leader.leader_epoch, one)

    def _has_enough(self, leader: PartitionLeader) -> bool:
        """Reckoned by the model itself."""
        needed = min(self.cluster.min_in_sync_replicas, len(self.cluster.brokers))
        return len(leader.in_sync_replicas) >= needed

    def readable_end_offset(self) -> int:
        """Consumers read below it."""
        return self.log.high_watermark

    def asked(self, fetch: FollowerFetch, answer: Callable[[FetchAnswer], None], *, may_wait: bool = True) -> None:
        """A follower's Fetch, as the listener and the replica handle it."""
        leader = self.leader
        if leader is None:
            answer(FetchAnswer(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER))
            return
        try:
            verdict = leader.fetched(fetch, self.log, now_ms=self.cluster.now_ms)
        except RefusedError as refused:
            answer(FetchAnswer(error_code=refused.code))
            return
        match verdict:
            case OutOfRange(log_start_offset, _):
                answer(FetchAnswer(error_code=ErrorCode.OFFSET_OUT_OF_RANGE, log_start_offset=log_start_offset))
            case Diverging(end):
                answer(FetchAnswer(diverging=end))
            case Acknowledged(high_watermark_moved, wants_change):
                self.cluster.checkers.fetched(fetch.broker_id, fetch.broker_epoch, fetch.leader_epoch)
                if high_watermark_moved:
                    self._show_watermark(leader)
                if wants_change:
                    self._consider()
                if may_wait and fetch.fetch_offset == self.log.log_end_offset:
                    self.later(LONG_POLL_MS, lambda: self._after_wait(leader, fetch, answer))
                else:
                    self._answer(fetch, answer)

    def _after_wait(self, leader: PartitionLeader, fetch: FollowerFetch, answer: Callable[[FetchAnswer], None]) -> None:
        if self.leader is leader:
            self._answer(fetch, answer)
        else:
            answer(FetchAnswer(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER))

    def _answer(self, fetch: FollowerFetch, answer: Callable[[FetchAnswer], None]) -> None:
        log = self.log
        if fetch.fetch_offset < log.log_start_offset:
            answer(FetchAnswer(error_code=ErrorCode.OFFSET_OUT_OF_RANGE, log_start_offset=log.log_start_offset))
            return
        records = log.read(fetch.fetch_offset, upper_offset=log.log_end_offset, count_max=FETCH_RECORDS_MAX)
        answer(
            FetchAnswer(
                high_watermark=log.high_watermark,
                log_start_offset=log.log_start_offset,
                records=records,  # type: ignore[arg-type] # records of the model instead of bytes
            )
        )

    # ---- in-sync replicas

    def _look_at_members(self) -> None:
        self._consider()
        self.later(LAG_TIME_MAX_MS / 2, self._look_at_members)

    def _consider(self) -> None:
        leader = self.leader
        if leader is None or self._asking or self.broker_epoch is None:
            return
        change = leader.wanted_change(log_end_offset=self.log.log_end_offset, now_ms=self.cluster.now_ms)
        self._show_watermark(leader)
        if change is None:
            return
        self._asking = True
        epoch = change.partition_epoch
        request = AlterPartitionRequest(
            broker_id=self.broker_id,
            broker_epoch=self.broker_epoch,
            changes=(
                InSyncReplicasChange(
                    topic_id=self.cluster.topic_id,
                    partition=0,
                    leader_epoch=change.leader_epoch,
                    partition_epoch=epoch,
                    in_sync_replicas=change.in_sync_replicas,
                ),
            ),
        )
        open_question = [True]

        def answered(refusal: ErrorCode | None, *, in_doubt: bool = False) -> None:
            if not open_question:
                return
            open_question.clear()
            self._asking = False
            if self.leader is leader and (in_doubt or refusal is not None):
                if in_doubt:
                    leader.change_in_doubt(partition_epoch=epoch)
                elif refusal is not None:
                    leader.change_refused(refusal, partition_epoch=epoch)
                self._show_watermark(leader)
                self.later(20, self._consider)

        life = self.incarnation
        self.cluster.to_controller(self, lambda: self.cluster.alter_partition(self, life, request, answered))
        self.later(CHANGE_TIMEOUT_MS, lambda: answered(None, in_doubt=True))
        self.cluster.before_alter_partition(self, change)

    # ---- following

    def _fetch(self, follower: PartitionFollower) -> None:
        if self.follower is not follower or self.broker_epoch is None:
            return
        asked = follower.fetch_position(self.log)
        if asked is None:
            if not follower.is_fenced:
                self.later(5, lambda: self._fetch(follower))
            return
        fetch = FollowerFetch(
            broker_id=self.broker_id,
            broker_epoch=self.broker_epoch,
            leader_epoch=asked.leader_epoch,
            fetch_offset=asked.fetch_offset,
            last_fetched_epoch=asked.last_fetched_epoch,
        )
        self.cluster.fetch(self, follower.leader_id, fetch, lambda answer: self._answered(follower, asked, answer))
        self.later(FETCH_TIMEOUT_MS, lambda: self._timed_out(follower, asked))

    def _timed_out(self, follower: PartitionFollower, asked: FetchPosition) -> None:
        if self.follower is follower:
            self._then(follower, follower.failed(asked))

    def _answered(self, follower: PartitionFollower, asked: FetchPosition, answer: FetchAnswer) -> None:
        """Whatever arrives, late or twice, is given to the core of the present role."""
        if self.follower is not None and self.follower.leader_epoch == follower.leader_epoch:
            self._then(self.follower, self.follower.answered(asked, answer, self.log))

    def _then(self, follower: PartitionFollower, step: following.Step) -> None:
        log = self.log
        match step:
            case following.Append(records, _):
                self._append(records)  # type: ignore[arg-type] # records of the model instead of bytes
                self._take_watermark(follower)
                log.delete_records_before(follower.log_start_offset(step, log))
                self._sync()
                self.later(1, lambda: self._fetch(follower))
            case following.TruncateTo(offset, _):
                self.cluster.checkers.will_truncate(self.broker_id, offset)
                log.truncate_to(offset)
                self._fetch(follower)
            case following.StartAt(offset):
                self.cluster.checkers.will_start_at(self.broker_id, offset)
                log.start_at(offset)
                self._fetch(follower)
            case following.BackOff(delay_ms, _):
                self.later(delay_ms, lambda: self._fetch(follower))
            case following.Fenced() | following.Stale():
                pass

    def _append(self, records: list[Record]) -> None:
        first = self.log.log_end_offset
        self.log.append(records)
        self.cluster.checkers.appended(self.broker_id, first)

    def _take_watermark(self, follower: PartitionFollower) -> None:
        reached = follower.high_watermark(self.log)
        if reached > self.log.high_watermark:
            self.log.high_watermark = reached
            self.cluster.checkers.watermark_moved(self.broker_id)
