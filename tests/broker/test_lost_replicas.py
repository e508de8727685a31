"""Replicas that are damaged, gone, or have no disk to lie on: nothing acknowledged is lost by them, and what can be
whole again is, without anybody's help (S1, S3, S18, S19, L1)."""

import asyncio
import errno
import shutil
import threading
import time
from pathlib import Path

import pytest

from broker.replication.replica import ACKS_ALL, ACKS_LEADER, Replica
from logstore.damage import mark_damaged
from logstore.disk import storage_refusal
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from tests.broker.nodes import create, until, values
from tests.broker.replication.brokers import flip_a_bit, values_of
from tests.broker.three_nodes import FOLLOWS_FOR_LONG, PATIENT, one, three_nodes
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch


def read_to_the_end(replica: Replica) -> None:
    offset = replica.earliest_offset
    while offset < replica.latest_offset:
        offset = replica.fetch_now(offset, max_bytes=1 << 20).slice.next_offset


async def test_s18_a_damaged_leader_hands_over_and_begins_anew(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        for n in range(10):
            await three.send(topic_id, b"%d" % n * 100)
        damaged = three.state(topic_id).leader
        replica = await three.replica(damaged, topic_id)
        flip_a_bit(replica, at=500)
        with pytest.raises(RefusedError) as refused:
            read_to_the_end(replica)
        assert refused.value.code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR)
        await until(lambda: three.state(topic_id).leader != damaged)
        assert 10 == await three.send(topic_id, b"x")
        await three.all_in_sync(topic_id)
        expected = [b"%d" % n * 100 for n in range(10)] + [b"x"]
        await until(lambda: expected == values_of(three.nodes[damaged].replica(topic_id, 0)))


