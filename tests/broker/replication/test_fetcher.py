"""A follower holds what its leader holds, whatever happens on the way; what it acknowledges is on its disk."""

import asyncio
from pathlib import Path

import pytest

from broker.replication.divergence import ReplicaLog
from broker.replication.fetcher import STALE_POLL_S, LeaderFetcher
from broker.replication.follower import FetchPosition, PartitionFollower
from broker.replication.leader_connection import open_connection
from broker.replication.replica import ACKS_ALL, ACKS_LEADER
from metadata.delta import Delta
from metadata.image import Endpoint, Image
from tests.broker.replication.brokers import (
    CLUSTER_ID,
    TOPIC_ID,
    batch,
    brokers,
    flip_a_bit,
    state_of,
    until,
    values_of,
)
from wire.errors import ErrorCode, RefusedError
from wire.messages.fetch import FetchResponse


async def test_s2_acks_all_is_answered_when_every_in_sync_replica_has_synced_it(tmp_path: Path) -> None:
    async with brokers(tmp_path) as (one, two, three):
        state = state_of((1, 2, 3))
        leader = one.lead(state)
        followers = [broker.follow(one, state) for broker in (two, three)]
        appended = await leader.append(batch(b"a", b"b"), acks=ACKS_ALL, timeout_ms=20_000)
        assert 0 == appended.base_offset
        assert 2 == leader.high_watermark
        for follower in followers:
            assert 2 == follower.log.synced_end_offset, "S2: durable before it was acknowledged"
            assert [b"a", b"b"] == values_of(follower)
        await leader.append(batch(b"c"), acks=ACKS_ALL, timeout_ms=20_000)
        await until(lambda: all(follower.high_watermark == 3 for follower in followers))


async def test_many_partitions_come_with_one_request(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        for partition in range(20):
            one.lead(state, partition)
            two.follow(one, state, partition)
        await until(lambda: any(len(asked.topics[0].partitions) == 20 for asked in one.doors.asked))
        sends = [
            one.replica(partition).append(batch(b"x%d" % partition), acks=ACKS_ALL, timeout_ms=20_000)
            for partition in range(20)
        ]
        await asyncio.gather(*sends)
        assert [[b"x%d" % p] for p in range(20)] == [values_of(two.replica(p)) for p in range(20)]


async def test_a_follower_finds_its_leader_again(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        leader, follower = one.lead(state), two.follow(one, state)
        await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        await one.doors.shut()
        await leader.append(batch(b"b"), acks=ACKS_LEADER, timeout_ms=0)
        await one.doors.open()
        await leader.append(batch(b"c"), acks=ACKS_ALL, timeout_ms=20_000)
        assert [b"a", b"b", b"c"] == values_of(follower)


async def test_s5_a_diverged_leader_of_before_cuts_what_its_successor_never_had(tmp_path: Path) -> None:
    async with brokers(tmp_path) as (one, two, three):
        first = state_of((1, 2, 3))
        one.lead(first)
        for broker in (two, three):
            broker.follow(one, first)
        await one.replica().append(batch(b"kept"), acks=ACKS_ALL, timeout_ms=20_000)
        for broker in (two, three):
            broker.fetchers.unfollow((TOPIC_ID, 0))
        await one.replica().append(batch(b"lost"), acks=ACKS_LEADER, timeout_ms=0)
        second = state_of((1, 2, 3), leader=2, leader_epoch=2, in_sync_replicas=(2, 3), partition_epoch=1)
        leader = two.lead(second)
        three.follow(two, second)
        await leader.append(batch(b"new"), acks=ACKS_ALL, timeout_ms=20_000)
        one.follow(two, second)
        await until(lambda: values_of(one.replica()) == [b"kept", b"new"])
        assert values_of(leader) == values_of(three.replica()) == [b"kept", b"new"]


async def test_s8_a_replica_that_has_caught_up_asks_to_be_let_in(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2), in_sync_replicas=(1,))
        leader = one.lead(state, min_in_sync_replicas=1)
        for n in range(100):
            await leader.append(batch(b"%d" % n), acks=ACKS_ALL, timeout_ms=20_000)
        two.follow(one, state)
        await until(lambda: one.wanting)
        change = leader.wanted_in_sync_change()
        assert change is not None
        assert ((1, 10), (2, 20)) == change.in_sync_replicas
        assert 100 == two.replica().log.synced_end_offset


async def test_not_enough_in_sync_replicas_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    async with brokers(tmp_path, 1) as (one,):
        leader = one.lead(state_of((1, 2, 3), in_sync_replicas=(1,)))
        with pytest.raises(RefusedError) as refused:
            await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        assert ErrorCode.NOT_ENOUGH_REPLICAS == refused.value.code
        assert 0 == leader.log.log_end_offset


async def test_a_wiped_follower_begins_where_the_leader_begins(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2), in_sync_replicas=(1,))
        leader = one.lead(state, min_in_sync_replicas=1)
        for n in range(10):
            await leader.append(batch(b"%d" % n), acks=ACKS_ALL, timeout_ms=20_000)
        leader.log.delete_records_before(7)
        follower = two.follow(one, state)
        await until(lambda: follower.log.log_end_offset == 10)
        await until(lambda: follower.log.log_start_offset == 7)
        assert [b"7", b"8", b"9"] == values_of(follower)


