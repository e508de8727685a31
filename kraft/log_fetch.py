"""What an observer asks a voter and what it hears: the metadata log as indexed commands, or a snapshot in chunks.

Owns the shapes of the METADATA_LOG channel. Only applied commands travel (committed and on a majority's disks), so
what an observer has taken is never taken back, whichever voter it came from.
"""

from typing import Final

import msgspec

# One answer is at most this long, so that a far behind observer never delays a heartbeat on the same link.
MAX_ANSWER_BYTES: Final = 1024 * 1024
# An answer's envelope, and the 12-odd bytes that each entry costs beside its command.
ENVELOPE_BYTES: Final = 64 * 1024
MAX_WAIT_MS: Final = 5000


class FetchLog(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Entries from `from_index` on; where there are none yet the voter holds the question for up to `wait_ms`."""

    from_index: int
    wait_ms: int


class FetchSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The bytes of the snapshot at `snapshot_index` from `offset` on; index 0 asks for whichever is current."""

    snapshot_index: int
    offset: int


class LogSlice(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Applied commands as (index, command); ask from `next_index` next. With `is_compacted` fetch the snapshot first.

    `leader_id` and `term` are the voter's view; `last_applied` tells how far behind the observer is.
    """

    term: int
    leader_id: int | None
    last_applied: int
    is_compacted: bool
    next_index: int
    entries: list[tuple[int, bytes]]


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A piece of the snapshot; `crc32c` is that of the whole. A `snapshot_index` other than asked for: begin again."""

    snapshot_index: int
    total_bytes: int
    crc32c: int
    offset: int
    data: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_question_decoder: Final[msgspec.msgpack.Decoder[FetchLog | FetchSnapshot]] = msgspec.msgpack.Decoder(
    FetchLog | FetchSnapshot
)
_answer_decoder: Final[msgspec.msgpack.Decoder[LogSlice | SnapshotChunk]] = msgspec.msgpack.Decoder(
    LogSlice | SnapshotChunk
)


def encode(value: FetchLog | FetchSnapshot | LogSlice | SnapshotChunk) -> bytes:
    """The bytes of a question or an answer."""
    return _encoder.encode(value)


def decode_question(payload: bytes) -> FetchLog | FetchSnapshot:
    """A voter's side; msgspec.MsgspecError where it is neither."""
    return _question_decoder.decode(payload)


def decode_answer(payload: bytes) -> LogSlice | SnapshotChunk:
    """An observer's side; msgspec.MsgspecError where it is neither."""
    return _answer_decoder.decode(payload)
