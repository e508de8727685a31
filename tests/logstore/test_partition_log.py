"""What a partition log gives its broker: offsets, slices, times, epochs, segments."""

from dataclasses import replace

import pytest

from logstore.log_answers import OffsetOutOfRangeError
from logstore.log_config import LogConfig, TimestampType
from logstore.storage import PosixStorage
from tests.logstore.owner import Owner, append, batch, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import Compression, build_batch, check_batches, iterate_batches, stamp


@pytest.fixture
def owner():
    return Owner(SimulatedStorage()).open()


def bases(log):
    return [segment.base_offset for segment in log.segments]


# ---- appending


def test_all_batches_of_a_buffer_get_offsets_and_epoch_with_one_write(owner):
    log = owner.log()
    append(log, [b"first"])
    owner.settle()
    buffer = batch([b"a", b"b"]) + batch([b"c"])
    storage = owner.directory._storage
    storage.calls.clear()
    appended = log.append(buffer, check_batches(buffer, max_batch_bytes=1000), leader_epoch=7, now_ms=0)
    assert (1, 3, len(buffer), -1, False) == appended
    assert 1 == len([call for call in storage.calls if call[0] == "pwrite"])
    found = list(iterate_batches(log.read(1, max_bytes=1 << 20, upper_offset=4).data))
    assert [(1, 7), (3, 7)] == [(one.base_offset, one.partition_leader_epoch) for one in found]


def test_log_append_time_is_the_brokers_clock_and_the_crc_still_holds(owner):
    log = owner.log(config=LogConfig(message_timestamp_type=TimestampType.LOG_APPEND_TIME))
    assert 5555 == append(log, [b"a", b"b"], timestamp_ms=1, now_ms=5555).timestamp_ms
    (found,) = iterate_batches(log.read(0, max_bytes=1000, upper_offset=2).data)
    assert found.crc_is_valid()
    assert [5555, 5555] == [record.timestamp_ms for record in found.records()]
    assert 0 == log.offset_for_timestamp(5555, upper_offset=2).offset


def test_a_lower_leader_epoch_cannot_append(owner):
    """S4."""
    log = owner.log()
    append(log, [b"a"], epoch=5)
    with pytest.raises(RefusedError) as refused:
        append(log, [b"b"], epoch=4)
    assert ErrorCode.FENCED_LEADER_EPOCH is refused.value.code
    assert 1 == log.log_end_offset


def test_a_follower_takes_offsets_and_epochs_as_they_come(owner):
    log = owner.log()
    fetched = batch([b"a", b"b"]) + batch([b"c"])
    second = len(batch([b"a", b"b"]))
    stamp(fetched, 0, base_offset=0, leader_epoch=3)
    stamp(fetched, second, base_offset=2, leader_epoch=4)
    assert (0, 2) == log.append_replicated(fetched + b"cut short", now_ms=0)[:2]
    assert [(3, 0), (4, 2)] == list(log.leader_epochs.entries)
    assert [(0, b"a"), (1, b"b"), (2, b"c")] == read_all(log)
    assert log.append_replicated(b"cut short", now_ms=0) is None


@pytest.mark.parametrize("fault", ["crc", "overlap"])
def test_a_follower_refuses_what_is_broken_or_lies_below_its_end(owner, fault):
    log = owner.log()
    append(log, [b"a", b"b"])
    fetched = batch([b"c"])
    stamp(fetched, 0, base_offset=1 if fault == "overlap" else 2, leader_epoch=1)
    if fault == "crc":
        fetched[-1] ^= 1
    with pytest.raises(RefusedError) as refused:
        log.append_replicated(fetched, now_ms=0)
    assert ErrorCode.CORRUPT_MESSAGE is refused.value.code
    assert 2 == log.log_end_offset


# ---- rolling


def test_segments_roll_by_size(owner):
    log = owner.log(config=LogConfig(segment_bytes=3 * len(batch([b"x"]))))
    for _ in range(7):
        append(log, [b"x"])
    assert [0, 3, 6] == bases(log)


def test_segments_roll_by_age_in_record_time(owner):
    log = owner.log(config=LogConfig(segment_ms=1000))
    for timestamp_ms in (5000, 6000, 6001, 6500, 4000, 7001, 7002):
        append(log, [b"x"], timestamp_ms=timestamp_ms)
    assert [0, 2, 6] == bases(log)


def test_a_full_index_rolls_the_segment(owner):
    log = owner.log(config=LogConfig(index_interval_bytes=10, segment_index_bytes=32))
    for _ in range(12):
        append(log, [b"x"])
    assert [0, 5, 10] == bases(log)


def test_offsets_that_a_relative_offset_cannot_hold_roll_the_segment(owner):
    log = owner.log()
    append(log, [b"x"])
    far = 2**31 + 5
    fetched = batch([b"far"])
    stamp(fetched, 0, base_offset=far, leader_epoch=1)
    log.config = replace(log.config, cleanup_policy="compact")
    log.append_replicated(fetched, now_ms=0)
    assert [0, far] == bases(log)