async def test_a_new_partition_does_not_wait_for_the_end_of_a_long_poll(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2, max_wait_ms=60_000, reconnect_s=60.0) as (one, two):
        state = state_of((1, 2))
        for partition in (0, 1):
            one.lead(state, partition)
        two.follow(one, state, 0)
        await until(lambda: one.doors.asked)
        await asyncio.sleep(2 * STALE_POLL_S)  # sleeps: until the poll is certainly a long one
        two.follow(one, state, 1)
        await one.replica(1).append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)


async def test_a_partition_that_errs_waits_alone(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        one.lead(state, 0)
        two.follow(one, state, 1)  # the leader does not know of it yet
        two.follow(one, state, 0)
        for n in range(20):
            await one.replica(0).append(batch(b"%d" % n), acks=ACKS_ALL, timeout_ms=20_000)
        one.lead(state, 1)
        await one.replica(1).append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)


async def test_s7_a_follower_of_another_epoch_gets_nothing_until_it_knows_better(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        leader = one.lead(state_of((1, 2), leader_epoch=2, in_sync_replicas=(1,)), min_in_sync_replicas=1)
        await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        follower = two.follow(one, state_of((1, 2), leader_epoch=1))
        await until(lambda: one.doors.asked)
        await asyncio.sleep(0.1)  # sleeps: long enough for a fetch that should not be answered with records
        assert 0 == follower.log.log_end_offset
        two.follow(one, state_of((1, 2), leader_epoch=2))
        await until(lambda: follower.log.log_end_offset == 1)


async def test_a_throttled_replica_keeps_to_its_rate_and_holds_up_nobody(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2, partition_max_bytes=1024) as (one, two):
        adding = state_of((1, 2), in_sync_replicas=(1,), adding_replicas=(2,))
        for partition, state in enumerate((adding, state_of((1, 2)))):
            one.lead(state, partition, min_in_sync_replicas=1)
        for _ in range(30):
            await one.replica(0).append(batch(b"x" * 1000), acks=ACKS_LEADER, timeout_ms=0)
        began_s = asyncio.get_running_loop().time()
        two.throttle.limit(20_000, now_s=began_s)
        follower = two.follow(one, adding, 0)
        two.follow(one, state_of((1, 2)), 1)
        for n in range(20):
            await one.replica(1).append(batch(b"%d" % n), acks=ACKS_ALL, timeout_ms=20_000)
        await until(lambda: follower.log.log_end_offset == 30)
        assert asyncio.get_running_loop().time() - began_s > 1.0, "30 KB at 20 KB/s"


async def test_a_throttled_copy_goes_on_in_small_steps(tmp_path: Path) -> None:
    """Not in one bite of a MiB, after which the debt is waited off for many seconds."""
    async with brokers(tmp_path, 2) as (one, two):
        two.throttle.limit(20_000, now_s=asyncio.get_running_loop().time())
        adding = state_of((1, 2), in_sync_replicas=(1,), adding_replicas=(2,))
        leader = one.lead(adding, min_in_sync_replicas=1)
        for _ in range(500):
            await leader.append(batch(b"x" * 1000), acks=ACKS_LEADER, timeout_ms=0)
        follower = two.follow(one, adding)
        await until(lambda: follower.log.log_end_offset)
        assert {20_000} == {p.partition_max_bytes for ask in one.doors.asked for t in ask.topics for p in t.partitions}
        two.throttle.limit(None, now_s=asyncio.get_running_loop().time())
        two.fetchers.unfollow(follower.key)
        two.follow(one, adding)
        await until(lambda: follower.log.log_end_offset == 500)


async def test_nobody_goes_on_looking_for_a_broker_that_was_removed(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        for partition in (0, 1):
            one.lead(state, partition)
            two.follow(one, state, partition)
        await until(lambda: one.doors.asked)
        image = Image.empty(CLUSTER_ID)
        two.fetchers.see(image, Delta(changed_brokers=frozenset((1,))))
        assert [1] == list(two.fetchers._fetchers), "its partitions find their next leader later"
        (task,) = two.fetchers._tasks.values()
        two.fetchers.unfollow((TOPIC_ID, 0))
        assert two.fetchers._fetchers
        two.fetchers.unfollow((TOPIC_ID, 1))
        assert not two.fetchers._fetchers
        await until(task.done)
        two.follow(one, state, 0)  # it came back under its id
        await until(lambda: two.fetchers._fetchers)


async def test_s18_a_leader_whose_disk_breaks_a_fresh_record_finds_it_out(tmp_path: Path) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2), in_sync_replicas=(1,))
        leader = one.lead(state, min_in_sync_replicas=1)
        for n in range(5):
            await leader.append(batch(b"%d" % n * 100), acks=ACKS_ALL, timeout_ms=20_000)
        flip_a_bit(leader, at=500)
        follower = two.follow(one, state)
        await until(lambda: leader.log.damaged_from is not None)
        assert values_of(follower) == [b"%d" % n * 100 for n in range(follower.log.log_end_offset)], "no broken record"


