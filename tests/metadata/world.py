"""A cluster's metadata without its network: one log, one controller, brokers that speak when a test says so."""

import uuid

from metadata import codec
from metadata.answers import AdminAnswer, Answer, HeartbeatAnswer, Refused
from metadata.apply import apply
from metadata.circumstances import TopicPolicy
from metadata.commands import Command, Proposal
from metadata.controller import Controller, ControllerSettings
from metadata.delta import Delta
from metadata.image import CommandId, Endpoint, Image
from metadata.requests import (
    AlterPartitionRequest,
    ConfigChange,
    CreateTopicRequest,
    Heartbeat,
    InSyncReplicasChange,
    RegistrationRequest,
)
from wire.errors import ErrorCode

CLUSTER_ID = "a-cluster"
SESSION_MS = 6000


def outcome(answer: AdminAnswer) -> ErrorCode:
    """Of a whole request, or of its only partition: NONE where it took effect."""
    if isinstance(answer, Refused):
        return answer.code
    refusals = getattr(answer, "refusals", ())
    assert len(refusals) <= 1, refusals
    return refusals[0].code if refusals else ErrorCode.NONE


def an_id(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


class World:
    """Every proposal goes through its bytes; images and deltas of every step are kept."""

    def __init__(self, *, brokers: int = 0, policy: TopicPolicy | None = None, **settings: int | bool):
        self.settings = ControllerSettings(session_timeout_ms=SESSION_MS, topics=policy or TopicPolicy(), **settings)
        self.image = Image.empty(CLUSTER_ID)
        self.history: list[tuple[Image, Delta]] = [(self.image, Delta())]
        self.now_ms = 1000
        self.ids = 1000
        self.controller = Controller(self.settings)
        self.controller.activated(self.image, self.now_ms)
        for broker_id in range(1, brokers + 1):
            self.start(broker_id)

    def propose(self, proposal: Proposal | Command) -> Answer:
        if not isinstance(proposal, Proposal):
            proposal = Proposal(command=proposal)
        decoded = codec.decode_proposal(codec.encode_proposal(proposal))
        assert proposal == decoded
        applied = apply(self.image, self.image.applied_index + 1, decoded)
        self.image = applied.image
        self.history.append((applied.image, applied.delta))
        return applied.answer

    def new_id(self) -> uuid.UUID:
        self.ids += 1
        return an_id(self.ids)

    def register(
        self,
        broker_id: int,
        *,
        incarnation: int = 1,
        directory: int | None = None,
        directories=None,
        clean: bool = True,
        rack: str | None = None,
    ) -> AdminAnswer:
        numbers = directories or (100 + broker_id if directory is None else directory,)
        request = RegistrationRequest(
            broker_id=broker_id,
            cluster_id=CLUSTER_ID,
            incarnation_id=an_id(broker_id * 1000 + incarnation),
            directory_ids=tuple(an_id(number) for number in numbers),
            http=Endpoint("127.0.0.1", 8000 + broker_id),
            peer=Endpoint("127.0.0.1", 9000 + broker_id),
            clean_shutdown=clean,
            rack=rack,
        )
        decided = self.controller.register(self.image, request, now_ms=self.now_ms)
        return self.propose(decided) if isinstance(decided, Proposal) else decided

    def beat(self, broker_id: int, **wishes: bool) -> HeartbeatAnswer:
        heartbeat = Heartbeat(
            broker_id=broker_id,
            broker_epoch=self.image.brokers[broker_id].epoch,
            applied_index=self.image.applied_index,
            **wishes,
        )
        return self.controller.heard(self.image, heartbeat, now_ms=self.now_ms)

    def tick(self, *, after_ms: int = 0) -> list[Answer]:
        self.now_ms += after_ms
        return [self.propose(proposal) for proposal in self.controller.tick(self.image, self.now_ms)]

    def settle(self) -> None:
        """Tick until there is nothing to propose."""
        for _ in range(20):
            if not self.tick(after_ms=100):
                return
        raise AssertionError("the controller does not come to rest")

    def start(self, broker_id: int, **facts) -> None:
        answer = self.register(broker_id, **facts)
        assert not isinstance(answer, Refused), answer
        self.beat(broker_id)
        self.settle()

    def pass_time(self, ms: int, *, alive: tuple[int, ...]) -> None:
        """Time goes by while only some brokers send heartbeats."""
        for _ in range(0, ms, 500):
            self.now_ms += 500
            for broker_id in alive:
                self.beat(broker_id)
            self.tick()

    def new_controller(self, *, heard_ms: dict[int, int] | None = None) -> None:
        self.controller = Controller(self.settings)
        self.controller.activated(self.image, self.now_ms, heard_ms)

    def restore(self) -> None:
        """As a node that starts from a snapshot."""
        self.image = codec.decode_snapshot(codec.encode_snapshot(self.image))

    def ask(self, request, *, command_id: CommandId | None = None) -> AdminAnswer:
        """Decide and propose; a RefusedError comes through."""
        decided = self.controller.decide(
            self.image, request, command_id=command_id, new_id=self.new_id(), now_ms=self.now_ms
        )
        return self.propose(decided) if isinstance(decided, Proposal) else decided

    def create(self, name: str, *replicas: tuple[int, ...], **configs: str) -> None:
        """A topic with these replicas; configs with `_` for `.`."""
        changes = tuple(ConfigChange(name=k.replace("_", "."), value=v) for k, v in configs.items())
        self.ask(CreateTopicRequest(name=name, replicas_assignments=replicas, configs=changes))

    def in_sync_change(self, name: str, in_sync: tuple[int, ...], *, index: int = 0, **other) -> InSyncReplicasChange:
        """What the leader would ask for now; `other` fields are those of a leader that saw something else."""
        state = self.partition(name, index)
        fields = {
            "topic_id": self.image.topic(name).topic_id,
            "partition": index,
            "leader_epoch": state.leader_epoch,
            "partition_epoch": state.partition_epoch,
            "in_sync_replicas": tuple((r, self.epoch(r)) for r in in_sync),
        }
        return InSyncReplicasChange(**(fields | other))

    def alter(self, leader: int, *changes: InSyncReplicasChange, epoch: int | None = None) -> AdminAnswer:
        """The leader asks for changes of the in-sync replicas."""
        epoch = self.epoch(leader) if epoch is None else epoch
        return self.ask(AlterPartitionRequest(broker_id=leader, broker_epoch=epoch, changes=changes))

    def in_sync(self, name: str, *in_sync: int, index: int = 0) -> AdminAnswer:
        """The present leader makes these the in-sync replicas."""
        return self.alter(self.partition(name, index).leader, self.in_sync_change(name, in_sync, index=index))

    def epoch(self, broker_id: int) -> int:
        broker = self.image.brokers.get(broker_id)
        return -1 if broker is None else broker.epoch

    def die(self, *dead: int) -> None:
        """These brokers fall silent, and the cluster comes to rest without them."""
        alive = tuple(b for b, broker in self.image.brokers.items() if b not in dead and not broker.fenced)
        self.pass_time(SESSION_MS + 1000, alive=alive)
        self.settle()

    def partition(self, name: str, index: int = 0):
        return self.image.topic(name).partitions[index]

    def leaders(self, name: str) -> list[int]:
        topic = self.image.topic(name)
        found = [self.image.leader_of(topic, index) for index in range(len(topic.partitions))]
        return [-1 if broker is None else broker.broker_id for broker in found]

    def command_id(self, broker_id: int, sequence: int) -> CommandId:
        return CommandId(broker_id=broker_id, broker_epoch=self.image.brokers[broker_id].epoch, sequence=sequence)
