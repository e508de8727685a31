"""The driver of a coordinator against a log in memory: what is answered when, and what a lost leadership means."""

import asyncio
import itertools
from types import SimpleNamespace
from uuid import UUID

import pytest

from broker.clock import SystemClock
from broker.groups.coordinator import OffsetsToCommit
from broker.groups.member import Joining
from broker.groups.offsets import CommittedOffset, TopicPartition
from broker.groups.records import offset_record
from broker.groups.settings import GroupSettings
from broker.groups.shard import Shard, ShardSurroundings
from broker.waiting_room import WaitingRoom
from logstore.log_answers import Appended, LogSlice
from wire.errors import ErrorCode, RefusedError
from wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from wire.record_batch import build_batch, iterate_batches, stamp

T0 = TopicPartition("t", 0)


class LogInMemory:
    """What a shard needs of a replica; the high watermark moves when it is told to."""

    name = "__consumer_offsets-0"
    key = (UUID(int=1), 0)
    safe_key = "safe"
    high_watermark_key = "high watermark"
    earliest_offset = 0

    def __init__(self, room: WaitingRoom) -> None:
        self.room = room
        self.leader_epoch = 7
        self.high_watermark = 0
        self.batches: list[bytearray] = []
        self.refuses: ErrorCode | None = None
        self.log = SimpleNamespace(log_end_offset=0)

    def append_now(self, buffer: bytearray, *, acks: int) -> Appended:
        assert acks == -1
        if self.refuses is not None:
            raise RefusedError(self.refuses, "refused")
        base_offset = self.log.log_end_offset
        for batch in list(iterate_batches(buffer)):
            stamp(buffer, batch.position, base_offset=self.log.log_end_offset, leader_epoch=7)
            self.log.log_end_offset += batch.record_count
        self.batches.append(buffer)
        return Appended(base_offset, self.log.log_end_offset - 1, len(buffer), -1)

    def commit(self) -> None:
        self.high_watermark = self.log.log_end_offset
        for key in (self.safe_key, self.high_watermark_key):
            self.room.advanced(key, self.high_watermark)

    def fetch_now(self, offset: int, *, max_bytes: int) -> SimpleNamespace:
        for buffer in self.batches:
            batches = list(iterate_batches(buffer))
            if batches[-1].next_offset > offset:
                return SimpleNamespace(slice=LogSlice(bytes(buffer), offset, batches[-1].next_offset))
        raise AssertionError(offset)


class Driven:
    """A shard, loaded, and its log."""

    def __init__(self, **settings: int) -> None:
        loop = asyncio.get_running_loop()
        self.room = WaitingRoom(loop)
        self.log = LogInMemory(self.room)
        self.of = ShardSurroundings(
            settings=GroupSettings(**({"initial_rebalance_delay_ms": 0} | settings)),
            clock=SystemClock(),
            waiting_room=self.room,
            loop=loop,
        )
        self.shard = self.new_shard()
        self._ids = itertools.count(1)

    def new_shard(self) -> Shard:
        return Shard(self.log, self.of)  # type: ignore[arg-type]  # what a shard needs of one

    async def load(self) -> "Driven":
        await self.shard.load(lambda: {"t": 1})
        return self

    def commit(self, offset: int):
        asked = OffsetsToCommit("g", "", None, -1, {T0: CommittedOffset(offset)})
        return self.shard.ask("g", lambda core, call, now: core.commit(call, asked, now))

    def join(self, session_timeout_ms: int = 10_000):
        protocols = [JoinGroupRequestProtocol("range", b"")]
        request = JoinGroupRequest("g", session_timeout_ms, 10_000, "", None, "consumer", protocols)
        joining = Joining(request, "c", "/h", f"c-{next(self._ids)}", requires_member_id=False)
        return self.shard.ask("g", lambda core, call, now: core.join(call, joining, now))

    @property
    def offset(self) -> int | None:
        found = self.shard.core.offsets_of("g").get(T0)
        return None if found is None else found.offset


@pytest.fixture
async def driven():
    made = await Driven().load()
    yield made
    made.shard.resign()
    made.room.close()