async def test_s19_a_follower_whose_disk_is_full_says_so_at_once_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    """Its leader asks to go on without it: writers do not wait until it has lagged for too long."""
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        leader, other = (one.lead(state, partition) for partition in (0, 1))
        follower = two.follow(one, state, 0)
        await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        one.wanting.clear()
        disk = follower.log.disk
        disk.reserved_bytes, disk._budget_bytes = 1 << 60, -1  # free space is asked for now and then only
        writing = asyncio.ensure_future(leader.append(batch(b"b"), acks=ACKS_ALL, timeout_ms=20_000))
        await until(lambda: leader in one.wanting)
        wanted = leader.wanted_in_sync_change()
        assert wanted is not None
        assert ((1, 10),) == wanted.in_sync_replicas
        assert 1 == leader.high_watermark, "S2: it counts as long as the image says so"
        assert {0} == {p.partition_max_bytes for t in one.doors.asked[-1].topics for p in t.partitions}
        two.follow(one, state, 1)
        await asyncio.wait_for(other.append(batch(b"x"), acks=ACKS_LEADER, timeout_ms=0), 20)
        disk.reserved_bytes = 0
        await until(lambda: follower.log.log_end_offset == 2)
        await writing


async def test_l1_a_follower_with_room_again_goes_on_though_its_leader_says_nothing_of_the_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a fetch session partitions in which nothing happens are left out, and nothing happens without us."""
    apply = LeaderFetcher._apply

    async def apply_news(fetcher: LeaderFetcher, answer: FetchResponse) -> None:
        for topic in answer.responses:
            topic.partitions[:] = [data for data in topic.partitions if data.records]
        await apply(fetcher, answer)

    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        leader = one.lead(state, 0)
        follower = two.follow(one, state, 0)
        await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        disk = follower.log.disk
        disk.reserved_bytes, disk._budget_bytes = 1 << 60, -1  # free space is asked for now and then only
        writing = asyncio.ensure_future(leader.append(batch(b"b"), acks=ACKS_ALL, timeout_ms=20_000))
        await until(lambda: {0} == {p.partition_max_bytes for t in one.doors.asked[-1].topics for p in t.partitions})
        monkeypatch.setattr(LeaderFetcher, "_apply", apply_news)
        disk.reserved_bytes = 0
        await until(lambda: follower.log.log_end_offset == 2)
        await writing


async def test_s19_a_follower_whose_disk_cannot_be_read_goes_on_with_its_other_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with brokers(tmp_path, 2) as (one, two):
        state = state_of((1, 2))
        leaders = [one.lead(state, partition) for partition in (0, 1)]
        refused = RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, "no file descriptor is free")
        asked = PartitionFollower.fetch_position

        def fetch_position(core: PartitionFollower, log: ReplicaLog) -> FetchPosition | None:
            if log is two.replica(0).log and not is_mended:
                raise refused
            return asked(core, log)

        monkeypatch.setattr(PartitionFollower, "fetch_position", fetch_position)
        is_mended = False
        for partition in (0, 1):
            two.follow(one, state, partition)
        await leaders[1].append(batch(b"b"), acks=ACKS_ALL, timeout_ms=20_000)
        is_mended = True
        await leaders[0].append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        assert [[b"a"], [b"b"]] == [values_of(two.replica(partition)) for partition in (0, 1)]


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
async def test_a_leader_that_advertises_what_is_no_host_is_out_of_reach_and_no_bug(host: str) -> None:
    with pytest.raises(OSError, match="no host name"):
        await open_connection(Endpoint(host, 1), client_id="test", leader_id=1, tls=None)
