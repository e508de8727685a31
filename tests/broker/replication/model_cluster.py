"""A cluster of model brokers on one virtual clock: the real metadata, a lossy network, and everything from one seed.

The metadata log always has a majority (the quorum has its own fuzzer); its controller can be replaced, and what it
proposes travels for a while and may get lost. A run is a function of its seed and its settings.
"""

import heapq
import itertools
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.replication.leader import FollowerFetch
from broker.replication.undecided_changes import ChangeInSyncReplicas
from metadata.answers import Answer, PartitionsChanged, Refused, RegistrationAnswer
from metadata.apply import apply
from metadata.commands import CreateTopic, PartitionAssignment, Proposal
from metadata.controller import Controller, ControllerSettings
from metadata.decisions import TopicPolicy
from metadata.image import Endpoint, Image
from metadata.requests import AlterPartitionRequest, Heartbeat, RegistrationRequest
from tests.broker.replication.model_broker import Cores, ModelBroker, Waiting
from tests.broker.replication.model_checkers import Checkers, ViolationError
from wire.errors import ErrorCode, RefusedError

CONTROLLER = 0
SESSION_TIMEOUT_MS = 500


@dataclass(slots=True)
class Network:
    """What is lost and late; `blocked` links are (from, to), asymmetric."""

    blocked: set[tuple[int, int]] = field(default_factory=set)
    loss: float = 0.0
    duplication: float = 0.0
    tail: float = 0.0
    """How often a message takes much longer than usual."""


