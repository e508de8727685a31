"""What a producer is told is durable is durable, and what a consumer reads stays read."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.clock import SystemClock
from broker.errors import ExpectedOffsetError, OutcomeUnknownError
from broker.replication.replica import ACKS_ALL, ACKS_LEADER, Replica
from broker.replication.surroundings import Surroundings
from broker.waiting_room import WaitingRoom
from logstore.flusher import Flusher
from logstore.log_answers import OffsetOutOfRangeError
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.storage import PosixStorage
from metadata.image import Partition as PartitionState
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch, iterate_batches

BROKER = 1


class Disk:
    """Syncs run when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def submit(self, task: Callable[[], object]) -> "Disk":
        self.waiting.append(task)
        return self

    def result(self) -> None:
        self.sync()

    def sync(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class FailingStorage(PosixStorage):
    """A disk whose next write, or read, fails."""

    def __init__(self) -> None:
        self.fails = self.fails_to_read = False

    def pwrite(self, handle: int, data: bytes, position: int, /) -> int:  # type: ignore[override] # a method here
        if self.fails:
            raise OSError(5, "Input/output error")
        return PosixStorage.pwrite(handle, data, position)

    def pread(self, handle: int, size_bytes: int, position: int, /) -> bytes:  # type: ignore[override] # a method here
        if self.fails_to_read:
            raise OSError(5, "Input/output error")
        return PosixStorage.pread(handle, size_bytes, position)

    @contextlib.contextmanager
    def unreadable(self) -> "Iterator[None]":
        self.fails_to_read = True
        yield
        self.fails_to_read = False


class Partition:
    """One replica on a real log directory with a disk that syncs on demand."""

    def __init__(self, directory: LogDirectory, disk: Disk, storage: FailingStorage, room: WaitingRoom) -> None:
        self.disk = disk
        self.storage = storage
        self.log = directory.create_log(uuid.uuid4(), "pay", 0, LogConfig())
        self.is_heard = True
        self.wanting: list[Replica] = []
        self.damaged: list[Replica] = []
        surroundings = Surroundings(
            broker_id=BROKER,
            clock=SystemClock(),
            waiting_room=room,
            lag_time_max_ms=30_000,
            epoch_in_service={2: 20, 3: 30}.get,
            wants_in_sync_change=self.wanting.append,
            damaged=self.damaged.append,
            is_heard=lambda: self.is_heard,
        )
        self.replica = Replica(self.log, surroundings)

    def lead(self, leader_epoch: int = 1, **state: Any) -> Replica:
        self.replica.lead(led_by_us(leader_epoch=leader_epoch, **state), min_in_sync_replicas=2)
        return self.replica


def led_by_us(**state: Any) -> PartitionState:
    """Alone unless said otherwise."""
    one = {"replicas": (BROKER,), "in_sync_replicas": (BROKER,), "leader": BROKER, "leader_broker_epoch": 10}
    return PartitionState(**(one | state))


@pytest.fixture
async def partition(tmp_path: Path) -> "Iterator[Partition]":
    disk, storage = Disk(), FailingStorage()
    flusher = Flusher(submit=disk.submit, post=lambda task: task(), on_failure=lambda _: None)
    directory = LogDirectory(str(tmp_path / "data"), storage=storage, flusher=flusher, reserved_bytes=0)
    directory.open()
    room = WaitingRoom(asyncio.get_running_loop())
    yield Partition(directory, disk, storage, room)
    storage.fails = False
    disk.sync()
    room.close()
    directory.close()


def batch(*values: bytes) -> bytearray:
    return build_batch([(None, value, (), 1_000) for value in values])


def values_of(data: bytes | memoryview) -> list[bytes | None]:
    return [record.value for batch in iterate_batches(data) for record in batch.records()]


async def test_s2_acks_all_is_answered_after_the_sync_and_not_before(partition: Partition) -> None:
    replica = partition.lead()
    sending = asyncio.create_task(replica.append(batch(b"a", b"b"), acks=ACKS_ALL, timeout_ms=10_000))
    await asyncio.sleep(0)
    assert not sending.done()
    assert 0 == replica.high_watermark
    partition.disk.sync()
    assert 0 == (await sending).base_offset
    assert 2 == replica.high_watermark


async def test_s12_an_unsynced_record_is_acknowledged_at_acks_1_but_not_yet_readable(partition: Partition) -> None:
    replica = partition.lead()
    assert 0 == (await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)).base_offset
    assert b"" == bytes((await replica.fetch(0, max_bytes=1000)).slice.data)
    partition.disk.sync()
    assert [b"a"] == values_of((await replica.fetch(0, max_bytes=1000)).slice.data)


