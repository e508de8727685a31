"""A network in memory: connections with TCP's promises, and links between machines that fail as a seed decides.

A connection delivers in order, whole or not at all. A blocked link (from, to) holds what is sent until it is healed, as
TCP does by retransmitting; who dies is told to its peers at once (kill -9) or never (power cut), and then only a write
to its next life finds out. Ports name listeners; addresses are small numbers, one a machine.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any

from tests.simulation.virtual_loop import Life, VirtualLoop, here


class Network:
    """All links and listeners."""

    def __init__(self, loop: VirtualLoop, rng: Random) -> None:
        self.loop = loop
        self.rng = rng
        self.blocked: set[tuple[int, int]] = set()
        self.slowness = 0.0
        """How often something takes a hundred times as long."""
        self._listeners: dict[int, Listener] = {}
        self._connections: set[Connection] = set()
        self._next_port = 20_000
        self._connections_made = 0
        loop.network = self

    def delay_s(self) -> float:
        rng = self.rng
        delay_s = rng.uniform(0.00005, 0.0006)
        return delay_s * 100 if self.slowness and rng.random() < self.slowness else delay_s

    def is_open(self, source: int, target: int) -> bool:
        return source == target or (source, target) not in self.blocked

    def block(self, source: int, target: int) -> None:
        self.blocked.add((source, target))

    def unblock(self, source: int, target: int) -> None:
        self.blocked.discard((source, target))
        for connection in sorted(self._connections, key=lambda one: one.number):
            connection.flush()

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> "Server":
        del host
        if not port:
            self._next_port += 1
            port = self._next_port
        life = here()
        assert port not in self._listeners, port
        self._listeners[port] = Listener(factory, life)
        life.when_killed.append(lambda: self.close(port))
        return Server(self, port)

    def close(self, port: int) -> None:
        self._listeners.pop(port, None)

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple["Transport", Any]:
        del host
        life = here()
        await asyncio.sleep(self.delay_s())
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens on port {port}")
        if not (
            self.is_open(life.address, listener.life.address) and self.is_open(listener.life.address, life.address)
        ):
            await self.loop.create_future()  # the handshake is never finished
        connection = Connection(self, life, listener.life)
        protocol = factory()
        connection.client.protocol = protocol
        protocol.connection_made(connection.client)
        self.loop.call_soon(connection.accept, listener.factory, context=listener.life.context)
        return connection.client, protocol

    def died(self, life: Life, *, silently: bool) -> None:
        """Its machine resets its connections, unless it lost its power."""
        for connection in sorted(self._connections, key=lambda one: one.number):
            connection.end_died(life, silently=silently)

    def reset(self, rng: Random, share: float) -> int:
        """Break so many of the connections between machines."""
        broken = 0
        for connection in sorted(self._connections, key=lambda one: one.number):
            if rng.random() < share and connection.client.life.address != connection.server.life.address:
                connection.break_off()
                broken += 1
        return broken

    def next_number(self) -> int:
        self._connections_made += 1
        return self._connections_made

    def listens(self, address: int) -> bool:
        """A process on that machine does."""
        return any(listener.life.address == address for listener in self._listeners.values())

    def joined(self, connection: "Connection") -> None:
        self._connections.add(connection)

    def left(self, connection: "Connection") -> None:
        self._connections.discard(connection)


class Listener:
    def __init__(self, factory: Callable[[], Any], life: Life) -> None:
        self.factory = factory
        self.life = life


class Server:
    """What `create_server` gives."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def close(self) -> None:
        self._network.close(self._port)