class ModelCluster:
    """Brokers 1 to n, one partition of one topic, assigned to all of them."""

    topic_id = uuid.UUID(int=1)
    endpoint = Endpoint("localhost", 1)

    def __init__(
        self,
        seed: int,
        *,
        brokers_count: int = 3,
        min_in_sync_replicas: int = 2,
        relaxed: bool = False,
        cores: Cores | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 0.0
        self.relaxed = relaxed
        self.min_in_sync_replicas = min_in_sync_replicas
        self.cores = Cores() if cores is None else cores
        self.network = Network()
        self.events_run = 0
        self.elections = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._value = itertools.count()
        self.image = Image.empty("model")
        self.controller = self._new_controller()
        self.brokers = {b: ModelBroker(b, self) for b in range(1, brokers_count + 1)}
        self.checkers = Checkers({b: broker.log for b, broker in self.brokers.items()})
        self.on_alter_partition: Callable[[ModelBroker, ChangeInSyncReplicas], None] | None = None
        self.on_follow: Callable[[ModelBroker], None] | None = None
        self.sends_until_ms = 0.0

    # ---- time

    def at(self, delay_ms: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), event))

    def run_until(self, time_ms: float) -> None:
        while self._events and self._events[0][0] <= time_ms:
            self.now_ms, _, event = heapq.heappop(self._events)
            self.events_run += 1
            event()
        self.now_ms = time_ms

    def sync_ms(self) -> float:
        return self.rng.uniform(50, 500) if self.relaxed else self.rng.uniform(0.2, 3)

    def an_id(self, number: int) -> uuid.UUID:
        return uuid.UUID(int=number + 100)

    # ---- network

    def send(self, source: int, target: int, message: Callable[[], None]) -> None:
        """Deliver `message` some time, once, twice or never."""
        net, rng = self.network, self.rng
        if (source, target) in net.blocked or rng.random() < net.loss:
            return
        for _ in range(2 if rng.random() < net.duplication else 1):
            delay_ms = rng.uniform(0.2, 2) if rng.random() >= net.tail else rng.uniform(2, 400)
            self.at(delay_ms, lambda: None if (source, target) in net.blocked else message())

    def to_controller(self, broker: ModelBroker, message: Callable[[], None]) -> None:
        self.send(broker.broker_id, CONTROLLER, message)

    def to_broker(self, broker: ModelBroker, life: int, source: int, message: Callable[[], None]) -> None:
        """To one process: its successor has other connections."""
        self.send(source, broker.broker_id, lambda: broker._run(life, message))

    def fetch(self, source: ModelBroker, target: int, fetch: FollowerFetch, answered: Callable) -> None:
        leader, life = self.brokers[target], source.incarnation

        def answer(given: object) -> None:
            self.to_broker(source, life, target, lambda: answered(given))

        self.to_broker(leader, leader.incarnation, source.broker_id, lambda: leader.asked(fetch, answer))

    # ---- the controller

    def _new_controller(self) -> Controller:
        defaults = {"min.insync.replicas": str(self.min_in_sync_replicas)}
        if self.relaxed:
            defaults["flush.messages"] = "1000000"
        policy = TopicPolicy(default_replication_factor=3, broker_defaults=defaults)
        controller = Controller(
            ControllerSettings(session_timeout_ms=SESSION_TIMEOUT_MS, proposal_retry_ms=100, topics=policy)
        )
        controller.activated(self.image, int(self.now_ms))
        return controller

    def replace_controller(self) -> None:
        """Another node leads the quorum; what the old one proposed may still be on its way."""
        self.controller = self._new_controller()

    def _tick(self) -> None:
        for proposal in self.controller.tick(self.image, int(self.now_ms)):
            self.propose(proposal)
        self.at(15, self._tick)

    def propose(self, proposal: Proposal, answered: Callable[[Answer], None] | None = None) -> None:
        if self.rng.random() < self.network.loss:
            return
        delay_ms = self.rng.uniform(0.5, 4) if self.rng.random() >= self.network.tail else self.rng.uniform(4, 100)

        def commit() -> None:
            answer = self._apply(proposal)
            if answered is not None:
                answered(answer)

        self.at(delay_ms, commit)

    def _apply(self, proposal: Proposal) -> Answer:
        before = self.image
        applied = apply(before, before.applied_index + 1, proposal)
        self.image = applied.image
        if applied.image.topics is not before.topics:
            state = applied.image.topics[self.topic_id].partitions[0]
            known = self.checkers.state
            self.elections += known is not None and known.leader_epoch != state.leader_epoch
            self.checkers.state_changed(state, {b.broker_id: b.epoch for b in applied.image.brokers.values()})
        return applied.answer

    def register(self, broker: ModelBroker, life: int, request: RegistrationRequest) -> None:
        def registered(answer: Answer) -> None:
            if isinstance(answer, RegistrationAnswer):
                epoch = answer.broker_epoch
                self.to_broker(broker, life, CONTROLLER, lambda: started(epoch))

        def started(epoch: int) -> None:
            if broker.broker_epoch is None:
                broker.registered(epoch)

        try:
            decided = self.controller.register(self.image, request, now_ms=int(self.now_ms))
        except RefusedError:
            return
        if isinstance(decided, Proposal):
            self.propose(decided, registered)
        else:
            registered(decided)

    def heard(self, broker: ModelBroker, life: int, heartbeat: Heartbeat) -> None:
        try:
            self.controller.heard(self.image, heartbeat, now_ms=int(self.now_ms))
        except RefusedError:
            self.to_broker(broker, life, CONTROLLER, lambda: broker.unregistered(heartbeat.broker_epoch))

    def give_image(self, broker: ModelBroker, life: int) -> None:
        image = self.image
        self.to_broker(broker, life, CONTROLLER, lambda: broker.see(image))

    def alter_partition(
        self,
        broker: ModelBroker,
        life: int,
        request: AlterPartitionRequest,
        answered: Callable[[ErrorCode | None], None],
    ) -> None:
        def reply(answer: object) -> None:
            match answer:
                case Refused(code=code):
                    refusal: ErrorCode | None = code
                case PartitionsChanged(refusals=refusals) if refusals:
                    refusal = refusals[0].code
                case _:
                    refusal = None
            self.to_broker(broker, life, CONTROLLER, lambda: answered(refusal))

        try:
            decided = self.controller.decide(
                self.image, request, command_id=None, new_id=self.an_id(0), now_ms=int(self.now_ms)
            )
        except RefusedError as refused:
            reply(Refused.of(refused, index=0))
            return
        if isinstance(decided, Proposal):
            self.propose(decided, reply)
        else:
            reply(decided)

    def before_alter_partition(self, broker: ModelBroker, change: ChangeInSyncReplicas) -> None:
        if self.on_alter_partition is not None:
            self.on_alter_partition(broker, change)

    def follows(self, broker: ModelBroker) -> None:
        if self.on_follow is not None:
            self.on_follow(broker)

    # ---- clients

    def begin(self) -> None:
        """Start all brokers, create the topic when they are in service, and let clients send."""
        for broker in self.brokers.values():
            broker.start()
        self._tick()
        self.run_until(200)
        assert all(b.in_service for b in self.image.brokers.values()), self.image.brokers
        assignment = PartitionAssignment(
            replicas=tuple(self.brokers), leader=1, leader_broker_epoch=self.image.brokers[1].epoch
        )
        created = CreateTopic(topic_id=self.topic_id, name="pay", assignments=(assignment,), configs={})
        self._apply(Proposal(command=created))
        self._send()
        self._read()

    def _send(self) -> None:
        if self.now_ms < self.sends_until_ms:
            leading = [b for b in self.brokers.values() if b.leader is not None and not b.is_paused]
            if leading:
                self.rng.choice(leading).produce(next(self._value), self.checkers.last_acknowledged)
        self.at(self.rng.uniform(1, 8), self._send)

    def _read(self) -> None:
        for broker in self.brokers.values():
            start_offset, end_offset = broker.log.log_start_offset, broker.readable_end_offset()
            if broker.leader is not None and end_offset > start_offset:
                self.checkers.read(broker.broker_id, self.rng.randrange(start_offset, end_offset))
        self.at(self.rng.uniform(5, 15), self._read)

    def acknowledge(self, broker: ModelBroker, leader_epoch: int, one: Waiting) -> None:
        self.checkers.acknowledge(one.offset, one.value, sent_after=one.sent_after)
        self.checkers.acknowledged_in(leader_epoch, broker.broker_id, one.offset)

    # ---- the end

    def heal(self) -> None:
        """Everything runs and hears everything."""
        self.network.blocked.clear()
        self.network.loss = self.network.duplication = self.network.tail = 0.0
        for broker in self.brokers.values():
            broker.slow_sync_ms = 0
            if not broker.is_running:
                broker.start()
            elif broker.is_paused:
                broker.resume()

    def check_healed(self, within_ms: float) -> None:
        """L1: a leader, full in-sync replicas, writes accepted; then S1 on every replica."""
        self.heal()
        self.sends_until_ms = self.now_ms + within_ms
        before = len(self.checkers.acknowledged)
        self.run_until(self.now_ms + within_ms)
        state = self.image.topics[self.topic_id].partitions[0]
        if len(state.in_sync_replicas) < len(self.brokers) or len(self.checkers.acknowledged) == before:
            raise ViolationError("L1", f"{within_ms:.0f} ms after healing: {state}, {len(self.checkers.acknowledged)}")
        self.run_until(self.now_ms + 500)
        self.checkers.healed()
