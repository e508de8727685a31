"""A port that serves the app, and keeps those away who only want to hold it.

Owns the server socket, and the deadline of request heads, which aiohttp does not have.
Refuses connections beyond the caps (429, closed at once). A bind that fails is the OSError of the system.
Invariants: a connection whose request head is not whole within `header_deadline_s` is closed, also a later request's
on a kept connection; a connection is counted once, from accept to close.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import EMPTY_PAYLOAD, web

from api.connection_count import ConnectionCount
from api.http.context import CONTEXT
from api.http.errors import BAD_REQUEST, THROTTLED, ApiError
from api.http.replies import error_reply
from broker.event_log import logger

if TYPE_CHECKING:
    from ssl import SSLContext

    from api.http.settings import HttpSettings

_log: Final = logger(room="http")


class GuardedConnection(web.RequestHandler):
    """aiohttp's connection, with a deadline for request heads and JSON for requests that are no HTTP."""

    __slots__ = ("_address", "_count", "_head_deadline_s", "_head_timer", "_payload")

    def __init__(self, server: web.Server, *, count: ConnectionCount, head_deadline_s: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._count = count
        self._head_deadline_s = head_deadline_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._address: str | None = None
        self._payload: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else "unknown"
        if not self._count.add(address):
            self._force_close = True
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._address = address
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_arrived()
        if self._address is not None:
            self._count.remove(self._address)
            self._address = None
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        before = self._request_count
        in_body = self._payload is not None and not self._payload.is_eof()
        super().data_received(data)
        if self._request_count != before:
            self._head_arrived()
            if self._messages:
                self._payload = self._messages[-1][1]
                if self._payload is EMPTY_PAYLOAD and not data.endswith(b"\r\n\r\n"):
                    self._await_head()  # a further head has begun in the same bytes
        elif data and not in_body and self._head_timer is None:  # aiohttp itself comes with no data, to parse on
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_deadline_s, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._current_request is not None or self._messages:
            self._await_head()  # earlier requests of this connection are still being answered: not its fault
        elif self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """What aiohttp refuses before the app is asked (an unknown `Expect`) is told in JSON too."""
        if isinstance(resp, web.HTTPException):
            resp = error_reply(ApiError(resp.status, resp.status, resp.text or resp.reason))
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that is no HTTP (or a failure outside of the app) is told so in JSON; the connection is closed.

        A client that went away is nobody's failure: it is not answered and not logged as one.
        """
        if isinstance(exc, ConnectionError):
            _log.debug("a client went away before its answer", remote=request.remote)
            self.force_close()
            return web.Response(status=503)
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        said = " ".join((message or "").split())[:200]
        response = error_reply(ApiError(status, BAD_REQUEST, f"this is not a valid HTTP request: {said}"))
        response.force_close()
        return response


class GuardedServer(web.Server):
    """Makes the connections of one listener."""

    def __init__(self, app: web.Application, count: ConnectionCount, settings: HttpSettings) -> None:
        # aiohttp's own runner builds its server so; the runner itself cannot be given another kind of connection.
        handle: Any = app._handle  # noqa: SLF001 - what AppRunner calls
        super().__init__(handle, request_factory=app._make_request)  # noqa: SLF001 - what AppRunner calls
        self._count = count
        self._settings = settings

    def __call__(self) -> web.RequestHandler:
        return GuardedConnection(
            self,
            loop=self._loop,
            count=self._count,
            head_deadline_s=self._settings.header_deadline_s,
            keepalive_timeout=self._settings.keepalive_s,
            lingering_time=self._settings.linger_s,
            access_log=None,
            auto_decompress=False,
            read_bufsize=256 * 1024,
        )


class HttpListener:
    """One address that serves an app; several may share it. The last one to stop cleans the app up."""

    def __init__(
        self,
        app: web.Application,
        host: str | None,
        port: int,
        ssl_context: SSLContext | None = None,
        connections: ConnectionCount | None = None,
    ) -> None:
        self._app = app
        self._host = host or None
        self._port = port
        self._ssl_context = ssl_context
        self._settings = app[CONTEXT].settings
        self._count = connections or ConnectionCount(
            connections_max=self._settings.connections_max, per_address_max=self._settings.connections_per_address_max
        )
        self._connections: GuardedServer | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the system's choice where 0 was asked for."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        return self._count.total

    async def start(self) -> None:
        """Bind and listen. Raises OSError (address in use, not permitted, no such host)."""
        self._app.freeze()
        self._connections = GuardedServer(self._app, self._count, self._settings)
        self._server = await asyncio.get_running_loop().create_server(
            self._connections,
            self._host,
            self._port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=self._settings.header_deadline_s if self._ssl_context else None,
            backlog=self._settings.backlog,
        )
        self._app[CONTEXT].listeners += 1

    async def drain(self, timeout_s: float) -> None:
        """Accept no more, answer long polls, close idle connections, give requests under way `timeout_s` to finish.

        Kept connections are closed a moment later than the port: a node that does not know yet that this one leads
        nothing any more, and sends on one of them, is told so. A connection that closed under its request would leave
        the outcome unknown (S15).
        """
        if self._server is None or self._connections is None:
            return
        self._server.close()
        self._app[CONTEXT].drain()
        await asyncio.sleep(min(timeout_s, self._settings.drain_kept_s))  # sleeps: nobody tells when others have heard
        self._connections.pre_shutdown()
        await self._connections.shutdown(timeout_s)

    async def stop(self) -> None:
        """Close everything now."""
        if self._server is None:
            return
        await self.drain(0.0)
        self._server = self._connections = None
        context = self._app[CONTEXT]
        context.listeners -= 1
        if context.listeners == 0:
            await self._app.cleanup()


def _canned(error: ApiError) -> bytes:
    response = error_reply(error)
    body = response.body
    assert isinstance(body, bytes)
    lines = [f"HTTP/1.1 {error.status} Too Many Requests", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    return "\r\n".join([*lines, "", ""]).encode() + body


_TOO_MANY = _canned(ApiError(429, THROTTLED, "too many connections from this address: close some, or share them"))