class Connection:
    """Two ends and what is under way between them."""

    def __init__(self, network: Network, client: Life, server: Life) -> None:
        self.number = network.next_number()
        self.network = network
        self.client = Transport(self, client)
        self.server = Transport(self, server)
        self.client.peer, self.server.peer = self.server, self.client
        network.joined(self)

    def accept(self, factory: Callable[[], Any]) -> None:
        """In the server's process."""
        self.server.protocol = factory()
        self.server.protocol.connection_made(self.server)
        self.server.deliver()

    def flush(self) -> None:
        """The link may be open again."""
        for end in (self.client, self.server):
            end.schedule()

    def break_off(self) -> None:
        """Both ends hear of it; what had not arrived never does."""
        for end in (self.client, self.server):
            end._sent.clear()
            if not end.is_dead:
                error = ConnectionResetError("reset on the way")
                self.network.loop.call_soon(end._lose, error, context=end.life.context)

    def end_died(self, life: Life, *, silently: bool) -> None:
        for end in (self.client, self.server):
            if end.life is life:
                end.is_dead = end._is_closing = True
                if silently:
                    end.peer.is_half_open = True
                else:
                    end.reset_peer()
        if self.client.is_dead and self.server.is_dead:
            self.network.left(self)


class Transport(asyncio.Transport):
    """One end."""

    def __init__(self, connection: Connection, life: Life) -> None:
        super().__init__()
        self.connection = connection
        self.life = life
        self.protocol: Any = None
        self.peer: Transport
        self.is_dead = False
        self.is_half_open = False
        """The other end lost its power: it says nothing more."""
        self._is_closing = False
        self._is_lost = False
        self._is_paused = False
        self._sent: deque[bytes | None] = deque()
        """On the way to the other end; None is the end of the stream."""
        self._received: deque[bytes | None] = deque()
        self._arrives_s = 0.0
        self._is_scheduled = False

    # ---- what a protocol does

    def write(self, data: Any) -> None:
        if not self._is_closing and data:
            self._sent.append(bytes(data))
            self.schedule()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._sent.append(None)
            self.schedule()
            self._lose(None)

    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._sent.clear()
            self.reset_peer()
            self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self.connection.network.loop.call_soon(self.deliver)

    def is_reading(self) -> bool:
        return not self._is_paused

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (f"10.0.0.{self.peer.life.address}", 1) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    # ---- the way to the other end

    def schedule(self) -> None:
        """Bring what was sent, after a while, in its order, while the link is open."""
        network = self.connection.network
        if self._is_scheduled or not self._sent or not network.is_open(self.life.address, self.peer.life.address):
            return
        self._is_scheduled = True
        self._arrives_s = max(network.loop.time() + network.delay_s(), self._arrives_s)
        network.loop.call_at(self._arrives_s, self._arrive, context=_outside())

    def _arrive(self) -> None:
        network = self.connection.network
        self._is_scheduled = False
        if not network.is_open(self.life.address, self.peer.life.address):
            return
        if self.is_half_open:
            self._sent.clear()
            if network.listens(self.peer.life.address):
                network.loop.call_soon(self._lose, ConnectionResetError("reset"), context=self.life.context)
            return
        self.peer._received.extend(self._sent)
        self._sent.clear()
        if not self.peer.is_dead and self.peer.protocol is not None:
            network.loop.call_soon(self.peer.deliver, context=self.peer.life.context)

    def deliver(self) -> None:
        """In the process that owns this end."""
        while self._received and not self._is_paused and not self._is_lost:
            data = self._received.popleft()
            if data is None:
                self._is_closing = True
                self._lose(None)
            else:
                self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """As a transport does to a protocol of either kind."""
        protocol = self.protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        while data and not self._is_lost:
            space = protocol.get_buffer(-1)
            count = min(len(space), len(data))
            space[:count] = data[:count]
            data = data[count:]
            protocol.buffer_updated(count)

    def reset_peer(self) -> None:
        """The other end hears that this one is gone; over a blocked link it does not."""
        network, peer = self.connection.network, self.peer
        if network.is_open(self.life.address, peer.life.address):
            error = ConnectionResetError("reset by peer")
            network.loop.call_later(network.delay_s(), peer._lose, error, context=peer.life.context)
        else:
            peer.is_half_open = True

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        if error is not None:
            self._sent.clear()
        if self.protocol is not None:
            self.connection.network.loop.call_soon(self.protocol.connection_lost, error, context=self.life.context)
        if self.peer._is_lost or self.peer.is_dead:
            self.connection.network.left(self.connection)


def _outside() -> Context:
    """The context of no process."""
    return Context()
