"""What a full, short or failing disk does to a log, and what it must never do (S19, S15)."""

import errno
from random import Random

import pytest

from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append, batch, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import check_batches


def a_log_with_ten_records(**options):
    storage = SimulatedStorage()
    owner = Owner(storage, **options).open()
    log = owner.log()
    for index in range(10):
        append(log, [b"record-%d" % index])
    owner.settle()
    return storage, owner, log


def values(log):
    return [value for _, value in read_all(log)]


TEN = [b"record-%d" % index for index in range(10)]


@pytest.mark.parametrize("written", [0, 1, 60, 61, 90])
def test_a_short_write_leaves_nothing_behind_and_the_next_append_works(written):
    storage, owner, log = a_log_with_ten_records()
    size_before = log.size_bytes
    storage.shorten(written)
    with pytest.raises(RefusedError) as refused:
        append(log, [b"does not fit", b"nor this"])
    assert ErrorCode.KAFKA_STORAGE_ERROR is refused.value.code
    assert TEN == values(log)
    assert size_before == log.size_bytes == len(storage.file(log.segments[0].file.path).live)
    assert 10 == append(log, [b"after"]).base_offset
    owner.settle()
    assert [*TEN, b"after"] == values(log)
    assert [] == owner.failures


@pytest.mark.parametrize("seed", range(20))
def test_what_was_refused_for_lack_of_space_is_not_there_after_a_power_cut(seed):
    """S15: two batches in one buffer, the first of which fits whole."""
    storage, owner, log = a_log_with_ten_records()
    buffer = batch([b"fits"]) + batch([b"does not"])
    storage.shorten(len(batch([b"fits"])) + 10)
    with pytest.raises(RefusedError):
        log.append(buffer, check_batches(buffer, max_batch_bytes=1000), leader_epoch=1, now_ms=0)
    storage.crash(Random(seed))
    owner = Owner(storage).open()
    log = owner.directory.logs[TOPIC_ID, 0]
    assert TEN == values(log)
    assert log.damaged_from is None


def test_a_full_disk_refuses_writes_serves_reads_and_takes_writes_again_when_there_is_space():
    storage, owner, log = a_log_with_ten_records(reserved_bytes=0)
    storage.capacity_bytes = storage.capacity_bytes - storage.free_bytes("") + 20
    with pytest.raises(RefusedError) as refused:
        append(log, [bytes(100)], now_ms=10_000)
    assert ErrorCode.KAFKA_STORAGE_ERROR is refused.value.code
    assert TEN == values(log)
    storage.capacity_bytes += 1 << 30
    append(log, [b"after"])
    owner.settle()
    assert [*TEN, b"after"] == values(log)
    assert 11 == log.durable_end_offset


def test_retention_frees_a_full_disk_although_no_checkpoint_can_be_written():
    storage = SimulatedStorage()
    config = LogConfig(segment_bytes=200, retention_bytes=400)
    owner = Owner(storage, reserved_bytes=0).open(config)
    log = owner.log(config=config)
    for index in range(10):
        append(log, [b"%d" % index + bytes(80)])
    owner.settle()
    log.advance_high_watermark(10)
    storage.capacity_bytes = storage.capacity_bytes - storage.free_bytes("")
    assert owner.directory.run_retention(0) > 0
    owner.settle()
    assert storage.free_bytes("") > 0
    append(log, [b"fits again"], now_ms=5000)
    owner.settle()
    assert b"fits again" == values(log)[-1]
    assert not owner.directory.is_offline


def test_below_the_reserve_writes_are_refused_and_reads_go_on():
    storage, _, log = a_log_with_ten_records(reserved_bytes=1 << 20)
    storage.capacity_bytes = storage.capacity_bytes - storage.free_bytes("") + (1 << 20) - 1
    with pytest.raises(RefusedError, match=r"log\.dir\.reserved\.bytes=1048576"):
        append(log, [b"x"], now_ms=5000)
    assert TEN == values(log)
    storage.capacity_bytes += 1 << 20
    append(log, [b"after"], now_ms=5001)


def test_free_space_is_asked_for_seldom():
    storage, _, log = a_log_with_ten_records()
    asked = []
    free_bytes = storage.free_bytes
    storage.free_bytes = lambda path: asked.append(path) or free_bytes(path)
    for index in range(100):
        append(log, [b"x"], now_ms=index)
    assert len([path for path in asked if path == "data"]) <= 1