async def test_a_commit_is_answered_when_it_is_below_the_high_watermark(driven):
    answer = driven.commit(5)
    await asyncio.sleep(0)
    assert (False, None) == (answer.done(), driven.offset)
    driven.log.commit()
    assert ({T0: ErrorCode.NONE}, 5) == (await answer, driven.offset)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
    ],
)
async def test_a_commit_that_the_log_refuses_is_told_in_words_that_clients_know(driven, refused, told):
    driven.log.refuses = refused
    assert {T0: told} == driven.commit(5)
    assert None is driven.offset


async def test_a_commit_that_takes_too_long_is_in_doubt_and_counts_when_it_is_safe_after_all():
    driven = await Driven(offsets_commit_timeout_ms=20).load()
    answer = driven.commit(5)
    assert {T0: ErrorCode.COORDINATOR_NOT_AVAILABLE} == await asyncio.wait_for(answer, 30)
    assert None is driven.offset
    driven.log.commit()
    assert 5 == driven.offset
    driven.shard.resign()
    driven.room.close()


async def test_with_the_leadership_goes_everybody_who_waits(driven):
    committed = driven.commit(5)
    driven.log.commit()
    assert {T0: ErrorCode.NONE} == await committed
    waiting = [driven.commit(6)]
    driven.join()
    waiting.append(driven.join())
    driven.shard.resign()
    assert [ErrorCode.NOT_COORDINATOR] * 2 == await asyncio.gather(*waiting)
    assert not driven.shard.leads
    driven.log.commit()
    assert 5 == driven.offset, "a shard that is over changes no more"


async def test_l1_whoever_waits_for_a_group_is_told_when_its_log_failed_without_a_word():
    """As where the only replica's disk has failed: nobody else leads it, so nobody brings news."""
    driven = await Driven(initial_rebalance_delay_ms=50).load()
    joining = driven.join()
    driven.log.leader_epoch = -1
    assert ErrorCode.NOT_COORDINATOR is await asyncio.wait_for(joining, 30)
    assert driven.shard.is_over


async def test_who_hangs_up_is_no_member_any_more(driven):
    driven.join()
    waiting = driven.join()
    assert 2 == len(driven.shard.core.groups["g"].members)
    waiting.cancel()
    await asyncio.sleep(0)
    assert 1 == len(driven.shard.core.groups["g"].members)


async def test_a_new_leader_reads_all_that_may_have_been_shown_before_it_answers():
    driven = Driven()
    driven.log.append_now(build_batch([(*offset_record("g", T0, CommittedOffset(5)), (), 0)]), acks=-1)
    loading = asyncio.create_task(driven.shard.load(lambda: {"t": 1}))
    await asyncio.sleep(0.01)  # sleeps: nothing may happen
    assert not driven.shard.is_loaded
    driven.log.commit()
    await asyncio.wait_for(loading, 30)
    assert (True, 5) == (driven.shard.is_loaded, driven.offset)
    driven.shard.resign()
    driven.room.close()


async def test_what_is_no_record_of_a_group_is_passed_over():
    driven = Driven()
    key, value = offset_record("g", T0, CommittedOffset(5))
    for records in ([(b"junk", b"junk", (), 0), (key, value, (), 0)], [(None, b"x", (), 0), (b"\0\1", b"x", (), 0)]):
        driven.log.append_now(build_batch(records), acks=-1)
    driven.log.commit()
    await driven.load()
    assert 5 == driven.offset
    driven.shard.resign()
    driven.room.close()


async def test_a_group_that_is_too_large_for_one_batch_is_written_in_several_at_once(driven):
    offsets = {TopicPartition("t", partition): CommittedOffset(1, metadata="x" * 4000) for partition in range(400)}
    asked = OffsetsToCommit("g", "", None, -1, offsets)
    answer = driven.shard.ask("g", lambda core, call, now: core.commit(call, asked, now))
    (buffer,) = driven.log.batches
    assert 4 == len(list(iterate_batches(buffer)))
    driven.log.commit()
    assert {ErrorCode.NONE} == set((await answer).values())
    again = driven.new_shard()
    await again.load(lambda: {"t": 1})
    assert 400 == len(again.core.offsets_of("g"))
    again.resign()


async def test_the_timer_ends_sessions():
    driven = await Driven(session_timeout_ms_min=1).load()
    driven.join(session_timeout_ms=30)
    async with asyncio.timeout(30):
        while driven.shard.core.groups:  # noqa: ASYNC110 - a timer's doing
            await asyncio.sleep(0.005)  # sleeps: nobody tells
    driven.shard.resign()
    driven.room.close()
