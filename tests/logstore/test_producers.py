"""What idempotent producers gain from a log: one record for each send, whatever becomes of the process or the disk
between the tries (S13); and what others pay for it: nothing.
"""

import errno
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from logstore.log_config import LogConfig, TimestampType
from logstore.log_producers import SNAPSHOT_BATCHES, SNAPSHOT_BATCHES_AT_CLOSE
from logstore.storage import PosixStorage
from tests.logstore.owner import TOPIC_ID, Owner, append, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch, check_batches, stamp

DAY_MS = 86_400_000


def idempotent(sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0) -> bytearray:
    records = [(None, b"%d" % (sequence + index), (), 1000 + sequence + index) for index in range(count)]
    return build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


ONE_BATCH = len(idempotent(0))
CONFIG = LogConfig(segment_bytes=4 * ONE_BATCH, index_interval_bytes=100)


def send(log, *buffers: bytearray, leader_epoch: int = 1, now_ms: int = 0):
    buffer = bytearray().join(buffers)
    return log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=leader_epoch, now_ms=now_ms)


def code_of(log, *buffers: bytearray) -> ErrorCode:
    with pytest.raises(RefusedError) as refusal:
        send(log, *buffers)
    return refusal.value.code


def snapshots(storage) -> list[int]:
    return [int(path[-29:-9]) for path in storage.paths(".snapshot")]


def checkpointed(count: int):
    """A log with so many batches of one producer, all below its recovery point."""
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    for sequence in range(count):
        send(log, idempotent(sequence))
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    return storage, owner, log


@pytest.fixture
def storage():
    return SimulatedStorage()


@pytest.fixture
def log(storage):
    return Owner(storage).open(CONFIG).log(config=CONFIG)


def reopened(storage, config=CONFIG):
    storage.kill()
    owner = Owner(storage).open(config)
    return owner, owner.directory.logs[TOPIC_ID, 0]


# ---- the leader's answers


def test_a_retry_is_answered_with_the_first_offsets_and_writes_nothing(log, storage):
    append(log, [b"before"])
    first = send(log, idempotent(0, 3))
    size_bytes = log.size_bytes
    storage.calls.clear()
    again = send(log, idempotent(0, 3))
    assert (1, 3, False) == (first.base_offset, first.last_offset, first.is_duplicate)
    assert (1, 3, 0, -1, True) == again
    assert ([], size_bytes) == (storage.calls, log.size_bytes)


def test_a_refused_batch_writes_nothing_and_changes_nothing(log, storage):
    send(log, idempotent(0))
    storage.calls.clear()
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == code_of(log, idempotent(2))
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == code_of(log, idempotent(1), idempotent(3))
    assert ([], 1) == (storage.calls, log.log_end_offset)
    assert 1 == send(log, idempotent(1)).base_offset


def test_a_retry_is_answered_also_while_the_disk_is_full(log, storage):
    send(log, idempotent(0))
    storage.capacity_bytes = 0
    assert send(log, idempotent(0), now_ms=5000).is_duplicate
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(1))


def test_what_the_disk_refused_can_be_sent_again(log, storage):
    """S19: the sequence was not used."""
    send(log, idempotent(0))
    storage.shorten(10)
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(1))
    found = send(log, idempotent(1))
    assert (1, False) == (found.base_offset, found.is_duplicate)


def test_a_retry_under_log_append_time_gets_the_first_time(storage):
    config = LogConfig(message_timestamp_type=TimestampType.LOG_APPEND_TIME)
    log = Owner(storage).open(config).log(config=config)
    assert 5000 == send(log, idempotent(0), now_ms=5000).timestamp_ms
    assert (5000, True) == send(log, idempotent(0), now_ms=9000)[3:]
    _, log = reopened(storage, config)
    assert (5000, True) == send(log, idempotent(0), now_ms=9000)[3:]


def test_an_old_leader_gets_no_answer_to_a_retry(log):
    """S7: it might be told of something that its successor lacks."""
    send(log, idempotent(0), leader_epoch=5)
    with pytest.raises(RefusedError) as refusal:
        send(log, idempotent(0), leader_epoch=4)
    assert ErrorCode.FENCED_LEADER_EPOCH == refusal.value.code


def test_a_door_can_ask_before_it_checks_anything_else(log):
    send(log, idempotent(0, 2))
    plain = build_batch([(None, b"plain", (), 1)])
    for buffer, expected in ((idempotent(0, 2), (0, 1)), (idempotent(2), None), (plain, None)):
        found = log.duplicate_of(check_batches(buffer, max_batch_bytes=1000))
        assert expected == (None if found is None else (found.base_offset, found.last_offset))


