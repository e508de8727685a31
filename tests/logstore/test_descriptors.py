"""A process without a free file descriptor: refused or done later, never taken for a broken disk (S15, S19)."""

import errno

import pytest

from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError

CONFIG = LogConfig(index_interval_bytes=100)
TEN = [b"record-%d" % index + bytes(60) for index in range(10)]
SHORTAGES = [errno.EMFILE, errno.ENFILE]


def values(log):
    return [value for _, value in read_all(log)]


def a_log_of_ten(config=CONFIG, **options):
    storage = SimulatedStorage()
    owner = Owner(storage, **options).open(config)
    log = owner.log(config=config)
    for value in TEN:
        append(log, [value])
    owner.settle()
    return storage, owner, log


def reopened(config=CONFIG):
    """The same log with no file of it open."""
    storage, owner, _ = a_log_of_ten(config)
    owner.close()
    owner = Owner(storage).open(config)
    return storage, owner, owner.directory.logs[TOPIC_ID, 0]


@pytest.mark.parametrize("error_number", SHORTAGES)
@pytest.mark.parametrize("path", [".log", ".index", ".timeindex", "leader-epoch"])
def test_an_append_that_cannot_open_a_file_is_refused_or_done_and_never_takes_the_directory_away(error_number, path):
    storage, owner, log = reopened()
    storage.fail("open", error_number, path=path)
    try:
        append(log, [b"first"])
    except RefusedError as refused:
        assert ErrorCode.KAFKA_STORAGE_ERROR is refused.code  # noqa: PT017 - either may come
        assert "log.max.open.files" in refused.message  # noqa: PT017 - either may come
        assert TEN == values(log)
        append(log, [b"first"])
    owner.settle()
    append(log, [b"second"])
    owner.settle()
    assert [*TEN, b"first", b"second"] == values(log)
    assert 12 == log.durable_end_offset
    assert not owner.directory.is_offline


def test_an_index_that_cannot_be_opened_or_read_after_the_data_was_written_fails_no_append():
    """The same offset would be given twice: the bytes are in the file, the log's end would not have moved."""
    for operation, error_number in (("open", errno.EMFILE), ("pread", errno.EIO)):
        storage, owner, log = a_log_of_ten()
        owner.directory.checkpoint()
        owner.settle()  # the indexes have no tail in memory: the next entry asks the file for its last
        storage.fail(operation, error_number, path=".timeindex", times=3)
        assert [10, 11, 12] == [append(log, [bytes(90)]).base_offset for _ in range(3)]
        append(log, [b"indexed again"])
        owner.settle()
        assert 14 == len(values(log))
        owner.close()
        again = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
        assert [(13, b"indexed again")] == read_all(again, 13)
        assert 13 == again.segments[0].locate(13).base_offset


@pytest.mark.parametrize("path", [".log", ".index", ".timeindex"])
def test_a_roll_without_descriptors_is_refused_and_done_at_the_next_append(path):
    config = LogConfig(index_interval_bytes=100, segment_bytes=len(TEN) * 200)
    storage, owner, log = a_log_of_ten(config)
    log.config = LogConfig(index_interval_bytes=100, segment_bytes=100)
    log.disk.open_files.close_all()
    storage.fail("open", errno.EMFILE, path=path)
    try:
        append(log, [b"rolled"])
    except RefusedError:
        append(log, [b"rolled"])
    owner.settle()
    assert [0, 10] == [segment.base_offset for segment in log.segments]
    assert [*TEN, b"rolled"] == values(log)
    assert not owner.directory.is_offline


def test_a_reader_without_descriptors_is_told_so_and_reads_on_later():
    storage, owner, log = reopened()
    storage.fail("open", errno.EMFILE, path=".log")
    with pytest.raises(RefusedError, match="ulimit -n") as refused:
        log.read(0, max_bytes=1000, upper_offset=10)
    assert ErrorCode.KAFKA_STORAGE_ERROR is refused.value.code
    log.disk.open_files.close_all()
    storage.fail("open", errno.EMFILE)
    with pytest.raises(RefusedError, match="ulimit -n"):
        log.offset_for_timestamp(1000, upper_offset=10)
    assert TEN == values(log)
    assert not owner.directory.is_offline


def test_the_least_used_files_are_closed_before_anything_is_refused():
    storage, owner, log = a_log_of_ten()
    others = [owner.log(number) for number in range(1, 5)]
    for other in others:
        append(other, [b"x"])
    owner.settle()
    log.disk.open_files.close(log.segments[0].file)
    open_before = owner.directory.open_files
    storage.fail("open", errno.EMFILE, path=".log")
    append(log, [b"room was made"])
    owner.settle()
    assert owner.directory.open_files < open_before
    assert b"room was made" == values(log)[-1]
    for other in others:
        append(other, [b"y"])
    owner.settle()
    assert open_before + 1 == owner.directory.open_files  # the shortage has passed


def test_a_sync_without_descriptors_is_done_at_the_next_tick():
    """S19 forbids to repeat a failed fsync; here none was begun."""
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    append(log, [b"a"])
    storage.fail("fsync_directory", errno.EMFILE)
    owner.settle()
    assert 0 == log.durable_end_offset
    owner.directory.tick(1)
    owner.settle()
    assert 1 == log.durable_end_offset
    assert ("fsync_directory", log.folder) == storage.calls[-2]
    append(log, [b"b"])
    log.disk.open_files.close_all()


def test_a_sync_whose_segment_cannot_be_opened_is_done_at_the_next_tick():
    storage, owner, log = a_log_of_ten()
    log.disk.open_files.close_all()
    log.sync_again()
    owner.settle()
    log.disk.open_files.close_all()
    storage.fail("open", errno.EMFILE, path=".log")
    log.sync_again()
    before = owner.flusher.syncs_total
    owner.settle()
    owner.directory.tick(1)
    owner.settle()
    assert before + 1 == owner.flusher.syncs_total
    assert not owner.directory.is_offline


def test_a_checkpoint_or_a_new_partition_without_descriptors_waits():
    storage, owner, _ = a_log_of_ten()
    storage.fail("open", errno.EMFILE, path="checkpoint")
    owner.directory.checkpoint()
    owner.settle()
    storage.fail("open", errno.EMFILE, path="metadata")
    with pytest.raises(RefusedError, match="ulimit -n"):
        owner.log(7)
    append(owner.log(7), [b"there now"])
    owner.settle()
    assert not owner.directory.is_offline
    owner.close()
    assert TEN == values(Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0])
