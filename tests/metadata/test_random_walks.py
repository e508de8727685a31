"""A cluster lives through whatever may happen to it: at no entry of the log does anybody count who lacks something that
was acknowledged (S3), and once all is well again every partition is led, in sync and where it was to go (L1).

Unlike in `test_any_interleaving` most things go as they should, so the walks get far; a few proposals come late or
twice. A failure names its seed.
"""

import random

import pytest

from metadata import broker_entries, elections, topic_entries
from metadata.commands import Proposal
from metadata.controller import Controller
from metadata.image import Partition
from metadata.requests import (
    AlterConfigsRequest,
    AlterPartitionRequest,
    ConfigChange,
    ElectLeadersRequest,
    LostReplicasRequest,
    PartitionName,
    PartitionReassignment,
    ReassignPartitionsRequest,
)
from tests.metadata.holders import Holders
from tests.metadata.world import World
from wire.errors import RefusedError

BROKERS = (1, 2, 3, 4, 5)
TOPICS = {"safe": ("2", "1"), "one": ("1", "1"), "all": ("3", "1"), "relaxed": ("2", "1000")}
STEPS = 250
STEPS_WEIGHTS = {
    "beat": 10, "pass_time": 6, "joins": 14, "leaves": 8, "crash": 5, "restart": 10, "stop": 3, "lose": 2,
    "move": 6, "cancel": 2, "choose": 4, "minimum": 3, "another_controller": 1, "deliver_late": 6,
}  # fmt: skip