def test_a_damaged_log_says_so_and_guesses_nothing(log):
    """S18: a retry might be of what was lost."""
    send(log, idempotent(0))
    log.damaged_from = 0
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(0))
    log.damaged_from = None
    log.is_closed = True
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(0))


# ---- followers


@pytest.mark.parametrize("is_in_tail", [False, True])
def test_a_header_that_rotted_hides_no_retry_behind_it(is_in_tail):
    """S13, S18: who cannot know what was sent before is damaged, and says so; not that it is out of order."""
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    for sequence in range(4):
        send(log, idempotent(sequence))
    owner.settle()
    if not is_in_tail:
        owner.directory.checkpoint()
        owner.settle()
    file = storage.file(log.segments[0].file.path)
    for image in (file.live, file.durable):
        image[ONE_BATCH] ^= 1  # the second batch's base offset, of which no checksum knows
    _, log = reopened(storage, LogConfig())
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(4))
    assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(3))
    assert (1, 4) == (log.damaged_from, log.log_end_offset)


PRODUCER_ID, EPOCH_AND_SEQUENCE = range(43, 51), range(51, 57)
"""Bytes of a batch header."""


@pytest.mark.parametrize(
    ("number", "rotten"),
    [
        (number, byte)
        for number in (0, 1, 3)
        for byte in (*PRODUCER_ID, *EPOCH_AND_SEQUENCE)
        if number or byte in EPOCH_AND_SEQUENCE  # whose the very first batch was, nothing before it tells
    ],
)
def test_s13_what_a_header_says_of_its_producer_is_believed_where_it_fits_or_the_crc_does(number, rotten):
    """Below the recovery point only headers are read: a bit that turned there made retries new, or out of order."""
    storage, _, log = checkpointed(4)
    file = storage.file(log.segments[0].file.path)
    for bit in range(8):
        for image in (file.live, file.durable):
            image[number * ONE_BATCH + rotten] ^= 1 << bit
        _, log = reopened(storage, LogConfig())
        assert ErrorCode.KAFKA_STORAGE_ERROR == code_of(log, idempotent(3))
        assert number == log.damaged_from
        for image in (file.live, file.durable):
            image[number * ONE_BATCH + rotten] ^= 1 << bit
        storage.kill()
        storage.unlink(f"{log.folder}/damaged-ranges")
    _, log = reopened(storage, LogConfig())
    assert send(log, idempotent(3)).is_duplicate


def test_a_header_that_rotted_below_the_recovery_point_and_ends_the_log_invents_no_offsets():
    storage, owner, log = checkpointed(3)
    send(log, idempotent(3))
    owner.settle()
    file = storage.file(log.segments[0].file.path)
    for image in (file.live, file.durable):
        for batch in (1, 2, 3):
            image[batch * ONE_BATCH] ^= 1
    _, log = reopened(storage, LogConfig())
    assert (1, 3) == (log.damaged_from, log.log_end_offset)


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_that_a_power_cut_tore_is_no_rotten_header(seed):
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    send(log, idempotent(0))
    owner.close()
    storage.kill()
    owner, log = reopened(storage, LogConfig())
    send(log, idempotent(1))
    storage.crash(Random(seed))
    _, log = reopened(storage, LogConfig())
    assert log.damaged_from is None
    assert send(log, idempotent(0)).is_duplicate


def test_a_follower_that_takes_over_knows_every_retry(log):
    for sequence in range(8):
        send(log, idempotent(sequence))
    follower = Owner(SimulatedStorage()).open(CONFIG).log(config=CONFIG)
    while follower.log_end_offset < log.log_end_offset:
        got = log.read(follower.log_end_offset, max_bytes=3 * ONE_BATCH, upper_offset=log.log_end_offset)
        follower.append_replicated(got.data, now_ms=0)
    assert log.producers.state(log.segments).entries == follower.producers.state(follower.segments).entries
    assert [(sequence, True) for sequence in range(3, 8)] == [
        (found.base_offset, found.is_duplicate)
        for found in (send(follower, idempotent(sequence), leader_epoch=2) for sequence in range(3, 8))
    ]
    assert ErrorCode.DUPLICATE_SEQUENCE_NUMBER == code_of(follower, idempotent(2))
    assert 8 == send(follower, idempotent(8), leader_epoch=2).base_offset


def test_a_follower_takes_what_the_log_says_whatever_it_knows(log):
    """The leader may have forgotten the producer, and this follower not yet."""
    send(log, idempotent(0, epoch=3))
    for offset, batch in ((1, idempotent(40, epoch=3)), (2, idempotent(9, epoch=2))):
        stamp(batch, 0, base_offset=offset, leader_epoch=1)
        log.append_replicated(batch, now_ms=0)
    assert 3 == send(log, idempotent(10, epoch=2)).base_offset


