"""What a test holds in place of a broker: a log directory on some storage, and syncs that run when the test says so."""

from collections import deque
from collections.abc import Callable
from uuid import UUID

from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from logstore.storage import Storage
from wire.record_batch import build_batch, check_batches, iterate_batches, stamp

TOPIC_ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


class ManualJob:
    def __init__(self, task: Callable[[], None]) -> None:
        self._task: Callable[[], None] | None = task

    def result(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task()


class Owner:
    """One log directory and the thread pool and loop that it needs, both by hand."""

    def __init__(self, storage: Storage, path: str = "data", **options) -> None:
        self.jobs: deque[ManualJob] = deque()
        self.posted: deque[Callable[[], object]] = deque()
        self.failures: list[OSError] = []
        self.flusher = Flusher(submit=self._submit, post=self.posted.append, on_failure=self.failures.append)
        self.directory = LogDirectory(path, storage=storage, flusher=self.flusher, **options)

    def _submit(self, task: Callable[[], None]) -> ManualJob:
        job = ManualJob(task)
        self.jobs.append(job)
        return job

    def settle(self) -> None:
        """Run everything that was submitted or posted, until nothing is left."""
        while self.jobs or self.posted:
            while self.jobs:
                self.jobs.popleft().result()
            while self.posted:
                self.posted.popleft()()

    def open(self, config: LogConfig | None = None) -> "Owner":
        self.directory.open((lambda topic_id, name: config) if config else None)
        self.settle()
        return self

    def close(self) -> None:
        self.directory.close()
        self.settle()

    def log(self, partition: int = 0, config: LogConfig | None = None) -> PartitionLog:
        return self.directory.create_log(TOPIC_ID, "access", partition, config)


def batch(values: list[bytes], *, timestamp_ms: int = 1000, step_ms: int = 1) -> bytearray:
    return build_batch([(None, value, (), timestamp_ms + index * step_ms) for index, value in enumerate(values)])


def append(log: PartitionLog, values: list[bytes], *, timestamp_ms: int = 1000, epoch: int = 1, now_ms: int = 0):
    buffer = batch(values, timestamp_ms=timestamp_ms)
    return log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=epoch, now_ms=now_ms)


def copied(numbers: range, *, epoch: int = 1) -> bytearray:
    """What a leader sends: batches of one record `record-NN` each, at these offsets."""
    sent = bytearray()
    for number in numbers:
        one = batch([b"record-%02d" % number])
        stamp(one, 0, base_offset=number, leader_epoch=epoch)
        sent += one
    return sent


def read_all(log: PartitionLog, start: int | None = None, *, max_bytes: int = 1 << 20) -> list[tuple[int, bytes]]:
    """Every record from `start` on as (offset, value), read as a consumer would."""
    offset = log.log_start_offset if start is None else start
    first = offset
    found: list[tuple[int, bytes]] = []
    while offset < log.log_end_offset:
        got = log.read(offset, max_bytes=max_bytes, upper_offset=log.log_end_offset)
        assert got.next_offset > offset
        for one in iterate_batches(got.data):
            assert one.crc_is_valid()
            found += [(record.offset, record.value or b"") for record in one.records() if record.offset >= first]
        offset = got.next_offset
    return found