class Walk(World):
    """Brokers are alive or not; a leader asks only for what it may, and as its image says."""

    def __init__(self, seed: int):
        self.chance = random.Random(seed)
        self.holders = Holders()
        self.late: list[Proposal] = []
        self.alive: set[int] = set()
        self.lives: dict[int, int] = {}
        self.disks = {broker_id: 100 + broker_id for broker_id in BROKERS}
        self.lateness = 0.0
        self.done: dict[str, int] = {}
        super().__init__()
        for broker_id in BROKERS:
            self.restart_broker(broker_id, clean=True)
        for name, (minimum, flush) in TOPICS.items():
            replicas = [tuple(self.chance.sample(BROKERS, 3)) for _ in range(2)]
            self.create(name, *replicas, min_insync_replicas=minimum, flush_messages=flush)

    # -- what the log is told, at once or late

    def propose(self, proposal):
        proposal = proposal if isinstance(proposal, Proposal) else Proposal(command=proposal)
        if self.chance.random() < self.lateness:
            self.late.append(proposal)
            return None
        return self.apply(proposal)

    def apply(self, proposal: Proposal):
        before = self.image
        answer = super().propose(proposal)
        self.holders.see(before, self.image, proposal.command)
        judge(before, self.image)
        return answer

    def deliver_late(self):
        if self.late:
            position = self.chance.randrange(len(self.late))
            twice = self.chance.random() < 0.2
            self.apply(self.late[position] if twice else self.late.pop(position))

    def attempt(self, request):
        try:
            return self.ask(request)
        except RefusedError:
            return None

    # -- what may happen

    def step(self):
        kind = self.chance.choices([*STEPS_WEIGHTS], [*STEPS_WEIGHTS.values()])[0]
        before = self.image
        getattr(self, f"do_{kind}", getattr(self, kind, None))()
        if self.chance.random() < 0.7:
            self.tick(after_ms=self.chance.choice([0, 50, 200]))
        self.done[kind] = self.done.get(kind, 0) + (before.topics is not self.image.topics)

    def somebody(self):
        return self.chance.choice(BROKERS)

    def some_partition(self):
        name = self.chance.choice([*TOPICS])
        index = self.chance.randrange(2)
        return name, index, self.partition(name, index)

    def do_beat(self):
        self.beat_all()

    def beat_all(self):
        for broker_id in sorted(self.alive):
            if self.is_registered(broker_id):
                self.beat(broker_id)

    def is_registered(self, broker_id):
        """Its present life: the registration may be on its way still."""
        return self.image.brokers[broker_id].incarnation_id.int == broker_id * 1000 + self.lives[broker_id]

    def do_pass_time(self):
        for _ in range(self.chance.randrange(1, 16)):
            self.now_ms += 500
            self.beat_all()
            self.tick()

    def do_joins(self):
        name, index, state = self.some_partition()
        missing = [r for r in state.replicas if r not in state.in_sync_replicas and r in self.alive]
        if missing:
            joining = self.chance.sample(missing, self.chance.randrange(1, len(missing) + 1))
            self.leader_wishes(name, index, {*state.in_sync_replicas, *joining})

    def do_leaves(self):
        name, index, state = self.some_partition()
        others = [r for r in state.in_sync_replicas if r != state.leader]
        if others:
            leaving = self.chance.sample(others, self.chance.randrange(1, len(others) + 1))
            self.leader_wishes(name, index, {*state.in_sync_replicas} - {*leaving})

    def leader_wishes(self, name, index, in_sync):
        leader = self.image.leader_of(self.image.topic(name), index)
        if leader is not None and leader.broker_id in self.alive:
            change = self.in_sync_change(name, tuple(sorted(in_sync)), index=index)
            request = AlterPartitionRequest(broker_id=leader.broker_id, broker_epoch=leader.epoch, changes=(change,))
            self.attempt(request)

    def do_crash(self):
        self.alive.discard(self.somebody())

    def do_restart(self):
        """At once after a kill, or of a broker that has been down; now and then on an empty disk."""
        broker_id = self.somebody()
        if self.chance.random() < 0.1 and self.may_lose_its_disk(broker_id):
            self.disks[broker_id] += 100
        self.restart_broker(broker_id, clean=self.chance.random() < 0.3)

    def may_lose_its_disk(self, broker_id):
        """Some other member of every ISR or ELR is left: two disks lost are two too many for anybody (S1)."""
        return all(
            len(self.holders.of(topic.topic_id, index) - {broker_id}) >= 1
            and {*state.in_sync_replicas, *state.eligible_leader_replicas} - {broker_id}
            for topic in self.image.topics.values()
            for index, state in enumerate(topic.partitions)
        )

    def restart_broker(self, broker_id, *, clean):
        self.lives[broker_id] = self.lives.get(broker_id, 0) + 1
        self.alive.discard(broker_id)
        try:
            self.register(broker_id, incarnation=self.lives[broker_id], directory=self.disks[broker_id], clean=clean)
        except RefusedError:
            return  # on another disk while its earlier life may go on
        self.alive.add(broker_id)
        self.beat_all()
        self.tick(after_ms=100)

    def do_stop(self):
        broker_id = self.somebody()
        if broker_id not in self.alive or self.image.brokers[broker_id].fenced:
            return
        for _ in range(self.chance.randrange(1, 5)):
            self.beat(broker_id, wants_shutdown=True)
            self.tick(after_ms=100)
        self.alive.discard(broker_id)

    def do_lose(self):
        """A disk error: the broker lives on without this replica."""
        name, index, state = self.some_partition()
        broker_id = self.chance.choice(state.replicas)
        counted = {*state.in_sync_replicas, *state.eligible_leader_replicas}
        if broker_id in self.alive and counted - {broker_id}:
            replicas = ((self.image.topic(name).topic_id, index),)
            self.attempt(
                LostReplicasRequest(
                    broker_id=broker_id, broker_epoch=self.epoch(broker_id), loss="MISSING", replicas=replicas
                )
            )

    def do_move(self):
        name, index, _ = self.some_partition()
        target = tuple(self.chance.sample(BROKERS, self.chance.choice([1, 2, 3, 3, 3])))
        self.attempt(ReassignPartitionsRequest(assignments=(moved(name, index, target),)))

    def do_cancel(self):
        name, index, _ = self.some_partition()
        self.attempt(ReassignPartitionsRequest(assignments=(moved(name, index, None),)))

    def do_choose(self):
        name, index, _ = self.some_partition()
        partitions = (PartitionName(name=name, partition=index),)
        election = self.chance.choice(["PREFERRED", "DESIGNATED", "DESIGNATED"])
        leader = self.chance.choice([None, *BROKERS]) if election == "DESIGNATED" else None
        self.attempt(ElectLeadersRequest(partitions=partitions, election=election, leader=leader))

    def do_minimum(self):
        minimum = ConfigChange(name="min.insync.replicas", value=self.chance.choice("123"))
        self.attempt(AlterConfigsRequest(name=self.chance.choice([*TOPICS]), changes=(minimum,)))

    def do_another_controller(self):
        self.new_controller()

    # -- and then all is well

    def heal(self):
        """Everything is there again; where the disks of all who held everything are gone an operator chooses (L2)."""
        self.lateness = 0.0
        self.late.clear()
        for _ in range(4):
            for broker_id in BROKERS:
                stopping = self.image.brokers[broker_id].in_controlled_shutdown
                if broker_id not in self.alive or stopping or not self.is_registered(broker_id):
                    self.restart_broker(broker_id, clean=False)
            for _ in range(20):
                self.now_ms += 500
                self.beat_all()
                self.tick()
            if lost := tuple(self.lost()):
                assert () == self.ask(ElectLeadersRequest(partitions=lost, election="UNCLEAN")).refusals
            for name in TOPICS:
                for index in range(2):
                    self.leader_wishes(name, index, {*self.partition(name, index).replicas})
        self.settle()

    def lost(self):
        for name in TOPICS:
            for index in range(2):
                state = self.partition(name, index)
                if not (state.in_sync_replicas or state.eligible_leader_replicas):
                    yield PartitionName(name=name, partition=index)