def test_what_is_cut_off_a_follower_may_be_written_again(log):
    """S5: the leader does not have it, so it was not acknowledged."""
    for sequence in range(7):
        send(log, idempotent(sequence))
    log.truncate_to(4)
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == code_of(log, idempotent(5))
    assert 4 == send(log, idempotent(4)).base_offset
    assert [0, 1, 2, 3] == [send(log, idempotent(sequence)).base_offset for sequence in range(4)]


def test_a_follower_that_begins_behind_the_start_takes_producers_as_they_come(log):
    """KIP-360: their beginning is deleted everywhere."""
    log.truncate_fully_and_start_at(500)
    assert 500 == send(log, idempotent(77)).base_offset
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == code_of(log, idempotent(76))


# ---- restarts


def test_every_retry_is_known_after_a_restart_of_any_kind(log, storage):
    for sequence in range(11):
        send(log, idempotent(sequence))
    owner, log = reopened(storage)
    assert send(log, idempotent(10)).is_duplicate
    owner.close()
    _, log = reopened(storage)
    assert [6, 7, 8, 9, 10] == [send(log, idempotent(sequence)).base_offset for sequence in range(6, 11)]
    assert 11 == send(log, idempotent(11)).base_offset


def test_a_clean_stop_saves_the_reading_of_many_batches(storage):
    owner = Owner(storage).open()
    log = owner.log()
    for sequence in range(SNAPSHOT_BATCHES_AT_CLOSE):
        send(log, idempotent(sequence))
    owner.settle()
    owner.close()
    assert [SNAPSHOT_BATCHES_AT_CLOSE] == snapshots(storage)
    _, log = reopened(storage, LogConfig())
    storage.calls.clear()
    assert send(log, idempotent(SNAPSHOT_BATCHES_AT_CLOSE - 1)).is_duplicate
    assert [] == [path for call, path in storage.calls if call == "pread" and path.endswith(".log")]


SENT = [(7, 0), (8, 0), (7, 1), (7, 2), (8, 1)]
"""(producer id, sequence)"""


def test_a_log_cut_at_any_byte_by_a_kill_knows_just_what_is_left(storage, log):
    """A batch that is half there was not written: it may be sent again, and only it."""
    log.config = LogConfig()
    for producer_id, sequence in SENT:
        send(log, idempotent(sequence, producer_id=producer_id))
    data = bytes(storage.file(log.segments[0].file.path).live)
    assert len(SENT) * ONE_BATCH == len(data)
    for size_bytes in range(len(data) + 1):
        copy = SimulatedStorage()
        fresh = Owner(copy).open().log()
        copy.pwrite(copy.open(f"{fresh.folder}/{0:020d}.log", create=True), data[:size_bytes], 0)
        _, found = reopened(copy, LogConfig())
        whole = size_bytes // ONE_BATCH
        assert whole == found.log_end_offset
        for offset, (producer_id, sequence) in enumerate(SENT):
            sent = send(found, idempotent(sequence, producer_id=producer_id))
            assert (offset, offset < whole) == (sent.base_offset, sent.is_duplicate)


def test_a_damaged_snapshot_costs_a_rebuild_and_nothing_else(log, storage):
    for sequence in range(11):
        send(log, idempotent(sequence))
        log.disk.write_checkpoints(must_succeed=True)
    assert [4, 8] == snapshots(storage)
    for path in storage.paths(".snapshot"):
        storage.file(path).live[9] ^= 1
    _, log = reopened(storage)
    assert [6, 7, 8, 9, 10] == [send(log, idempotent(sequence)).base_offset for sequence in range(6, 11)]
    assert 11 == send(log, idempotent(11)).base_offset


@pytest.mark.parametrize("operation", ["open", "pwrite", "fdatasync", "rename"])
def test_a_snapshot_that_finds_no_space_is_written_later(operation, log, storage):
    for sequence in range(5):
        send(log, idempotent(sequence))
    storage.fail(operation, errno.ENOSPC, path=".snapshot")
    with pytest.raises(RefusedError):
        log.disk.write_checkpoints(must_succeed=True)
    assert log.disk.failure is None
    log.disk.write_checkpoints(must_succeed=True)
    assert [4] == snapshots(storage)


def test_a_snapshot_is_made_at_each_segment_and_after_many_batches(storage):
    owner = Owner(storage).open()
    log = owner.log()
    for sequence in range(SNAPSHOT_BATCHES):
        send(log, idempotent(sequence))
        if sequence in {10, SNAPSHOT_BATCHES - 2}:
            owner.directory.checkpoint()
            owner.settle()
    assert [] == snapshots(storage)
    owner.directory.checkpoint()
    owner.settle()
    assert [SNAPSHOT_BATCHES] == snapshots(storage)
    log.roll()
    for sequence in range(SNAPSHOT_BATCHES, 4 * SNAPSHOT_BATCHES):
        send(log, idempotent(sequence))
        if sequence % SNAPSHOT_BATCHES == 0:
            owner.settle()
            owner.directory.checkpoint()
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    found = snapshots(storage)
    assert SNAPSHOT_BATCHES in found, "a segment begins there"
    assert len(found) <= 4, "the others are two at most, and those that are not synced yet"