def test_a_batch_larger_than_a_segment_gets_one_of_its_own(owner):
    log = owner.log(config=LogConfig(segment_bytes=200))
    append(log, [b"x"])
    append(log, [bytes(1000)])
    append(log, [b"y"])
    assert [0, 1, 2] == bases(log)
    assert 3 == len(read_all(log))


# ---- reading


def test_a_read_gives_whole_batches_and_at_least_one(owner):
    log = owner.log()
    append(log, [bytes(500)])
    append(log, [b"a", b"b", b"c"])
    append(log, [b"d"])
    assert (0, 1) == log.read(0, max_bytes=1, upper_offset=5)[1:]
    assert (0, 0) == log.read(0, max_bytes=1, upper_offset=5, at_least_one=False)[1:]
    assert (1, 4) == log.read(2, max_bytes=1, upper_offset=5)[1:], "the batch that holds offset 2 begins at 1"
    assert (0, 5) == log.read(0, max_bytes=1 << 20, upper_offset=5)[1:]


def test_nothing_at_or_above_the_upper_offset_is_shown(owner):
    """S12: consumers read below the high watermark."""
    log = owner.log()
    append(log, [b"a", b"b"])
    append(log, [b"c"])
    assert (0, 2) == log.read(0, max_bytes=1000, upper_offset=2)[1:]
    assert (b"", 0, 0) == log.read(0, max_bytes=1000, upper_offset=1), "a batch across the bound is not cut"
    assert (b"", 2, 2) == log.read(2, max_bytes=1000, upper_offset=2)


@pytest.mark.parametrize("offset", [-1, 1, 4, 10])
def test_an_offset_outside_the_log_is_refused_with_both_bounds(owner, offset):
    log = owner.log()
    append(log, [b"a", b"b", b"c"])
    log.advance_high_watermark(3)
    log.delete_records_before(2)
    with pytest.raises(OffsetOutOfRangeError) as refused:
        log.read(offset, max_bytes=10, upper_offset=3)
    assert (2, 3) == (refused.value.earliest, refused.value.latest)
    assert ErrorCode.OFFSET_OUT_OF_RANGE is refused.value.code
    assert "2" in refused.value.message
    assert "3" in refused.value.message


def test_reading_on_costs_one_pread(owner):
    log = owner.log()
    for _ in range(100):
        append(log, [bytes(100)])
    storage = owner.directory._storage
    offset = log.read(0, max_bytes=500, upper_offset=100).next_offset
    storage.calls.clear()
    while offset < 100:
        offset = log.read(offset, max_bytes=500, upper_offset=100).next_offset
    assert 2 * len(storage.calls) <= 100
    assert {"pread"} == {call[0] for call in storage.calls}


# ---- timestamps (ListOffsets)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_a_timestamp_finds_the_first_record_at_or_after_it_inside_the_batch(owner, compression):
    log = owner.log()
    times = [[100, 300, 200], [250, 400], [50, 60]]
    for group in times:
        buffer = build_batch([(None, b"x" * 50, (), time) for time in group], compression=compression)
        log.append(buffer, check_batches(buffer, max_batch_bytes=1000), leader_epoch=2, now_ms=0)
    for target, expected in ((0, (0, 100)), (101, (1, 300)), (300, (1, 300)), (301, (4, 400)), (400, (4, 400))):
        assert (*expected, 2) == log.offset_for_timestamp(target, upper_offset=7)
    assert log.offset_for_timestamp(401, upper_offset=7) is None
    assert log.offset_for_timestamp(301, upper_offset=4) is None, "not below the upper offset"


def test_a_timestamp_never_finds_a_deleted_record(owner):
    log = owner.log()
    append(log, [b"a", b"b", b"c"], timestamp_ms=100)
    log.advance_high_watermark(3)
    log.delete_records_before(1)
    assert (1, 101, 1) == log.offset_for_timestamp(0, upper_offset=3)


# ---- retention


def filled(owner, **settings):
    log = owner.log(config=LogConfig(segment_bytes=200, **settings))
    for index in range(6):
        append(log, [bytes(100)], timestamp_ms=1000 * index)
    owner.settle()
    log.advance_high_watermark(log.log_end_offset)
    return log


def test_old_segments_go_and_the_start_moves_with_them(owner):
    log = filled(owner, retention_ms=2500)
    freed = log.apply_retention(5000)
    assert [3, 4, 5] == bases(log)
    assert 3 == log.log_start_offset
    assert freed > 0
    owner.settle()
    storage = owner.directory._storage
    assert 3 == len(storage.paths(".log"))
    assert [] == storage.paths(".deleted")


def test_retention_by_size_keeps_at_least_so_much(owner):
    one = len(batch([bytes(100)]))
    log = filled(owner, retention_bytes=2 * one + 1)
    log.apply_retention(0)
    assert [3, 4, 5] == bases(log)


