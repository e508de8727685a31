"""A damaged replica that is copied anew from its leader is whole afterwards, whatever happens on the way (S10, S18)."""

import contextlib
import errno
from random import Random

import pytest

from logstore.log_config import LogConfig
from logstore.partition_log import PartitionLog
from tests.logstore.owner import TOPIC_ID, Owner, append, batch, copied, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError

ONE_BATCH = len(batch([b"record-00"]))
CONFIG = LogConfig(segment_bytes=4 * ONE_BATCH, index_interval_bytes=100)
RECORDS = 10


def a_damaged_log(*, position: int = ONE_BATCH + 65, segment: int = 0):
    """Synced, checkpointed, killed; then a bit fell over, and a reader has met it."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(RECORDS):
        append(log, [b"record-%02d" % index])
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    file = storage.file(log.segments[segment].file.path)
    for image in (file.live, file.durable):
        image[position] ^= 1
    storage.kill()
    owner = Owner(storage).open(CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    with pytest.raises(RefusedError) as refusal:
        read_all(log)
    assert ErrorCode.CORRUPT_MESSAGE == refusal.value.code
    assert log.damaged_from is not None
    return storage, owner, log


def fetched(first: int) -> bytes:
    """What the leader sends: all from `first` on."""
    return bytes(copied(range(first, RECORDS)))


def expected(first: int):
    return [(index, b"record-%02d" % index) for index in range(first, RECORDS)]


@pytest.mark.parametrize("start", [0, 3, RECORDS])
def test_a_damaged_log_that_starts_anew_takes_the_leaders_copy(start):
    _, owner, log = a_damaged_log()
    with pytest.raises(RefusedError, match="damaged"):
        log.append_replicated(fetched(0), now_ms=0)
    log.truncate_fully_and_start_at(start)
    assert log.damaged_from is None
    if start < RECORDS:
        log.append_replicated(fetched(start), now_ms=0)
    owner.settle()
    assert (expected(start), RECORDS) == (read_all(log), log.durable_end_offset)


def test_s18_a_cut_meets_damage_that_nobody_has_read_yet():
    """It is noted and gone around; a node that stopped here would stop again at each start."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(RECORDS):
        append(log, [b"record-%02d" % index])
    owner.settle()
    segment = log.segments[1]
    storage.file(segment.file.path).live[2 * ONE_BATCH + 7] ^= 1  # the offset of its third batch
    log.truncate_to(segment.base_offset + 2)
    assert segment.base_offset + 2 == log.log_end_offset
    assert log.damaged_from is None, "it was cut away"
    assert expected(0)[: log.log_end_offset] == read_all(log)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("copied", [0, 1, 3, RECORDS])
@pytest.mark.parametrize("is_synced", [False, True])
def test_no_power_cut_brings_the_damage_back(seed, copied, is_synced):
    storage, owner, log = a_damaged_log()
    log.truncate_fully_and_start_at(0)
    log.append_replicated(fetched(0)[: copied * ONE_BATCH], now_ms=0)
    if is_synced:
        owner.settle()
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert log.damaged_from is None
    found = read_all(log)
    assert expected(0)[: len(found)] == found
    assert not is_synced or copied == len(found)


@pytest.mark.parametrize("seed", range(12))
def test_damage_that_is_cut_away_with_the_end_stays_away(seed):
    storage, owner, log = a_damaged_log(segment=1)
    log.truncate_to(5)
    assert log.damaged_from is None
    end = log.log_end_offset
    log.append_replicated(fetched(end)[:ONE_BATCH], now_ms=0)
    if seed % 2:
        owner.settle()
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert log.damaged_from is None
    found = read_all(log)
    assert expected(0)[: len(found)] == found
    assert len(found) >= end + seed % 2


@pytest.mark.parametrize("seed", range(12))
def test_a_copy_that_a_power_cut_interrupts_is_empty_damaged_or_right_but_never_wrong(seed):
    """Somewhere between the old log and the new one."""
    storage, _, log = a_damaged_log()
    storage.fail("rename", 5, times=1 + seed % 3)
    with pytest.raises(OSError, match="Input/output"):
        log.truncate_fully_and_start_at(0)
    storage.crash(Random(seed))
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    log.truncate_fully_and_start_at(0)
    log.append_replicated(fetched(0), now_ms=0)
    assert expected(0) == read_all(log)


