"""A follower's cut is final: no crash brings back what was cut, none takes what was kept (S5, S6, S18)."""

import errno
from random import Random

import pytest

from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append, batch, copied, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import RefusedError

CONFIG = LogConfig(segment_bytes=3 * len(batch([b"record-00"])), index_interval_bytes=100)


def a_synced_log(records=9, *, checkpointed=True):
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(records):
        append(log, [b"record-%02d" % index], epoch=1 + index // 4)
    owner.settle()
    if checkpointed:
        owner.directory.checkpoint()
        owner.settle()
    return storage, owner, log


def expected(count):
    return [(index, b"record-%02d" % index) for index in range(count)]


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("offset", range(9))
def test_no_power_cut_brings_back_what_was_cut(offset, seed, checkpointed):
    storage, _, log = a_synced_log(checkpointed=checkpointed)
    log.truncate_to(offset)
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert expected(offset) == read_all(log)
    assert offset == log.log_end_offset
    assert log.damaged_from is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("offset", [1, 4, 7])
def test_what_is_written_after_a_cut_never_mixes_with_what_was_there(offset, seed):
    storage, owner, log = a_synced_log()
    log.truncate_to(offset)
    append(log, [b"other"], epoch=9)
    is_synced = seed % 2
    if is_synced:
        owner.settle()
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    found = read_all(log)
    assert found in ([*expected(offset), (offset, b"other")], expected(offset))
    assert not is_synced or len(found) == offset + 1
    assert log.damaged_from is None


@pytest.mark.parametrize("operation", ["rename", "fsync_directory", "truncate", "fdatasync", "pwrite"])
def test_a_cut_that_the_disk_refuses_takes_the_directory_offline_and_loses_nothing_below(operation):
    """S19."""
    storage, owner, log = a_synced_log()
    storage.fail(operation, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        log.truncate_to(4)
    assert owner.directory.is_offline
    storage.kill()
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert expected(4) == read_all(log)[:4]
    assert log.damaged_from is None


@pytest.mark.parametrize("offset", [0, 4])
def test_s19_a_segment_that_cannot_be_taken_away_takes_the_directory_offline(offset):
    """Half cut it would take the leader's records behind what should have gone, and count them as its own (S1, S6)."""
    storage, owner, log = a_synced_log()
    storage.fail("rename", errno.EIO, path=".log")
    with pytest.raises(OSError, match="Input/output"):
        log.truncate_to(offset)
    assert owner.directory.is_offline


def test_s19_an_empty_segment_that_cannot_be_taken_away_takes_the_directory_offline():
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    log.truncate_fully_and_start_at(3)
    storage.fail("rename", errno.EIO, path=".log")
    with pytest.raises(OSError, match="Input/output"):
        log.roll(5)
    assert owner.directory.is_offline


def test_a_cut_forgets_epochs_and_offsets_beyond_it():
    _, _, log = a_synced_log()
    log.advance_high_watermark(8)
    log.truncate_to(5)
    assert [(1, 0), (2, 4)] == list(log.leader_epochs.entries)
    assert (5, 5, 5) == (log.high_watermark, log.durable_end_offset, log.log_end_offset)
    assert (2, 5) == log.leader_epochs.end_offset_for(2, log.log_end_offset)


def test_a_cut_inside_a_batch_takes_the_batch_whole():
    owner = Owner(SimulatedStorage()).open()
    log = owner.log()
    append(log, [b"a"])
    append(log, [b"b", b"c", b"d"])
    log.truncate_to(3)
    assert 1 == log.log_end_offset
    assert [(0, b"a")] == read_all(log)


def test_a_cut_beyond_the_end_changes_nothing():
    storage, _, log = a_synced_log()
    storage.calls.clear()
    log.truncate_to(9)
    log.truncate_to(100)
    assert [] == storage.calls


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("offset", [0, 5, 9, 500])
def test_a_log_that_starts_anew_is_empty_there_after_any_crash(offset, seed):
    storage, _, log = a_synced_log()
    log.truncate_fully_and_start_at(offset)
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert (offset, offset) == (log.log_start_offset, log.log_end_offset)
    assert () == log.leader_epochs.entries
    assert log.damaged_from is None
    assert offset == append(log, [b"x"], epoch=9).base_offset


def a_log_whose_cut_had_no_room_at_first():
    storage, owner, log = a_synced_log(6)
    storage.fail("open", errno.ENOSPC, path="recovery-point-offset-checkpoint.tmp")
    with pytest.raises(RefusedError, match="no space to write the checkpoints"):
        log.truncate_to(3)
    assert 6 == log.log_end_offset
    log.truncate_to(3)
    return storage, owner, log


def test_s18_a_cut_that_had_no_room_at_first_is_no_damage_after_a_kill():
    """The recovery point comes down on disk before anything is cut, whoever tried before."""
    storage, _, _ = a_log_whose_cut_had_no_room_at_first()
    storage.kill()
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert log.damaged_from is None
    assert expected(3) == read_all(log)


@pytest.mark.parametrize("seed", range(30))
def test_s3_what_is_written_after_such_a_cut_counts_as_durable_only_after_its_sync(seed):
    storage, _, log = a_log_whose_cut_had_no_room_at_first()
    log.append_replicated(copied(range(3, 6), epoch=7), now_ms=0)
    storage.crash(Random(seed))
    owner = Owner(storage)
    owner.directory.open(lambda _topic_id, _name: CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert expected(3)[: log.durable_end_offset] == read_all(log)[: log.durable_end_offset]
    assert 3 >= log.durable_end_offset
    assert (7 if log.log_end_offset > 3 else 1) == log.leader_epochs.latest
