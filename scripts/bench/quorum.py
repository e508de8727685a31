"""Measures the metadata quorum: three processes on this machine, real files, real sockets, 100-byte commands.

    python -m scripts.bench.quorum [--seconds 5] [--directory DIR] [--profile]

Prints one line for each figure with its bound: durable commits a second one at a time and with more in flight, the
seconds from kill -9 of the leader to the first commit of its successor, and the CPU of an idle member.
`--profile` writes the leader's quorum thread profile (cProfile) of the pipelined run beside the data.
"""

import argparse
import asyncio
import contextlib
import cProfile
import json
import logging
import os
import platform
import pstats
import resource
import socket
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from kraft.errors import NotLeader, OutcomeUnknown
from kraft.quorum import RaftQuorum
from kraft.quorum_config import QuorumConfig

COMMAND = bytes(100)
VOTERS = 3


class CountingMachine:
    """The least that a state machine can do: what is measured is the quorum."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, _index: int, _command: bytes) -> object:
        self.count += 1
        return self.count

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, _index: int, snapshot: bytes) -> None:
        self.count = int(snapshot)


# -- one member, told what to do by lines on its standard input ---------------------------------------------------


async def run_member(spec: dict[str, Any]) -> None:
    """Serve one order a line until the parent closes the pipe."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    voters = {int(node_id): ("127.0.0.1", port) for node_id, port in spec["ports"].items()}
    directories = {node_id: uuid.UUID(int=node_id) for node_id in voters}
    node_id = spec["node_id"]
    config = QuorumConfig(
        cluster_id="bench",
        node_id=node_id,
        directory_id=directories[node_id],
        voters=voters,
        listen=voters[node_id],
        directory=spec["directory"],
        initial_directories=directories,
    )
    quorum = RaftQuorum(config, CountingMachine())
    await quorum.start()
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        answer = await getattr(Orders(quorum), order.pop("do"))(**order)
        print(json.dumps(answer), flush=True)
    await quorum.stop()


class Orders:
    """What a member can be told."""

    def __init__(self, quorum: RaftQuorum) -> None:
        self.quorum = quorum

    async def role(self) -> dict[str, Any]:
        return {"is_leader": self.quorum.is_leader, "term": self.quorum.term, "time": time.monotonic()}

    async def await_leadership(self, dead: int, timeout_s: float) -> dict[str, Any]:
        """Seconds on the machine's clock of the first commit as a leader; None where another leads."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(NotLeader, OutcomeUnknown):
                await self.quorum.propose(COMMAND, timeout_s=1)
                return {"committed_at": time.monotonic()}
            await asyncio.sleep(0.005)
            if self.quorum.leader_id not in (None, dead) and not self.quorum.is_leader:
                break
        return {"committed_at": None}

    async def propose(self, in_flight: int, seconds: float, profile: str) -> dict[str, Any]:
        """Keep so many proposals in flight for so long."""
        latencies: list[float] = []
        deadline = time.perf_counter() + seconds

        async def propose_on() -> None:
            while (begun := time.perf_counter()) < deadline:
                await self.quorum.propose(COMMAND, timeout_s=10)
                latencies.append(time.perf_counter() - begun)

        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()
        async with profiled_thread(self.quorum, profile):
            await asyncio.gather(*(propose_on() for _ in range(in_flight)))
        elapsed = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        latencies.sort()
        return {
            "per_s": len(latencies) / elapsed,
            "p50_ms": statistics.median(latencies) * 1000,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
            "cpu_us": cpu_s / len(latencies) * 1e6,
        }

    async def idle(self, seconds: float) -> dict[str, Any]:
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(seconds)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"cpu_percent": 100 * cpu_s / seconds, "rss_mib": after.ru_maxrss / 1024}


@contextlib.asynccontextmanager
async def profiled_thread(quorum: RaftQuorum, path: str) -> AsyncIterator[None]:
    """Profile the quorum's own thread while the block runs; nothing where no path is given."""
    if not path:
        yield
        return
    profile = cProfile.Profile()
    quorum._to_member.call(profile.enable)  # noqa: SLF001  # a profile must be switched on by the thread it observes
    yield
    quorum._to_member.call(profile.disable)  # noqa: SLF001  # as above
    await asyncio.sleep(0.1)
    with Path(path).open("w") as file:  # noqa: ASYNC230  # after the measurement
        pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(40)


