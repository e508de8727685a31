"""Three nodes: a partition survives its broker, and nothing that was acknowledged is lost or changed on the way."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs

from broker.errors import OutcomeUnknownError
from broker.replication.replica import ACKS_ALL, ACKS_LEADER
from metadata.delta import Delta
from metadata.requests import (
    AlterConfigsRequest,
    ConfigChange,
    ElectLeadersRequest,
    PartitionName,
    PartitionReassignment,
    ReassignPartitionsRequest,
)
from tests.broker.nodes import create, until, values
from tests.broker.replication.brokers import values_of
from tests.broker.three_nodes import FOLLOWS_FOR_LONG, PATIENT, one, three_nodes
from wire.errors import ErrorCode, RefusedError


async def test_a_leader_dies_and_every_acknowledged_record_is_there_once_in_order(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        for n in range(10):
            assert n == await three.send(topic_id, b"%d" % n)
        dead = three.state(topic_id).leader
        await three.stop(dead)
        for n in range(10, 20):
            await three.send(topic_id, b"%d" % n)
        assert dead not in three.state(topic_id).in_sync_replicas
        await three.start(dead)
        await three.all_in_sync(topic_id)
        leader = await three.leading(topic_id)
        found = await values(leader)
        assert [b"%d" % n for n in range(20)] == sorted(set(found), key=found.index)
        for node in three.nodes.values():
            await until(lambda node=node: values_of(node.replica(topic_id, 0)) == found)


async def test_below_the_minimum_writes_are_refused_and_accepted_again_when_brokers_return(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="3")
        await three.send(topic_id, b"a")
        gone = next(broker_id for broker_id in (1, 2, 3) if broker_id != three.state(topic_id).leader)
        await three.stop(gone)
        await until(lambda: gone not in three.state(topic_id).in_sync_replicas)
        leader = await three.leading(topic_id)
        await until(lambda: not leader.has_enough_in_sync)
        with pytest.raises(RefusedError) as refused:
            await leader.append(one(b"refused"), acks=ACKS_ALL, timeout_ms=20_000)
        assert ErrorCode.NOT_ENOUGH_REPLICAS == refused.value.code
        assert 1 == leader.log.log_end_offset
        await leader.append(one(b"b"), acks=ACKS_LEADER, timeout_ms=0)
        await three.start(gone)
        await three.send(topic_id, b"c")
        assert [b"a", b"b", b"c"] == await values(await three.leading(topic_id))


async def test_a_lower_minimum_takes_effect_at_once(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="3")
        await three.send(topic_id, b"a")
        leader = await three.leading(topic_id)
        gone = next(broker_id for broker_id in (1, 2, 3) if broker_id != three.state(topic_id).leader)
        await three.stop(gone)
        await until(lambda: gone not in three.state(topic_id).in_sync_replicas)
        leader = await three.leading(topic_id)
        await until(lambda: not leader.has_enough_in_sync)
        change = AlterConfigsRequest(name="pay", changes=(ConfigChange(name="min.insync.replicas", value="2"),))
        await next(iter(three.nodes.values())).admin(change, timeout_s=20)
        await three.send(topic_id, b"b")


async def test_s2_what_counted_unsynced_is_synced_once_the_topic_asks_for_it(tmp_path: Path) -> None:
    """From here on a power cut takes nothing back, also of what was acknowledged before the change."""
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, flush_messages="1000")
        await three.send(topic_id, b"a")
        logs = [(await three.replica(node_id, topic_id)).log for node_id in three.nodes]
        await until(lambda: all(log.high_watermark == 1 for log in logs))
        assert [0, 0, 0] == [log.synced_end_offset for log in logs]
        change = AlterConfigsRequest(name="pay", changes=(ConfigChange(name="flush.messages", value="1"),))
        await three.nodes[1].admin(change, timeout_s=20)
        await until(lambda: all(log.synced_end_offset == 1 for log in logs))
        await three.send(topic_id, b"b")


async def test_a_wiped_broker_comes_back_as_a_fresh_replica(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        for n in range(10):
            await three.send(topic_id, b"%d" % n)
        wiped = three.state(topic_id).leader
        await three.stop(wiped)
        shutil.rmtree(three.cluster.directory(wiped) / "data")
        await three.start(wiped)
        await three.all_in_sync(topic_id)
        assert three.state(topic_id).leader != wiped
        assert [b"%d" % n for n in range(10)] == values_of(await three.replica(wiped, topic_id))


async def test_a_follower_that_lags_leaves_the_in_sync_replicas_and_comes_back(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        leader_id = three.state(topic_id).leader
        slow = next(broker_id for broker_id in (1, 2, 3) if broker_id != leader_id)
        fetcher = three.nodes[slow]._fetchers
        replica = await three.replica(slow, topic_id)
        fetcher.unfollow(replica.key)
        assert 1 == await three.send(topic_id, b"b"), "the writer waited until the slow one was out"
        assert slow not in three.state(topic_id).in_sync_replicas
        state = three.state(topic_id)
        fetcher.follow(replica, state, three.nodes[slow].image.brokers[leader_id])
        await three.all_in_sync(topic_id)
        assert [b"a", b"b"] == values_of(replica)


async def test_s5_a_leader_that_was_cut_off_drops_what_nobody_else_has(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, FOLLOWS_FOR_LONG) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        cut_off = three.state(topic_id).leader
        leader = await three.replica(cut_off, topic_id)
        for broker_id, node in three.nodes.items():
            if broker_id != cut_off:
                node._fetchers.unfollow(leader.key)
        for n in range(5):
            await leader.append(one(b"only here %d" % n), acks=ACKS_LEADER, timeout_ms=0)
        await until(lambda: leader.log.durable_end_offset == 6)
        await three.stop(cut_off)
        assert 1 == await three.send(topic_id, b"b")
        await three.start(cut_off)
        await three.all_in_sync(topic_id)
        await until(lambda: [b"a", b"b"] == values_of(three.nodes[cut_off].replica(topic_id, 0)))


async def test_a_partition_moves_to_other_brokers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=1)
        for n in range(10):
            await three.send(topic_id, b"%d" % n)
        old = three.state(topic_id).leader
        folder = Path((await three.replica(old, topic_id)).log.folder)
        others = tuple(broker_id for broker_id in (1, 2, 3) if broker_id != old)
        move = PartitionReassignment(name="pay", partition=0, replicas=others)
        await three.nodes[1].admin(ReassignPartitionsRequest(assignments=(move,)), timeout_s=20)
        await until(lambda: set(three.state(topic_id).replicas) == set(others), timeout_s=60)
        assert 10 == await three.send(topic_id, b"10")
        assert [b"%d" % n for n in range(11)] == await values(await three.leading(topic_id))
        await until(lambda: not folder.exists())


async def test_s12_who_learns_at_once_of_a_move_and_of_its_own_fencing_leads_no_more(tmp_path: Path) -> None:
    """As a broker does that was paused: it looked at what is its own by now, and led on what was moved away."""
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=1)
        await three.send(topic_id, b"0")
        old = three.state(topic_id).leader
        node = three.nodes[old]
        reconciler, topic = node._reconciler, node.image.topics[topic_id]
        others = tuple(broker_id for broker_id in (1, 2, 3) if broker_id != old)
        moved = structs.replace(topic.partitions[0], replicas=others, in_sync_replicas=others, leader=others[0])
        topics = {**node.image.topics, topic_id: structs.replace(topic, partitions=(moved,))}
        changed = Delta(changed_partitions={topic_id: frozenset({0})}, changed_brokers=frozenset({old}))
        reconciler.see(structs.replace(node.image, topics=topics), changed)
        await reconciler.settled()
        assert (topic_id, 0) not in reconciler.replicas


async def test_a_broker_that_stops_in_good_order_fails_no_write(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(
            three.nodes[1], "pay", partitions_count=6, replication_factor=3, min_insync_replicas="2"
        )
        for partition in range(6):
            await three.send(topic_id, b"first", partition)
        stopping = three.state(topic_id).leader
        written: dict[int, list[int]] = {partition: [] for partition in range(6)}
        doubtful: list[OutcomeUnknownError] = []
        stop = asyncio.Event()

        async def produce(partition: int) -> None:
            while not stop.is_set():
                replica = await three.leading(topic_id, partition)
                try:
                    appended = await replica.append(one(b"x"), acks=ACKS_ALL, timeout_ms=20_000)
                except RefusedError:
                    await asyncio.sleep(0.005)  # nothing was written: the new leader is known in a moment
                    continue
                except OutcomeUnknownError as unknown:
                    doubtful.append(unknown)
                    return
                written[partition].append(appended.base_offset)

        producers = [asyncio.create_task(produce(partition)) for partition in range(6)]
        await until(lambda: all(len(offsets) > 5 for offsets in written.values()))
        await three.nodes[stopping].hand_over()
        assert not [p for p in range(6) if three.state(topic_id, p).leader == stopping]
        before = {partition: len(offsets) for partition, offsets in written.items()}
        await until(lambda: all(len(offsets) > before[p] + 5 for p, offsets in written.items()))
        assert not [p for p in range(6) if stopping in three.state(topic_id, p).in_sync_replicas]
        stop.set()
        await asyncio.gather(*producers)
        assert [] == doubtful, "every write was answered yes, or refused with nothing written"
        for offsets in written.values():
            assert sorted(set(offsets)) == offsets


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_s19_a_failed_disk_costs_a_broker_its_replicas_and_nobody_a_record(tmp_path: Path, role: str) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(
            three.nodes[1], "pay", partitions_count=3, replication_factor=3, min_insync_replicas="2"
        )
        for partition in range(3):
            await three.send(topic_id, b"a", partition)
        leader = three.state(topic_id).leader
        failed = leader if role == "leader" else next(n for n in (1, 2, 3) if n != leader)
        for directory in three.nodes[failed]._directories._directories:
            directory._disk.fail(OSError(5, "Input/output error"))
        for partition in range(3):
            assert 1 == await three.send(topic_id, b"b", partition)
            assert failed not in three.state(topic_id, partition).in_sync_replicas
            assert [b"a", b"b"] == await values(await three.leading(topic_id, partition))


async def test_s3_a_replica_on_a_failed_disk_is_not_let_in_again(tmp_path: Path) -> None:
    """Nothing is written meanwhile, so it seems to hold everything; it could be elected, and then nobody would lead."""
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        await three.all_in_sync(topic_id)
        leader = await three.leading(topic_id)
        failed = next(n for n in (1, 2, 3) if n != three.state(topic_id).leader)
        for directory in three.nodes[failed]._directories._directories:
            directory._disk.fail(OSError(5, "Input/output error"))
        await until(lambda: failed not in three.state(topic_id).in_sync_replicas)
        settled = three.state(topic_id)
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            assert leader.wanted_in_sync_change() is None
            return looks == 50

        await until(look)
        assert settled == three.state(topic_id)


async def test_s3_s19_a_replica_on_a_failed_disk_says_so_whenever_it_is_counted_on(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="2")
        await three.send(topic_id, b"a")
        failed = next(n for n in (1, 2, 3) if n != three.state(topic_id).leader)
        node = three.nodes[failed]
        for directory in node._directories._directories:
            directory._disk.fail(OSError(5, "Input/output error"))
        await until(lambda: failed not in three.state(topic_id).in_sync_replicas)
        wish = ElectLeadersRequest(
            partitions=(PartitionName(name="pay", partition=0),), election="UNCLEAN", leader=failed
        )
        with suppress(RefusedError):
            await three.nodes[1].admin(wish, timeout_s=20)
        await three.send(topic_id, b"b")
        assert failed not in three.state(topic_id).in_sync_replicas


async def test_a_write_under_way_survives_the_move_of_its_leader(tmp_path: Path) -> None:
    async with three_nodes(tmp_path, *PATIENT) as three:
        topic_id = await create(three.nodes[1], "pay", replication_factor=3, min_insync_replicas="3")
        await three.send(topic_id, b"a")
        old = three.state(topic_id).leader
        leader = await three.leading(topic_id)
        slow, heir = (n for n in (1, 2, 3) if n != old)
        three.nodes[slow]._fetchers.unfollow(leader.key)  # all but this one have it when the leader moves
        sending = asyncio.create_task(leader.append(one(b"b"), acks=ACKS_ALL, timeout_ms=60_000))
        await until(lambda: three.nodes[heir].replica(topic_id, 0).log.durable_end_offset == 2)
        name = PartitionName(name="pay", partition=0)
        wish = ElectLeadersRequest(partitions=(name,), election="DESIGNATED", leader=heir)
        await three.nodes[1].admin(wish, timeout_s=20)
        await until(lambda: three.state(topic_id).leader == heir)
        assert 1 == (await sending).base_offset, "the next leader had it and said so"
        assert [b"a", b"b"] == await values(await three.leading(topic_id))
