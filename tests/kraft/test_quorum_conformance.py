"""What every `MetadataQuorum` promises, asked of the one in memory, of voters of 1, 3 and 5, and of an observer."""

import asyncio

import pytest

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable
from kraft.quorum import RoleChange  # noqa: TC001  # a value here, an annotation there
from tests.kraft.quorum_clusters import SharedMemoryCluster, ThreadCluster
from tests.kraft.quorum_harness import until
from wire.errors import RefusedError

KINDS = ["memory-1", "memory-3", "raft-1", "raft-3", "raft-5"]
WITH_MAJORITY_LEFT = ["memory-3", "raft-3", "raft-5"]


def make_cluster(kind: str, directory):
    name, count = kind.split("-")
    if name == "memory":
        return SharedMemoryCluster(voters=int(count)), int(count)
    return ThreadCluster(directory, voters=int(count), observers=1), int(count)


@pytest.fixture
async def cluster(request, tmp_path):
    """All voters and one observer (node count+1) running."""
    cluster, count = make_cluster(request.param, tmp_path)
    await asyncio.gather(*(cluster.start(node_id) for node_id in range(1, count + 2)))
    yield cluster
    await cluster.stop_all()


def observer_of(cluster):
    return cluster.members[max(cluster.machines)]


every_kind = pytest.mark.parametrize("cluster", KINDS, indirect=True)
without_five = pytest.mark.parametrize("cluster", KINDS[:-1], indirect=True)
where_a_majority_is_left = pytest.mark.parametrize("cluster", WITH_MAJORITY_LEFT, indirect=True)


@every_kind
async def test_a_proposal_is_answered_when_it_is_applied_here_and_reaches_all_in_one_order(cluster):
    leader = await cluster.leader()
    answers = [await leader.propose(b"command-%d" % n, timeout_s=30) for n in range(20)]
    assert list(range(1, 21)) == answers
    for node_id, member in cluster.members.items():
        await member.wait_applied(leader.last_applied, timeout_s=30)
        assert [b"command-%d" % n for n in range(20)] == cluster.machines[node_id].commands
    assert 1 == len({tuple(machine.indexes) for machine in cluster.machines.values() if not machine.restores})


@every_kind
async def test_proposals_made_at_once_are_committed_in_the_order_of_their_calls(cluster):
    leader = await cluster.leader()
    answers = await asyncio.gather(*(leader.propose(b"%d" % n, timeout_s=30) for n in range(500)))
    assert list(range(1, 501)) == answers
    assert [b"%d" % n for n in range(500)] == cluster.machines[cluster.id_of(leader)].commands


@every_kind
async def test_only_the_leader_takes_proposals_and_the_others_name_it(cluster):
    leader = await cluster.leader()
    for member in cluster.others(leader):
        with pytest.raises(NotLeader) as refusal:
            await member.propose(b"x", timeout_s=30)
        assert cluster.id_of(leader) == refusal.value.leader_id
        with pytest.raises(NotLeader):
            await member.barrier(timeout_s=30)
    assert 0 == len(cluster.machines[cluster.id_of(leader)].commands)


@without_five
async def test_a_barrier_stands_behind_everything_acknowledged_before_it(cluster):
    leader = await cluster.leader()
    await leader.propose(b"before", timeout_s=30)
    applied = leader.last_applied
    assert await leader.barrier(timeout_s=30) >= applied
    assert leader.last_applied >= applied


@without_five
async def test_barriers_made_at_once_all_pass(cluster):
    leader = await cluster.leader()
    indexes = await asyncio.gather(*(leader.barrier(timeout_s=30) for _ in range(50)))
    assert max(indexes) <= leader.last_applied


@without_five
async def test_a_command_too_long_is_refused_with_the_limit(cluster):
    leader = await cluster.leader()
    with pytest.raises(RefusedError, match="524288"):
        await leader.propose(bytes(512 * 1024 + 1), timeout_s=30)
    assert 1 == await leader.propose(bytes(512 * 1024), timeout_s=30)


@without_five
async def test_waiting_for_an_index_ends_with_it_or_with_the_time(cluster):
    leader = await cluster.leader()
    index = leader.last_applied + 2
    for member in cluster.members.values():
        with pytest.raises(TimeoutError):
            await member.wait_applied(index, timeout_s=0.05)
    waits = [asyncio.ensure_future(member.wait_applied(index, timeout_s=30)) for member in cluster.members.values()]
    await leader.propose(b"one", timeout_s=30)
    await leader.propose(b"two", timeout_s=30)
    await asyncio.gather(*waits)