async def test_s15_a_timeout_is_unknown_and_the_record_may_still_come(partition: Partition) -> None:
    replica = partition.lead()
    with pytest.raises(OutcomeUnknownError, match="timeout=5 ms") as unknown:
        await replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=5)
    assert ErrorCode.REQUEST_TIMED_OUT == unknown.value.code
    partition.disk.sync()
    assert 1 == replica.high_watermark


async def test_s15_a_leader_that_may_be_deposed_refuses_no_sequence_for_good(partition: Partition) -> None:
    """Stopped for longer than its session it has a successor, who wrote what is missing here: 409 would be final."""
    replica = partition.lead()
    sent = build_batch([(None, b"a", (), 1_000)], producer_id=5, producer_epoch=0, base_sequence=0)
    await replica.append(sent, acks=ACKS_LEADER, timeout_ms=0)
    after_a_gap = build_batch([(None, b"c", (), 1_000)], producer_id=5, producer_epoch=0, base_sequence=2)
    with pytest.raises(RefusedError) as refused:
        await replica.append(after_a_gap, acks=ACKS_ALL, timeout_ms=0)
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == refused.value.code
    partition.is_heard = False
    for refused_append in ({"buffer": after_a_gap}, {"buffer": batch(b"x"), "expected_offset": 7}):
        with pytest.raises(RefusedError, match="may not lead pay-0 any more") as refused:
            await replica.append(**refused_append, acks=ACKS_ALL, timeout_ms=0)
        assert ErrorCode.NOT_LEADER_OR_FOLLOWER == refused.value.code
        assert not isinstance(refused.value, ExpectedOffsetError)
    assert 1 == replica.log.log_end_offset


async def test_s12_a_leader_that_may_be_deposed_sends_no_reader_back(partition: Partition) -> None:
    """The reader was at its successor, where the log is longer; told "out of range" it would begin anew."""
    replica = partition.lead()
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    with pytest.raises(OffsetOutOfRangeError):
        await replica.fetch(5, max_bytes=1000)
    partition.is_heard = False
    with pytest.raises(RefusedError, match="may not lead pay-0 any more") as refused:
        await replica.fetch(5, max_bytes=1000)
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER == refused.value.code
    assert b"" == bytes((await replica.fetch(0, max_bytes=1000)).slice.data), "what it has is read on"


async def test_s7_losing_the_replica_before_the_sync_is_unknown(partition: Partition) -> None:
    replica = partition.lead()
    sending = asyncio.create_task(replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=10_000))
    await asyncio.sleep(0)
    replica.abandon()
    with pytest.raises(OutcomeUnknownError, match="may or may not"):
        await sending
    partition.disk.sync()
    assert 0 == replica.high_watermark, "whoever does not lead does not commit"


async def test_s7_whoever_lost_leadership_is_answered_when_the_next_leader_has_committed_it(
    partition: Partition,
) -> None:
    replica = partition.lead()
    sending = asyncio.create_task(replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=10_000))
    await asyncio.sleep(0)
    replica.resign()
    partition.disk.sync()
    await asyncio.sleep(0)
    assert not sending.done()
    replica.committed(1)
    assert 0 == (await sending).base_offset


async def test_s7_what_the_next_leader_lacks_is_cut_and_unknown(partition: Partition) -> None:
    replica = partition.lead()
    sending = asyncio.create_task(replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=10_000))
    await asyncio.sleep(0)
    replica.resign()
    replica.truncate_to(0)
    with pytest.raises(OutcomeUnknownError, match="may or may not"):
        await sending


async def test_s4_records_carry_the_epoch_in_which_they_were_appended(partition: Partition) -> None:
    replica = partition.lead(3)
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    partition.lead(4)
    await replica.append(batch(b"b"), acks=ACKS_LEADER, timeout_ms=0)
    partition.disk.sync()
    data = (await replica.fetch(0, max_bytes=1000)).slice.data
    assert [(0, 3), (1, 4)] == [(b.base_offset, b.partition_leader_epoch) for b in iterate_batches(data)]
    assert 4 == replica.leader_epoch


async def test_whoever_does_not_lead_refuses_and_names_the_partition(partition: Partition) -> None:
    for attempt in (
        partition.replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=0),
        partition.replica.fetch(0, max_bytes=1),
    ):
        with pytest.raises(RefusedError, match="pay-0") as refused:
            await attempt
        assert ErrorCode.NOT_LEADER_OR_FOLLOWER == refused.value.code