def moved(name, index, replicas):
    return PartitionReassignment(name=name, partition=index, replicas=replicas)


def judge(before, after):
    for topic in after.topics.values():
        for index, new in enumerate(topic.partitions):
            old = before.partition(topic.topic_id, index)
            if old is None or old is new:
                continue
            assert new.partition_epoch > old.partition_epoch
            is_elected = (old.leader, old.leader_broker_epoch) != (new.leader, new.leader_broker_epoch)
            is_new_epoch = is_elected or not {*old.replicas} <= {*new.replicas}
            assert is_new_epoch <= new.leader_epoch - old.leader_epoch <= 1, "S4: an election is a new epoch"
            assert new.leader == -1 or new.leader in new.in_sync_replicas
            counted = (*new.in_sync_replicas, *new.eligible_leader_replicas)
            assert len(counted) == len({*counted})
            assert {*counted} <= {*new.replicas}
            assert len(new.replicas) == len({*new.replicas})
            moving = new.is_reassigning
            assert ({*new.replicas} - {*new.adding_replicas} if moving else set()) == {*new.original_replicas}
            assert {*new.replicas} - {*old.replicas} <= {*new.adding_replicas}, "who is new has to catch up first"


@pytest.mark.parametrize("batch", range(4))
def test_nothing_acknowledged_is_given_up_and_all_is_well_in_the_end(batch):
    walk_all(range(batch * 10, batch * 10 + 10))


@pytest.mark.long
@pytest.mark.parametrize("batch", range(10))
def test_many_random_walks(batch):
    walk_all(range(1000 + batch * 200, 1200 + batch * 200))


def walk_all(seeds):
    for seed in seeds:
        walk_with(seed)


def walk_with(seed: int) -> Walk:
    walk = Walk(seed)
    walk.lateness = walk.chance.choice([0.0, 0.1, 0.3])
    try:
        for _ in range(STEPS):
            walk.step()
        walk.heal()
        for name in TOPICS:
            for index in range(2):
                state = walk.partition(name, index)
                assert walk.image.leader_of(walk.image.topic(name), index) is not None, state
                assert {*state.replicas} == {*state.in_sync_replicas}, state
                assert not state.is_reassigning, state
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return walk


def everybody_stays_eligible(monkeypatch):
    monkeypatch.setattr(elections, "_without_settled", lambda p, _i, who, _r: tuple(r for r in p.replicas if r in who))
    monkeypatch.setattr(Partition, "in_sync_replicas_needed", lambda self, minimum: min(minimum, self.assigned_count))


def an_empty_disk_is_not_noticed(monkeypatch):
    monkeypatch.setattr(elections, "_lost_everything", lambda _p, _b: frozenset())


def who_restarts_serves_before_it_was_taken_out(monkeypatch):
    monkeypatch.setattr(broker_entries, "_still_in_sync", lambda _i, _b: None)
    monkeypatch.setattr(Controller, "_may_return", lambda self, b, _e, now_ms: self._is_alive(b, now_ms))


def a_lowered_minimum_voids_nothing(monkeypatch):
    monkeypatch.setattr(topic_entries, "_under_minimum", lambda p, _m: p)
    monkeypatch.setattr(Partition, "in_sync_replicas_needed", lambda self, minimum: min(minimum, self.assigned_count))


@pytest.mark.parametrize(
    "defect",
    [
        everybody_stays_eligible,
        an_empty_disk_is_not_noticed,
        who_restarts_serves_before_it_was_taken_out,
        a_lowered_minimum_voids_nothing,
    ],
)
def test_a_planted_defect_is_found(defect, monkeypatch):
    """The walks are no proof of anything that they would not notice to be missing."""
    defect(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        walk_all(range(40))
