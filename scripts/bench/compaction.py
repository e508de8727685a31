"""What compaction costs: MB/s read by a cleaning, and how long an event loop waits meanwhile.

python -m scripts.bench.compaction [--megabytes 64] [--value-bytes 100 1000] [--compression none zstd]

Half of all records are superseded. MB are those of the log before it is cleaned; the copy is written and synced too.
The loop's wait is what a timer of 1 ms is late while the cleaner's thread works, as in a node.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

from broker.log_cleaning import REST_S
from logstore.cleaner import cleanable, complete, plan_cleaning, take_in
from logstore.cleaning import Cleaning
from logstore.log_config import LogConfig
from logstore.partition_log import PartitionLog
from logstore.segment_swap import CleanedSegment
from scripts.bench.logstore import Bench
from wire.compression import Compression
from wire.record_batch import build_batch, check_batches

CONFIG = LogConfig(cleanup_policy="compact", segment_bytes=4 << 20, flush_messages=1 << 40)
BATCH_BYTES = 16_000
BUFFER_BYTES = 128 << 20


def fill(bench: Bench, log: PartitionLog, *, size_bytes: int, value_bytes: int, compression: Compression) -> int:
    """Random keys, twice as many records as keys; how many records."""
    chance = random.Random(1)  # noqa: S311 - the same data in every run
    records_total = size_bytes // (value_bytes + 30)
    keys = max(1, records_total // 2)
    written = 0
    a_batch = max(1, BATCH_BYTES // (value_bytes + 30))
    while written < records_total:
        batch = build_batch(
            [
                (b"key-%012d" % chance.randrange(keys), chance.randbytes(value_bytes // 2) * 2, (), 1_700_000_000_000)
                for _ in range(a_batch)
            ],
            compression=compression,
        )
        log.append(batch, check_batches(batch, max_batch_bytes=1 << 20), leader_epoch=1, now_ms=0)
        written += a_batch
        bench.take_in()
    return written


async def clean(log: PartitionLog, rest: Callable[[], object]) -> list[float]:
    """The cleaning as a node drives it; how late the loop was, in ms."""
    found = cleanable(log, 0, drops_tombstones=True)
    assert found is not None
    plan = plan_cleaning(found, 0, drops_tombstones=True)
    cleaning = Cleaning(log.disk.storage, plan, buffer_bytes=BUFFER_BYTES, rest=rest)
    loop = asyncio.get_running_loop()
    late_ms: list[float] = []

    async def watch() -> None:
        while True:
            due_s = loop.time() + 0.001
            await asyncio.sleep(0.001)  # sleeps: the lateness of a timer is what is measured
            late_ms.append((loop.time() - due_s) * 1000)

    watcher = loop.create_task(watch())
    with ThreadPoolExecutor(1) as pool:
        while (done := await loop.run_in_executor(pool, cleaning.step)) is not None:
            if isinstance(done, CleanedSegment):
                assert take_in(log, plan, done)
    watcher.cancel()
    complete(log, cleaning)
    return sorted(late_ms)


def measure(path: Path, *, size_bytes: int, value_bytes: int, compression: Compression) -> str:
    bench = Bench(str(path))
    with bench.pool:
        directory = bench.directory(f"{value_bytes}-{compression.name}")
        directory.open()
        log = directory.create_log(UUID(int=1), "compacted", 0, CONFIG)
        records = fill(bench, log, size_bytes=size_bytes, value_bytes=value_bytes, compression=compression)
        while log.synced_end_offset < log.log_end_offset:
            log.sync_again()
            time.sleep(0.01)  # sleeps: until the pool has synced
            bench.take_in()
        log.advance_high_watermark(log.log_end_offset)
        directory.checkpoint()
        while not log.compaction.holes_are_written:
            time.sleep(0.01)  # sleeps: until the pool has written the checkpoint
            bench.take_in()
        before_bytes = log.size_bytes
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        late_ms = asyncio.run(clean(log, partial(time.sleep, REST_S)))
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        late = f"{late_ms[len(late_ms) // 2]:.1f} / {late_ms[int(len(late_ms) * 0.99)]:.1f} / {late_ms[-1]:.1f}"
        sizes = f"{before_bytes / 1e6:.0f} -> {log.size_bytes / 1e6:.0f} MB"
        megabytes = before_bytes / 1e6
        speed = f"{megabytes / seconds:.1f} MB/s | {megabytes / cpu_s:.1f} MB, {records / cpu_s / 1e3:.0f} k"
        return f"| {value_bytes} B, {compression.name.lower()} | {sizes} | {speed} | {late} ms |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--value-bytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--compression", nargs="+", default=["none", "zstd"])
    arguments = parser.parse_args()
    print(
        "| records | size | cleaned | MB and records a CPU second | loop late, p50 / p99 / max |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="kraft-bench-") as folder:
        for value_bytes in arguments.value_bytes:
            for name in arguments.compression:
                line = measure(
                    Path(folder),
                    size_bytes=arguments.megabytes << 20,
                    value_bytes=value_bytes,
                    compression=Compression[name.upper()],
                )
                print(line, flush=True)


if __name__ == "__main__":
    main()
