"""What the log costs, against the bare system calls of the same sizes in the same run (only ratios travel).

python -m scripts.bench.logstore [append] [read] [open] [restart]     # all but restart by default
python -m scripts.bench.logstore restart --gigabytes 5
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID

from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from logstore.storage import PosixStorage
from wire.record_batch import build_batch, check_batches

ROUNDS = 7
BYTES_A_ROUND = 64 << 20
RELAXED = LogConfig(flush_messages=1 << 40)


class Bench:
    """A directory that lives for the run, its logs on the real disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.posted: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.pool = ThreadPoolExecutor(4)

    def directory(self, name: str = "data") -> LogDirectory:
        flusher = Flusher(submit=self.pool.submit, post=self.posted.put, on_failure=_raise)
        return LogDirectory(f"{self.path}/{name}", storage=PosixStorage(), flusher=flusher)

    def take_in(self) -> None:
        while not self.posted.empty():
            self.posted.get()()


def _raise(error: OSError) -> None:
    raise error


def a_batch(size_bytes: int) -> bytearray:
    buffer = build_batch([(None, os.urandom(size_bytes - 80), (), 1_700_000_000_000)])
    return bytearray(buffer)


def timed(action: Callable[[], None]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def bench_append(bench: Bench) -> None:
    directory = bench.directory()
    directory.open()
    for size_bytes in (1 << 10, 16 << 10, 100 << 10):
        count = min(BYTES_A_ROUND // size_bytes, 20_000)
        buffer = a_batch(size_bytes)
        log = directory.create_log(UUID(int=size_bytes), "bench", 0, RELAXED)
        raw = os.open(f"{bench.path}/raw", os.O_RDWR | os.O_CREAT | os.O_TRUNC)

        def raw_loop(raw: int = raw, buffer: bytearray = buffer, count: int = count) -> None:
            position = 0
            for _ in range(count):
                position += os.pwrite(raw, buffer, position)

        def append_loop(log: PartitionLog = log, buffer: bytearray = buffer, count: int = count) -> None:
            for _ in range(count):
                batches = check_batches(buffer, max_batch_bytes=1 << 20)
                log.append(buffer, batches, leader_epoch=1, now_ms=1)

        def check_loop(buffer: bytearray = buffer, count: int = count) -> None:
            for _ in range(count):
                check_batches(buffer, max_batch_bytes=1 << 20)

        figures = []
        for _ in range(ROUNDS):
            os.ftruncate(raw, 0)
            before = [timed(raw_loop), timed(append_loop), timed(check_loop)]
            figures.append(tuple(1e6 * seconds / count for seconds in before))
            log.truncate_fully_and_start_at(0)
            bench.take_in()
        raw_us, append_us, check_us = (statistics.median(column) for column in zip(*figures, strict=True))
        ratio = statistics.median(raw / append for raw, append, _ in figures)
        print(
            f"append {size_bytes >> 10:4} KiB: {append_us:6.1f} us (raw pwrite {raw_us:6.1f}, check {check_us:5.1f},"
            f" ours {append_us - raw_us - check_us:5.1f}); raw/append {ratio:.2f}"
        )
        os.close(raw)
    directory.close()


def bench_read(bench: Bench) -> None:
    directory = bench.directory("reads")
    directory.open()
    for size_bytes in (1 << 10, 16 << 10, 100 << 10):
        log = directory.create_log(UUID(int=size_bytes), "bench", 0, RELAXED)
        buffer = a_batch(size_bytes)
        while log.size_bytes < BYTES_A_ROUND:
            log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=1, now_ms=1)
        raw = os.open(log.segments[0].file.path, os.O_RDONLY)
        slices = log.size_bytes >> 20

        def raw_loop(raw: int = raw, slices: int = slices) -> None:
            for index in range(slices):
                os.pread(raw, 1 << 20, index << 20)

        def read_loop(log: PartitionLog = log, *, check_crc: bool = True) -> None:
            offset = 0
            while offset < log.log_end_offset:
                offset = log.read(
                    offset, max_bytes=1 << 20, upper_offset=log.log_end_offset, check_crc=check_crc
                ).next_offset

        def plain_loop(log: PartitionLog = log) -> None:
            read_loop(log, check_crc=False)

        figures = [
            tuple(1e6 * timed(loop) / slices for loop in (raw_loop, read_loop, plain_loop)) for _ in range(ROUNDS)
        ]
        raw_us, read_us, plain_us = (statistics.median(column) for column in zip(*figures, strict=True))
        print(
            f"read 1 MiB of {size_bytes >> 10:3} KiB batches: {read_us:6.0f} us, without CRC {plain_us:6.0f}"
            f" (raw pread {raw_us:5.0f}); raw/read {raw_us / read_us:.2f}, without CRC {raw_us / plain_us:.2f}"
        )
        os.close(raw)
    directory.close()


def bench_open(bench: Bench) -> None:
    partitions = 2000
    directory = bench.directory("many")
    directory.open()
    buffer = a_batch(1 << 10)
    for partition in range(partitions):
        log = directory.create_log(UUID(int=7), "bench", partition)
        log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=1, now_ms=1)
        bench.take_in()
    directory.close()
    directory = bench.directory("many")
    clean_s = timed(directory.open)
    scanned = directory.scanned_bytes
    os.close(directory._lock_handle)  # noqa: SLF001 - a process that is killed closes its files, and nothing else
    directory = bench.directory("many")
    unclean_s = timed(directory.open)
    print(f"open {partitions} partitions: clean {clean_s:.3f} s, unclean {unclean_s:.3f} s, scanned {scanned} bytes")
    checkpoint_s = timed(directory.checkpoint)
    print(f"checkpoint of {partitions} partitions: {1000 * checkpoint_s:.1f} ms on the loop")
    directory.close()
    tracemalloc.start()
    directory = bench.directory("many")
    before, _ = tracemalloc.get_traced_memory()
    directory.open()
    opened, _ = tracemalloc.get_traced_memory()
    for log in directory.logs.values():
        log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=1, now_ms=1)
        log.read(0, max_bytes=4096, upper_offset=2)
        bench.take_in()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(
        f"memory a partition: {(opened - before) / partitions:.0f} B opened, {(used - before) / partitions:.0f} B used;"
        f" {directory.open_files} descriptors"
    )
    directory.close()


