"""Requests over the Kafka listener: what each costs the broker, beside the bare work in the same asyncio.

Produce (16 and 100 KiB, acks=1, five in flight): the bare server reads the same frames, checks the CRC32C, stamps,
writes to a file and answers with prepared bytes; rounds of both alternate. Produce of 1 MiB: MB/s acknowledged beside a
blocking loop that copies the same bytes from a socket to a file and does nothing else. Fetch: 1 MiB answers out of a
backlog that is in the page cache. Sessions: one consumer of many idle partitions, asking for all of them each time or
in a fetch session (KIP-227). Nothing is synced. CPU is that of the server's loop, its process's first thread, user and
system.
"""

import asyncio
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crc32c import crc32c

from scripts.bench.kafka_producer import KafkaConnection, Leaders, produce_for, produce_request
from scripts.bench.nodes import TICKS_PER_S, Cluster, Node, cluster
from scripts.bench.raw_http import create_topic
from scripts.bench.replication import batch_of, kafka_port
from scripts.bench.report import bound, parser, show
from wire.codec import decode
from wire.connection import RequestHeader, ServerConnection
from wire.messages import ApiKey
from wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from wire.messages.produce import PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse

KIB: Final = 1024
SIZES: Final = {16 * KIB: 0.25, 100 * KIB: 0.5}
COPY_RATIO_MIN: Final = 0.5
IN_FLIGHT: Final = 5
FETCH_VERSION: Final = 17
NEVER: Final = "9223372036854775807"
CORRELATION_AT: Final = 4


# -- the bare server -------------------------------------------------------------------------------------------------


class BareServer(asyncio.Protocol):
    """Frame, CRC, stamp, write, prepared answer: what no broker can leave out. One topic, one partition."""

    def __init__(self, target: Path) -> None:
        self._file = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self._at = 0
        self._received = bytearray()
        self._answer: bytearray | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at, out = 0, []
        while len(received) - at >= 4:
            size = int.from_bytes(received[at : at + 4], "big")
            if len(received) - at - 4 < size:
                break
            out.append(self._append(memoryview(received)[at + 4 : at + 4 + size]))
            at += 4 + size
        if at:
            self._received = received[at:]
            self._transport.writelines(out)

    def _append(self, frame: memoryview) -> bytes:
        if self._answer is None:
            self._prepare(frame)
        assert self._answer is not None
        records = frame[self._records_at : self._records_at + self._records_bytes]
        assert crc32c(records[21:]) == int.from_bytes(records[17:21], "big")
        struct.pack_into(">q", records, 0, self._at)
        self._at += os.pwrite(self._file, records, self._at)
        self._answer[CORRELATION_AT : CORRELATION_AT + 4] = frame[4:8]
        return bytes(self._answer)

    def _prepare(self, frame: memoryview) -> None:
        """Where the batch lies in every frame to come, and what they are all answered."""
        header = RequestHeader(*struct.unpack_from(">hhi", frame))
        body = frame[8 + 2 + struct.unpack_from(">h", frame, 8)[0] + 1 :]
        topic = decode(ProduceRequest, body, header.api_version).topic_data[0]
        records = topic.partition_data[0].records
        assert records is not None
        self._records_at, self._records_bytes = bytes(frame).index(bytes(records)), len(records)
        answer = ProduceResponse([TopicProduceResponse(topic.name, topic.topic_id, [PartitionProduceResponse(0)])])
        self._answer = bytearray(b"".join(ServerConnection.respond(header, answer)))


