"""One entry of log.dirs: its lock, its folders, its checkpoints, and thousands of partitions."""

import errno
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID

import pytest

from logstore.flusher import Flusher
from logstore.log_config import LogConfig, TimestampType
from logstore.log_directory import LogDirectory
from logstore.partition_folder import folder_name, parse_folder_name
from logstore.storage import PosixStorage
from tests.logstore.owner import TOPIC_ID, Owner, append, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import RefusedError


def test_a_directory_that_another_process_holds_is_refused_with_its_name(tmp_path):
    owner = Owner(PosixStorage(), str(tmp_path)).open()
    script = (
        "from logstore.log_directory import LogDirectory; from logstore.flusher import Flusher\n"
        "from logstore.storage import PosixStorage; import sys\n"
        "flusher = Flusher(submit=None, post=None, on_failure=None)\n"
        "LogDirectory(sys.argv[1], storage=PosixStorage(), flusher=flusher).open()\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert 0 != answer.returncode
    assert f"log directory {tmp_path} is in use by another process" in answer.stderr
    owner.close()


def test_a_directory_in_use_is_refused():
    storage = SimulatedStorage()
    Owner(storage).open()
    with pytest.raises(RefusedError, match="in use by another process"):
        Owner(storage).open()


def test_the_marker_tells_a_clean_stop_from_any_other():
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    assert not owner.directory.was_clean_shutdown
    owner.close()
    owner = Owner(storage).open()
    assert owner.directory.was_clean_shutdown
    storage.kill()
    assert not Owner(storage).open().directory.was_clean_shutdown


def test_making_a_log_again_gives_the_same_one_with_the_new_settings():
    owner = Owner(SimulatedStorage()).open()
    log = owner.log()
    assert log is owner.log(config=LogConfig(segment_bytes=5))
    assert 5 == log.config.segment_bytes


def test_a_deleted_log_is_out_of_sight_at_once_and_its_files_go_later():
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    append(log, [b"x"])
    owner.settle()
    assert owner.directory.delete_log(TOPIC_ID, 0)
    assert not owner.directory.delete_log(TOPIC_ID, 0)
    assert [] == [path for path in storage.paths() if "access" in path]
    fresh = owner.log()
    assert 0 == fresh.log_end_offset
    owner.settle()
    assert [] == [path for path in storage.paths() if ".deleted" in path]
    assert 0 == append(fresh, [b"y"]).base_offset


def test_what_a_kill_left_of_a_deletion_is_removed_at_the_next_start():
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    append(owner.log(), [b"x"])
    owner.directory.delete_log(TOPIC_ID, 0)
    storage.kill()
    owner = Owner(storage).open()
    assert {} == owner.directory.logs
    assert [] == [path for path in storage.paths() if ".deleted" in path]


@pytest.mark.parametrize("name", ["a", "a-1", "a.b-2.c", "x" * 249, "-", "_.-"])
def test_a_folder_says_whose_it_is_however_long_the_name(name):
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.directory.create_log(TOPIC_ID, name, 2_000_000_000)
    assert len(log.folder.rpartition("/")[2].encode()) <= 255
    append(log, [b"x"])
    owner.settle()
    owner.close()
    found = Owner(storage).open().directory.logs[TOPIC_ID, 2_000_000_000]
    assert name == found.topic_name
    assert 1 == found.log_end_offset


@pytest.mark.parametrize(
    "name", ["", "meta.properties", ".lock", "a-1", "a-x.ASNFZ4mrze8BI0VniavN7w", "a-1.short", "lost+found"]
)
def test_other_names_in_the_directory_are_left_alone(name):
    assert parse_folder_name(name) is None


def test_the_folder_name_reads_back():
    assert (TOPIC_ID, "a-b.c", 7) == parse_folder_name(folder_name(TOPIC_ID, "a-b.c", 7))


def test_offsets_survive_a_restart_as_checkpointed():
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    log = owner.log()
    for _ in range(10):
        append(log, [b"x"])
    owner.settle()
    log.advance_high_watermark(7)
    log.delete_records_before(3)
    owner.directory.checkpoint()
    owner.settle()
    storage.kill()
    log = Owner(storage).open().directory.logs[TOPIC_ID, 0]
    assert (3, 7, 10) == (log.log_start_offset, log.high_watermark, log.log_end_offset)


def test_a_checkpoint_that_changes_nothing_writes_nothing():
    storage = SimulatedStorage()
    owner = Owner(storage).open()
    append(owner.log(), [b"x"])
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    storage.calls.clear()
    owner.directory.checkpoint()
    owner.settle()
    assert [] == storage.calls


def test_settings_are_read_from_topic_keys_and_shared():
    defaults = LogConfig(segment_bytes=77)
    keys = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "min.insync.replicas": "2"}
    config = LogConfig.from_topic_configs(keys, defaults)
    assert (77, -1) == (config.segment_bytes, config.retention_ms)
    assert config.message_timestamp_type is TimestampType.LOG_APPEND_TIME
    assert config is LogConfig.from_topic_configs(dict(keys), defaults)


