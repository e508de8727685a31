"""One Kafka connection on its socket: requests in, answers out, in the order of the requests.

Owns the socket's two directions and their bounds. One read callback handles every request that it completed and writes
all their answers at once; a request whose answer is not there yet holds back only the answers behind it, not the
handling. No task is made for a request: a handler returns its answer, or a future of it.
Refuses, by closing after what is owed: what is no request, an API or version that is not served (but ApiVersions,
which says so), and a Produce that failed where no answer was asked for.
Invariants:
- answers leave in the order of their requests, each once (acks=0 has none);
- beyond the bounds of pipelining, or while the peer does not take its answers, nothing more is handled and then
  nothing more is read: what a connection holds is bounded by the settings, whatever the peer does;
- what was taken from the node's account of bytes is given back when the connection ends, at the latest.
"""

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from api.kafka import api_versions
from api.kafka.context import Door
from api.kafka.produce import NoAnswerError
from api.kafka.registry import SERVED, Answer
from broker.event_log import logger
from kraft.peer_tls import certificate_speaks_for
from wire.connection import DecodeError, ReceiveBuffers, RequestFrame, RequestHeader, ServerConnection
from wire.messages import ApiKey
from wire.schema import Buffer, Message

if TYPE_CHECKING:
    from api.kafka.settings import KafkaSettings

WRITE_AT_BYTES: Final = 64 * 1024
"""An answer of so many bytes is written before the next request is handled: the socket says whether it may be."""
WRITEV_MAX: Final = 1024
"""IOV_MAX of Linux and macOS."""
PRESSED_DEADLINE_S: Final = 5.0
"""While the node holds as much as it may, a peer that neither sends on nor takes its answers has only so long."""

_log: Final = logger(room="kafka")


class _Owed:
    """An answer that can't be written yet: it is not there, or one before it is not."""

    __slots__ = ("buffers", "future", "header", "size_bytes")

    def __init__(self, header: RequestHeader, future: asyncio.Future[Any] | None) -> None:
        self.header = header
        self.future = future
        self.buffers: list[Buffer] = []
        self.size_bytes = 0


