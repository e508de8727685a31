"""A fetch over many partitions: fair, bounded, answered once, and looking only where something happened."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from broker.partition_fetches import Answered, Bounds, FetchSet, Follower, PartitionFetches, Wanted
from broker.replication.divergence import EpochEnd
from broker.replication.replica import Fetched
from broker.waiting_room import WaitingRoom
from logstore.log_answers import LogSlice
from metadata.image import Image
from wire.errors import ErrorCode, RefusedError

TOPIC = UUID(int=7)
BATCH_BYTES = 100
FOLLOWER = Follower(2, 20)


@dataclass(eq=False)
class FakeReplica:
    """Batches of one record and 100 bytes each."""

    room: WaitingRoom
    log_end_offset: int = 0
    high_watermark: int = 0
    is_leader: bool = True
    refusal: RefusedError | None = None
    diverging: EpochEnd | None = None
    reads: int = 0
    acknowledged: list[int] = field(default_factory=list)
    read_again: list[int] = field(default_factory=list)
    high_watermark_key: object = field(default_factory=object)
    log_end_key: object = field(default_factory=object)

    def append(self, count: int = 1, *, committed: bool = True) -> None:
        self.log_end_offset += count
        self.room.advanced(self.log_end_key, self.log_end_offset)
        if committed:
            self.high_watermark = self.log_end_offset
            self.room.advanced(self.high_watermark_key, self.high_watermark)

    def resign(self) -> None:
        self.is_leader = False
        self.refusal = RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "no")
        self.room.failed(self.high_watermark_key, RuntimeError())
        self.room.failed(self.log_end_key, RuntimeError())

    def fetch_now(self, offset, *, max_bytes, at_least_one, current_leader_epoch, last_fetched_epoch):
        return self._read(offset, self.high_watermark, max_bytes, at_least_one)

    def fetch_as_follower(self, *, broker_id, broker_epoch, fetch_offset, max_bytes, at_least_one, is_read_again, **_):
        assert FOLLOWER == (broker_id, broker_epoch)
        (self.read_again if is_read_again else self.acknowledged).append(fetch_offset)
        return self._read(fetch_offset, self.log_end_offset, max_bytes, at_least_one)

    def _read(self, offset, end, max_bytes, at_least_one):
        self.reads += 1
        if self.refusal is not None:
            raise self.refusal
        count = min(max_bytes // BATCH_BYTES, end - offset)
        if at_least_one and not count and offset < end:
            count = 1
        found = LogSlice(bytes(BATCH_BYTES * count), offset, offset + count)
        if self.diverging:
            found = LogSlice(b"", offset, offset)
        return Fetched(found, self.high_watermark, 0, self.log_end_offset, self.diverging)


class World:
    def __init__(self, partitions: int) -> None:
        self.room = WaitingRoom(asyncio.get_running_loop())
        self.replicas = [FakeReplica(self.room) for _ in range(partitions)]
        self.lookups = 0
        self.fetches = PartitionFetches(
            replica=self._replica,
            image=lambda: Image.empty("cluster"),
            loop=asyncio.get_running_loop(),
            look_at_all_s=3600,
        )

    def _replica(self, topic_id, index):
        self.lookups += 1
        if topic_id != TOPIC:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, "gone")
        return self.replicas[index]

    def set(self, *, follower=None, offset=0, max_bytes=1 << 20) -> FetchSet:
        made = FetchSet(self.room, follower=follower)
        made.want(TOPIC, [(index, Wanted(offset, max_bytes)) for index in range(len(self.replicas))])
        return made

    def fetch(self, fetched, *, max_bytes=1 << 20, min_bytes=1, max_wait_ms=0):
        return self.fetches.fetch(fetched, Bounds(max_bytes, min_bytes, max_wait_ms))


def counts(answers) -> dict[int, int]:
    """Batches by partition, only those that had any."""
    return {
        partition.index: len(answered.fetched.slice.data) // BATCH_BYTES
        for partition, answered in answers.items()
        if answered.fetched is not None and len(answered.fetched.slice.data)
    }


def only(answers) -> Answered:
    (answered,) = answers.values()
    return answered


async def test_max_bytes_is_shared_and_the_first_batch_comes_whatever_it_says():
    world = World(3)
    for replica in world.replicas:
        replica.append(5)
    answers = world.fetch(world.set(), max_bytes=7 * BATCH_BYTES)
    assert {0: 5, 1: 2} == counts(answers)
    assert 3 == len(answers), "each partition is told where it stands"
    assert {0: 1} == counts(world.fetch(world.set(), max_bytes=0))
    assert {0: 1, 1: 1, 2: 1} == counts(world.fetch(world.set(max_bytes=BATCH_BYTES)))


async def test_in_a_session_each_partition_gets_its_turn():
    world = World(4)
    for replica in world.replicas:
        replica.append(100)
    fetched = world.set()
    offsets = [0] * 4
    for _ in range(8):
        for index, count in counts(world.fetch(fetched, max_bytes=2 * BATCH_BYTES)).items():
            offsets[index] += count
            fetched.want(TOPIC, [(index, Wanted(offsets[index], 1 << 20))])
    assert [4, 4, 4, 4] == offsets


async def test_what_was_not_fetched_on_is_sent_again():
    world = World(1)
    world.replicas[0].append()
    fetched = world.set()
    assert {0: 1} == counts(world.fetch(fetched))
    assert {0: 1} == counts(world.fetch(fetched))
    fetched.want(TOPIC, [(0, Wanted(1, 1 << 20))])
    assert {} == counts(world.fetch(fetched))


async def test_a_fetch_that_waits_is_answered_by_the_first_record():
    world = World(3)
    waiting = world.fetch(world.set(), max_wait_ms=60_000)
    await asyncio.sleep(0)
    assert not waiting.done()
    world.replicas[1].append()
    assert {1: 1} == counts(await waiting)


async def test_it_waits_for_min_bytes_over_all_partitions():
    world = World(3)
    waiting = world.fetch(world.set(), min_bytes=3 * BATCH_BYTES, max_wait_ms=60_000)
    for replica in world.replicas[:2]:
        replica.append()
        await asyncio.sleep(0.02)  # sleeps: it looks again after a few ms, and must still not be done
        assert not waiting.done()
    world.replicas[2].append()
    assert {0: 1, 1: 1, 2: 1} == counts(await waiting)


async def test_at_its_deadline_it_tells_what_there_is():
    world = World(2)
    world.replicas[0].append()
    answers = await world.fetch(world.set(), min_bytes=1 << 20, max_wait_ms=20)
    assert {0: 1} == counts(answers)
    assert 2 == len(answers)


async def test_an_error_or_a_divergence_ends_the_wait_at_once():
    world = World(2)
    world.replicas[0].refusal = RefusedError(ErrorCode.OFFSET_OUT_OF_RANGE, "no")
    answers = world.fetch(world.set(), max_wait_ms=60_000)
    assert [ErrorCode.OFFSET_OUT_OF_RANGE, None] == [one.refused and one.refused.code for one in answers.values()]
    world.replicas[0].refusal, world.replicas[1].diverging = None, EpochEnd(1, 0)
    answers = world.fetch(world.set(), max_wait_ms=60_000)
    assert [None, EpochEnd(1, 0)] == [one.fetched.diverging for one in answers.values()]


async def test_a_lost_leadership_ends_the_wait_and_the_next_leader_is_looked_up():
    world = World(1)
    fetched = world.set()
    waiting = world.fetch(fetched, max_wait_ms=60_000)
    old = world.replicas[0]
    world.replicas[0] = FakeReplica(world.room)
    world.replicas[0].append(3)
    old.resign()
    assert {0: 3} == counts(await waiting)
    world.replicas[0].append(1)
    assert {0: 4} == counts(world.fetch(fetched))


async def test_a_topic_that_does_not_exist_is_a_refusal_of_its_own():
    world = World(1)
    fetched = world.set()
    fetched.want(UUID(int=8), [(0, Wanted(0, 1))])
    fetched.want("name", [(0, Wanted(0, 1))])
    codes = [one.refused and one.refused.code for one in world.fetch(fetched).values()]
    assert [None, ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] == codes


async def test_a_follower_reads_to_the_log_end_and_acknowledges_what_it_names():
    """S2: what it says that it holds is taken note of in every fetch that says it."""
    world = World(1)
    replica = world.replicas[0]
    replica.append(3, committed=False)
    assert {} == counts(world.fetch(world.set()))
    fetched = world.set(follower=FOLLOWER)
    assert {0: 3} == counts(world.fetch(fetched))
    fetched.want(TOPIC, [(0, Wanted(3, 1 << 20))])
    waiting = world.fetch(fetched, max_wait_ms=60_000)
    assert [0, 3] == replica.acknowledged
    replica.append(committed=False)
    assert {0: 1} == counts(await waiting)


async def test_a_follower_is_told_of_the_high_watermark_with_the_next_answer_and_not_woken_for_it():
    world = World(1)
    replica = world.replicas[0]
    fetched = world.set(follower=FOLLOWER)
    waiting = world.fetch(fetched, max_wait_ms=30)
    replica.append(1, committed=False)
    await waiting
    fetched.want(TOPIC, [(0, Wanted(1, 1 << 20))])
    waiting = world.fetch(fetched, max_wait_ms=500)
    reads = replica.reads
    replica.high_watermark = 1
    world.room.advanced(replica.high_watermark_key, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reads == replica.reads
    assert 1 == only(await waiting).fetched.high_watermark


async def test_only_partitions_with_news_are_looked_at():
    world = World(50)
    fetched = world.set()
    fetched.watch()
    world.fetch(fetched)
    for replica in world.replicas:
        replica.reads = 0
    world.replicas[17].append()
    assert {17: 1} == counts(world.fetch(fetched))
    assert [17] == [index for index, replica in enumerate(world.replicas) if replica.reads]
    assert 50 == world.lookups


async def test_now_and_then_all_are_looked_at():
    """Nobody tells that retention has moved a log's start."""
    world = World(3)
    world.fetches._look_at_all_s = 0.0
    fetched = world.set()
    assert 3 == len(world.fetch(fetched))
    assert 3 == len(world.fetch(fetched))


