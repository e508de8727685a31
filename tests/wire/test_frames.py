"""Frames out of a stream: whatever buffers they are received into, they are what was sent, and stay what they are."""

import tracemalloc
from random import Random
from struct import pack

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from wire.decoding import DecodeError
from wire.frames import KEPT_BYTES_MIN, SHARED_BYTES, Frames, ReceiveBuffers

MIB = 1 << 20


def framed(body: bytes) -> bytes:
    return pack(">i", len(body)) + body


def put(frames: Frames, data: bytes, *, at_once: int = MIB) -> list[memoryview]:
    """What a transport does with bytes that have come; at most `at_once` of them at a time."""
    found = []
    while data:
        space = frames.space()
        count = min(len(space), len(data), at_once)
        space[:count] = data[:count]
        data = data[count:]
        found += frames.received(count)
    return found


@given(seed=st.integers(0, (1 << 64) - 1))
@settings(max_examples=40, deadline=None)
def test_frames_are_what_was_sent_and_are_never_written_over_while_somebody_looks_at_them(seed: int) -> None:
    """Three connections that share their buffers, frames of all sizes in pieces of all sizes, some of them held."""
    note(f"seed={seed}")
    chance = Random(seed)
    buffers = ReceiveBuffers(chance.choice((0, MIB, 8 * MIB)))
    streams = [Frames(4 * MIB, buffers) for _ in range(3)]
    sent: list[list[bytes]] = [[], [], []]
    queued = [b"", b"", b""]
    for number in range(12):
        body = bytes([number]) * chance.choice((0, 1, 100, KEPT_BYTES_MIN, KEPT_BYTES_MIN + 100, 300_000))
        sent[number % 3].append(body)
        queued[number % 3] += framed(body)
    held: list[list[memoryview]] = [[], [], []]
    checked = [0, 0, 0]
    while any(queued):
        at = chance.choice([number for number in range(3) if queued[number]])
        size = chance.choice((1, 3, 4, 5000, 70_000, 400_000))
        held[at] += put(streams[at], queued[at][:size], at_once=chance.choice((7000, MIB)))
        queued[at] = queued[at][size:]
        if chance.random() < 0.5:  # look at all that is there, then at nothing any more
            assert sent[at][checked[at] :][: len(held[at])] == [bytes(frame) for frame in held[at]]
            checked[at] += len(held[at])
            held[at].clear()
    for at in range(3):
        assert sent[at][checked[at] :] == [bytes(frame) for frame in held[at]]
        assert 0 == streams[at].pending_bytes


def test_a_large_frame_is_received_where_the_one_before_was_once_nobody_looks_at_that():
    frames = Frames(MIB, ReceiveBuffers(MIB))
    (first,) = put(frames, framed(bytes(300_000)))
    where = first.obj
    (second,) = put(frames, framed(bytes(299_000)))
    assert second.obj is not where, "somebody still looks at the first"
    del first, second
    for size in (300_000, 250_000, 70_000):
        (frame,) = put(frames, framed(bytes(size)))
        assert where is frame.obj
        del frame


def test_what_is_small_keeps_no_large_buffer():
    """A client of whom nothing has come but the beginning of something small has no buffer of its own to speak of."""
    buffers = ReceiveBuffers(MIB)
    put(Frames(MIB, buffers), framed(bytes(300_000)))
    streams = [Frames(MIB, buffers) for _ in range(3)]
    for frames in streams:
        (space,) = {len(frames.space())}
        assert 300_000 < space
        put(frames, framed(bytes(100))[:50])
        assert 50 == frames.pending_bytes


def test_lengths_that_are_only_announced_take_no_memory():
    """Also not where every client in turn finds a buffer that another one has filled: only a few are ever kept."""
    buffers = ReceiveBuffers(4 * MIB)
    stalled = [Frames(4 * MIB, buffers) for _ in range(200)]
    body = framed(bytes(MIB))
    tracemalloc.start()
    try:
        for frames in stalled:
            put(Frames(4 * MIB, buffers), body)
            put(frames, pack(">i", MIB) + b"x")
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 5 * MIB > held_bytes
    for frames in stalled:
        frames.close()


def test_a_connection_that_ends_gives_back_what_it_was_lent():
    buffers = ReceiveBuffers(MIB)
    (frame,) = put(Frames(MIB, buffers), framed(bytes(300_000)))
    where = frame.obj
    del frame
    for _ in range(3):
        frames = Frames(MIB, buffers)
        put(frames, framed(bytes(300_000))[:100_000])
        assert SHARED_BYTES != len(frames.space())
        frames.close()
    (frame,) = put(Frames(MIB, buffers), framed(bytes(200_000)))
    assert where is frame.obj


@pytest.mark.parametrize("size", [-1, -(1 << 31), MIB + 1, (1 << 31) - 1])
def test_a_length_that_was_not_agreed_is_refused(size: int) -> None:
    for has_buffer in (False, True):
        buffers = ReceiveBuffers(MIB)
        if has_buffer:
            put(Frames(MIB, buffers), framed(bytes(300_000)))
        with pytest.raises(DecodeError, match=f"{size} bytes, at most {MIB}"):
            put(Frames(MIB, buffers), pack(">i", size) + b"x")
