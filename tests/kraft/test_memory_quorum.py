"""The quorum in memory does what the test says and nothing by itself (its face: test_quorum_conformance.py)."""

import asyncio

import pytest

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable
from kraft.memory_quorum import MemoryCluster, MemoryQuorum
from tests.kraft.quorum_harness import RecordingMachine


class Trio:
    """Voters 1, 2, 3 and observer 4, with their machines."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster([1, 2, 3])
        self.machines = {node_id: RecordingMachine() for node_id in (1, 2, 3, 4)}
        self.nodes = {
            node_id: MemoryQuorum(self.cluster, node_id, machine) for node_id, machine in self.machines.items()
        }

    def commands(self) -> list[list[bytes]]:
        return [self.machines[node_id].commands for node_id in (1, 2, 3, 4)]


@pytest.fixture
async def trio():
    trio = Trio()
    for node in trio.nodes.values():
        await node.start()
    yield trio
    for node in trio.nodes.values():
        await node.stop()


async def test_nobody_leads_until_the_test_says_so(trio):
    assert [None] * 4 == [node.leader_id for node in trio.nodes.values()]
    with pytest.raises(NotLeader) as refusal:
        await trio.nodes[1].propose(b"x", timeout_s=1)
    assert refusal.value.leader_id is None
    trio.cluster.elect(2)
    assert [2] * 4 == [node.leader_id for node in trio.nodes.values()]
    assert trio.nodes[2].is_leader


async def test_a_command_is_on_all_nodes_before_anybody_else_runs(trio):
    trio.cluster.elect(1)
    proposing = trio.nodes[1].propose(b"x", timeout_s=1)
    assert 1 == await proposing
    assert [[b"x"]] * 4 == trio.commands()


async def test_an_isolated_leader_believes_and_commits_nothing(trio):
    trio.cluster.elect(1)
    trio.cluster.isolate(1)
    trio.cluster.elect(3)
    assert trio.nodes[1].is_leader
    assert trio.nodes[3].is_leader
    with pytest.raises(OutcomeUnknown):
        await trio.nodes[1].propose(b"stale", timeout_s=0.01)
    await trio.nodes[3].propose(b"new", timeout_s=1)
    trio.cluster.heal(1)
    assert not trio.nodes[1].is_leader
    assert [[b"new"]] * 4 == trio.commands()


async def test_what_a_deposed_leader_had_taken_ends_as_unknown_when_it_hears_of_it(trio):
    trio.cluster.elect(1)
    trio.cluster.isolate(1)
    proposing = asyncio.ensure_future(trio.nodes[1].propose(b"stale", timeout_s=60))
    await asyncio.sleep(0)
    trio.cluster.elect(2)
    assert not proposing.done()
    trio.cluster.heal(1)
    with pytest.raises(OutcomeUnknown, match="leadership was lost"):
        await proposing
    assert [[]] * 4 == trio.commands()


async def test_an_isolated_leader_that_is_not_deposed_commits_after_healing(trio):
    trio.cluster.elect(1)
    trio.cluster.isolate(1)
    proposing = asyncio.ensure_future(trio.nodes[1].propose(b"late", timeout_s=60))
    await asyncio.sleep(0)
    trio.cluster.heal(1)
    assert 1 == await proposing
    assert [[b"late"]] * 4 == trio.commands()


async def test_a_held_node_lags_until_it_is_released(trio):
    trio.cluster.elect(1)
    trio.cluster.hold(3)
    await trio.nodes[1].propose(b"x", timeout_s=1)
    assert [[b"x"], [b"x"], [], [b"x"]] == trio.commands()
    with pytest.raises(TimeoutError):
        await trio.nodes[3].wait_applied(trio.cluster.commit_index, timeout_s=0.01)
    waiting = asyncio.ensure_future(trio.nodes[3].wait_applied(trio.cluster.commit_index, timeout_s=60))
    await asyncio.sleep(0)
    trio.cluster.release(3)
    await waiting
    assert [b"x"] == trio.machines[3].commands


async def test_who_starts_after_a_compaction_restores_the_snapshot(trio):
    trio.cluster.elect(1)
    for n in range(5):
        await trio.nodes[1].propose(b"%d" % n, timeout_s=1)
    await trio.nodes[3].stop()
    trio.cluster.compact()
    await trio.nodes[1].propose(b"5", timeout_s=1)
    machine = RecordingMachine()
    trio.nodes[3] = MemoryQuorum(trio.cluster, 3, machine)
    await trio.nodes[3].start()
    assert ([b"0", b"1", b"2", b"3", b"4", b"5"], 1) == (machine.commands, machine.restores)


async def test_terms_rise_with_every_election_and_are_told_in_order(trio):
    told = []
    trio.nodes[4].on_role_change(lambda change: told.append((change.term, change.leader_id, change.is_leader)))
    for leader in (1, 1, None, 3):
        trio.cluster.elect(leader)
    await asyncio.sleep(0)
    assert [(1, 1, False), (2, 1, False), (3, None, False), (4, 3, False)] == told


async def test_a_cut_link_is_unavailable_or_unknown_as_a_real_one(trio):
    async def never(_asker: int, _payload: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    trio.nodes[2].on_request(never)
    call = asyncio.ensure_future(trio.nodes[4].request(2, b"", timeout_s=60))
    await asyncio.sleep(0)
    trio.cluster.isolate(2)
    with pytest.raises(OutcomeUnknown):
        await call
    with pytest.raises(PeerUnavailable):
        await trio.nodes[4].request(2, b"", timeout_s=1)


async def test_two_runs_are_the_same_run():
    async def run() -> tuple[list[int], list[tuple[int, int | None]]]:
        trio, told = Trio(), []
        for node in trio.nodes.values():
            await node.start()
            node.on_role_change(lambda change: told.append((change.term, change.leader_id)))
        trio.cluster.elect(1)
        await asyncio.gather(*(trio.nodes[1].propose(b"%d" % n, timeout_s=1) for n in range(20)))
        trio.cluster.elect(2)
        await asyncio.gather(*(trio.nodes[2].propose(b"%d" % n, timeout_s=1) for n in range(20)))
        return trio.machines[4].indexes, told

    assert await run() == await run()
