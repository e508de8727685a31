"""What the quorum's tests share: configs, a state machine that remembers, waiting for conditions."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from cli.ports import free_ports
from kraft.quorum_config import PeerTls, QuorumConfig

CLUSTER_ID = "cluster-of-the-test"


def directory_id(node_id: int) -> uuid.UUID:
    return uuid.UUID(int=0xD1 << 64 | node_id)


def quorum_configs(
    directory: Path, *, voters: int, observers: int = 0, tls: Callable[[int], PeerTls] | None = None, **settings: object
) -> dict[int, QuorumConfig]:
    """Configs of a new cluster by node id: voters 1..n, then observers."""
    ports = free_ports(voters + observers)
    voter_ids = range(1, voters + 1)
    addresses = {node_id: ("127.0.0.1", port) for node_id, port in enumerate(ports, start=1)}
    return {
        node_id: QuorumConfig(
            cluster_id=CLUSTER_ID,
            node_id=node_id,
            directory_id=directory_id(node_id),
            voters={voter_id: addresses[voter_id] for voter_id in voter_ids},
            listen=address,
            directory=str(directory / f"node-{node_id}"),
            initial_directories={voter_id: directory_id(voter_id) for voter_id in voter_ids},
            tls=tls(node_id) if tls else None,
            **settings,
        )
        for node_id, address in addresses.items()
    }


class RecordingMachine:
    """Remembers what was applied, in order; answers a command with its position among the commands, from 1."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.indexes: list[int] = []
        self.restores = 0

    def apply(self, index: int, command: bytes) -> object:
        if command == b"raise":
            raise ZeroDivisionError("the state machine refuses to go on")
        self.commands.append(command)
        self.indexes.append(index)
        return len(self.commands)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.commands, self.indexes))

    def restore(self, index: int, snapshot: bytes) -> None:
        self.commands, self.indexes = msgspec.msgpack.decode(snapshot, type=tuple[list[bytes], list[int]])
        self.restores += 1


async def until(condition: Callable[[], object], *, within_s: float = 30.0, what: str = "") -> None:
    """Wait for a condition; AssertionError that names it where it does not come true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(0.005)


async def stop_all(members: Iterable[object]) -> None:
    await asyncio.gather(*(member.stop() for member in members))
