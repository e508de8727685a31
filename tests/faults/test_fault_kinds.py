"""Where a fault ends: what comes back is started and not waited for, so that the time to heal has begun by then."""

import random
from types import SimpleNamespace

import pytest

from tests.faults import fault_kinds, power_cut
from tests.faults.fault_kinds import KINDS, Strike, choose, draw_victim


class Node:
    """A process that is up or not; a start takes until somebody looks whether it is ready."""

    pid = 0
    directory = None

    def __init__(self, node_id: int) -> None:
        self.node_id, self.state = node_id, "ready"

    def signal(self, _: int) -> None:
        self.state = "down"

    def kill(self) -> None:
        self.state = "down"

    def is_running(self) -> bool:
        return self.state != "down"


class Field:
    """A battlefield without a war."""

    def __init__(self) -> None:
        self.nodes = [Node(1), Node(2), Node(3)]
        self.calls = {node.node_id: SimpleNamespace(journal=None) for node in self.nodes}
        self.cluster = SimpleNamespace(wait_ready=self.wait_ready)

    def start(self, node: Node) -> None:
        node.state = "starting"

    def begin_dead(self) -> None:
        for node in self.nodes:
            if node.state == "down":
                self.start(node)

    def start_dead(self) -> None:
        self.begin_dead()
        self.wait_ready()

    def wait_ready(self) -> None:
        for node in self.nodes:
            node.state = "ready"


def strike(seed: int = 1) -> Strike:
    field = Field()
    return Strike(field, "t", field.nodes[0], random.Random(seed), [])


@pytest.mark.parametrize("name", ["kill-all", "power-all"])
@pytest.mark.parametrize("seed", range(4))
def test_all_that_fell_at_once_are_started_at_the_end_and_nobody_waits(monkeypatch, name: str, seed: int):
    monkeypatch.setattr(power_cut, "cut", lambda *_: power_cut.Taken(0, 0, 0))
    blow = strike(seed)
    with KINDS[name](blow):
        assert {node.state for node in blow.field.nodes} <= {"down", "starting"}
    assert ["starting"] * 3 == [node.state for node in blow.field.nodes]


def test_a_rolling_restart_waits_for_each_but_the_last():
    blow = strike()
    with KINDS["rolling"](blow):
        pass
    assert ["ready", "ready", "starting"] == sorted(node.state for node in blow.field.nodes)


def test_damage_is_over_when_it_was_met_and_nobody_waits_for_the_victim(monkeypatch):
    """A file that a node refuses to start with comes back, and then the clock runs."""
    taken_back = []
    damage = SimpleNamespace(
        what="journal flip", kind="journal", file=None, take_back=lambda: taken_back.append(1), close=lambda: None
    )
    monkeypatch.setattr(fault_kinds, "corrupt", lambda *_: damage)
    blow = strike()
    with KINDS["corruption"](blow):
        blow.victim.state = "down"  # it refuses
        blow.victim.is_ready = lambda: False
    assert [1] == taken_back
    assert "starting" == blow.victim.state


def test_whom_it_hits_is_drawn_alike_whoever_leads():
    def victim(chance: random.Random, leads: int) -> Node:
        field = Field()
        field.cluster.leader_of = lambda *_: field.nodes[leads]
        field.cluster.quorum_leader = field.cluster.leader_of
        return draw_victim(field, "t", 6, chance)

    for seed in range(20):
        one, other = random.Random(seed), random.Random(seed)
        victim(one, 0)
        victim(other, 1)
        assert one.random() == other.random()


def test_a_cycle_mixes_no_kinds_that_would_take_two_nodes_away():
    for seed in range(300):
        chosen = choose(list(KINDS), random.Random(seed))
        assert len(chosen) == len(set(chosen))
        assert len({"kill", "power", "pause", "disk-error", "descriptors"} & set(chosen)) <= 1
        assert len(chosen) == 1 or not {"growth", "corruption", "kill-all", "power-all"} & set(chosen)
