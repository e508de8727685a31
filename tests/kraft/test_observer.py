"""What a node that is no voter may rely on: the whole log, once, in order, from whichever voter is there."""

import asyncio
import contextlib

import msgspec
import pytest

from kraft import observer
from kraft.errors import NotLeader, OutcomeUnknown
from kraft.log_fetch import MAX_ANSWER_BYTES, FetchLog, FetchSnapshot, decode_answer, encode
from kraft.log_server import LogServer
from kraft.peer_frames import Outcome
from tests.kraft.quorum_clusters import ThreadCluster
from tests.kraft.quorum_harness import until


@pytest.fixture
async def start_cluster(tmp_path):
    started = []

    async def start(*, voters: int, observers: int, running: list[int] | None = None, **settings: object):
        cluster = ThreadCluster(tmp_path, voters=voters, observers=observers, **settings)
        started.append(cluster)
        await asyncio.gather(*(cluster.start(node_id) for node_id in running or cluster.configs))
        return cluster

    yield start
    for cluster in started:
        await cluster.stop_all()


async def propose_many(leader, count: int, *, prefix: bytes = b"", size_bytes: int = 0) -> list[bytes]:
    commands = [prefix + b"%d" % n + bytes(size_bytes) for n in range(count)]
    for start in range(0, count, 500):
        await asyncio.gather(*(leader.propose(command, timeout_s=30) for command in commands[start : start + 500]))
    return commands


async def test_a_fresh_observer_takes_the_snapshot_and_the_entries_behind_it(start_cluster):
    cluster = await start_cluster(voters=1, observers=1, running=[1], snapshot_entries=100, retained_entries=10)
    leader = await cluster.leader()
    commands = await propose_many(leader, 250)
    follower = await cluster.start(2)
    await follower.wait_applied(leader.last_applied, timeout_s=30)
    commands += await propose_many(leader, 20, prefix=b"later-")
    await follower.wait_applied(leader.last_applied, timeout_s=30)
    assert commands == cluster.machines[2].commands
    assert cluster.machines[1].indexes == cluster.machines[2].indexes


async def test_a_snapshot_of_many_chunks_arrives_whole(start_cluster):
    cluster = await start_cluster(voters=1, observers=1, running=[1])
    leader = await cluster.leader()
    commands = await propose_many(leader, 40, size_bytes=100_000)
    follower = await cluster.start(2)
    await follower.wait_applied(leader.last_applied, timeout_s=30)
    assert commands == cluster.machines[2].commands
    assert 1 == cluster.machines[2].restores


async def test_an_observer_keeps_up_while_voters_compact(start_cluster):
    """Also where a busy machine makes the voters elect anew meanwhile: what was acknowledged is there, in one order."""
    cluster = await start_cluster(voters=3, observers=2, snapshot_entries=50, retained_entries=5)
    acknowledged: list[bytes] = []
    for start in range(0, 2000, 500):
        leader = await cluster.leader()
        commands = [b"%d" % n for n in range(start, start + 500)]
        answers = await asyncio.gather(*(leader.propose(c, timeout_s=30) for c in commands), return_exceptions=True)
        assert {type(a) for a in answers if isinstance(a, BaseException)} <= {NotLeader, OutcomeUnknown}
        acknowledged += [c for c, a in zip(commands, answers, strict=True) if not isinstance(a, BaseException)]
    assert acknowledged
    leader = await cluster.leader()
    applied = await leader.barrier(timeout_s=30)
    for node_id in (4, 5):
        await cluster.members[node_id].wait_applied(applied, timeout_s=30)
        observed = cluster.machines[node_id].commands
        assert acknowledged == [command for command in observed if command in set(acknowledged)]
        assert cluster.machines[cluster.id_of(leader)].commands == observed


async def test_an_observer_follows_the_leader_and_falls_over_to_another_voter(start_cluster):
    cluster = await start_cluster(voters=3, observers=1)
    leader = await cluster.leader()
    follower = cluster.members[4]
    changes = []
    follower.on_role_change(changes.append)
    commands = await propose_many(leader, 10)
    await cluster.depose(leader)
    successor = await cluster.leader()
    commands += await propose_many(successor, 10, prefix=b"later-")
    await follower.wait_applied(successor.last_applied, timeout_s=30)
    assert commands == cluster.machines[4].commands
    assert cluster.id_of(successor) == follower.leader_id == changes[-1].leader_id
    assert not any(change.is_leader for change in changes)
    with pytest.raises(NotLeader) as refusal:
        await follower.propose(b"x", timeout_s=1)
    assert follower.leader_id == refusal.value.leader_id


async def test_an_observer_that_reaches_no_voter_says_that_there_is_no_leader(start_cluster, monkeypatch):
    monkeypatch.setattr(observer, "LEADER_FORGOTTEN_S", 0.3)
    cluster = await start_cluster(voters=1, observers=1)
    await cluster.leader()
    await cluster.stop(1)
    await until(lambda: cluster.members[2].leader_id is None)
    await cluster.start(1)
    leader = await cluster.leader()
    await leader.propose(b"back", timeout_s=30)
    await until(lambda: cluster.machines[2].commands == [b"back"])


async def test_an_entry_reaches_a_waiting_observer_without_waiting_for_a_poll(start_cluster):
    cluster = await start_cluster(voters=1, observers=1)
    leader = await cluster.leader()
    loop = asyncio.get_running_loop()
    took = []
    for n in range(20):
        begun = loop.time()
        await leader.propose(b"%d" % n, timeout_s=30)
        await cluster.members[2].wait_applied(leader.last_applied, timeout_s=30)
        took.append(loop.time() - begun)
    assert sorted(took)[10] < 0.5, "the long poll lasts a second"


