"""One Kafka listener: a port, and the connections that came through it.

Owns the server socket and the clock that checks every connection's deadlines once a second. A bind that fails is the
OSError of the system. Connections are accepted from the start, so that a port in use is found at once; their requests
wait until `KafkaContext.serve`, when this broker knows what the cluster is.
"""

import asyncio
import contextlib
import ssl
from typing import Final

from api.kafka.connection import KafkaConnection
from api.kafka.context import Door, KafkaContext
from api.kafka.registry import VERSIONS
from broker.config_values import Listener
from wire.connection import ReceiveBuffers

CHECK_S: Final = 1.0
HANDSHAKE_DEADLINE_S: Final = 10.0
RECEIVE_BYTES_KEPT_MAX: Final = 4 << 20


class KafkaListener:
    """An address of one listener name."""

    def __init__(
        self, context: KafkaContext, at: Listener, *, is_replication: bool, tls: ssl.SSLContext | None = None
    ) -> None:
        self.door = Door(context, at.name, is_replication=is_replication, served=VERSIONS)
        self._context = context
        self._at = at
        self._tls = tls
        self._connections: dict[KafkaConnection, None] = {}
        self._receive_buffers = ReceiveBuffers(RECEIVE_BYTES_KEPT_MAX)
        self._all_gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._check: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the system's choice where 0 was asked for."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Bind and listen. Raises OSError (address in use, not permitted, no such host)."""
        self._server = await asyncio.get_running_loop().create_server(
            self._connect,
            self._at.host or None,
            self._at.port,
            ssl=self._tls,
            ssl_handshake_timeout=HANDSHAKE_DEADLINE_S if self._tls else None,
            backlog=self._context.settings.backlog,
        )
        self._context.on_serving(self._serve)
        self._check_later()

    def _connect(self) -> KafkaConnection:
        connection = KafkaConnection(self.door, self._gone, self._receive_buffers)
        self._connections[connection] = None
        self._all_gone.clear()
        return connection

    def _gone(self, connection: KafkaConnection) -> None:
        self._connections.pop(connection, None)
        if not self._connections:
            self._all_gone.set()

    def _serve(self) -> None:
        for connection in list(self._connections):
            connection.resume()

    def _check_later(self) -> None:
        self._check = asyncio.get_running_loop().call_later(CHECK_S, self._check_deadlines)

    def _check_deadlines(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            connection.check_deadlines(now_s)
        self._check_later()

    async def drain(self, timeout_s: float) -> None:
        """Accept no more, answer long polls, close idle connections, give requests under way `timeout_s` to finish."""
        if self._server is None:
            return
        self._server.close()
        self._context.drain()
        await asyncio.sleep(0)  # connections accepted in this turn of the loop are told too
        for connection in list(self._connections):
            connection.drain()
        if self._connections and timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), timeout_s)

    async def stop(self) -> None:
        """Close everything now."""
        await self.drain(0.0)
        self._server = None
        if self._check is not None:
            self._check.cancel()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