def test_a_log_whose_synced_end_is_lost_starts_anew_too():
    """Records are missing at the end: nothing may be appended there, and all of it may be copied again."""
    storage, _, log = a_damaged_log()
    path = log.segments[2].file.path
    storage.kill()
    file = storage.file(path)
    del file.live[ONE_BATCH:]
    del file.durable[ONE_BATCH:]
    owner = Owner(storage).open(CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert log.damaged_from is not None
    log.truncate_fully_and_start_at(0)
    log.append_replicated(fetched(0), now_ms=0)
    owner.settle()
    assert (None, expected(0)) == (log.damaged_from, read_all(log))


def test_after_a_kill_a_follower_reports_as_durable_only_what_a_sync_of_its_own_has_confirmed():
    """S10, S2: a kill leaves bytes in the page cache; a power cut may still take them."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    log.append_replicated(fetched(0)[: 4 * ONE_BATCH], now_ms=0)
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    log.append_replicated(fetched(4), now_ms=0)
    log.advance_high_watermark(RECORDS)
    storage.kill()
    owner = Owner(storage)
    owner.directory.open(lambda topic_id, name: CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert (4, RECORDS) == (log.durable_end_offset, log.log_end_offset)
    assert log.high_watermark <= 4
    owner.settle()
    assert RECORDS == log.durable_end_offset
    storage.crash(Random(1))
    assert RECORDS == Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0].log_end_offset


def test_a_segment_whose_first_batch_rotted_is_written_behind_as_before():
    """S18: its age is not known, which is no reason to stop the process; its readers will meet it."""
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    append(owner.log(), [b"first"])
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    storage.kill()
    log = Owner(storage).open().directory.logs[TOPIC_ID, 0]
    storage.file(log.segments[0].file.path).live[4] ^= 128  # its base offset: 2**31
    assert 1 == append(log, [b"second"]).base_offset
    with pytest.raises(RefusedError):
        read_all(log)
    assert 0 == log.damaged_from


def test_a_log_that_had_no_room_to_begin_anew_claims_nothing_that_it_lost():
    storage, _, log = a_damaged_log()
    storage.fail("open", errno.ENOSPC, path="00100.log")
    with pytest.raises(RefusedError, match="no space"):
        log.truncate_fully_and_start_at(100)
    assert (100, 100, 100) == (log.log_start_offset, log.log_end_offset, log.durable_end_offset)
    log.truncate_fully_and_start_at(0)
    log.append_replicated(fetched(0), now_ms=0)
    assert expected(0) == read_all(log)
    assert log.damaged_from is None


def test_s19_a_failed_sync_of_the_folder_while_a_log_begins_anew_takes_the_directory_offline():
    storage, owner, log = a_damaged_log()
    syncs = sum(call == ("fsync_directory", log.folder) for call in storage.calls)
    log.truncate_fully_and_start_at(5)
    syncs = sum(call == ("fsync_directory", log.folder) for call in storage.calls) - syncs
    for number in range(syncs):
        storage, owner, log = a_damaged_log()
        storage.fail("fsync_directory", errno.EIO, path=log.folder, after=number)
        with pytest.raises(OSError, match="Input/output error"):
            log.truncate_fully_and_start_at(5)
        assert owner.directory.is_offline, number


def test_s18_a_log_that_dies_while_it_begins_anew_at_a_lower_offset_is_not_damaged(monkeypatch):
    """As where it began in the middle of its leader's first batch, and begins where that batch does instead."""
    storage = SimulatedStorage()
    log = Owner(storage).open(CONFIG).log(config=CONFIG)
    log.truncate_fully_and_start_at(5)
    restart_at = PartitionLog.restart_at

    def die_after_it(log, offset):
        restart_at(log, offset)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(PartitionLog, "restart_at", die_after_it)
        log.truncate_fully_and_start_at(3)
    storage.kill()
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert (3, 3, None) == (log.log_start_offset, log.log_end_offset, log.damaged_from)


# ---- a folder that comes back


def a_log_that_moved_away():
    """Checkpointed, and its replica moved away before the next checkpoint."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    append_all(owner.log(config=CONFIG), 6)
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    assert owner.directory.delete_log(TOPIC_ID, 0)
    owner.settle()
    return storage, owner


def append_all(log, count):
    for index in range(count):
        append(log, [b"record-%02d" % index])


def test_s18_a_log_that_came_back_is_not_damaged_by_what_its_predecessor_had():
    storage, owner = a_log_that_moved_away()
    log = owner.log(config=CONFIG)
    log.append_replicated(copied(range(3)), now_ms=0)
    owner.settle()
    storage.kill()
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert (None, 3) == (log.damaged_from, log.log_end_offset)


@pytest.mark.parametrize("seed", range(40))
def test_s3_what_was_copied_anew_and_never_synced_does_not_count_as_durable(seed):
    """The recovery point of the log that lay here before said that as much was synced."""
    storage, owner = a_log_that_moved_away()
    log = owner.log(config=CONFIG)
    log.append_replicated(copied(range(3)), now_ms=0)
    owner.settle()
    log.append_replicated(copied(range(3, 6)), now_ms=0)
    assert 3 == log.durable_end_offset
    storage.crash(Random(seed))
    owner = Owner(storage)
    owner.directory.open(lambda _topic_id, _name: CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert log.damaged_from is None
    assert [*range(log.durable_end_offset)] == [offset for offset, _ in read_all(log)][: log.durable_end_offset]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_s1_a_log_that_came_back_hides_nothing_behind_the_start_of_its_predecessor(is_restarted):
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    append_all(log, 6)
    owner.settle()
    log.advance_high_watermark(6)
    log.delete_records_before(4)
    owner.directory.delete_log(TOPIC_ID, 0)
    owner.settle()
    if is_restarted:
        storage.kill()
        owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    log.append_replicated(copied(range(6)), now_ms=0)
    owner.settle()
    storage.kill()
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    assert 0 == log.log_start_offset
    assert 6 == len(read_all(log))


def test_a_log_that_comes_back_is_refused_where_the_old_checkpoints_cannot_be_replaced():
    storage, owner = a_log_that_moved_away()
    storage.fail("open", errno.ENOSPC, path="recovery-point-offset-checkpoint.tmp")
    with pytest.raises(RefusedError, match="no space"):
        owner.log(config=CONFIG)
    assert not owner.directory.logs
    assert 0 == owner.log(config=CONFIG).log_end_offset
