"""The bytes between two nodes: length-prefixed frames of MessagePack, each of one declared shape.

Owns the frame layout, the vocabulary of everything that may cross a peer link, and the reader that cuts a byte
stream into frames. A frame is a 4-byte big-endian length, one byte of kind, and a MessagePack body of exactly the shape
that the kind declares.

Refuses: a length beyond the limit (before anything is allocated for it), a kind or a shape that is not declared
here. Nothing from the network is ever unpickled.

Invariants: memory held for a peer is bounded by bytes that it sent, never by a length that it announced; decoding
grows its lists element by element.
"""

from enum import IntEnum
from struct import Struct
from typing import Any, Final, Literal

import msgspec

from kraft.raft_messages import RaftMessage, lacks_keys

PROTOCOL_VERSION: Final = 1
OLDEST_PROTOCOL_VERSION: Final = 1

# An append_entries holds 1 MiB of commands; the envelope of an entry costs up to 20 bytes, which is ten times the
# bytes of the tiniest command. This is the batch limit with room for a batch of those.
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
# Whoever has not yet said who it is may send this much and no more.
MAX_HELLO_FRAME_BYTES: Final = 4096

_HEADER: Final = Struct(">IB")
_LENGTH_BYTES: Final = 4


class FrameError(Exception):
    """The peer broke the framing, or sent a body that has not the shape of its kind; the connection must close."""


class FrameKind(IntEnum):
    """The second field of a frame. A number, once published, is never given another meaning."""

    HELLO = 1
    REFUSAL = 2
    REQUEST = 3
    ANSWER = 4
    RAFT = 5


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """First frame of both sides: who speaks, for which cluster, from which directory."""

    protocol: Literal["kraft-peer"]
    version: int
    oldest_version: int
    cluster_id: str
    node_id: int
    directory_id: bytes
    voters: tuple[int, ...]


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why the acceptor closes instead of answering the hello."""

    reason: str


class Channel(IntEnum):
    """Which part of a node a request is meant for."""

    NODE = 0  # the handler on the node's loop (admin forwarding, heartbeats, registration)
    METADATA_LOG = 1  # a voter's quorum thread, which serves the log to observers


class Outcome(IntEnum):
    """How a request ended at the side that answered it."""

    DONE = 0
    FAILED = 1  # the handler raised: what it had done by then is unknown
    NOT_STARTED = 2  # busy, or no handler yet: certainly nothing was done


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One question to the node at the other end of the link."""

    correlation_id: int
    channel: int
    payload: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the request of the same correlation id; `payload` is a UTF-8 message unless DONE."""

    correlation_id: int
    outcome: Outcome
    payload: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_decoders: Final[dict[int, msgspec.msgpack.Decoder[Any]]] = {
    FrameKind.HELLO: msgspec.msgpack.Decoder(Hello),
    FrameKind.REFUSAL: msgspec.msgpack.Decoder(Refusal),
    FrameKind.REQUEST: msgspec.msgpack.Decoder(Request),
    FrameKind.ANSWER: msgspec.msgpack.Decoder(Answer),
    FrameKind.RAFT: msgspec.msgpack.Decoder(RaftMessage),
}


def why_refused(hello: Hello, *, own: Hello, dialed: int | None) -> str | None:
    """Why a hello is not acceptable, said so that an operator knows what to change; None where it is.

    `dialed` is the node that this side meant to reach, None where the other side dialed.
    """
    checks = (
        (
            min(own.version, hello.version) < max(own.oldest_version, hello.oldest_version),
            f"it speaks protocol {hello.oldest_version}..{hello.version}, we {own.oldest_version}..{own.version}",
        ),
        (
            hello.cluster_id != own.cluster_id,
            f"node {hello.node_id} is of cluster {hello.cluster_id}, node {own.node_id} of {own.cluster_id}",
        ),
        (hello.node_id == own.node_id, f"two nodes have the node.id {own.node_id}"),
        (
            dialed not in (None, hello.node_id),
            f"dialed node {dialed}, reached node {hello.node_id}: check controller.quorum.voters",
        ),
        (
            hello.voters != own.voters,
            f"controller.quorum.voters differ: {hello.voters} at node {hello.node_id}, {own.voters} at {own.node_id}",
        ),
        (hello.node_id < 0 or len(hello.directory_id) != 16, "its node id or directory id is malformed"),
    )
    return next((reason for is_wrong, reason in checks if is_wrong), None)


def encode_frame(kind: FrameKind, value: object) -> bytearray:
    """One whole frame; the sender keeps it below MAX_FRAME_BYTES (an assert: a longer one is a bug on this side)."""
    frame = bytearray(_HEADER.size)
    _encoder.encode_into(value, frame, _HEADER.size)
    assert len(frame) - _LENGTH_BYTES <= MAX_FRAME_BYTES, f"a {kind.name} frame of {len(frame)} bytes"
    _HEADER.pack_into(frame, 0, len(frame) - _LENGTH_BYTES, kind)
    return frame


def decode_body(kind: int, body: bytes | memoryview) -> Any:
    """The value of a frame; raises FrameError where kind or shape is not one of this module's."""
    decoder = _decoders.get(kind)
    if decoder is None:
        raise FrameError(f"unknown frame kind {kind}")
    try:
        value = decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FrameError(f"malformed {FrameKind(kind).name} frame: {error}") from error
    if kind == FrameKind.RAFT and (missing := lacks_keys(value)):
        raise FrameError(f"{value['type']} lacks {missing}")
    return value


class FrameReader:
    """Cuts a stream of bytes into (kind, body); holds at most one frame beyond what `next_frame` has taken."""

    __slots__ = ("_buffer", "_position", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Add what arrived; call `next_frame` until it gives None before feeding again."""
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def next_frame(self) -> tuple[int, bytes] | None:
        """The next whole frame, or None where bytes are missing; raises FrameError on a length out of bounds."""
        available = len(self._buffer) - self._position
        if available < _HEADER.size:
            return None
        length, kind = _HEADER.unpack_from(self._buffer, self._position)
        if not 1 <= length <= self.max_frame_bytes:
            raise FrameError(f"announced a frame of {length} bytes, allowed are 1 to {self.max_frame_bytes}")
        if available < _LENGTH_BYTES + length:
            return None
        start = self._position + _HEADER.size
        self._position += _LENGTH_BYTES + length
        return kind, bytes(memoryview(self._buffer)[start : self._position])

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet taken as frames."""
        return len(self._buffer) - self._position