def test_a_clock_that_jumps_back_does_not_stop_the_questions_about_space():
    """S20: the guard asks again, it does not wait for the clock to come back."""
    storage, _, log = a_log_with_ten_records(reserved_bytes=1 << 20)
    append(log, [b"x"], now_ms=1_000_000)
    storage.capacity_bytes = storage.capacity_bytes - storage.free_bytes("") + 1000
    with pytest.raises(RefusedError):
        append(log, [b"x"], now_ms=5)


def test_an_io_error_on_a_write_takes_the_directory_offline_at_once():
    storage, owner, log = a_log_with_ten_records()
    storage.fail("pwrite", errno.EIO, path=".log")
    with pytest.raises(OSError, match="Input/output"):
        append(log, [b"lost"])
    assert 1 == len(owner.failures)
    assert owner.directory.is_offline
    with pytest.raises(RefusedError, match="offline"):
        append(log, [b"never tried"])
    assert TEN == values(log)
    assert 10 == log.log_end_offset


@pytest.mark.parametrize("error_number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_sync_is_never_retried_and_nothing_becomes_durable(error_number):
    """The next fdatasync would succeed, and lie: the kernel has dropped the pages."""
    storage, owner, log = a_log_with_ten_records()
    append(log, [b"unsynced"])
    storage.fail("fdatasync", error_number, path=".log")
    owner.settle()
    assert 10 == log.durable_end_offset
    assert owner.directory.is_offline
    assert 1 == len(owner.failures)
    syncs = len([call for call in storage.calls if call[0] == "fdatasync"])
    owner.flusher.request(log)
    owner.directory.checkpoint()
    owner.settle()
    owner.close()
    assert syncs == len([call for call in storage.calls if call[0] == "fdatasync"])
    assert "data/.kraft_cleanshutdown" not in storage.paths()


def test_s3_a_sync_under_way_when_the_directory_fails_makes_nothing_durable():
    """The kernel tells an error once for each descriptor: whoever syncs the same file next is told that all is well."""
    storage = SimulatedStorage()
    config = LogConfig(segment_bytes=300)
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    append(log, [b"unsynced"])
    storage.fail("fdatasync", errno.EIO, path=".log")
    with pytest.raises(OSError, match="Input/output"):
        append(log, [bytes(300)])  # begins a segment, and syncs the one before
    assert 1 == len(owner.jobs), "the sync that the first append asked for"
    owner.settle()
    assert 0 == log.durable_end_offset == log.recovery_point.offset
    assert 1 == len(owner.failures)


def test_s19_a_failed_sync_of_what_remembers_damage_takes_the_directory_offline():
    storage, owner, log = a_log_with_ten_records()
    file = storage.file(log.segments[0].file.path)
    file.live[100] ^= 1
    storage.fail("fsync_directory", errno.EIO)
    with pytest.raises(RefusedError):
        log.read(1, max_bytes=1 << 20, upper_offset=10)
    assert log.damaged_from is not None
    assert 1 == len(owner.failures)
    assert owner.directory.is_offline


def test_a_directory_that_failed_recovers_what_was_durable_when_it_is_opened_again():
    storage, owner, log = a_log_with_ten_records()
    append(log, [b"unsynced"])
    storage.fail("fdatasync", errno.EIO, path=".log")
    owner.settle()
    owner.close()
    storage.crash(Random(0))
    owner = Owner(storage).open()
    assert TEN == values(owner.directory.logs[TOPIC_ID, 0])


def test_what_a_failed_sync_lost_is_not_taken_for_durable_by_the_next_process():
    """S3, S19: the page cache still shows it, and the next fsync says that all is well (fsyncgate)."""
    storage, owner, log = a_log_with_ten_records()
    storage.fail("fdatasync", errno.EIO, path=".log")
    append(log, [b"never reached the disk"])
    owner.settle()
    storage.kill()
    assert b"never reached the disk" in storage.file(log.segments[0].file.path).live
    log = Owner(storage).open().directory.logs[TOPIC_ID, 0]
    durable = values(log)[: log.durable_end_offset]
    storage.crash(Random(1))
    assert durable == values(Owner(storage).open().directory.logs[TOPIC_ID, 0])[: len(durable)]
    assert TEN == durable


def test_a_failed_cut_after_a_short_write_takes_the_directory_offline():
    storage, owner, log = a_log_with_ten_records()
    storage.shorten(5)
    storage.fail("truncate", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        append(log, [b"x"])
    assert owner.directory.is_offline


def test_a_read_error_is_a_refusal_and_other_partitions_go_on():
    storage, owner, log = a_log_with_ten_records()
    other = owner.log(1)
    append(other, [b"elsewhere"])
    storage.fail("pread", errno.EIO, path="access-0", times=10)
    with pytest.raises(RefusedError) as refused:
        log.read(3, max_bytes=100, upper_offset=10)
    assert ErrorCode.KAFKA_STORAGE_ERROR is refused.value.code
    assert not owner.directory.is_offline
    append(other, [b"still"])
    assert [b"elsewhere", b"still"] == values(other)


def test_a_checkpoint_that_cannot_be_written_for_lack_of_space_stops_nothing():
    storage, owner, log = a_log_with_ten_records()
    storage.fail("pwrite", errno.ENOSPC, path="checkpoint", times=3)
    owner.directory.checkpoint()
    owner.settle()
    assert not owner.directory.is_offline
    append(log, [b"on"])
    owner.directory.checkpoint()
    owner.settle()
    storage.kill()
    owner = Owner(storage).open()
    assert [*TEN, b"on"] == values(owner.directory.logs[TOPIC_ID, 0])


def test_a_checkpoint_that_fails_otherwise_takes_the_directory_offline():
    storage, owner, log = a_log_with_ten_records()
    append(log, [b"more"])
    storage.fail("fdatasync", errno.EIO, path="checkpoint")
    owner.directory.checkpoint()
    owner.settle()
    assert owner.directory.is_offline


def test_an_index_that_cannot_be_written_for_lack_of_space_stays_in_memory():
    storage = SimulatedStorage()
    config = LogConfig(index_interval_bytes=100)
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for index in range(20):
        append(log, [b"%d" % index + bytes(80)])
    storage.fail("pwrite", errno.ENOSPC, path="index", times=2)
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    assert 20 == len(values(log))
    assert [(15, b"15" + bytes(80))] == read_all(log, 15)[:1]


@pytest.mark.parametrize(
    ("operation", "path"), [("rename", ".log"), ("open", ".log"), ("pwrite", "checkpoint"), ("pread", ".timeindex")]
)
def test_retention_that_meets_a_broken_disk_takes_the_directory_offline_and_raises_nothing(operation, path):
    storage = SimulatedStorage()
    config = LogConfig(segment_bytes=200, retention_bytes=400, index_interval_bytes=100)
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for index in range(10):
        append(log, [b"%d" % index + bytes(80)])
    owner.settle()
    owner.close()
    owner = Owner(storage).open(config)
    log = owner.directory.logs[TOPIC_ID, 0]
    log.advance_high_watermark(10)
    log.config = LogConfig(segment_bytes=200, retention_ms=1)
    storage.fail(operation, errno.EIO, path=path, times=20)
    owner.directory.run_retention(10_000_000)
    owner.settle()
    assert owner.directory.is_offline
    assert 1 == len(owner.failures)
    assert 0 == owner.directory.run_retention(10_000_000)


def test_retention_without_descriptors_does_it_the_next_time():
    storage, owner, log = a_log_with_ten_records()
    log.advance_high_watermark(10)
    log.config = LogConfig(retention_ms=1)
    owner.close()
    owner = Owner(storage).open(log.config)
    log = owner.directory.logs[TOPIC_ID, 0]
    storage.fail("open", errno.EMFILE)
    assert 0 == owner.directory.run_retention(10_000_000)
    assert owner.directory.run_retention(10_000_000) > 0
    assert not owner.directory.is_offline


def test_a_deletion_that_meets_a_broken_disk_takes_the_directory_offline_and_raises_nothing():
    storage, owner, _ = a_log_with_ten_records()
    storage.fail("rename", errno.EIO)
    assert owner.directory.delete_log(TOPIC_ID, 0)
    assert owner.directory.is_offline
    assert not owner.directory.logs


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("how", ["retention", "delete records"])
def test_s1_the_name_of_a_new_segment_is_synced_by_the_next_process_if_not_by_its_own(how, seed):
    """Killed between making the segment and syncing the folder; then written to, acknowledged, and the power goes."""
    config = LogConfig(retention_ms=1)
    storage = SimulatedStorage()
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for index in range(5):
        append(log, [b"record-%02d" % index])
    owner.settle()
    log.advance_high_watermark(5)
    owner.directory.checkpoint()
    owner.settle()
    if how == "retention":
        owner.directory.run_retention(10**9)
    else:
        log.delete_records_before(5)
    while owner.jobs:
        owner.jobs.popleft().result()
    storage.kill()
    owner = Owner(storage).open(config)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert 5 == append(log, [b"acknowledged"], epoch=2).base_offset
    owner.settle()
    assert 6 == log.durable_end_offset
    storage.crash(Random(seed))
    log = Owner(storage).open(config).directory.logs[TOPIC_ID, 0]
    assert [(5, b"acknowledged")] == read_all(log)
