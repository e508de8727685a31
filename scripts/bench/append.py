"""The raw append path in one process (`check_batches` and `PartitionLog.append`) against the same work in C.

For each batch both sides receive it (a copy from memory, or from a socket that one C program fills for either), check
its CRC32C, stamp offset and leader epoch in place, and pwrite it to a file. Rounds of both sides alternate in one run
and the ratios are medians of rounds: absolute rates change several-fold with the host's page cache. Nothing is synced.
The reference is compiled with `cc` at each run; without a compiler the bench says so and ends with 0.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from logstore.storage import PosixStorage
from scripts.bench.report import bound, parser, show
from wire.record_batch import build_batch, check_batches

KIB: Final = 1024
SIZES: Final = {16 * KIB: 0.25, 100 * KIB: 0.5}
ROUND_BYTES: Final = 64 * 1024 * KIB
SOURCES: Final = ("memory", "socket")
TOPIC_ID: Final = UUID(int=7)
NOW_MS: Final = 1_700_000_000_000
RELAXED: Final = LogConfig(flush_messages=1 << 62, flush_ms=1 << 62, segment_bytes=1 << 30)


class Done:
    """A job that has run already."""

    def result(self) -> object:
        return None


def run_at_once(task: Callable[[], None]) -> Done:
    task()
    return Done()


def fail(error: OSError) -> None:
    raise error


def compile_reference(directory: Path) -> Path | None:
    """The compiled reference, for this very machine; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = directory / "reference"
    source = Path(__file__).with_name("reference.c")
    subprocess.run([compiler, "-O3", "-march=native", "-o", str(program), str(source)], check=True, timeout=120)
    return program


def batch_of(size_bytes: int) -> bytes:
    """A batch of 100-byte records, nearly `size_bytes` long."""
    records = [(None, b"%-100d" % number, (), NOW_MS) for number in range((size_bytes - 61) // 111)]
    return bytes(build_batch(records))


class Reference:
    """The C program with the batch that it works on."""

    def __init__(self, program: Path, batch: bytes, directory: Path) -> None:
        self._program = program
        self._batch = batch
        self._file = directory / "batch"
        self._target = directory / "reference.log"
        self._environment = {**os.environ, "BATCH": str(self._file)}
        self._file.write_bytes(batch)

    def append(self, source: str, count: int) -> float:
        """Seconds for `count` batches, as the program measured them."""
        arguments = [str(self._program), "append", source, str(len(self._batch)), str(count), str(self._target)]
        with Feed(self, count) if source == "socket" else nothing() as given:
            answer = subprocess.run(
                arguments,
                stdin=given.fileno(),
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
                env=self._environment,
            )
        self._target.unlink()
        nanoseconds, kind = answer.stdout.split()
        if kind != "hardware":
            print("append: this machine's CRC32C instructions are not known to the reference", file=sys.stderr)
        return int(nanoseconds) / 1e9

    def feed(self, count: int, target: socket.socket) -> subprocess.Popen[bytes]:
        arguments = [str(self._program), "feed", str(len(self._batch)), str(count)]
        return subprocess.Popen(arguments, stdout=target.fileno(), env=self._environment)


def nothing() -> socket.socket:
    """A socket that is never written to, for those who want none."""
    return socket.socket(socket.AF_UNIX)


class Feed:
    """A socket out of which `count` batches come, sent by the C program, for whoever measures."""

    def __init__(self, reference: Reference, count: int) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = reference.feed(count, theirs)

    def __enter__(self) -> socket.socket:
        return self._ours

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.wait(timeout=60)


def append_from_memory(log: PartitionLog, batch: bytes, count: int) -> float:
    limit = 2 * len(batch)
    began_s = time.perf_counter()
    for _ in range(count):
        buffer = bytearray(batch)
        log.append(buffer, check_batches(buffer, max_batch_bytes=limit), leader_epoch=1, now_ms=NOW_MS)
    return time.perf_counter() - began_s


def append_from_socket(log: PartitionLog, batch: bytes, count: int, source: socket.socket) -> float:
    size = len(batch)
    began_s = time.perf_counter()
    for _ in range(count):
        buffer = bytearray(size)
        view = memoryview(buffer)
        filled = 0
        while filled < size:
            filled += source.recv_into(view[filled:])
        log.append(buffer, check_batches(buffer, max_batch_bytes=2 * size), leader_epoch=1, now_ms=NOW_MS)
    return time.perf_counter() - began_s


def append_ours(directory: Path, reference: Reference, source: str, batch: bytes, count: int) -> float:
    """Seconds for `count` batches into a fresh log."""
    path = directory / "ours"
    flusher = Flusher(submit=run_at_once, post=run_at_once, on_failure=fail)
    logs = LogDirectory(str(path), storage=PosixStorage(), flusher=flusher, defaults=RELAXED)
    logs.open()
    log = logs.create_log(TOPIC_ID, "bench", 0)
    if source == "memory":
        seconds = append_from_memory(log, batch, count)
    else:
        with Feed(reference, count) as given:
            seconds = append_from_socket(log, batch, count, given)
    assert log.size_bytes == count * len(batch)
    logs.delete_log(TOPIC_ID, 0)
    shutil.rmtree(path)
    return seconds


def compare(directory: Path, program: Path, source: str, size_bytes: int, rounds: int) -> dict[str, object]:
    batch = batch_of(size_bytes)
    reference = Reference(program, batch, directory)
    count = ROUND_BYTES // size_bytes
    pairs = []
    for number in range(rounds + 1):
        theirs = reference.append(source, count)
        ours = append_ours(directory, reference, source, batch, count)
        if number:  # the first pair warms up
            pairs.append((ours, theirs))
    ratio = statistics.median([theirs / ours for ours, theirs in pairs])
    return {
        "batch_KiB": size_bytes // KIB,
        "source": source,
        "ours_us": round(statistics.median([ours for ours, _ in pairs]) / count * 1e6, 2),
        "C_us": round(statistics.median([theirs for _, theirs in pairs]) / count * 1e6, 2),
        "ours_MB_per_s": round(len(batch) * count / statistics.median([ours for ours, _ in pairs]) / 1e6),
        "ratio_to_C": round(ratio, 3),
        "bound": bound(ratio, at_least=SIZES[size_bytes]),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=9, help="pairs whose median counts (default: 9)")
    chosen = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kraft-bench-", dir=chosen.directory))
    try:
        program = compile_reference(directory)
        if program is None:
            print("append: skipped, no C compiler here (cc, gcc or clang) to build the reference with")
            return
        rounds = max(1, min(chosen.rounds, 101))
        rows = [compare(directory, program, source, size, rounds) for source in SOURCES for size in SIZES]
        show("Raw append path against C", rows, as_json=chosen.json)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
