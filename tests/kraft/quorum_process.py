"""One voter in a process of its own, for tests that kill it: python -m tests.kraft.quorum_process SPEC.

While it leads it proposes commands with many in flight and writes each acknowledged one to its standard output; orders
come as JSON lines on standard input. Every command is proposed once and never again, so each may be applied at most
once.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import uuid

import msgspec
import structlog

from kraft.errors import QuorumError
from kraft.quorum import RaftQuorum
from kraft.quorum_config import QuorumConfig

IN_FLIGHT = 32


class LedgerMachine:
    """What was applied, small enough for many snapshots: how many, a digest of their order, and ranges by producer."""

    def __init__(self) -> None:
        self.count = 0
        self.digest = b""
        self.ranges: dict[str, list[list[int]]] = {}
        self.twice: list[str] = []

    def apply(self, _index: int, command: bytes) -> object:
        self.count += 1
        self.digest = hashlib.blake2b(self.digest + command, digest_size=16).digest()
        producer, _, number = command.decode().partition("/")
        self._add(producer, int(number.rstrip(".")))
        return self.count

    def _add(self, producer: str, number: int) -> None:
        ranges = self.ranges.setdefault(producer, [])
        if any(first <= number <= last for first, last in ranges):
            self.twice.append(f"{producer}/{number}")
        elif ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.count, self.digest, self.ranges, self.twice))

    def restore(self, _index: int, snapshot: bytes) -> None:
        self.count, self.digest, self.ranges, self.twice = msgspec.msgpack.decode(snapshot)


class Voter:
    """Proposes while it leads, obeys orders, tells the parent."""

    def __init__(self, spec: dict) -> None:
        voters = {int(node_id): ("127.0.0.1", port) for node_id, port in spec["ports"].items()}
        directories = {node_id: uuid.UUID(int=node_id) for node_id in voters}
        self.node_id = spec["node_id"]
        self.producer = spec["producer"]
        self.number = 0
        self.is_quiet = False
        self.machine = LedgerMachine()
        self.quorum = RaftQuorum(
            QuorumConfig(
                cluster_id="processes",
                node_id=self.node_id,
                directory_id=directories[self.node_id],
                voters=voters,
                listen=voters[self.node_id],
                directory=spec["directory"],
                initial_directories=directories,
                snapshot_entries=spec["snapshot_entries"],
                retained_entries=spec["retained_entries"],
            ),
            self.machine,
        )

    def tell(self, **news: object) -> None:
        os.write(1, json.dumps(news).encode() + b"\n")

    async def run(self) -> None:
        failed = asyncio.Event()
        self.quorum.on_failure(lambda _: failed.set())
        await self.quorum.start()
        self.quorum.on_role_change(lambda change: self.tell(leads=change.is_leader, term=change.term))
        self.tell(leads=self.quorum.is_leader, term=self.quorum.term)
        tasks = [asyncio.ensure_future(self.propose_on()) for _ in range(IN_FLIGHT)]
        orders = asyncio.ensure_future(self.obey())
        await asyncio.wait([orders, asyncio.ensure_future(failed.wait())], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        failure = self.quorum.failure
        await self.quorum.stop()
        if failure is not None:
            self.tell(failure=repr(failure), errno=getattr(failure, "errno", None))
            sys.exit(3)

    async def propose_on(self) -> None:
        while True:
            if self.is_quiet or not self.quorum.is_leader:
                await asyncio.sleep(0.01)
                continue
            command = f"{self.producer}/{self.number}".encode().ljust(100, b".")
            self.number += 1
            with contextlib.suppress(QuorumError):
                await self.quorum.propose(command, timeout_s=5)
                self.tell(acked=command.decode().rstrip("."))

    async def obey(self) -> None:
        orders = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            order = json.loads(line)
            if order["do"] == "quiet":
                self.is_quiet = True
                self.tell(quiet=True)
            elif order["do"] == "barrier":
                await self.answer_barrier()
            else:
                await self.quorum.wait_applied(order["index"], timeout_s=30)
                machine = self.machine
                self.tell(count=machine.count, digest=machine.digest.hex(), ranges=machine.ranges, twice=machine.twice)

    async def answer_barrier(self) -> None:
        try:
            self.tell(barrier=await self.quorum.barrier(timeout_s=5))
        except QuorumError:
            self.tell(barrier=None)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(Voter(json.loads(sys.argv[1])).run())
