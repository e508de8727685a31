"""Stands between the nodes, one listener for each address that a node advertises, and does what networks do to bytes.

Owns every connection between nodes; knows who opened one by the owner of its socket (/proc), so a link has a
direction: from whom to whom. A cut direction holds its bytes: they arrive late or, if the connection is given up,
never. Lost packets are told as TCP tells them: by waiting. Refuses nothing, keeps no order between connections. Needs
no privilege. Runs as a process of its own (`python -m tests.faults.link_proxy`), told what to do by lines of JSON on
its standard input, and ends with it.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

CLIENTS = 0
"""Who is none of the nodes; what they send always arrives."""
CHUNK_BYTES = 65536
RETRANSMISSION_S = 0.2
RETRANSMISSIONS_MAX = 5
SOCKETS_OF = "/proc/{}/fd"


@dataclass(slots=True)
class Weather:
    """What happens on every link between nodes, and on which directions nothing arrives."""

    cut: set[tuple[int, int]] = field(default_factory=set)
    loss: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class LinkProxy:
    """All listeners and connections of one cluster."""

    def __init__(self, chance: random.Random) -> None:
        self._weather = Weather()
        self._chance = chance
        self._process_of: dict[int, int] = {}
        self._connections: dict[asyncio.Task[None], tuple[int, int]] = {}

    async def obey(self, order: dict) -> object:
        """One order: listen, nodes, weather or reset."""
        match order:
            case {"listen": node_id, "to": port}:
                server = await asyncio.start_server(
                    lambda reader, writer: self._accepted(reader, writer, node_id, port), "127.0.0.1", 0
                )
                return server.sockets[0].getsockname()[1]
            case {"nodes": processes}:
                self._process_of = {int(node_id): pid for node_id, pid in processes.items()}
            case {"weather": now}:
                told = self._weather
                told.cut = {(source, target) for source, target in now.get("cut", ())}
                told.loss, told.delay_s = now.get("loss", 0.0), now.get("delay_s", 0.0)
                told.bytes_per_s = now.get("bytes_per_s", 0.0)
                told.changed.set()
                told.changed = asyncio.Event()
            case {"reset": pairs}:
                doomed = {(source, target) for source, target in pairs}
                for task, link in list(self._connections.items()):
                    if link in doomed:
                        task.cancel()
        return None

    # --- one connection -----------------------------------------------------------------------------------------------

    async def _accepted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int, port: int
    ) -> None:
        source = self._owner(writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1])
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = (source, target)
        ends = [writer]
        try:
            await self._passable(source, target)
            await self._passable(target, source)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            ends.append(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far_writer, source, target))
                both.create_task(self._carry(far_reader, writer, target, source))
        except* (OSError, asyncio.CancelledError):
            for end in ends:
                abort(end)
        finally:
            del self._connections[task]
            for end in ends:
                end.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: int, target: int
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._pass(len(chunk), source, target)
            writer.write(chunk)
            await writer.drain()
        await self._passable(source, target)  # an end of connection is a packet too
        if writer.can_write_eof():
            writer.write_eof()

    async def _pass(self, size_bytes: int, source: int, target: int) -> None:
        """Return when so many bytes have come over the link."""
        await self._passable(source, target)
        weather = self._weather
        if CLIENTS in (source, target):
            return
        wait_s = weather.delay_s * self._chance.uniform(0.5, 1.5)
        if weather.bytes_per_s:
            wait_s += size_bytes / weather.bytes_per_s
        again_s = RETRANSMISSION_S
        for _ in range(RETRANSMISSIONS_MAX):
            if self._chance.random() >= weather.loss:
                break
            wait_s += again_s
            again_s *= 2
        if wait_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(weather.changed.wait(), wait_s)
            await self._passable(source, target)

    async def _passable(self, source: int, target: int) -> None:
        while (source, target) in self._weather.cut:
            await self._weather.changed.wait()

    # --- who it is ----------------------------------------------------------------------------------------------------

    def _owner(self, source_port: int, listening_port: int) -> int:
        """The node whose process holds the socket; CLIENTS where none of them does."""
        inode = inode_of_socket(source_port, listening_port)
        wanted = f"socket:[{inode}]"
        for node_id, pid in self._process_of.items():
            with contextlib.suppress(OSError):
                for link in Path(SOCKETS_OF.format(pid)).iterdir():
                    with contextlib.suppress(OSError):
                        if str(link.readlink()) == wanted:
                            return node_id
        return CLIENTS


def inode_of_socket(local_port: int, remote_port: int) -> int:
    """Of the connection from 127.0.0.1:local to 127.0.0.1:remote; 0 where it is gone already."""
    wanted = f" {address(local_port)} {address(remote_port)} "
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        for line in table:
            if wanted in line:
                return int(line.split()[9])
    return 0


def address(port: int) -> str:
    return f"0100007F:{port:04X}" if sys.byteorder == "little" else f"7F000001:{port:04X}"


def abort(writer: asyncio.StreamWriter) -> None:
    """Reset, not end: who reads shall not take what came so far for all there is."""
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def serve() -> None:
    proxy = LinkProxy(random.Random(int(sys.argv[1])))
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        answer = await proxy.obey(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # every connection ends with its sockets; nobody is left to be told


if __name__ == "__main__":
    asyncio.run(serve())
