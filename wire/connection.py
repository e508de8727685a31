"""One Kafka connection without its socket, as the server and as the client: bytes in, frames or answers out.

Owns the headers and what is odd about ApiVersions; the client's side owns the order of answers too.
Refuses, with DecodeError, a length that is negative or beyond what was agreed, an API that is not declared, a header
that is none: the driver closes the connection, for where the next frame begins is not known any more.
Invariant: a frame's body is a view, writable for as long as nobody else has the frame (`frames.py` says of what).
"""

import struct
from collections import deque
from typing import Final

from msgspec import Struct

from wire.codec import DecodeError, decode, decode_from, encode
from wire.frames import LENGTH_BYTES, Frames, ReceiveBuffers
from wire.messages import API, Api, ApiKey
from wire.messages.headers import RequestHeader, ResponseHeader
from wire.messages.produce import ProduceRequest
from wire.schema import Buffer, Message

__all__ = ["ClientConnection", "DecodeError", "ReceiveBuffers", "RequestFrame", "RequestHeader", "ServerConnection"]

_LENGTH: Final = struct.Struct(">i")
_REQUEST_START: Final = struct.Struct(">hh")  # api_key, api_version: their place never changes
_RESPONSE_START: Final = struct.Struct(">ii")  # the length, the correlation id
_CORRELATION_ID_BYTES: Final = 4
_NO_TAGS: Final = b"\x00"

CORRELATION_ID_MAX: Final = 0x7FFFFFFF


class RequestFrame(Struct, frozen=True, gc=False):
    """A request whose header was read; `body` follows it.

    Its version is the client's claim: it may be one that the API does not have.
    """

    header: RequestHeader
    body: memoryview
    size_bytes: int  # with its length prefix: what it took of the stream

    @property
    def api(self) -> Api:
        return API[self.header.api_key]

    @property
    def has_known_version(self) -> bool:
        """Whether the request's version is declared; where it is not, the body can't be read."""
        return self.header.api_version in self.api.versions

    def request(self) -> Message:
        """Decode the body; DecodeError where it is not what the header says."""
        return decode(self.api.request, self.body, self.header.api_version)


class ServerConnection:
    """What a server does with one connection's bytes."""

    def __init__(self, max_request_bytes: int, buffers: ReceiveBuffers | None = None) -> None:
        """With `buffers` bytes are received by `space` and `received` in turns, else by `receive`."""
        self._frames = Frames(max_request_bytes, buffers)

    @property
    def pending_bytes(self) -> int:
        """Bytes of a request that is not whole yet."""
        return self._frames.pending_bytes

    def receive(self, data: Buffer) -> list[RequestFrame]:
        """The requests that `data` completes, in order; DecodeError ends the connection."""
        return [_request_frame(frame) for frame in self._frames.receive(data)]

    def space(self) -> memoryview:
        """Where the next bytes of the connection are to be put."""
        return self._frames.space()

    def received(self, count: int) -> list[RequestFrame]:
        """As `receive`, after `count` bytes were put into the last `space`."""
        return [_request_frame(frame) for frame in self._frames.received(count)]

    def close(self) -> None:
        """Nothing more is received."""
        self._frames.close()

    @staticmethod
    def respond(request: RequestFrame | RequestHeader, response: Message, version: int | None = None) -> list[Buffer]:
        """The buffers that answer `request`, for one `writelines`.

        `version` is the request's unless given. An ApiVersions request of an unknown version is answered in version 0.
        """
        header = request.header if isinstance(request, RequestFrame) else request
        api = API[header.api_key]
        if version is None:
            version = header.api_version
        is_flexible = version >= api.flexible_from
        if api.key is ApiKey.API_VERSIONS:
            is_flexible = False  # a client that knows no flexible header must be able to read it (KIP-511)
            version = version if version in api.versions else 0
        first, *rest = encode(response, version)
        size = _CORRELATION_ID_BYTES + is_flexible + len(first) + sum(map(len, rest))
        start = _RESPONSE_START.pack(size, header.correlation_id)
        return [b"".join((start, _NO_TAGS, first) if is_flexible else (start, first)), *rest]


