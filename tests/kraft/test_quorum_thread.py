"""What the thread of its own is for: neither side's trouble is the other's, and no process hangs on it."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from kraft.disk import PosixFile
from kraft.errors import OutcomeUnknown
from kraft.loop_lane import LoopLane
from kraft.quorum import RaftQuorum
from tests.kraft.quorum_clusters import PATIENT, ThreadCluster
from tests.kraft.quorum_harness import RecordingMachine, quorum_configs, until


@pytest.fixture
async def start_cluster(tmp_path):
    started = []

    async def start(*, voters: int, **settings: object) -> ThreadCluster:
        cluster = ThreadCluster(tmp_path, voters=voters, **settings)
        started.append(cluster)
        await asyncio.gather(*(cluster.start(node_id) for node_id in cluster.configs))
        return cluster

    yield start
    for cluster in started:
        await cluster.stop_all()


def patch_sync(monkeypatch, before_sync) -> None:
    """Call before_sync(node id) ahead of every fdatasync of a quorum thread."""
    real_sync = PosixFile.sync

    def sync(file: PosixFile) -> None:
        before_sync(int(threading.current_thread().name.rpartition("-")[2]))
        real_sync(file)

    monkeypatch.setattr(PosixFile, "sync", sync)


async def test_a_metadata_fsync_of_3_s_does_not_delay_the_nodes_loop(start_cluster, monkeypatch):
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()
    patch_sync(monkeypatch, lambda _: time.sleep(3))  # sleeps: this is the slow disk
    loop = asyncio.get_running_loop()
    delays = []

    async def measure() -> None:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            delays.append(loop.time() - due)

    begun = loop.time()
    measuring = asyncio.ensure_future(measure())
    await leader.propose(b"slow", timeout_s=30)
    measuring.cancel()
    assert loop.time() - begun > 2.9, "the disk was not slow"
    assert len(delays) > 10
    assert max(delays) < 2.0, "no turn of the loop waited for the disk"


async def test_a_slow_disk_costs_a_proposal_its_time_and_not_more(start_cluster, monkeypatch):
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()
    patch_sync(monkeypatch, lambda _: time.sleep(3))  # sleeps: this is the slow disk
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"slow", timeout_s=0.1)
    assert time.monotonic() - begun < 2.5
    await until(lambda: cluster.machines[1].commands == [b"slow"], what="unknown it was, and it did happen")


@pytest.mark.parametrize("is_busy", [False, True], ids=["asleep", "busy"])
async def test_a_node_loop_blocked_for_longer_than_voters_wait_causes_no_election(start_cluster, is_busy):
    cluster = await start_cluster(voters=3)
    leader = await cluster.leader()
    changes = []
    for member in cluster.members.values():
        member.on_role_change(changes.append)
    blocked_s = PATIENT["election_timeout_max_s"] + 0.3
    end = time.perf_counter() + blocked_s
    if is_busy:
        while time.perf_counter() < end:
            pass
    else:
        time.sleep(blocked_s)  # noqa: ASYNC251  # sleeps: blocking the loop is the point
    await leader.propose(b"still here", timeout_s=30)
    assert [] == [change for change in changes if change.leader_id is None], "an election begins without a leader"
    assert leader.is_leader


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_a_disk_that_fails_stops_the_member_and_another_leads(start_cluster, monkeypatch, code):
    """S16: what was not synced is never acknowledged, and a failed sync is never tried again."""
    cluster = await start_cluster(voters=3)
    leader = await cluster.leader()
    failing_id = cluster.id_of(leader)
    await leader.propose(b"before", timeout_s=30)
    failures = []
    leader.on_failure(failures.append)
    tries = []

    def fail(node_id: int) -> None:
        if node_id == failing_id:
            tries.append(node_id)
            raise OSError(code, os.strerror(code))

    patch_sync(monkeypatch, fail)
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"during", timeout_s=30)
    await until(lambda: failures)
    assert code == failures[0].errno
    assert leader.failure is failures[0]
    assert 1 == len(tries)
    await cluster.stop(failing_id)
    successor = await cluster.leader()
    await successor.propose(b"after", timeout_s=30)
    commands = cluster.machines[cluster.id_of(successor)].commands
    assert (b"before", b"after") == (commands[0], commands[-1])


async def test_a_last_sync_that_fails_is_a_failure_and_stop_ends(start_cluster, monkeypatch):
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()

    def fail(_node_id: int) -> None:
        raise OSError(errno.EIO, "on the way out")

    await leader.propose(b"x", timeout_s=30)
    patch_sync(monkeypatch, fail)
    failures = []
    leader.on_failure(failures.append)
    leader._to_member.call(
        leader._member.core.journal.add, b"\x00not yet on disk", leader.last_applied + 1, leader.term
    )
    await leader.stop()
    await until(lambda: failures)
    assert errno.EIO == leader.failure.errno


async def test_a_failed_member_answers_nobody_any_more(start_cluster):
    cluster = await start_cluster(voters=3)
    leader = await cluster.leader()
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"raise", timeout_s=30)
    await until(lambda: leader.failure is not None)
    assert set() == leader._member.transport.connected_ids()


async def test_a_port_in_use_is_an_error_at_start_and_leaves_nothing_behind(tmp_path):
    config = quorum_configs(tmp_path, voters=1)[1]
    with socket.create_server(config.listen):
        member = RaftQuorum(config, RecordingMachine())
        with pytest.raises(OSError, match="address already in use"):
            await member.start()
        await member.stop()
    assert not any(thread.name == "metadata-quorum-1" for thread in threading.enumerate())
    again = RaftQuorum(config, RecordingMachine())
    await again.start()
    await until(lambda: again.is_leader)
    await again.stop()


async def test_a_start_that_is_cancelled_can_be_stopped(tmp_path):
    config = quorum_configs(tmp_path, voters=1)[1]
    for _ in range(5):
        member = RaftQuorum(config, RecordingMachine())
        starting = asyncio.ensure_future(member.start())
        await asyncio.sleep(0)
        starting.cancel()
        await member.stop()
        assert not member.is_leader
    again = RaftQuorum(config, RecordingMachine())
    await again.start()
    await again.stop()


async def test_a_damaged_journal_is_an_error_at_start(tmp_path):
    config = quorum_configs(tmp_path, voters=1)[1]
    member = RaftQuorum(config, RecordingMachine())
    await member.start()
    await until(lambda: member.is_leader)
    await member.stop()
    journal = tmp_path / "node-1" / "journal"
    content = bytearray(journal.read_bytes())
    content[len(content) // 3] ^= 1
    journal.write_bytes(content)
    broken = RaftQuorum(config, RecordingMachine())
    with pytest.raises(Exception, match="journal"):
        await broken.start()
    await broken.stop()


async def test_the_metadata_survives_a_restart_of_all(start_cluster, tmp_path):
    cluster = await start_cluster(voters=3)
    leader = await cluster.leader()
    for n in range(50):
        await leader.propose(b"%d" % n, timeout_s=30)
    for node_id in list(cluster.members):
        await cluster.stop(node_id)
    await asyncio.gather(*(cluster.start(node_id) for node_id in cluster.configs))
    leader = await cluster.leader()
    assert 51 == await leader.propose(b"50", timeout_s=30)


async def test_a_burst_of_proposals_crosses_with_few_wake_ups(start_cluster, monkeypatch):
    cluster = await start_cluster(voters=1)
    leader = await cluster.leader()
    wake_ups = []
    loop = leader._to_member._loop
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (wake_ups.append(1), real(*args))[1])
    await asyncio.gather(*(leader.propose(b"%d" % n, timeout_s=30) for n in range(1000)))
    assert len(wake_ups) < 500


def test_a_process_that_forgets_to_stop_ends_all_the_same(tmp_path):
    script = textwrap.dedent("""
        import asyncio, sys
        sys.path.insert(0, ".")
        from pathlib import Path
        from kraft.quorum import RaftQuorum
        from tests.kraft.quorum_harness import RecordingMachine, quorum_configs, until

        async def main():
            member = RaftQuorum(quorum_configs(Path(sys.argv[1]), voters=1)[1], RecordingMachine())
            await member.start()
            await until(lambda: member.is_leader)
            asyncio.ensure_future(member.propose(b"x", timeout_s=60))
            await asyncio.sleep(0)

        asyncio.run(main())
        print("main is over", flush=True)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=90, check=False
    )
    assert (0, True) == (done.returncode, "main is over" in done.stdout), done.stderr


class TestLoopLane:
    async def test_calls_run_in_order_whatever_thread_they_come_from(self):
        lane, seen = LoopLane(asyncio.get_running_loop()), []

        def call_many(name: str) -> None:
            for n in range(1000):
                lane.call(seen.append, (name, n))

        await asyncio.gather(*(asyncio.to_thread(call_many, name) for name in "abc"))
        await until(lambda: len(seen) == 3000)
        for name in "abc":
            assert list(range(1000)) == [n for each, n in seen if each == name]

    async def test_a_call_that_raises_does_not_swallow_those_behind_it(self):
        lane, seen, complaints = LoopLane(asyncio.get_running_loop()), [], []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        lane.put(int, "no number")
        lane.call(seen.append, 1)
        await until(lambda: seen)
        assert [ValueError] == [type(complaint) for complaint in complaints]

    def test_a_closed_loop_drops_calls(self):
        loop = asyncio.new_event_loop()
        loop.close()
        LoopLane(loop).call(print, "never")