def test_many_logs_share_few_descriptors(tmp_path):
    owner = Owner(PosixStorage(), str(tmp_path), open_files_max=10).open()
    logs = [owner.log(partition) for partition in range(50)]
    for turn in range(3):
        for log in logs:
            append(log, [b"turn %d" % turn])
    assert owner.directory.open_files <= 10
    owner.settle()
    for log in logs:
        assert 3 == log.durable_end_offset
        assert [b"turn 0", b"turn 1", b"turn 2"] == [value for _, value in read_all(log)]
    assert owner.directory.open_files <= 10
    owner.close()


def test_when_the_process_has_no_more_descriptors_logs_live_with_fewer():
    storage = SimulatedStorage()
    owner = Owner(storage, open_files_max=100).open()
    logs = [owner.log(partition) for partition in range(20)]
    for log in logs[:19]:
        append(log, [b"x"])
    owner.settle()
    storage.fail("open", errno.EMFILE, path=".log")
    append(logs[19], [b"x"])
    owner.settle()
    assert 1 == logs[19].durable_end_offset
    assert owner.directory.open_files <= 10


class UnsyncedStorage(PosixStorage):
    """The real disk without its waits."""

    fdatasync = fsync = staticmethod(lambda handle: None)

    def fsync_directory(self, path):
        pass


def test_two_thousand_partitions_take_little_memory_and_no_descriptors(tmp_path):
    """Generous limits; the figures are in scripts/bench/logstore.py."""
    partitions = 2000
    storage = UnsyncedStorage()
    owner = Owner(storage, str(tmp_path)).open()
    for partition in range(partitions):
        append(owner.log(partition), [b"x"])
    owner.close()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        owner = Owner(storage, str(tmp_path)).open()
        opened, _ = tracemalloc.get_traced_memory()
        assert partitions == len(owner.directory.logs)
        assert 0 == owner.directory.open_files
        for log in owner.directory.logs.values():
            append(log, [b"y"])
            log.read(0, max_bytes=100, upper_offset=2)
        owner.settle()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (opened - before) / partitions < 4 * 1024
    assert (used - before) / partitions < 10 * 1024
    assert owner.directory.open_files <= 512
    owner.close()


def test_with_real_threads_and_a_real_disk_what_is_durable_is_there_after_a_restart(tmp_path):
    posted = SimpleQueue()
    with ThreadPoolExecutor(4) as pool:
        flusher = Flusher(submit=pool.submit, post=posted.put, on_failure=pytest.fail)
        directory = LogDirectory(str(tmp_path), storage=PosixStorage(), flusher=flusher)
        directory.open()
        config = LogConfig(segment_bytes=20_000)
        logs = [directory.create_log(UUID(int=number), "topic", 0, config) for number in range(8)]
        for number in range(200):
            for log in logs:
                append(log, [b"%d" % number + bytes(300)])
            while not posted.empty():
                posted.get()()
        while any(log.durable_end_offset < 200 for log in logs):
            posted.get(timeout=30)()
        directory.close()
    owner = Owner(PosixStorage(), str(tmp_path)).open(config)
    assert owner.directory.was_clean_shutdown
    for log in owner.directory.logs.values():
        assert [b"%d" % number + bytes(300) for number in range(200)] == [value for _, value in read_all(log)]
    owner.close()
