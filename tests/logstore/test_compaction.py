"""A compacted log keeps the last value of each key, at its offset; deletions are told for a while, then forgotten."""

from dataclasses import replace

import pytest

from logstore.cleaner import cleanable
from tests.logstore.cleaning_harness import COMPACT, append_keyed, as_map, clean, commit, read_batches, read_keyed
from tests.logstore.owner import Owner
from tests.logstore.simulated_storage import SimulatedStorage
from wire.compression import Compression
from wire.record_filter import delete_horizon_ms


@pytest.fixture
def owner():
    return Owner(SimulatedStorage()).open(COMPACT)


def filled(owner, rounds=30, keys=4, config=COMPACT, **options):
    log = owner.log(config=config)
    for number in range(rounds):
        append_keyed(log, [(b"k%d" % (number % keys), b"v%d" % number)], timestamp_ms=1000 + number, **options)
    log.roll()
    append_keyed(log, [(b"active", b"1")], timestamp_ms=5000)
    commit(owner, log)
    return log


def test_only_the_last_value_of_each_key_stays_and_at_its_offset(owner):
    log = filled(owner)
    before = read_keyed(log)
    size_bytes = log.size_bytes
    clean(log)
    assert before[-5:] == read_keyed(log)
    assert (31, 0) == (log.log_end_offset, log.log_start_offset)
    assert log.size_bytes < size_bytes / 2
    assert 30 == log.compaction.clean_end_offset
    for offset in range(31):
        assert [record for record in before[-5:] if record[0] >= offset] == read_keyed(log, offset)


@pytest.mark.parametrize("compression", Compression)
def test_a_batch_that_loses_records_keeps_its_codec_and_its_place(owner, compression):
    log = owner.log(config=COMPACT)
    append_keyed(log, [(b"a", b"1" * 90), (b"b", b"2" * 90), (b"c", b"3" * 90)], compression=compression)
    append_keyed(log, [(b"b", b"4")])
    log.roll()
    commit(owner, log)
    clean(log)
    first = read_batches(log)[0]
    assert (compression, 0, 2, 2) == (first.compression, first.base_offset, first.last_offset, first.record_count)
    assert [(0, b"a", b"1" * 90), (2, b"c", b"3" * 90), (3, b"b", b"4")] == read_keyed(log)
    assert first.crc_is_valid()


def test_a_tombstone_is_told_for_its_time_and_then_forgotten(owner):
    config = replace(COMPACT, delete_retention_ms=1000)
    log = owner.log(config=config)
    append_keyed(log, [(b"gone", b"1"), (b"here", b"2")])
    append_keyed(log, [(b"gone", None), (b"also", b"3")])
    log.roll()
    append_keyed(log, [(b"x", b"4")])
    log.roll()
    commit(owner, log)
    clean(log, now_ms=10_000)
    assert [(1, b"here", b"2"), (2, b"gone", None), (3, b"also", b"3"), (4, b"x", b"4")] == read_keyed(log)
    assert 11_000 == delete_horizon_ms(read_batches(log)[1])
    assert [1001, 1000, 1001, 1000] == [
        record.timestamp_ms for batch in read_batches(log) for record in batch.records()
    ]
    assert not cleanable(log, 10_999, drops_tombstones=True).is_due
    clean(log, now_ms=10_999)
    assert (2, b"gone", None) in read_keyed(log)
    assert cleanable(log, 11_000, drops_tombstones=True).is_due
    assert not cleanable(log, 11_000, drops_tombstones=False).is_due
    clean(log, now_ms=11_000, drops_tombstones=False)
    assert (2, b"gone", None) in read_keyed(log)
    clean(log, now_ms=11_000)
    assert [(1, b"here", b"2"), (3, b"also", b"3"), (4, b"x", b"4")] == read_keyed(log)
    assert log.compaction.tombstones_due_ms is None


