"""Length-prefixed frames out of a stream, and the buffers that the stream is received into.

Owns where a frame begins and ends, and where the next bytes go: straight into a buffer that lies ready, where a frame
then stays, or through one that all connections share, and from there into one that is as long as what was received.
Refuses, with DecodeError, a length that is negative or beyond what was agreed.
Invariants:
- whatever lengths are announced, a connection makes no buffer longer than what it has received; it may be lent one of
  the few that are kept, each of which was filled by a frame once;
- a frame is a view of bytes that are not written again while anybody looks at them: a buffer is lent again only when
  Python would resize it, which it refuses while there is a view.
"""

import struct
from typing import Final

from wire.decoding import DecodeError
from wire.schema import Buffer

_LENGTH: Final = struct.Struct(">i")
LENGTH_BYTES: Final = _LENGTH.size
SHARED_BYTES: Final = 256 * 1024
KEPT_BYTES_MIN: Final = 64 * 1024
"""Smaller frames are copied: that costs less than the look at what is free, and no small frame keeps a large buffer."""
KEPT_BUFFERS_MAX: Final = 4


class ReceiveBuffers:
    """Buffers that connections on one loop receive into, one after the other.

    `kept_bytes_max` bounds those that lie ready and those that are lent together.
    """

    def __init__(self, kept_bytes_max: int) -> None:
        self.shared = memoryview(bytearray(SHARED_BYTES))
        self._kept_bytes_max = kept_bytes_max
        self._ready: list[bytearray] = []  # the longest first
        self._kept_bytes = self._lent_count = 0

    def lend(self, size_bytes: int) -> bytearray | None:
        """The longest buffer that nobody looks at, of at least `size_bytes`; None where there is none."""
        for position, buffer in enumerate(self._ready):
            if len(buffer) < size_bytes:
                return None
            if _is_free(buffer):
                self._lent_count += 1
                return self._ready.pop(position)
        return None

    def take_back(self, buffer: bytearray) -> None:
        """It was lent, and is received into no more, though somebody may still look at it."""
        self._lent_count -= 1
        self._ready.append(buffer)
        self._ready.sort(key=len, reverse=True)

    def keep(self, buffer: bytearray) -> None:
        """One that was filled by a frame, and is received into no more; shorter ones make room for it."""
        size_bytes = len(buffer)
        while self._ready and not self._has_room(size_bytes) and len(self._ready[-1]) < size_bytes:
            self._kept_bytes -= len(self._ready.pop())
        if size_bytes >= KEPT_BYTES_MIN and self._has_room(size_bytes):
            self._kept_bytes += size_bytes
            self._lent_count += 1
            self.take_back(buffer)

    def _has_room(self, size_bytes: int) -> bool:
        count = len(self._ready) + self._lent_count
        return count < KEPT_BUFFERS_MAX and self._kept_bytes + size_bytes <= self._kept_bytes_max


class Frames:
    """Length-prefixed frames out of one stream: `space` and `received` by turns, or `receive` alone."""

    def __init__(self, max_frame_bytes: int, buffers: ReceiveBuffers | None = None) -> None:
        """`buffers` are needed for `space` only."""
        self._max_frame_bytes = max_frame_bytes
        self._buffers = buffers
        self._received = bytearray()
        self._lent: bytearray | None = None
        self._start = self._end = 0  # of what was received into `_lent` and belongs to no whole frame yet

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._received) + self._end - self._start

    def space(self) -> memoryview:
        """Where the next bytes of the stream are to be put; then say how many there were."""
        buffers = self._buffers
        assert buffers is not None, "made without buffers"
        if self._lent is None:
            have = len(self._received)
            if have < LENGTH_BYTES:
                wanted_bytes = KEPT_BYTES_MIN
            else:
                wanted_bytes = LENGTH_BYTES + _LENGTH.unpack_from(self._received)[0]
            lent = buffers.lend(wanted_bytes)
            if lent is None:
                return buffers.shared
            lent[:have] = self._received
            self._received = bytearray()
            self._lent, self._start, self._end = lent, 0, have
        return memoryview(self._lent)[self._end :]

    def received(self, count: int) -> list[memoryview]:
        """As `receive`, after `count` bytes were put into the last `space`."""
        buffers, lent = self._buffers, self._lent
        assert buffers is not None, "made without buffers"
        if lent is None:
            return self.receive(buffers.shared[:count])
        self._end += count
        frames, self._start, size_bytes = self._cut(lent, self._start, self._end)
        rest_bytes = self._end - self._start
        if rest_bytes < LENGTH_BYTES or size_bytes < KEPT_BYTES_MIN or self._start + size_bytes > len(lent):
            self._received = lent[self._start : self._end]
            self._lent = None
            self._start = self._end = 0
            buffers.take_back(lent)
        return frames

    def receive(self, data: Buffer) -> list[memoryview]:
        """The frames that `data` completes, without their lengths, in order; DecodeError where one says too much."""
        assert self._lent is None, "by turns with space"
        self._received += data
        received = self._received
        frames, start, _ = self._cut(received, 0, len(received))
        if frames:
            self._received = received[start:]  # a new one: the frames keep the old
            if self._buffers is not None:
                self._buffers.keep(received)
        return frames

    def close(self) -> None:
        """Nothing more is received."""
        if self._lent is not None and self._buffers is not None:
            self._buffers.take_back(self._lent)
        self._lent = None
        self._start = self._end = 0

    def _cut(self, buffer: bytearray, start: int, end: int) -> tuple[list[memoryview], int, int]:
        """The whole frames between the two, where the next one begins, and its bytes with its length, 0: not known."""
        frames: list[memoryview] = []
        while end - start >= LENGTH_BYTES:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if not 0 <= size <= self._max_frame_bytes:
                raise DecodeError(f"a frame says {size} bytes, at most {self._max_frame_bytes} are taken")
            next_start = start + LENGTH_BYTES + size
            if next_start > end:
                return frames, start, LENGTH_BYTES + size
            frames.append(memoryview(buffer)[start + LENGTH_BYTES : next_start])
            start = next_start
        return frames, start, 0


def _is_free(buffer: bytearray) -> bool:
    """Nobody holds a view of it."""
    try:
        last = buffer.pop()
    except BufferError:
        return False
    buffer.append(last)
    return True
