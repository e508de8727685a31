"""One connection to the replication listener of another broker: requests out, answers back to whoever asked.

Owns the socket. Refuses an answer that nobody waits for (S11): only the request in flight is ever answered, and a
connection whose peer says anything that does not parse is closed. Raises OSError (`ConnectionError`, `TimeoutError`)
for whatever the network does.
"""

import asyncio
import ssl
from typing import Any, Final

from kraft.peer_tls import certificate_speaks_for
from metadata.image import Endpoint
from wire.connection import ClientConnection, ReceiveBuffers
from wire.messages import ApiKey

CONNECT_TIMEOUT_S: Final = 3.0


class LeaderConnection(asyncio.BufferedProtocol):
    """Made by `open_connection`; one request in flight at a time."""

    def __init__(self, client_id: str, buffers: ReceiveBuffers) -> None:
        self._wire = ClientConnection(client_id, buffers=buffers)
        self._transport: asyncio.Transport | None = None
        self._in_flight: tuple[int, asyncio.Future[Any]] | None = None
        self._sent_s = 0.0

    @property
    def is_waiting_s(self) -> float:
        """How long the request in flight has been waiting for its answer; 0 where there is none."""
        return 0.0 if self._in_flight is None else asyncio.get_running_loop().time() - self._sent_s

    async def ask(self, api_key: ApiKey, version: int, request: Any, *, timeout_s: float) -> Any:
        """The answer to `request`; raises OSError where there will be none, after which this connection is closed."""
        assert self._in_flight is None, "one request in flight at a time"
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        correlation_id, buffers = self._wire.send(api_key, version, request)
        self._in_flight = correlation_id, answer
        self._sent_s = loop.time()
        try:
            transport.writelines(buffers)
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise TimeoutError(f"no answer within {timeout_s} s") from None
        finally:
            self._in_flight = None
            if not answer.done() or answer.cancelled():
                self.close()

    def close(self) -> None:
        """Whoever waits for an answer hears ConnectionError."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        return self._wire.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            answers = self._wire.received(nbytes)
        except ValueError as error:
            self._fail(ConnectionAbortedError(f"the leader sent what is no answer: {error}"))
            self.close()
            return
        for correlation_id, response in answers:
            if self._in_flight is not None and self._in_flight[0] == correlation_id and not self._in_flight[1].done():
                self._in_flight[1].set_result(response)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._wire.close()
        self._fail(ConnectionResetError(f"the connection was lost{f': {error}' if error else ''}"))

    def _fail(self, error: OSError) -> None:
        if self._in_flight is not None and not self._in_flight[1].done():
            self._in_flight[1].set_exception(error)


async def open_connection(
    at: Endpoint, *, client_id: str, leader_id: int, tls: ssl.SSLContext | None, buffers: ReceiveBuffers | None = None
) -> LeaderConnection:
    """Connect; raises OSError (`ssl.SSLError` is one) or TimeoutError. `buffers` are what answers are received into.

    Over TLS the other end must show the certificate of broker `leader_id`, whatever its host is called.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, connection = await loop.create_connection(
                lambda: LeaderConnection(client_id, ReceiveBuffers(0) if buffers is None else buffers),
                at.host,
                at.port,
                ssl=tls,
                server_hostname=at.host if tls is not None else None,
            )
    except ValueError as error:  # a UnicodeError: what the leader advertises cannot be the name of a host
        raise ConnectionAbortedError(f"{at.host!r} is no host name: {error}") from error
    if tls is not None and not certificate_speaks_for(transport.get_extra_info("peercert"), leader_id):
        transport.abort()
        raise ConnectionAbortedError(f"the certificate there does not carry the name node-{leader_id}")
    return connection