def test_nothing_is_touched_above_the_high_watermark_or_younger_than_the_lag(owner):
    log = filled(owner)
    log.config = replace(COMPACT, min_compaction_lag_ms=1000)
    found = cleanable(log, 2015, drops_tombstones=True)
    assert all(segment.max_timestamp_ms <= 1015 for segment in log.segments[: found.segments])
    assert log.segments[found.segments].max_timestamp_ms > 1015
    log.config = COMPACT
    log.high_watermark = 12
    found = cleanable(log, 0, drops_tombstones=True)
    assert log.segments[found.segments - 1].next_offset <= 12 < log.segments[found.segments].next_offset


def test_a_small_map_cleans_as_far_as_it_has_room_and_goes_on_from_there(owner):
    log = owner.log(config=COMPACT)
    for number in range(40):
        append_keyed(log, [(b"k%d" % (number % 20), b"v%d" % number)])
    log.roll()
    commit(owner, log)
    expected = as_map(read_keyed(log))
    ends = []
    while log.compaction.clean_end_offset < 40:
        clean(log, buffer_bytes=24 * 8)
        ends.append(log.compaction.clean_end_offset)
        assert expected == as_map(read_keyed(log))
    assert ends == sorted(set(ends))
    assert len(ends) > 3
    assert 20 == len(read_keyed(log))


def test_a_cleaning_survives_a_restart(owner):
    log = filled(owner)
    clean(log)
    expected = read_keyed(log)
    owner.settle()
    owner.close()
    owner.directory._storage.kill()
    again = Owner(owner.directory._storage).open(COMPACT)
    log = again.log(config=COMPACT)
    assert expected == read_keyed(log)
    assert log.damaged_from is None
    assert 30 == log.compaction.clean_end_offset
    assert (29, 1029) == log.offset_for_timestamp(1029, upper_offset=31)[:2]


def test_a_reader_comes_to_the_end_also_where_the_last_record_was_a_deletion(owner):
    config = replace(COMPACT, delete_retention_ms=0)
    log = owner.log(config=config)
    append_keyed(log, [(b"a", b"1")])
    append_keyed(log, [(b"b", None)])
    log.roll()
    commit(owner, log)
    clean(log, now_ms=1)
    assert [(0, b"a", b"1"), (1, b"b", None)] == read_keyed(log)
    clean(log, now_ms=1)
    assert [(0, b"a", b"1")] == read_keyed(log)
    assert [0, 1] == [batch.last_offset for batch in read_batches(log)]


def test_a_tombstone_is_not_dropped_by_the_cleaning_that_drops_what_it_deletes(owner):
    """A follower may get it with the horizon of its leader while the deleted record still lies here."""
    log = owner.log(config=replace(COMPACT, delete_retention_ms=1000))
    append_keyed(log, [(b"a", b"1")])
    append_keyed(log, [(b"a", None)])
    log.roll()
    commit(owner, log)
    clean(log, now_ms=0)
    log.compaction.clean_end_offset = 0
    clean(log, now_ms=5000)
    assert [(1, b"a", None)] == read_keyed(log)
    assert 6000 == delete_horizon_ms(read_batches(log)[0])


def test_nothing_is_cleaned_that_a_restart_would_read_again(owner):
    """The recovery point on disk is a position in a segment: that one must stay as it is."""
    log = owner.log(config=COMPACT)
    for number in range(60):
        append_keyed(log, [(b"k", b"v%d" % number)])
        if number == 30:
            commit(owner, log)
    owner.settle()
    log.advance_high_watermark(60)
    found = cleanable(log, 0, drops_tombstones=True)
    assert log.segments[found.segments].base_offset == log.compaction.written_point.segment_base_offset <= 30
    assert found.segments < len(log.segments) - 1
    owner.directory.checkpoint()
    owner.settle()
    assert len(log.segments) - 1 == cleanable(log, 0, drops_tombstones=True).segments


def test_what_lags_too_long_is_due_however_little_it_is(owner):
    log = filled(owner)
    clean(log)
    log.roll()
    append_keyed(log, [(b"k", b"v")], timestamp_ms=7000)
    commit(owner, log)
    log.config = replace(COMPACT, min_cleanable_dirty_ratio=0.9, max_compaction_lag_ms=1000)
    assert not cleanable(log, 6000, drops_tombstones=True).is_due
    assert cleanable(log, 6001, drops_tombstones=True).is_due