# -- the parent ---------------------------------------------------------------------------------------------------


class Members:
    """The three processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(VOTERS)]
        self.ports = {node_id: each.getsockname()[1] for node_id, each in enumerate(sockets, start=1)}
        for each in sockets:
            each.close()
        self.processes: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, node_id: int) -> None:
        spec = {"node_id": node_id, "ports": self.ports, "directory": str(self.directory / f"node-{node_id}")}
        self.processes[node_id] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "scripts.bench.quorum",
            "--member",
            json.dumps(spec),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def order(self, node_id: int, **order: object) -> dict[str, Any]:
        process = self.processes[node_id]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
        return answer

    async def leader(self) -> int:
        while True:
            roles = {node_id: await self.order(node_id, do="role") for node_id in self.processes}
            leaders = [node_id for node_id, role in roles.items() if role["is_leader"]]
            if len(leaders) == 1:
                return leaders[0]
            await asyncio.sleep(0.02)

    async def kill(self, node_id: int) -> None:
        process = self.processes.pop(node_id)
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*(process.wait() for process in self.processes.values()))


def report(what: str, figure: str, bound: str) -> None:
    print(f"{what:<46} {figure:>42}   {bound}", flush=True)


def fdatasync_p50_ms(directory: Path) -> float:
    """What this disk gives to anybody: 100 bytes appended and synced."""
    descriptor = os.open(directory / "probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    took = []
    for _ in range(200):
        begun = time.perf_counter()
        os.write(descriptor, COMMAND)
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - begun)
    os.close(descriptor)
    return statistics.median(took) * 1000


async def measure(directory: Path, *, seconds: float, profile: bool) -> None:
    members = Members(directory)
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
    )
    report("fdatasync of 100 bytes, p50", f"{fdatasync_p50_ms(directory):.2f} ms", "")
    begun = time.monotonic()
    for node_id in members.ports:
        await members.start(node_id)
    leader = await members.leader()
    report("start of three processes to a leader", f"{time.monotonic() - begun:.2f} s", "< 2 s")
    bounds = {1: ">= 500/s", 64: ">= 10,000/s pipelined", 256: "", 1024: ""}
    for in_flight, bound in bounds.items():
        path = str(directory / f"profile-{in_flight}.txt") if profile else ""
        got = await members.order(leader, do="propose", in_flight=in_flight, seconds=seconds, profile=path)
        figure = (
            f"{got['per_s']:,.0f}/s  p50 {got['p50_ms']:.2f}  p99 {got['p99_ms']:.2f} ms  {got['cpu_us']:.0f} us CPU"
        )
        report(f"durable commits, {in_flight} in flight", figure, bound)
    idle = await asyncio.gather(*(members.order(node_id, do="idle", seconds=seconds) for node_id in members.processes))
    shares = ", ".join(f"{each['cpu_percent']:.2f}%" for each in idle)
    report("CPU of an idle member process", shares, "< 1.5% of a core")
    report("RSS of a member process", ", ".join(f"{each['rss_mib']:.0f} MiB" for each in idle), "")
    await measure_failovers(members)
    await members.stop()


async def measure_failovers(members: Members, rounds: int = 5) -> None:
    """kill -9 the leader; the clock runs until its successor has committed."""
    took = []
    for _ in range(rounds):
        leader = await members.leader()
        killed_at = time.monotonic()
        await members.kill(leader)
        answers = await asyncio.gather(
            *(members.order(node_id, do="await_leadership", dead=leader, timeout_s=5) for node_id in members.processes)
        )
        took.append(min(each["committed_at"] for each in answers if each["committed_at"]) - killed_at)
        await members.start(leader)
    report("kill -9 of the leader to its successor's commit", f"{', '.join(f'{s:.2f}' for s in took)} s", "< 2 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--member", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.member:
        asyncio.run(run_member(arguments.member))
        return
    with tempfile.TemporaryDirectory(prefix="quorum-bench-", dir=arguments.directory) as directory:
        asyncio.run(measure(Path(directory), seconds=arguments.seconds, profile=arguments.profile))
        if arguments.profile:
            for path in sorted(Path(directory).glob("profile-*.txt")):
                print(path.name, path.read_text(), sep="\n")


if __name__ == "__main__":
    main()