async def test_who_asks_again_gets_the_first_answer_at_once():
    world = World(1)
    fetched = world.set()
    first = world.fetch(fetched, max_wait_ms=60_000)
    second = world.fetch(fetched, max_wait_ms=60_000)
    assert {} == counts(await first)
    world.replicas[0].append()
    assert {0: 1} == counts(await second)


async def test_nothing_is_left_behind_by_those_who_were_answered_or_went_away():
    world = World(2)
    waiting = world.fetch(world.set(), max_wait_ms=10)
    await waiting
    fetched = world.set(follower=FOLLOWER)
    gone = world.fetch(fetched, max_wait_ms=60_000)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    fetched.close()
    assert not world.fetches._waiting
    world.replicas[0].append()


async def test_a_closed_set_watches_nothing():
    world = World(2)
    for follower in (None, FOLLOWER):
        fetched = world.set(follower=follower)
        fetched.watch()
        world.fetch(fetched)
        assert world.room._purgatory._watchers
        fetched.drop(TOPIC, [0, 5])
        fetched.close()
        assert not world.room._purgatory._watchers


async def test_at_the_end_of_the_node_everybody_is_answered():
    world = World(1)
    waiting = world.fetch(world.set(), max_wait_ms=60_000)
    world.fetches.answer_all_now()
    assert {} == counts(await waiting)


@pytest.mark.parametrize("max_wait_ms", [0, -5])
async def test_without_a_wait_it_is_answered_at_once(max_wait_ms):
    world = World(1)
    assert {} == counts(world.fetch(world.set(), max_wait_ms=max_wait_ms))