class KafkaConnection(asyncio.BufferedProtocol):
    """From accept to close."""

    def __init__(self, door: Door, gone: Callable[["KafkaConnection"], None], buffers: ReceiveBuffers) -> None:
        """`buffers` are shared by connections of one loop."""
        context = door.context
        self.door = door
        self.address = "unknown"
        self._context = context
        self._settings: KafkaSettings = context.settings
        self._account = context.bytes_under_way
        self._gone = gone
        self._wire = ServerConnection(context.settings.request_bytes_max, buffers)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket_fd: int | None = None
        self._is_counted = False
        self._unhandled: deque[RequestFrame] = deque()
        self._owed: deque[_Owed] = deque()
        self._owed_bytes = 0
        self._waiting_fetch = False
        self._held_bytes = 0  # this connection's share of the node's account
        self._unsent_bytes = 0
        self._unhandled_bytes = 0
        self._is_paused = False
        self._is_draining = False
        self._heard_s = self._loop.time()
        self._frame_begun_s: float | None = None
        self._stalled_s: float | None = None

    # -- the socket -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        self._transport = transport
        socket = transport.get_extra_info("socket")
        if socket is not None and transport.get_extra_info("ssl_object") is None:
            self._socket_fd = socket.fileno()
        if not self._context.connections.add(self.address):
            self._context.refusals.tell("too many connections", address=self.address)
            transport.abort()
            return
        self._is_counted = True
        transport.set_write_buffer_limits(high=self._settings.write_buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._transport = self._socket_fd = None
        self._wire.close()
        if self._is_counted:
            self._is_counted = False
            self._context.connections.remove(self.address)
        self._account.wait_no_more(self.resume)
        for owed in self._owed:
            if owed.future is not None:
                owed.future.cancel()
        self._owed.clear()
        self._unhandled.clear()
        self._hold(-self._held_bytes)
        self._gone(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        return self._wire.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard_s = self._loop.time()
        try:
            frames = self._wire.received(nbytes)
        except DecodeError as error:
            self._refuse("what came is no request", error)
            return
        if not self._wire.pending_bytes:
            self._frame_begun_s = None
        elif frames or self._frame_begun_s is None:
            self._frame_begun_s = self._heard_s
        self._unhandled.extend(frames)
        self._handle_all()

    def pause_writing(self) -> None:
        self._stalled_s = self._loop.time()

    def resume_writing(self) -> None:
        self._stalled_s = None
        self._note_unsent()
        self.resume()

    def speaks_for(self, broker_id: int) -> bool:
        """Where a certificate was demanded: it carries the name of this broker. True where none was."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        if tls is None or tls.context.verify_mode is not ssl.CERT_REQUIRED:
            return True
        return certificate_speaks_for(tls.getpeercert(), broker_id)

    # -- requests -------------------------------------------------------------------------------------------------

    def _handle_all(self) -> None:
        """As many as the bounds allow; then write what is ready, and read on or not."""
        out: list[Buffer] = []
        try:
            while self._unhandled and self._may_handle(self._unhandled[0]):
                frame = self._unhandled.popleft()
                if self._handle(frame, out) >= WRITE_AT_BYTES:
                    self._write(out)
                    out = []
        except (DecodeError, NoAnswerError) as error:
            self._write(out)
            self._refuse("a request cannot be answered", error)
            return
        except Exception as error:  # noqa: BLE001 - a bug in a handler must not leave its connection waiting
            self._fail(error)
            return
        self._write(out)
        self._note_unhandled()
        if self._unhandled or self._account.is_full:
            self._pause()
        elif self._is_paused:
            self._read_on()
        if self._is_draining and not self._owed and not self._unhandled:
            self._close()

    def _may_handle(self, frame: RequestFrame) -> bool:
        settings = self._settings
        if self._waiting_fetch and frame.header.api_key == ApiKey.FETCH:
            return False  # one at a time: each may come to hold as many bytes as one answer may have
        return (
            len(self._owed) < settings.pipelined_requests_max
            and self._owed_bytes < settings.pipelined_bytes_max
            and self._stalled_s is None
            and not self._account.is_full
            and self._transport is not None
            and self._context.is_serving
        )

    def _handle(self, frame: RequestFrame, out: list[Buffer]) -> int:
        """The bytes of its answer, where that went to `out`."""
        header = frame.header
        served = SERVED.get(header.api_key)
        if served is None:
            raise DecodeError(f"API key {header.api_key} is not served")
        answer: Answer
        if header.api_version in served.versions:
            answer = served.handle(self, header, frame.request())
        elif header.api_key == ApiKey.API_VERSIONS:
            answer = api_versions.unsupported(self)
        else:
            raise DecodeError(f"version {header.api_version} of API {header.api_key} is not served")
        if answer is None:
            return 0
        if isinstance(answer, Message):
            if not self._owed:
                buffers = ServerConnection.respond(header, answer)
                out += buffers
                return sum(map(len, buffers))
            self._owe(_Owed(header, None), answer)
        else:
            self._waiting_fetch = self._waiting_fetch or header.api_key == ApiKey.FETCH
            self._owed.append(_Owed(header, answer))
            answer.add_done_callback(self._come)
        return 0

    def _owe(self, owed: _Owed, answer: Message) -> None:
        owed.buffers = ServerConnection.respond(owed.header, answer)
        owed.size_bytes = sum(map(len, owed.buffers))
        self._owed.append(owed)
        self._owed_bytes += owed.size_bytes
        self._hold(owed.size_bytes)

    # -- answers --------------------------------------------------------------------------------------------------

    def _come(self, future: asyncio.Future[Any]) -> None:
        """An answer is there, perhaps the one that held back others."""
        if self._transport is None:
            if not future.cancelled() and (error := future.exception()) is not None:
                self._fail(error)
            return
        out: list[Buffer] = []
        while self._owed:
            owed = self._owed[0]
            if owed.future is None:
                out += owed.buffers
                self._owed_bytes -= owed.size_bytes
                self._hold(-owed.size_bytes)
            elif not owed.future.done():
                break
            elif owed.future.cancelled() or owed.future.exception() is not None:
                self._fail(None if owed.future.cancelled() else owed.future.exception())
                return
            else:
                out += ServerConnection.respond(owed.header, owed.future.result())
                if owed.header.api_key == ApiKey.FETCH:
                    self._waiting_fetch = False
            self._owed.popleft()
        self._write(out)
        if self._unhandled:
            self._handle_all()
        elif self._is_draining and not self._owed:
            self._close()

    def _write(self, out: list[Buffer]) -> None:
        transport = self._transport
        if not out or transport is None or transport.is_closing():
            return
        if self._socket_fd is not None and not self._unsent_bytes:
            out = _write_now(self._socket_fd, out)
            if not out:
                return
        for buffer in out:
            transport.write(buffer)
        self._note_unsent()

    def _note_unhandled(self) -> None:
        """What was received and could not be handled yet is memory."""
        unhandled = self._wire.pending_bytes
        if self._unhandled:
            unhandled += sum(frame.size_bytes for frame in self._unhandled)
        if unhandled != self._unhandled_bytes:
            self._hold(unhandled - self._unhandled_bytes)
            self._unhandled_bytes = unhandled

    def _note_unsent(self) -> None:
        """Answers that the peer has not taken are memory too."""
        transport = self._transport
        unsent = 0 if transport is None else transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._hold(unsent - self._unsent_bytes)
            self._unsent_bytes = unsent

    # -- bounds ---------------------------------------------------------------------------------------------------

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        self._account.change(count)

    def _pause(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        if self._account.is_full:
            self._account.wait(self.resume)

    def _read_on(self) -> None:
        if self._is_draining:
            return  # nothing more is asked of this connection
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def resume(self) -> None:
        """There may be room again, or the node has begun to serve."""
        if self._transport is not None and self._is_paused:
            self._handle_all()

    def check_deadlines(self, now_s: float) -> None:
        """Called every second: close whom nobody needs to wait for."""
        settings, transport = self._settings, self._transport
        if transport is None or not self._context.is_serving:
            return
        pressed = self._account.is_full
        frame_s = PRESSED_DEADLINE_S if pressed else settings.frame_deadline_s
        write_s = PRESSED_DEADLINE_S if pressed else settings.write_deadline_s
        if self._stalled_s is not None and now_s - self._stalled_s > write_s:
            self._abort("answers were not taken")
        elif self._frame_begun_s is not None and not self._unhandled and now_s - self._frame_begun_s > frame_s:
            self._abort("a request was not finished")
        elif not self._owed and not self._unhandled and now_s - self._heard_s > settings.idle_s:
            self._close()

    # -- the end --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Answer what is owed, then close."""
        self._is_draining = True
        if not self._owed and not self._unhandled:
            self._close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        """After what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def _abort(self, reason: str) -> None:
        _log.info("connection closed", address=self.address, reason=reason)
        self.abort()

    def _refuse(self, what: str, error: Exception) -> None:
        self._context.refusals.tell(what, address=self.address, listener=self.door.name, reason=str(error)[:300])
        self._unhandled.clear()
        self._note_unhandled()
        self._pause()
        self.drain()

    def _fail(self, error: BaseException | None) -> None:
        """A handler broke: a broken invariant stops the node, anything else this connection."""
        if isinstance(error, AssertionError):
            self._context.node.fail(error)
        elif error is not None:
            _log.error("a request failed", address=self.address, exc_info=error)
        self.abort()


def _write_now(socket_fd: int, buffers: list[Buffer]) -> list[Buffer]:
    """Write what the socket takes at once, without the copies that asyncio makes (before Python 3.12 even two of a
    fetched MiB, which cost more than all else); what is left is the transport's.
    """
    try:
        written = os.writev(socket_fd, buffers[:WRITEV_MAX])
    except OSError:
        return buffers  # the socket is full, or the transport will meet the same failure and deal with it
    for position, buffer in enumerate(buffers):
        if written < len(buffer):
            return [memoryview(buffer)[written:], *buffers[position + 1 :]]
        written -= len(buffer)
    return []