class FakeLog:
    """A log of given entries; compacted up to `first`."""

    def __init__(self, entries: list[bytes], first: int = 1) -> None:
        self.entries, self.first = entries, first
        self.term, self.leader_id = 4, 2
        self.snapshots = 0

    @property
    def last_applied(self) -> int:
        return len(self.entries)

    def committed_entries(self, from_index: int, max_bytes: int):
        if from_index < self.first:
            return None
        found, size = [], 0
        for index, command in enumerate(self.entries[from_index - 1 :], start=from_index):
            found.append((index, command))
            size += len(command)
            if size >= max_bytes:
                break
        return found, found[-1][0] + 1 if found else from_index

    def snapshot_for_observer(self) -> tuple[int, bytes]:
        self.snapshots += 1
        return self.last_applied, msgspec.msgpack.encode(self.entries)


class Asker:
    """Asks a server and keeps its answers."""

    def __init__(self, server: LogServer) -> None:
        self.server = server
        self.answers: list[tuple[Outcome, bytes]] = []

    def ask(self, question) -> None:
        self.server.serve(9, encode(question), lambda outcome, payload: self.answers.append((outcome, payload)))

    def last(self):
        outcome, payload = self.answers[-1]
        assert outcome is Outcome.DONE
        assert len(payload) <= MAX_ANSWER_BYTES
        return decode_answer(payload)


@pytest.fixture
async def serve():
    servers = []

    def make(log: FakeLog) -> Asker:
        servers.append(LogServer(log, asyncio.get_running_loop()))
        return Asker(servers[-1])

    yield make
    for server in servers:
        server.close()


class TestLogServer:
    @pytest.mark.parametrize("size_bytes", [0, 1, 100, 5000, 400_000, 512 * 1024])
    async def test_every_answer_is_bounded_and_together_they_are_the_log(self, serve, size_bytes):
        log = FakeLog([bytes(size_bytes)] * min(200_000, 1 + 8_000_000 // (size_bytes + 20)))
        asker, next_index, seen = serve(log), 1, []
        while next_index <= log.last_applied:
            asker.ask(FetchLog(next_index, 0))
            answer = asker.last()
            assert answer.entries
            seen += answer.entries
            next_index = answer.next_index
        assert list(enumerate(log.entries, start=1)) == seen

    async def test_a_question_for_what_is_not_there_yet_waits_for_it(self, serve):
        log = FakeLog([b"a"])
        asker = serve(log)
        asker.ask(FetchLog(2, 5000))
        asker.server.applied()
        assert [] == asker.answers
        log.entries.append(b"b")
        asker.server.applied()
        assert [(2, b"b")] == asker.last().entries

    async def test_a_wait_ends_with_its_time_or_with_a_change_of_leader(self, serve):
        log = FakeLog([b"a"])
        asker = serve(log)
        asker.ask(FetchLog(2, 20))
        await until(lambda: asker.answers)
        assert ([], 2, 2) == (asker.last().entries, asker.last().next_index, asker.last().leader_id)
        asker.ask(FetchLog(2, 5000))
        log.leader_id = 3
        asker.server.role_changed()
        assert 3 == asker.last().leader_id

    async def test_what_is_compacted_comes_as_a_snapshot_in_chunks_of_the_same_bytes(self, serve):
        log = FakeLog([bytes(100_000)] * 30, first=20)
        asker = serve(log)
        asker.ask(FetchLog(1, 0))
        assert asker.last().is_compacted
        asker.ask(FetchSnapshot(0, 0))
        chunk = asker.last()
        content = chunk.data
        log.entries.append(b"meanwhile")
        while len(content) < chunk.total_bytes:
            asker.ask(FetchSnapshot(chunk.snapshot_index, len(content)))
            assert asker.last().snapshot_index == chunk.snapshot_index
            content += asker.last().data
        assert log.entries[:30] == msgspec.msgpack.decode(content)
        assert 1 == log.snapshots

    async def test_a_snapshot_that_no_longer_leads_into_the_log_is_replaced(self, serve):
        log = FakeLog([bytes(100_000)] * 30, first=20)
        asker = serve(log)
        asker.ask(FetchSnapshot(0, 0))
        log.entries += [b"x"] * 30
        log.first = 50
        asker.ask(FetchSnapshot(30, 900_000))
        assert (60, 0) == (asker.last().snapshot_index, asker.last().offset)

    async def test_a_malformed_question_is_answered_as_failed(self, serve):
        asker = serve(FakeLog([]))
        asker.server.serve(9, b"\xc1", lambda outcome, payload: asker.answers.append((outcome, payload)))
        assert Outcome.FAILED == asker.answers[-1][0]


async def test_observers_of_a_cluster_that_comes_and_goes_end_up_alike(start_cluster):
    cluster = await start_cluster(voters=3, observers=2, snapshot_entries=100, retained_entries=20)
    for round_number in range(3):
        leader = await cluster.leader()
        await propose_many(leader, 150, prefix=b"round-%d-" % round_number)
        stopped = cluster.id_of(leader)
        await cluster.stop(stopped)
        with contextlib.suppress(NotLeader, OutcomeUnknown):
            await (await cluster.leader()).propose(b"between", timeout_s=30)
        await cluster.start(stopped)
    leader = await cluster.leader()
    expected = cluster.machines[cluster.id_of(leader)].commands
    for node_id in (4, 5):
        await cluster.members[node_id].wait_applied(leader.last_applied, timeout_s=30)
        assert expected == cluster.machines[node_id].commands