async def serve_bare(target: Path) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: BareServer(target), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server_of(kind: str, directory: Path) -> Iterator[tuple[int, int]]:
    """(port, pid) of `--bare` or `--copy`."""
    command = [sys.executable, "-m", "scripts.bench.kafka", kind, str(directory / f"{kind[2:]}.log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait(timeout=30)


# -- the copy loop ---------------------------------------------------------------------------------------------------


def serve_copies(target: Path) -> None:
    """From each connection into the file until its end, then the count of bytes back."""
    file = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    buffer = memoryview(bytearray(256 * KIB))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            copied = 0
            with connection:
                while count := connection.recv_into(buffer):
                    copied += os.write(file, buffer[:count])
                connection.sendall(copied.to_bytes(8, "big"))


def copied_bytes_per_s(port: int, data: bytes, seconds: float) -> float:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < seconds:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        copied = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
        return copied / (time.perf_counter() - began_s)


def compare_copy(made: Cluster, *, rounds: int, seconds: float) -> dict[str, object]:
    node = made.nodes[0]
    create(node, "produce-1-MiB", partitions=1)
    batch = batch_of(1024 * KIB - 100)
    ours = Leaders(("127.0.0.1", kafka_port(node.directory)), "produce-1-MiB")
    pairs = []
    with server_of("--copy", made.directory) as (port, _):
        for number in range(rounds + 1):
            acknowledged = produce_for(ours, batch, acks=1, in_flight=IN_FLIGHT, seconds=seconds)
            pair = acknowledged, copied_bytes_per_s(port, batch, seconds)
            if number:  # the first pair warms up
                pairs.append(pair)
    ratio = statistics.median([our / copy for our, copy in pairs])
    return {
        "request": "produce 1 MiB",
        "MB_per_s": round(statistics.median([our for our, _ in pairs]) / 1e6),
        "copy_MB_per_s": round(statistics.median([copy for _, copy in pairs]) / 1e6),
        "ratio": round(ratio, 3),
        "bound": bound(ratio, at_least=COPY_RATIO_MIN),
    }


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def create(node: Node, topic: str, *, partitions: int) -> None:
    """A topic that is not synced and not deleted from."""
    with node.connect() as connection:
        create_topic(connection, topic, partitions, flush_messages=NEVER, retention_ms="-1")


# -- produce ---------------------------------------------------------------------------------------------------------


def produce_round(leaders: Leaders, pid: int, batch: bytes, seconds: float) -> tuple[float, float]:
    """(microseconds of the server's CPU a request, requests a second)"""
    before_s = cpu_s(pid)
    rate = produce_for(leaders, batch, acks=1, in_flight=IN_FLIGHT, seconds=seconds) / len(batch)
    return 1e6 * (cpu_s(pid) - before_s) / (rate * seconds), rate


def compare_produce(made: Cluster, size_bytes: int, *, rounds: int, seconds: float) -> dict[str, object]:
    node = made.nodes[0]
    topic = f"produce-{size_bytes}"
    create(node, topic, partitions=1)
    batch = batch_of(size_bytes - 100)
    ours = Leaders(("127.0.0.1", kafka_port(node.directory)), topic)
    pairs = []
    with server_of("--bare", made.directory) as (port, pid):
        bare = Leaders(("127.0.0.1", kafka_port(node.directory)), topic)
        bare.partitions = {("127.0.0.1", port): [0]}
        for number in range(rounds + 1):
            pair = produce_round(ours, node.pid, batch, seconds), produce_round(bare, pid, batch, seconds)
            if number:  # the first pair warms up
                pairs.append(pair)
    ratio = statistics.median([theirs[0] / our[0] for our, theirs in pairs])
    return {
        "request": f"produce {size_bytes // KIB} KiB",
        "cpu_us": round(statistics.median([our[0] for our, _ in pairs]), 1),
        "bare_cpu_us": round(statistics.median([theirs[0] for _, theirs in pairs]), 1),
        "per_s": round(statistics.median([our[1] for our, _ in pairs])),
        "MB_per_s": round(statistics.median([our[1] for our, _ in pairs]) * size_bytes / 1e6),
        "ratio_to_bare": round(ratio, 3),
        "bound": bound(ratio, at_least=SIZES[size_bytes]),
    }


# -- fetch -----------------------------------------------------------------------------------------------------------


def measure_fetch(node: Node, *, seconds: float) -> dict[str, object]:
    """1 MiB answers, one after the other, from a partition of 64 MiB."""
    create(node, "fetch", partitions=1)
    leaders = Leaders(("127.0.0.1", kafka_port(node.directory)), "fetch")
    batch = batch_of(100 * KIB)
    produced = produce_request(leaders.topic_id, [0], batch, 1)
    with KafkaConnection("127.0.0.1", kafka_port(node.directory)) as connection:
        for _ in range(640):
            connection.ask(ApiKey.PRODUCE, 13, produced)
        before_s, began_s, count, read_bytes, offset = cpu_s(node.pid), time.perf_counter(), 0, 0, 0
        while time.perf_counter() - began_s < seconds:
            wanted = FetchPartition(0, fetch_offset=offset, partition_max_bytes=1 << 20)
            request = FetchRequest(max_bytes=1 << 20, min_bytes=1, topics=[FetchTopic("", leaders.topic_id, [wanted])])
            answer = connection.ask(ApiKey.FETCH, FETCH_VERSION, request)
            assert isinstance(answer, FetchResponse)
            records = answer.responses[0].partitions[0].records
            assert isinstance(records, memoryview)
            count, read_bytes = count + 1, read_bytes + len(records)
            offset = (offset + 10) % 600
        took_s, spent_s = time.perf_counter() - began_s, cpu_s(node.pid) - before_s
    return {
        "request": "fetch 1 MiB",
        "cpu_us": round(1e6 * spent_s / count, 1),
        "cpu_us_per_MiB": round(1e6 * spent_s / (read_bytes / 2**20), 1),
        "per_s": round(count / took_s),
        "MB_per_s": round(read_bytes / took_s / 1e6),
    }


def measure_sessions(node: Node, partitions: int, *, seconds: float) -> list[dict[str, object]]:
    """A consumer of idle partitions asks for them again and again, without waiting."""
    create(node, "many", partitions=partitions)
    leaders = Leaders(("127.0.0.1", kafka_port(node.directory)), "many")
    every = [FetchPartition(partition, partition_max_bytes=1 << 20) for partition in range(partitions)]
    full = FetchRequest(min_bytes=1, topics=[FetchTopic("", leaders.topic_id, every)])
    rows = []
    with KafkaConnection("127.0.0.1", kafka_port(node.directory)) as connection:
        opened = connection.ask(ApiKey.FETCH, FETCH_VERSION, _of_session(full, 0, 0))
        assert isinstance(opened, FetchResponse)
        incremental = FetchRequest(min_bytes=1)
        for name in ("full", "in a session"):
            before_s, began_s, count = cpu_s(node.pid), time.perf_counter(), 0
            while time.perf_counter() - began_s < seconds:
                request = full if name == "full" else _of_session(incremental, opened.session_id, count + 1)
                answer = connection.ask(ApiKey.FETCH, FETCH_VERSION, request)
                assert isinstance(answer, FetchResponse)
                assert not answer.error_code, answer
                count += 1
            took_s = time.perf_counter() - began_s
            rows.append(
                {
                    "request": f"fetch {partitions} partitions, {name}",
                    "cpu_us": round(1e6 * (cpu_s(node.pid) - before_s) / count, 1),
                    "per_s": round(count / took_s),
                }
            )
    return rows


def _of_session(request: FetchRequest, session_id: int, epoch: int) -> FetchRequest:
    return FetchRequest(min_bytes=request.min_bytes, session_id=session_id, session_epoch=epoch, topics=request.topics)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5, help="pairs whose median counts (default: 5)")
    options.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    options.add_argument("--partitions", type=int, default=2000, help="of the fetch sessions (default: 2000)")
    options.add_argument("--bare", metavar="FILE", help="be the bare server (the bench starts it itself)")
    options.add_argument("--copy", metavar="FILE", help="be the copy loop (the bench starts it itself)")
    chosen = options.parse_args()
    if chosen.bare:
        asyncio.run(serve_bare(Path(chosen.bare)))
        return
    if chosen.copy:
        serve_copies(Path(chosen.copy))
        return
    with cluster(directory=chosen.directory) as made:
        rows = [compare_produce(made, size, rounds=chosen.rounds, seconds=chosen.seconds) for size in SIZES]
        show("Produce over the Kafka listener, acks=1", rows, as_json=chosen.json)
        rows = [compare_copy(made, rounds=chosen.rounds, seconds=chosen.seconds)]
        show("Produce beside a copy from a socket to a file", rows, as_json=chosen.json)
        node = made.nodes[0]
        show("Fetch over the Kafka listener", [measure_fetch(node, seconds=chosen.seconds)], as_json=chosen.json)
        rows = measure_sessions(node, chosen.partitions, seconds=chosen.seconds)
        show("Fetch sessions", rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
