"""Does a consumer that reads a large backlog from the start disturb those who live at its end?

Fills one partition, then measures pairs: a producer and a tail reader alone, and the same two beside a consumer that
reads from offset 0 after the log's files were dropped from the page cache (`posix_fadvise(DONTNEED)`). The order within
the pairs alternates; what counts is the median of the pairs' ratios. Afterwards the node is killed with SIGKILL and its
restart is timed, once with the page cache as it is and once with the files dropped from it.

By default the producer offers a load (`--produce-MB-per-s`) that the node can take with both cores in use by its
clients; `--produce-MB-per-s 0` offers all it can, and then three clients and the node share the machine's cores.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from scripts.bench.nodes import Cluster, cluster
from scripts.bench.raw_http import Connection, create_topic, expect, fetch_batches, produce_batches
from scripts.bench.report import bound, parser, show
from wire.record_batch import build_batch

GB: Final = 10**9
MB: Final = 10**6
SPARE_BYTES: Final = 3 * GB
FILL_BATCH_RECORDS: Final = 1000
LIVE_BATCH_RECORDS: Final = 100
RECORD_BYTES: Final = 1000
PRODUCER_CONNECTIONS: Final = 4
SLOWER_MAX: Final = 0.15
RESTART_S_MAX: Final = 3.0
TOPIC: Final = "backlog"


class Flow(NamedTuple):
    """What one client moved in a phase; latencies in milliseconds, of each request."""

    MB_per_s: float
    p50_ms: float
    p99_ms: float


def batch_of(records: int) -> bytes:
    now_ms = int(time.time() * 1000)
    value = (b"the quick brown fox jumps over the lazy dog; " * 30)[:RECORD_BYTES]
    return bytes(build_batch([(None, value, (), now_ms)] * records))


def flow(moved_bytes: int, began_s: float, latencies_s: list[float]) -> Flow:
    latencies = sorted(latencies_s) or [0.0]
    elapsed_s = time.monotonic() - began_s
    return Flow(moved_bytes / elapsed_s / MB, at(latencies, 0.5) * 1e3, at(latencies, 0.99) * 1e3)


def at(ordered: list[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


# ---- the three clients, each a process of its own


def produce(port: int, begin_s: float, end_s: float, bytes_per_s: float) -> Flow:
    """acks=all, one batch in flight on each connection, at most `bytes_per_s` together (0: no limit)."""
    request = produce_batches(TOPIC, 0, batch_of(LIVE_BATCH_RECORDS), acks="all")
    latencies: list[float] = []
    waiting: deque[tuple[Connection, float]] = deque()
    moved = 0
    with ExitStack() as stack:
        idle = deque(stack.enter_context(Connection("127.0.0.1", port)) for _ in range(PRODUCER_CONNECTIONS))
        wait_until(begin_s)
        while time.monotonic() < end_s:
            is_due = not bytes_per_s or begin_s + moved / bytes_per_s <= time.monotonic()
            if idle and is_due:
                connection = idle.popleft()
                connection.send(request)
                waiting.append((connection, time.monotonic()))
                moved += len(request)
            elif waiting:
                idle.append(receive(waiting, latencies))
            else:
                wait_until(begin_s + moved / bytes_per_s)
        moved -= len(request) * len(waiting)
        produced = flow(moved, begin_s, latencies)
        while waiting:
            receive(waiting, latencies)
        return produced


def receive(waiting: deque[tuple[Connection, float]], latencies: list[float]) -> Connection:
    """The answer to the oldest request."""
    connection, sent_s = waiting.popleft()
    expect(connection.receive(), 200)
    latencies.append(time.monotonic() - sent_s)
    return connection


def read(port: int, begin_s: float, end_s: float, offset: int) -> Flow:
    """Fetch batches as they lie in the log, waiting up to a second at its end."""
    latencies: list[float] = []
    moved = 0
    with Connection("127.0.0.1", port) as connection:
        wait_until(begin_s)
        while time.monotonic() < end_s:
            asked_s = time.monotonic()
            left_ms = max(1, int((end_s - asked_s) * 1000))
            answer = expect(connection.ask(fetch_batches(TOPIC, 0, offset, timeout_ms=min(left_ms, 1000))), 200)
            latencies.append(time.monotonic() - asked_s)
            moved += len(answer.body)
            offset = int(answer.header("Stream-Next-Offset") or offset)
        return flow(moved, begin_s, latencies)


def wait_until(moment_s: float) -> None:
    while (left_s := moment_s - time.monotonic()) > 0:
        time.sleep(left_s)


# ---- the phases


def fill(made: Cluster, size_bytes: int) -> float:
    """Write the backlog; MB a second."""
    request = produce_batches(TOPIC, 0, batch_of(FILL_BATCH_RECORDS), acks="1")
    began_s = time.monotonic()
    with made.nodes[0].connect() as connection:
        for _ in range(-(-size_bytes // len(request))):
            expect(connection.ask(request), 200)
    return size_bytes / (time.monotonic() - began_s) / MB


def log_end_offset(made: Cluster) -> int:
    with made.nodes[0].connect() as connection:
        path = f"/v3/clusters/-/topics/{TOPIC}/partitions/0/offset"
        return int(expect(connection.get(path), 200).json()["latest_offset"])


def drop_from_page_cache(directory: Path) -> int:
    """Write back and forget the pages of every segment; the bytes of them."""
    total = 0
    for path in directory.rglob("*.log"):
        if path.name == "kraft.log":
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            total += os.fstat(handle).st_size
        finally:
            os.close(handle)
    return total


class Phase(NamedTuple):
    produced: Flow
    tailed: Flow
    backlog: Flow | None


def phase(
    made: Cluster, pool: ProcessPoolExecutor, *, seconds: float, bytes_per_s: float, with_reader: bool, is_warm: bool
) -> Phase:
    if not is_warm:
        drop_from_page_cache(made.directory)
    port = made.nodes[0].port
    begin_s = time.monotonic() + 0.3
    end_s = begin_s + seconds
    end_offset = log_end_offset(made)
    tail = pool.submit(read, port, begin_s, end_s, end_offset)
    reader = pool.submit(read, port, begin_s, end_s, 0) if with_reader else None
    producer = pool.submit(produce, port, begin_s, end_s, bytes_per_s)
    return Phase(producer.result(), tail.result(), reader.result() if reader else None)


def measure_pairs(
    made: Cluster, *, pairs: int, seconds: float, bytes_per_s: float, is_warm: bool
) -> list[dict[str, object]]:
    quiet: list[Phase] = []
    busy: list[Phase] = []
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        measure = partial(phase, made, pool, bytes_per_s=bytes_per_s, is_warm=is_warm)
        measure(seconds=1, with_reader=True)  # the processes and their imports
        for number in range(pairs):
            for with_reader in (False, True) if number % 2 == 0 else (True, False):
                (busy if with_reader else quiet).append(measure(seconds=seconds, with_reader=with_reader))
    return [
        compared("produce, acks=all", [one.produced for one in quiet], [one.produced for one in busy]),
        compared("tail read", [one.tailed for one in quiet], [one.tailed for one in busy]),
        alone("backlog read", [one.backlog for one in busy if one.backlog is not None]),
    ]


def compared(name: str, quiet: list[Flow], busy: list[Flow]) -> dict[str, object]:
    slower = 1 - statistics.median([one.MB_per_s / other.MB_per_s for one, other in zip(busy, quiet, strict=True)])
    return {
        "measured": name,
        "alone_MB_per_s": round(statistics.median([one.MB_per_s for one in quiet]), 1),
        "beside_MB_per_s": round(statistics.median([one.MB_per_s for one in busy]), 1),
        "slower_percent": round(slower * 100, 1),
        "alone_p50_p99_ms": latency(quiet),
        "beside_p50_p99_ms": latency(busy),
        "bound": bound(round(slower, 3), at_most=SLOWER_MAX),
    }


def alone(name: str, flows: list[Flow]) -> dict[str, object]:
    return {
        "measured": name,
        "alone_MB_per_s": None,
        "beside_MB_per_s": round(statistics.median([one.MB_per_s for one in flows]), 1),
        "slower_percent": None,
        "alone_p50_p99_ms": "-",
        "beside_p50_p99_ms": latency(flows),
        "bound": "",
    }


def latency(flows: list[Flow]) -> str:
    p50, p99 = (statistics.median([getattr(one, name) for one in flows]) for name in ("p50_ms", "p99_ms"))
    return f"{p50:.2f} / {p99:.2f}"


def measure_restarts(made: Cluster, size_bytes: int) -> list[dict[str, object]]:
    """Seconds from spawning the node to ready, after SIGKILL in the middle of a produce."""
    rows = []
    before = log_end_offset(made)
    for name, is_cold in (("page cache as it is", False), ("files dropped from the page cache", True)):
        made.kill()
        if is_cold:
            drop_from_page_cache(made.directory)
        seconds = made.start_node_alone()
        after = log_end_offset(made)
        assert before == after, f"{before} records were acknowledged, {after} are there after the restart"
        verdict = bound(seconds, at_most=RESTART_S_MAX)
        rows.append(
            {"measured": f"restart after kill -9, {name}", "GB": size_bytes / GB, "s": seconds, "bound": verdict}
        )
    return rows


def check_space(directory: str, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        sys.exit(
            f"backlog: {directory} has {free_bytes / GB:.1f} GB free, {needed_bytes / GB:.1f} GB are needed: "
            "give another --directory, or a smaller --gigabytes"
        )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--gigabytes", type=float, default=5, help="size of the backlog (default: 5)")
    options.add_argument("--pairs", type=int, default=5, help="pairs whose median counts (default: 5)")
    options.add_argument("--seconds", type=float, default=6, help="for each half of a pair (default: 6)")
    options.add_argument("--produce-MB-per-s", type=float, default=20, help="offered load, 0: no limit (default: 20)")
    options.add_argument(
        "--warm", action="store_true", help="leave the backlog in the page cache, to tell disk from CPU"
    )
    chosen = options.parse_args()
    size_bytes = int(chosen.gigabytes * GB)
    pairs, seconds = max(1, min(chosen.pairs, 25)), min(chosen.seconds, 60)
    check_space(chosen.directory or tempfile.gettempdir(), size_bytes + SPARE_BYTES)
    with cluster(1, directory=chosen.directory) as made:
        with made.nodes[0].connect() as connection:
            create_topic(connection, TOPIC)
        filled = fill(made, size_bytes)
        rows = measure_pairs(
            made, pairs=pairs, seconds=seconds, bytes_per_s=chosen.produce_MB_per_s * MB, is_warm=chosen.warm
        )
        title = f"A backlog of {chosen.gigabytes:g} GB (filled at {filled:.0f} MB/s), {pairs} pairs of {seconds:g} s"
        show(title, rows, as_json=chosen.json)
        show("Restart with that backlog", measure_restarts(made, size_bytes), as_json=chosen.json)


if __name__ == "__main__":
    main()