def test_retention_for_ever_deletes_nothing(owner):
    log = filled(owner, retention_ms=-1)
    assert 0 == log.apply_retention(10**15)


def test_the_active_segment_goes_only_after_a_roll_and_offsets_go_on(owner):
    log = filled(owner, retention_ms=1)
    log.apply_retention(10**9)
    assert [6] == bases(log)
    assert (6, 6) == (log.log_start_offset, log.log_end_offset)
    assert 6 == append(log, [b"x"]).base_offset


def test_nothing_above_the_high_watermark_is_given_up(owner):
    log = owner.log(config=LogConfig(segment_bytes=200, retention_ms=1))
    for index in range(4):
        append(log, [bytes(100)], timestamp_ms=index)
    owner.settle()
    log.advance_high_watermark(2)
    log.apply_retention(10**9)
    assert [2, 3] == bases(log)


def test_records_without_timestamps_age_by_their_file(owner):
    log = owner.log(config=LogConfig(segment_bytes=200, retention_ms=1000))
    owner.directory._storage.now_ms = 5000
    for _ in range(3):
        append(log, [bytes(100)], timestamp_ms=-1)
    owner.settle()
    log.advance_high_watermark(3)
    assert 0 == log.apply_retention(6000)
    assert 0 < log.apply_retention(6001)


def test_deleting_records_above_the_high_watermark_is_refused(owner):
    log = filled(owner)
    append(log, [b"uncommitted"])
    with pytest.raises(OffsetOutOfRangeError):
        log.delete_records_before(7)


def test_a_reader_of_a_segment_that_retention_takes_is_told_the_new_bounds(owner):
    log = filled(owner, retention_ms=2500)
    offset = log.read(0, max_bytes=1, upper_offset=6).next_offset
    log.apply_retention(5000)
    with pytest.raises(OffsetOutOfRangeError) as refused:
        log.read(offset, max_bytes=1, upper_offset=6)
    assert 3 == refused.value.earliest


def test_a_leader_whose_first_write_was_refused_takes_older_epochs_as_a_follower(owner):
    """Nobody else knows its epoch: a log that did would refuse for ever what the next leader sends."""
    log = owner.log()
    append(log, [b"a"], epoch=4)
    storage = owner.directory._storage
    storage.capacity_bytes = 0
    with pytest.raises(RefusedError, match="free"):
        append(log, [b"b"], epoch=5, now_ms=5000)
    storage.capacity_bytes = 1 << 40
    assert 4 == log.leader_epochs.latest
    fetched = batch([b"c"])
    stamp(fetched, 0, base_offset=1, leader_epoch=4)
    assert 1 == log.append_replicated(fetched, now_ms=10_000).base_offset


@pytest.mark.parametrize("base_offset", [0, 2, 100])
def test_a_follower_takes_only_what_comes_next(owner, base_offset):
    """A gap would be damage at the next start (S18)."""
    log = owner.log()
    append(log, [b"a"])
    fetched = batch([b"c"])
    stamp(fetched, 0, base_offset=base_offset, leader_epoch=1)
    with pytest.raises(RefusedError, match="not at offset 1") as refusal:
        log.append_replicated(fetched, now_ms=0)
    assert ErrorCode.CORRUPT_MESSAGE == refusal.value.code
    assert [(0, b"a")] == read_all(log)


# ---- reading on through old data


def hints(storage):
    return [path for call, path in storage.calls if call == "read_ahead"]


def test_who_reads_on_finds_the_next_piece_fetched_from_the_disk(owner):
    """A consumer of old data must not make the loop, and with it every producer, wait for the disk."""
    log = owner.log()
    for _ in range(20):
        append(log, [bytes(100_000)])
    storage = owner.directory._storage
    storage.calls.clear()
    offset = log.read(0, max_bytes=300_000, upper_offset=20).next_offset
    assert [] == hints(storage), "one read is no habit"
    while offset < 16:
        offset = log.read(offset, max_bytes=300_000, upper_offset=20).next_offset
    assert 6 <= len(hints(storage))


def test_who_reads_at_the_end_asks_for_nothing_more(owner):
    log = owner.log()
    append(log, [bytes(1000)])
    offset = log.read(0, max_bytes=1 << 20, upper_offset=1).next_offset
    storage = owner.directory._storage
    storage.calls.clear()
    for index in range(1, 5):
        append(log, [bytes(1000)])
        offset = log.read(offset, max_bytes=1 << 20, upper_offset=index + 1).next_offset
    assert (5, []) == (offset, hints(storage))


def test_a_hint_to_the_real_disk_is_only_a_hint(tmp_path):
    storage = PosixStorage()
    handle = storage.open(str(tmp_path / "file"), create=True)
    storage.pwrite(handle, bytes(300_000), 0)
    for size_bytes, position in ((300_000, 0), (1, 299_999), (1000, 1 << 40)):
        storage.read_ahead(handle, size_bytes, position)
    storage.close(handle)
    storage.read_ahead(handle, 1, 0)
