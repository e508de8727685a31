"""Group commit: one sync for many, nothing durable too early, and the end of a directory whose disk fails (S19)."""

import errno

from logstore.log_config import LogConfig
from tests.logstore.owner import Owner, append
from tests.logstore.simulated_storage import SimulatedStorage


def an_owner(**options):
    storage = SimulatedStorage()
    return storage, Owner(storage, **options).open()


def log_syncs(storage):
    return len([call for call in storage.calls if call[0] == "fdatasync" and call[1].endswith(".log")])


def test_everything_appended_while_a_sync_runs_is_made_durable_by_the_next_one():
    storage, owner = an_owner()
    log = owner.log()
    append(log, [b"0"])
    for _ in range(99):
        append(log, [b"x"])
    owner.jobs.popleft().result()
    owner.posted.popleft()()
    assert 1 == log.durable_end_offset, "what came after the sync began is not counted"
    owner.settle()
    assert 100 == log.durable_end_offset
    assert 2 == log_syncs(storage)


def test_whoever_waits_is_told_each_time_the_durable_end_moves():
    _, owner = an_owner()
    log = owner.log()
    seen = []
    log.on_durable = lambda moved: seen.append(moved.durable_end_offset)
    append(log, [b"0"])
    append(log, [b"1", b"2"])
    assert [] == seen
    owner.settle()
    assert [1, 3] == seen


def test_a_result_that_is_taken_in_late_counts_only_what_its_sync_covered():
    _, owner = an_owner()
    log = owner.log()
    append(log, [b"0"])
    owner.jobs.popleft().result()
    append(log, [b"1"])
    owner.posted.popleft()()
    assert 1 == log.durable_end_offset


def test_a_cut_while_a_sync_runs_leaves_nothing_durable_that_was_written_after_it():
    """The sync covered other bytes at the same offsets."""
    _, owner = an_owner()
    log = owner.log()
    append(log, [b"0"])
    owner.settle()
    append(log, [b"1", b"2", b"3"])
    log.truncate_to(1)
    append(log, [b"other 1", b"other 2"], epoch=2)
    owner.jobs.popleft().result()
    owner.posted.popleft()()
    assert 1 == log.durable_end_offset
    owner.settle()
    assert 3 == log.durable_end_offset


def test_many_logs_share_few_jobs_and_each_is_told_as_soon_as_it_is_synced():
    _, owner = an_owner()
    logs = [owner.log(partition) for partition in range(100)]
    for log in logs:
        append(log, [b"x"])
    assert 4 == len(owner.jobs)
    owner.settle()
    assert {1} == {log.durable_end_offset for log in logs}


def test_the_first_bytes_of_a_log_are_durable_only_with_their_names():
    storage, owner = an_owner()
    log = owner.log()
    append(log, [b"x"])
    owner.settle()
    synced = [path for operation, path in storage.calls if operation == "fsync_directory"]
    assert log.folder in synced
    assert "data" in synced[1:]


def test_relaxed_settings_count_at_once_and_sync_after_so_many_records():
    storage, owner = an_owner()
    log = owner.log(config=LogConfig(flush_messages=10))
    for number in range(9):
        append(log, [b"x"])
        assert number + 1 == log.durable_end_offset
    assert not owner.jobs
    append(log, [b"x"])
    owner.settle()
    assert 1 == log_syncs(storage)
    assert 10 == log.synced_end_offset


def test_relaxed_settings_sync_after_so_much_time():
    """S20: on the monotonic clock."""
    _, owner = an_owner()
    log = owner.log(config=LogConfig(flush_messages=1000, flush_ms=500))
    append(log, [b"x"])
    for now_ms in (7000, 7499):
        owner.directory.tick(now_ms)
        assert not owner.jobs
    owner.directory.tick(7500)
    owner.settle()
    assert 1 == log.synced_end_offset


def test_a_failed_sync_fails_every_log_of_the_directory_once():
    storage, owner = an_owner()
    logs = [owner.log(partition) for partition in range(20)]
    for log in logs:
        append(log, [b"x"])
    storage.fail("fdatasync", errno.EIO, path="access-3.")
    owner.settle()
    assert 1 == len(owner.failures)
    assert 0 == logs[3].durable_end_offset
    assert owner.directory.is_offline
    assert not owner.jobs


def test_a_log_that_was_deleted_while_its_sync_waited_troubles_nobody():
    _, owner = an_owner()
    log, other = owner.log(0), owner.log(1)
    append(log, [b"x"])
    append(other, [b"x"])
    assert owner.directory.delete_log(log.topic_id, 0)
    owner.settle()
    assert [] == owner.failures
    assert 1 == other.durable_end_offset


def test_closing_syncs_what_was_appended_and_waits_for_what_runs():
    storage, owner = an_owner()
    log = owner.log()
    append(log, [b"x"])
    append(log, [b"y"])
    owner.close()
    assert 2 == log.synced_end_offset
    assert "data/.kraft_cleanshutdown" in storage.paths()
    assert 0 == storage.open_handles


def test_a_checkpoint_follows_by_itself_when_much_was_synced():
    storage, owner = an_owner(checkpoint_bytes=10_000)
    log = owner.log()
    for _ in range(25):
        append(log, [bytes(1000)])
        owner.settle()
    storage.kill()
    owner = Owner(storage).open()
    assert 0 < owner.directory.scanned_bytes < 11_000
