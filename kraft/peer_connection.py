"""One TCP connection to another node: the hello of both sides, then frames, with bounds in both directions.

Owns the handshake, its deadline, the limits of what may be buffered, and the socket's own liveness settings. It does
not know what the frames mean: whole, decoded values go to its owner (`PeerTransport`).

Refuses: a peer that sends anything but a hello first, takes longer than the deadline, or breaks the framing; a hello
that its owner refuses (another cluster, another voter list, a certificate of another name).

Invariants: the owner hears `established` at most once and `lost` exactly once after it; nothing is delivered
after `close`; no more than `MAX_QUEUED_BYTES` wait for a slow reader.
"""

import asyncio
import socket
from typing import Any, Final, Protocol, cast

import structlog

from kraft.peer_frames import (
    MAX_FRAME_BYTES,
    MAX_HELLO_FRAME_BYTES,
    FrameError,
    FrameKind,
    FrameReader,
    Hello,
    Refusal,
    decode_body,
    encode_frame,
)

HELLO_TIMEOUT_S: Final = 5.0
# Beyond this a peer is too slow for more entries: the leader walks it back later instead of growing here.
SLOW_PEER_BYTES: Final = 4 * 1024 * 1024
# Beyond this not even answers are kept: the connection is dead weight and closes.
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024
# A peer whose machine vanished is noticed by the kernel within about this time, whether or not data is under way.
DEAD_PEER_MS: Final = 3000

_log = structlog.get_logger("kraft.peer")


class ConnectionOwner(Protocol):
    """What a connection reports to; all calls come on the connection's own loop."""

    def opened(self, connection: "PeerConnection") -> bool: ...
    def own_hello(self) -> Hello: ...
    def refusal_of(self, connection: "PeerConnection", hello: Hello) -> str | None: ...
    def established(self, connection: "PeerConnection") -> None: ...
    def received(self, connection: "PeerConnection", kind: FrameKind, value: Any) -> None: ...
    def refused(self, connection: "PeerConnection", reason: str) -> None: ...
    def lost(self, connection: "PeerConnection") -> None: ...


class PeerConnection(asyncio.Protocol):
    """One side of one connection; `expected_node_id` is whom a dialer meant to reach, None on the accepting side."""

    def __init__(self, owner: ConnectionOwner, *, expected_node_id: int | None) -> None:
        self.expected_node_id = expected_node_id
        self.hello: Hello | None = None
        self.refused = False
        self.closed = False
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._reader = FrameReader(MAX_HELLO_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_dialer(self) -> bool:
        """Whether this side opened the connection."""
        return self.expected_node_id is not None

    @property
    def node_id(self) -> int:
        """Who is at the other end; only once established."""
        assert self.hello is not None
        return self.hello.node_id

    @property
    def address(self) -> str:
        """The other end as the socket names it, for log lines."""
        return str(self._transport.get_extra_info("peername")) if self._transport else "?"

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The peer's verified certificate as `ssl.getpeercert` gives it; None without TLS."""
        assert self._transport is not None
        return cast("dict[str, Any] | None", self._transport.get_extra_info("peercert"))

    @property
    def queued_bytes(self) -> int:
        """Bytes written here that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    @property
    def is_slow(self) -> bool:
        """Whether the peer reads too slowly to be sent more entries."""
        return self.queued_bytes >= SLOW_PEER_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both sides start the deadline; the dialer speaks first."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._owner.opened(self):
            self.closed = True
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=SLOW_PEER_BYTES)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _watch_for_dead_peer(sock)
        self._deadline = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._hello_overdue)
        if self.is_dialer:
            self.send(encode_frame(FrameKind.HELLO, self._owner.own_hello()))

    def data_received(self, data: bytes) -> None:
        """Cut frames; one bad frame ends the connection, because nothing after it can be trusted."""
        if self.closed:
            return
        self._reader.feed(data)
        try:
            while not self.closed and (frame := self._reader.next_frame()) is not None:
                self._take(*frame)
        except FrameError as error:
            _log.warning("peer connection closed: bad frame", peer=self.address, reason=str(error))
            self.close()

    def send(self, frame: bytes | bytearray) -> None:
        """Queue bytes of whole frames; a peer that lets too many wait is disconnected."""
        if self.closed or self._transport is None:
            return
        self._transport.write(frame)
        if self.queued_bytes > MAX_QUEUED_BYTES:
            _log.warning("peer connection closed: it reads too slowly", peer=self.address, queued=self.queued_bytes)
            asyncio.get_running_loop().call_soon(self.close)  # not from inside send: the owner may be in its own rules

    def close(self) -> None:
        """End it now, without waiting for what is queued; safe to call twice."""
        if self.closed:
            return
        self.closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self.hello is not None:
            self._owner.lost(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is gone, by whoever's doing."""
        self.close()
        if not self.finished.done():
            self.finished.set_result(None)

    def _take(self, kind: int, body: bytes) -> None:
        value = decode_body(kind, body)
        if self.hello is not None:
            self._owner.received(self, FrameKind(kind), value)
        elif isinstance(value, Hello):
            self._greet(value)
        elif isinstance(value, Refusal) and self.is_dialer:
            self._give_up(value.reason)
        else:
            raise FrameError("spoke before its hello")

    def _greet(self, hello: Hello) -> None:
        reason = self._owner.refusal_of(self, hello)
        if reason is not None:
            self._refuse(reason)
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self.hello = hello
        self._reader.max_frame_bytes = MAX_FRAME_BYTES
        if not self.is_dialer:
            self.send(encode_frame(FrameKind.HELLO, self._owner.own_hello()))
        self._owner.established(self)

    def _refuse(self, reason: str) -> None:
        assert self._transport is not None
        if self.is_dialer:
            self._give_up(reason)
            return
        self._owner.refused(self, reason)
        self.send(encode_frame(FrameKind.REFUSAL, Refusal(reason=reason)))
        self.closed = True  # from here on nothing that it sends is read; what is queued (the reason) still leaves
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport.close()

    def _give_up(self, reason: str) -> None:
        self.refused = True
        self._owner.refused(self, reason)
        self.close()

    def _hello_overdue(self) -> None:
        _log.warning("peer connection closed: no hello in time", peer=self.address, timeout_s=HELLO_TIMEOUT_S)
        self.close()


def _watch_for_dead_peer(sock: socket.socket) -> None:
    """Let the kernel find a vanished machine: probes while idle, a bound on unacknowledged data otherwise."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