async def test_a_conditional_append_at_another_offset_writes_nothing(partition: Partition) -> None:
    replica = partition.lead()
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0, expected_offset=0)
    with pytest.raises(ExpectedOffsetError) as refused:
        await replica.append(batch(b"b"), acks=ACKS_LEADER, timeout_ms=0, expected_offset=0)
    assert 1 == refused.value.log_end_offset
    assert 1 == partition.log.log_end_offset


async def test_a_retry_of_a_conditional_append_is_told_of_its_first_time(partition: Partition) -> None:
    """S13: the condition held when it counted."""
    replica = partition.lead()
    for is_duplicate in (False, True):
        sent = build_batch([(None, b"a", (), 1_000)], producer_id=5, producer_epoch=0, base_sequence=0)
        appended = await replica.append(sent, acks=ACKS_LEADER, timeout_ms=0, expected_offset=0)
        assert (0, 0, is_duplicate) == (appended.base_offset, appended.last_offset, appended.is_duplicate)
    assert 1 == partition.log.log_end_offset


async def test_a_corrupt_batch_is_refused_and_writes_nothing(partition: Partition) -> None:
    replica = partition.lead()
    damaged = batch(b"a")
    damaged[-1] ^= 1
    with pytest.raises(RefusedError) as refused:
        await replica.append(damaged, acks=ACKS_LEADER, timeout_ms=0)
    assert ErrorCode.CORRUPT_MESSAGE == refused.value.code
    assert 0 == partition.log.log_end_offset


async def test_s18_a_leader_that_refuses_writes_for_damage_says_so_whoever_met_the_damage(partition: Partition) -> None:
    """A search by timestamp met it; without this the partition would have a leader that takes nothing."""
    replica = partition.lead()
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    partition.disk.sync()
    with partition.storage.unreadable(), pytest.raises(RefusedError):
        replica.offset_for_timestamp(1_000)
    with pytest.raises(RefusedError) as refused:
        await replica.append(batch(b"b"), acks=ACKS_LEADER, timeout_ms=0)
    assert ErrorCode.KAFKA_STORAGE_ERROR == refused.value.code
    assert [replica] == partition.damaged


async def test_a_long_poll_ends_with_the_first_new_record(partition: Partition) -> None:
    replica = partition.lead()
    polling = asyncio.create_task(replica.fetch(0, max_bytes=1000, timeout_ms=10_000))
    await asyncio.sleep(0)
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    assert not polling.done()
    partition.disk.sync()
    assert [b"a"] == values_of((await polling).slice.data)


async def test_a_long_poll_waits_for_min_bytes_but_not_beyond_its_timeout(partition: Partition) -> None:
    replica = partition.lead()
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    partition.disk.sync()
    fetched = await replica.fetch(0, max_bytes=10_000, min_bytes=5_000, timeout_ms=5)
    assert [b"a"] == values_of(fetched.slice.data)
    polling = asyncio.create_task(replica.fetch(0, max_bytes=10_000, min_bytes=5_000, timeout_ms=10_000))
    await asyncio.sleep(0)
    await replica.append(batch(b"b" * 6_000), acks=ACKS_LEADER, timeout_ms=0)
    partition.disk.sync()
    assert [b"a", b"b" * 6_000] == values_of((await polling).slice.data)


async def test_a_long_poll_learns_that_the_leader_moved(partition: Partition) -> None:
    replica = partition.lead()
    polling = asyncio.create_task(replica.fetch(0, max_bytes=1000, timeout_ms=10_000))
    await asyncio.sleep(0)
    replica.resign()
    with pytest.raises(RefusedError) as refused:
        await polling
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER == refused.value.code


@pytest.mark.parametrize("offset", [-1, 2])
async def test_an_offset_out_of_range_is_answered_with_both_bounds(partition: Partition, offset: int) -> None:
    replica = partition.lead()
    await replica.append(batch(b"a"), acks=ACKS_LEADER, timeout_ms=0)
    partition.disk.sync()
    with pytest.raises(OffsetOutOfRangeError) as refused:
        await replica.fetch(offset, max_bytes=1000)
    assert (0, 1) == (refused.value.earliest, refused.value.latest)


async def test_s19_a_write_that_the_disk_fails_is_unknown_never_refused(partition: Partition) -> None:
    replica = partition.lead()
    partition.storage.fails = True
    with pytest.raises(OutcomeUnknownError) as unknown:
        await replica.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=100)
    assert ErrorCode.KAFKA_STORAGE_ERROR == unknown.value.code