def bench_restart(bench: Bench, gigabytes: float) -> None:
    """What a kill -9 leaves: everything in the page cache, checkpoints as they were written by themselves."""
    directory = bench.directory("big")
    directory.open()
    log = directory.create_log(UUID(int=9), "bench", 0)
    buffer = a_batch(1_000_000)
    while log.size_bytes < gigabytes * (1 << 30):
        log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=1, now_ms=1)
        bench.take_in()
        while log.log_end_offset - log.durable_end_offset > 64:
            bench.posted.get()()
    os.close(directory._lock_handle)  # noqa: SLF001 - a process that is killed closes its files, and nothing else
    directory = bench.directory("big")
    seconds = timed(directory.open)
    print(
        f"restart after a kill with {gigabytes} GiB: {seconds:.3f} s, scanned {directory.scanned_bytes >> 20} MiB,"
        f" end offset {directory.logs[UUID(int=9), 0].log_end_offset} of {log.log_end_offset}"
    )
    directory.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["append", "read", "open"])
    parser.add_argument("--directory", default=None, help="where to write (a temporary one by default)")
    parser.add_argument("--gigabytes", type=float, default=5)
    options = parser.parse_args()
    path = tempfile.mkdtemp(prefix="kraft-bench-", dir=options.directory)
    try:
        bench = Bench(path)
        for what in options.what:
            if what == "restart":
                bench_restart(bench, options.gigabytes)
            else:
                {"append": bench_append, "read": bench_read, "open": bench_open}[what](bench)
        bench.pool.shutdown()
    finally:
        shutil.rmtree(Path(path), ignore_errors=True)


if __name__ == "__main__":
    main()