def test_what_a_snapshot_knew_is_read_again_once_it_is_cut_off(log, storage):
    """Recovery did not learn it from the batches, for the snapshot told it."""
    send(log, idempotent(0))
    send(log, idempotent(1))
    log.roll()
    log.disk.write_checkpoints(must_succeed=True)
    _, log = reopened(storage)
    log.truncate_to(1)
    assert send(log, idempotent(0)).is_duplicate


def test_retention_takes_no_knowledge_with_it(storage):
    config = replace(CONFIG, retention_bytes=0)
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for sequence in range(9):
        send(log, idempotent(sequence))
    owner.settle()
    log.advance_high_watermark(9)
    owner.directory.run_retention(0)
    owner.settle()
    assert 9 == log.log_start_offset == log.log_end_offset
    _, log = reopened(storage, config)
    assert [4, 5, 6, 7, 8] == [send(log, idempotent(sequence)).base_offset for sequence in range(4, 9)]
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == code_of(log, idempotent(1, producer_id=8)), "nobody was forgotten"
    assert 9 == send(log, idempotent(9)).base_offset


# ---- time and numbers


def test_a_producer_is_forgotten_when_nothing_came_for_a_day_of_this_process(storage):
    owner = Owner(storage).open()
    log = owner.log()
    owner.directory.tick(5 * DAY_MS)
    send(log, idempotent(0, producer_id=1))
    send(log, idempotent(0, producer_id=2))
    owner.directory.tick(5 * DAY_MS + DAY_MS // 2)
    send(log, idempotent(1, producer_id=2))
    owner.directory.tick(6 * DAY_MS - 1)
    assert send(log, idempotent(0, producer_id=1)).is_duplicate
    owner.directory.tick(6 * DAY_MS + 700_000)
    assert [2] == list(log.producers.state(log.segments).entries)
    assert 3 == send(log, idempotent(1, producer_id=1)).base_offset


@pytest.mark.parametrize("wall_ms", [0, 10 * 365 * DAY_MS])
def test_no_jump_of_the_wall_clock_forgets_a_producer(wall_ms, storage):
    """S20."""
    owner = Owner(storage).open()
    log = owner.log()
    owner.directory.tick(1)
    send(log, idempotent(0), now_ms=365 * DAY_MS)
    owner.directory.tick(700_000)
    assert send(log, idempotent(0), now_ms=wall_ms).is_duplicate
    _, log = reopened(storage, LogConfig())
    assert send(log, idempotent(0), now_ms=wall_ms).is_duplicate


def test_a_directory_remembers_only_so_many_producers(storage):
    owner = Owner(storage).open()
    owner.directory._producer_expiry._producers_max = 50
    logs = [owner.log(partition) for partition in range(3)]
    for producer_id in range(40):
        owner.directory.tick(producer_id)
        for log in logs[: 1 + (producer_id < 10)]:
            send(log, idempotent(0, producer_id=producer_id))
    for producer_id in range(40, 80):
        send(logs[0], idempotent(0, producer_id=producer_id))
    owner.directory.tick(100)
    assert sum(len(log.producers) for log in logs) <= 50
    assert set(range(45, 80)) <= set(logs[0].producers.state(logs[0].segments).entries), "the newest stay"


# ---- those who never asked for it


def test_a_log_without_idempotent_producers_pays_nothing(storage):
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(20):
        append(log, [b"%d" % index])
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    owner.close()
    assert [] == snapshots(storage)
    storage.calls.clear()
    _, log = reopened(storage)
    assert [] == [path for call, path in storage.calls if call == "pread" and path.endswith(".log")]
    send(log, idempotent(0))
    assert [] == [path for call, path in storage.calls if call == "pread" and path.endswith(".log")], "known without it"
    assert 21 == len(read_all(log))


def test_nothing_stays_open(tmp_path):
    owner = Owner(PosixStorage(), path=str(tmp_path / "data"))
    owner.directory.open()
    log = owner.log()
    send(log, idempotent(0))
    owner.settle()
    before = len(list(Path("/proc/self/fd").iterdir()))
    log.roll()
    send(log, idempotent(1))
    owner.directory.checkpoint()
    owner.settle()
    assert before + 1 >= len(list(Path("/proc/self/fd").iterdir())), "the new segment's file, and no other"
    owner.close()
