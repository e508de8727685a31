"""What the framing lets through: whole frames of declared shapes, and nothing else."""

import contextlib
import itertools
import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraft.peer_frames import (
    Answer,
    FrameError,
    FrameKind,
    FrameReader,
    Hello,
    Outcome,
    Request,
    decode_body,
    encode_frame,
    why_refused,
)

VOTE = {"type": "request_vote", "term": 7, "directory": bytes(16), "last_log_index": 5, "last_log_term": 6}
HELLO = Hello("kraft-peer", 1, 1, "c", 1, bytes(16), (1, 2, 3))


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[tuple[int, bytes]]:
    frames = []
    for piece in pieces:
        reader.feed(piece)
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    return frames


@given(payloads=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(0, 2500), max_size=12))
def test_frames_survive_any_way_of_being_cut(payloads, cuts):
    stream = b"".join(encode_frame(FrameKind.REQUEST, Request(9, 0, payload)) for payload in payloads)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(bounds)]
    frames = read_all(FrameReader(1000), pieces)
    assert [(FrameKind.REQUEST, Request(9, 0, payload)) for payload in payloads] == [
        (kind, decode_body(kind, body)) for kind, body in frames
    ]


@pytest.mark.parametrize("length", [0, 1001, 2**31 - 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_bytes_come(length):
    reader = FrameReader(1000)
    reader.feed(struct.pack(">IB", length, FrameKind.RAFT))
    with pytest.raises(FrameError, match="allowed are 1 to 1000"):
        reader.next_frame()


def test_an_announced_length_allocates_nothing():
    reader = FrameReader(16 * 1024 * 1024)
    tracemalloc.start()
    try:
        reader.feed(struct.pack(">IB", 16 * 1024 * 1024, FrameKind.RAFT))
        assert reader.next_frame() is None
        for body in (
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdd\x7f\xff\xff\xff" * 900,
        ):
            with pytest.raises(FrameError):
                decode_body(FrameKind.RAFT, body)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@given(body=st.binary(max_size=200), kind=st.integers(0, 255))
def test_garbage_is_a_frame_error_and_never_another_exception(body, kind):
    with contextlib.suppress(FrameError):
        decode_body(kind, body)


def test_deep_nesting_is_a_frame_error():
    with pytest.raises(FrameError):
        decode_body(FrameKind.RAFT, b"\x91" * 100_000 + b"\x01")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "timeout_now"},
        {"type": "apply_command"},
        {"term": -1},
        {"term": "7"},
        {"term": 2**63},
        {"directory": b"short"},
        {"last_log_index": None},
    ],
)
def test_a_raft_message_of_another_shape_never_reaches_the_core(change):
    with pytest.raises(FrameError):
        decode_body(FrameKind.RAFT, msgspec.msgpack.encode({**VOTE, **change}))


def test_a_raft_message_without_a_key_that_its_type_needs_is_refused():
    incomplete = {key: value for key, value in VOTE.items() if key != "last_log_term"}
    with pytest.raises(FrameError, match="last_log_term"):
        decode_body(FrameKind.RAFT, msgspec.msgpack.encode(incomplete))


def test_values_come_back_as_they_went():
    append = {
        "type": "append_entries",
        "term": 3,
        "directory": bytes(16),
        "commit_index": 9,
        "prev_log_index": 8,
        "prev_log_term": 2,
        "entries": [(b"\x00\xff\xfe", 9, 3), (b"\x01", 10, 3)],
    }
    for kind, value in (
        (FrameKind.RAFT, VOTE),
        (FrameKind.RAFT, append),
        (FrameKind.HELLO, HELLO),
        (FrameKind.ANSWER, Answer(5, Outcome.FAILED, b"why")),
    ):
        ((read_kind, body),) = read_all(FrameReader(10_000), [bytes(encode_frame(kind, value))])
        assert (kind, value) == (read_kind, decode_body(read_kind, body))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster_id": "another"}, "is of cluster another"),
        ({"node_id": 2}, "two nodes have the node.id 2"),
        ({"node_id": 3}, "dialed node 1, reached node 3"),
        ({"voters": (1, 2)}, "controller.quorum.voters differ"),
        ({"directory_id": b"x"}, "malformed"),
        ({"version": 0, "oldest_version": 0}, "speaks protocol 0..0"),
        ({"version": 9, "oldest_version": 2}, "speaks protocol 2..9"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_with_what_to_change(change, reason):
    own = Hello("kraft-peer", 1, 1, "c", 2, bytes(16), (1, 2, 3))
    refusal = why_refused(msgspec.structs.replace(HELLO, **change), own=own, dialed=1)
    assert refusal is not None
    assert reason in refusal


def test_a_newer_node_that_still_speaks_our_version_is_welcome():
    own = Hello("kraft-peer", 1, 1, "c", 2, bytes(16), (1, 2, 3))
    assert why_refused(msgspec.structs.replace(HELLO, version=4), own=own, dialed=None) is None