class ClientConnection:
    """What a client does with one connection's bytes. Not for ApiVersions in doubt: its versions are to be agreed."""

    def __init__(
        self,
        client_id: str | None,
        max_response_bytes: int = 0x7FFFFFFF,
        buffers: ReceiveBuffers | None = None,
    ) -> None:
        """With `buffers` bytes are received by `space` and `received` in turns, else by `receive`."""
        self._client_id = client_id
        self._frames = Frames(max_response_bytes, buffers)
        self._correlation_id = 0
        self._awaited: deque[tuple[int, Api, int]] = deque()  # in the order of sending, which is that of the answers

    @property
    def awaited_count(self) -> int:
        """How many answers are still to come."""
        return len(self._awaited)

    def send(self, api_key: int, version: int, request: Message) -> tuple[int, list[Buffer]]:
        """The request's correlation id and its buffers for one `writelines`; a Produce with acks=0 has no answer."""
        api = API[api_key]
        assert isinstance(request, api.request), (api.name, request)
        body = encode(request, version)
        correlation_id = self._correlation_id
        self._correlation_id = (correlation_id + 1) & CORRELATION_ID_MAX
        header = RequestHeader(api_key, version, correlation_id, self._client_id)
        buffers = _framed(header, _request_header_version(api, version), body)
        if not (isinstance(request, ProduceRequest) and request.acks == 0):
            self._awaited.append((correlation_id, api, version))
        return correlation_id, buffers

    def receive(self, data: Buffer) -> list[tuple[int, Message]]:
        """The answers that `data` completes, by correlation id, in the order of their requests; DecodeError ends the
        connection.
        """
        return [self._answer(frame) for frame in self._frames.receive(data)]

    def space(self) -> memoryview:
        """Where the next bytes of the connection are to be put."""
        return self._frames.space()

    def received(self, count: int) -> list[tuple[int, Message]]:
        """As `receive`, after `count` bytes were put into the last `space`."""
        return [self._answer(frame) for frame in self._frames.received(count)]

    def close(self) -> None:
        """Nothing more is received."""
        self._frames.close()

    def _answer(self, frame: memoryview) -> tuple[int, Message]:
        if not self._awaited:
            raise DecodeError("an answer to no request")
        correlation_id, api, version = self._awaited.popleft()
        header_version = 0 if api.key is ApiKey.API_VERSIONS else int(version >= api.flexible_from)
        header, start = decode_from(ResponseHeader, frame, 0, header_version)
        if header.correlation_id != correlation_id:
            raise DecodeError(f"an answer to request {header.correlation_id} where {correlation_id} was next")
        return correlation_id, decode(api.response, frame[start:], version, exact=True)


def _request_frame(frame: memoryview) -> RequestFrame:
    if len(frame) < _REQUEST_START.size:
        raise DecodeError(f"a request of {len(frame)} bytes has no header")
    api_key, api_version = _REQUEST_START.unpack_from(frame)
    api = API.get(api_key)
    if api is None:
        raise DecodeError(f"unknown API key {api_key}")
    header, start = decode_from(RequestHeader, frame, 0, _request_header_version(api, api_version))
    return RequestFrame(header, frame[start:], LENGTH_BYTES + len(frame))


def _request_header_version(api: Api, version: int) -> int:
    """2 for flexible versions, known or not: a future ApiVersions request has a flexible header too."""
    return 2 if version >= api.flexible_from else 1


def _framed(header: RequestHeader, header_version: int, body: list[Buffer]) -> list[Buffer]:
    """The length, the header and the body; the small buffers at the beginning become one."""
    first = b"".join((*encode(header, header_version), body[0]))
    return [_LENGTH.pack(len(first) + sum(map(len, body[1:]))) + first, *body[1:]]