async def test_s11_s18_a_follower_that_finds_itself_damaged_begins_anew_while_its_fetch_waits(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        for n in range(10):
            await three.send(topic_id, b"%d" % n)
        damaged = next(broker_id for broker_id in three.nodes if broker_id != three.state(topic_id).leader)
        replica = await three.replica(damaged, topic_id)
        await until(lambda: replica.log.log_end_offset == 10)
        mark_damaged(replica.log, 3)
        await until(lambda: replica.log.damaged_from is None)
        await three.send(topic_id, b"x")
        await three.all_in_sync(topic_id)
        assert three.nodes[damaged].failure is None
        assert [*(b"%d" % n for n in range(10)), b"x"] == values_of(replica)


@pytest.mark.parametrize("is_asked_for", [False, True])
async def test_l1_what_a_full_disk_refused_is_made_when_there_is_room(
    tmp_path: Path, monkeypatch, *, is_asked_for: bool
) -> None:
    """Nothing else happens to the partition meanwhile: nobody says that there is room, but somebody may ask for it."""
    monkeypatch.setattr("broker.reconciler.TRY_AGAIN_S", 0.1)
    create_log, full = LogDirectory.create_log, True

    def create_log_or_refuse(directory, *arguments):
        if full and "node-3" in directory.path:
            raise storage_refusal("no space for the folder")
        return create_log(directory, *arguments)

    monkeypatch.setattr(LogDirectory, "create_log", create_log_or_refuse)
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await until(lambda: 3 not in three.state(topic_id).in_sync_replicas)
        if is_asked_for:
            three.nodes[3]._reconciler._look_at_refused()
            with pytest.raises(RefusedError, match="no space"):
                three.nodes[3].replica(topic_id, 0)
        full = False
        await three.all_in_sync(topic_id)


async def test_l1_a_damaged_replica_that_had_no_room_to_begin_anew_does_so_later(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("broker.reconciler.TRY_AGAIN_S", 0.1)
    begin_anew, refusals = PartitionLog.truncate_fully_and_start_at, 3

    def begin_anew_or_refuse(log, offset):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise storage_refusal("no space to write the checkpoints")
        begin_anew(log, offset)

    monkeypatch.setattr(PartitionLog, "truncate_fully_and_start_at", begin_anew_or_refuse)
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        damaged = next(broker_id for broker_id in three.nodes if broker_id != three.state(topic_id).leader)
        replica = await three.replica(damaged, topic_id)
        await until(lambda: replica.log.log_end_offset == 1)
        mark_damaged(replica.log, 0)
        await until(lambda: replica.log.damaged_from is None)
        assert refusals == 0
        await three.all_in_sync(topic_id)
        assert [b"a"] == values_of(replica)


async def test_s1_s18_a_broker_whose_folder_was_deleted_is_not_elected_with_nothing(tmp_path: Path) -> None:
    """It was the leader, is back before the other in-sync replica, and remembers that it had synced records."""
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        leader = three.state(topic_id).leader
        behind, heir = (n for n in (1, 2, 3) if n != leader)
        await three.stop(behind)
        await until(lambda: behind not in three.state(topic_id).in_sync_replicas)
        await three.send(topic_id, b"b")
        folder = (await three.replica(leader, topic_id)).log.folder
        await three.stop(heir)
        await three.stop(leader)
        shutil.rmtree(folder)
        await three.start(leader, behind)
        await until(lambda: leader not in three.state(topic_id).in_sync_replicas)
        assert three.state(topic_id).leader in (-1, heir), "whoever has it is not back yet"
        await three.start(heir)
        await three.send(topic_id, b"c")
        assert [b"a", b"b", b"c"] == await values(await three.leading(topic_id))
        await three.all_in_sync(topic_id)


async def test_s1_s3_a_damaged_follower_is_not_taken_back_by_what_it_fetched_before(tmp_path: Path) -> None:
    """Its own broker hears last of what was decided: until then it neither fetches nor begins anew."""
    async with three_nodes(tmp_path, "replica.fetch.wait.max.ms=100", FOLLOWS_FOR_LONG) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        for n in range(10):
            await three.send(topic_id, b"%d" % n)
        state = three.state(topic_id)
        leader_id = state.leader
        damaged_id = next(broker_id for broker_id in state.replicas if broker_id != leader_id)
        damaged = await three.replica(damaged_id, topic_id)
        await until(lambda: damaged.high_watermark == 10)
        image = three.nodes[damaged_id]._cluster_image
        post, held = image._post, []
        image._post = held.append
        mark_damaged(damaged.log, 3)
        await until(lambda: damaged_id not in three.state(topic_id).in_sync_replicas)
        assert three.state(topic_id).leader_epoch == state.leader_epoch + 1
        for n in range(10, 20):
            await three.send(topic_id, b"%d" % n)
        assert damaged_id not in three.state(topic_id).in_sync_replicas
        assert (3, 10) == (damaged.log.damaged_from, damaged.log.log_end_offset)
        image._post = post
        for task in held:
            post(task)
        await three.all_in_sync(topic_id)
        await three.stop(leader_id)
        await three.send(topic_id, b"20")
        assert [b"%d" % n for n in range(21)] == await values(await three.leading(topic_id))


def idempotent(sequence: int) -> bytearray:
    records = [(None, b"%d" % sequence, (), time.time_ns() // 1_000_000)]
    return build_batch(records, producer_id=7, producer_epoch=0, base_sequence=sequence)


async def test_l1_s18_a_follower_that_meets_damage_while_it_catches_up_says_so(tmp_path: Path) -> None:
    """A rotten header, met when the first idempotent batch has it look for producers."""
    async with three_nodes(tmp_path, "replica.fetch.max.bytes=1024", FOLLOWS_FOR_LONG) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        leader = await three.leading(topic_id)
        for n in range(10):
            await leader.append(idempotent(n), acks=ACKS_ALL, timeout_ms=20_000)
        state = three.state(topic_id)
        away = next(broker_id for broker_id in state.replicas if broker_id != state.leader)
        replica = await three.replica(away, topic_id)
        await three.stop(away)
        flip_a_bit(replica, at=3 * (replica.log.size_bytes // 10) + 16)
        await until(lambda: away not in three.state(topic_id).in_sync_replicas)
        leader = await three.leading(topic_id)
        for n in range(200):
            await leader.append(one(b"%1000d" % n), acks=ACKS_LEADER, timeout_ms=20_000)
            await asyncio.sleep(0)
        await leader.append(idempotent(10), acks=ACKS_ALL, timeout_ms=60_000)
        await three.start(away)
        await three.all_in_sync(topic_id)
        assert values_of(leader) == values_of(await three.replica(away, topic_id))


async def test_l1_damage_that_is_noted_while_a_sync_runs_holds_up_no_other_partition(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(
            three.nodes[1], "pay", partitions_count=6, replication_factor=3, min_insync_replicas="2"
        )
        leader_id = three.state(topic_id, 0).leader
        sibling = next(p for p in range(1, 6) if three.state(topic_id, p).leader == leader_id)
        behind = next(b for b in three.state(topic_id, 0).replicas if b != leader_id)
        node = three.nodes[behind]
        replica = await three.replica(behind, topic_id)
        for partition in (0, sibling):
            await three.send(topic_id, b"a", partition)
        storage, may_sync = replica.log.disk.storage, threading.Event()
        sync = storage.fdatasync
        storage.fdatasync = lambda handle: (may_sync.wait(20), sync(handle))
        await three.send(topic_id, b"b")
        await until(lambda: behind not in node.image.partition(topic_id, 0).in_sync_replicas)
        await until(lambda: replica.log.log_end_offset == 2)
        assert replica.log.durable_end_offset == 1, "its sync is under way"
        mark_damaged(replica.log, 0)
        may_sync.set()
        storage.fdatasync = sync
        await three.send(topic_id, b"c", sibling)
        await until(lambda: node.replica(topic_id, sibling).log.log_end_offset == 2)
        await three.all_in_sync(topic_id)


async def test_s19_l1_a_broker_without_a_disk_does_not_lead_new_partitions_for_good(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        before = await create(three.nodes[1], "before", replication_factor=3, min_insync_replicas="2")
        await three.send(before, b"a")
        (directory,) = three.nodes[3]._directories._directories
        directory._disk.fail(OSError(errno.EIO, "Input/output error"))
        await until(lambda: 3 not in three.state(before).in_sync_replicas)
        topic_id = await create(
            three.nodes[1], "pay", partitions_count=3, replication_factor=3, min_insync_replicas="2"
        )
        for partition in range(3):
            assert 0 == await three.send(topic_id, b"x", partition)
            assert 3 not in three.state(topic_id, partition).in_sync_replicas