@without_five
async def test_a_cancelled_caller_harms_nobody(cluster):
    leader = await cluster.leader()
    calls = [asyncio.ensure_future(leader.propose(b"%d" % n, timeout_s=30)) for n in range(100)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await leader.propose(b"after", timeout_s=30)
    commands = cluster.machines[cluster.id_of(leader)].commands
    assert b"after" == commands[-1]
    assert {b"%d" % n for n in range(1, 100, 2)} <= set(commands)
    assert len(commands) == len(set(commands)), "nothing is applied twice"


@every_kind
async def test_status_describes_the_quorum(cluster):
    leader = await cluster.leader()
    await leader.propose(b"x", timeout_s=30)
    await until(lambda: leader.status().last_applied == leader.last_applied)
    status = leader.status()
    assert cluster.id_of(leader) == status.leader_id == status.node_id
    assert leader.term == status.term
    assert status.last_applied <= status.commit_index <= status.log_end_index
    own = next(voter for voter in status.voters if voter.node_id == status.node_id)
    assert (status.log_end_index, 0, True) == (own.match_index, own.lag, own.directory_ok)
    await until(lambda: all(voter.lag == 0 for voter in leader.status().voters), what="all voters caught up")
    await until(lambda: all(status.leader_id == other.status().leader_id for other in cluster.others(leader)))


@every_kind
async def test_requests_reach_the_handler_of_any_node_and_of_this_one(cluster):
    for node_id, member in cluster.members.items():

        async def answer(asker: int, payload: bytes, node_id: int = node_id) -> bytes:
            return b"%d asked %d: %s" % (asker, node_id, payload)

        member.on_request(answer)
    leader = await cluster.leader()
    for node_id in cluster.members:
        asker = cluster.id_of(leader)
        assert b"%d asked %d: hi" % (asker, node_id) == await leader.request(node_id, b"hi", timeout_s=30)


@without_five
async def test_a_request_says_how_it_failed(cluster):
    await cluster.leader()
    observer = observer_of(cluster)
    with pytest.raises(PeerUnavailable):
        await observer.request(99, b"", timeout_s=30)
    with pytest.raises(PeerUnavailable):
        await observer.request(1, b"nobody has set a handler", timeout_s=30)

    asked = []

    async def answer(_asker: int, payload: bytes) -> bytes:
        asked.append(payload)
        if payload == b"raise":
            raise ValueError("no")
        await asyncio.sleep(60)
        return b""

    cluster.members[1].on_request(answer)
    with pytest.raises(OutcomeUnknown, match="ValueError"):
        await observer.request(1, b"raise", timeout_s=30)
    with pytest.raises(OutcomeUnknown, match="within"):
        await observer.request(1, b"sleep", timeout_s=0.5)
    call = asyncio.ensure_future(observer.request(1, b"sleep", timeout_s=60))
    await until(lambda: asked == [b"raise", b"sleep", b"sleep"])
    await cluster.stop(1)
    with pytest.raises(OutcomeUnknown):
        await call


@every_kind
async def test_a_node_that_joins_later_catches_up(cluster):
    leader = await cluster.leader()
    late = max(cluster.machines)
    await cluster.stop(late)
    for n in range(30):
        await leader.propose(b"%d" % n, timeout_s=30)
    member = await cluster.start(late)
    await member.wait_applied(leader.last_applied, timeout_s=30)
    assert [b"%d" % n for n in range(30)] == cluster.machines[late].commands


@where_a_majority_is_left
async def test_another_takes_over_from_a_stopped_leader_and_nothing_is_lost(cluster):
    leader = await cluster.leader()
    changes: dict[int, list[RoleChange]] = {node_id: [] for node_id in cluster.members}
    for node_id, member in cluster.members.items():
        member.on_role_change(changes[node_id].append)
    for n in range(10):
        await leader.propose(b"%d" % n, timeout_s=30)
    old_id, old_term = cluster.id_of(leader), leader.term
    await cluster.depose(leader)
    successor = await cluster.leader()
    new_id = cluster.id_of(successor)
    assert old_id != new_id
    assert successor.term > old_term
    assert 11 == await successor.propose(b"10", timeout_s=30)
    for node_id, member in cluster.members.items():
        await member.wait_applied(successor.last_applied, timeout_s=30)
        assert [b"%d" % n for n in range(11)] == cluster.machines[node_id].commands
        await until(lambda node_id=node_id: changes[node_id] and changes[node_id][-1].leader_id == new_id)
        last = changes[node_id][-1]
        assert (successor.term, node_id == new_id) == (last.term, last.is_leader)
        terms = [change.term for change in changes[node_id]]
        assert sorted(terms) == terms


@where_a_majority_is_left
async def test_without_a_majority_a_proposal_ends_as_unknown_and_not_later_than_its_time(cluster):
    leader = await cluster.leader()
    voters = [each for each in cluster.members if each < max(cluster.machines) and cluster.members[each] is not leader]
    await asyncio.gather(*(cluster.stop(node_id) for node_id in voters))
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"lost?", timeout_s=0.3)
    assert loop.time() - begun_s < 5.0
    assert [] == cluster.machines[cluster.id_of(leader)].commands


@without_five
async def test_stop_ends_what_is_open_and_can_be_called_twice(cluster):
    leader = await cluster.leader()
    wait = asyncio.ensure_future(leader.wait_applied(10**6, timeout_s=60))
    await asyncio.sleep(0)
    await leader.stop()
    await leader.stop()
    with pytest.raises(OutcomeUnknown):
        await wait
    assert not leader.is_leader
    with pytest.raises((NotLeader, OutcomeUnknown)):
        await leader.propose(b"x", timeout_s=1)
    with pytest.raises(PeerUnavailable):
        await leader.request(1, b"", timeout_s=1)


@without_five
async def test_a_state_machine_that_raises_stops_its_node_for_good(cluster):
    leader = await cluster.leader()
    failures: list[BaseException] = []
    leader.on_failure(failures.append)
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"raise", timeout_s=30)
    await until(lambda: failures)
    assert isinstance(leader.failure, ZeroDivisionError)
    assert [leader.failure] == failures
    await until(lambda: not leader.is_leader)
    with pytest.raises((NotLeader, OutcomeUnknown)):
        await leader.propose(b"x", timeout_s=1)
