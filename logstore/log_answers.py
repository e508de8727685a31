"""What a partition log answers: `Appended`, `LogSlice`, `TimestampOffset`, and the refusals that say where to read."""

from typing import NamedTuple

from wire.errors import ErrorCode, RefusedError


class Appended(NamedTuple):
    """Where an append landed. `timestamp_ms` is the append time under LogAppendTime, else -1 (as Kafka answers).

    `is_duplicate` (S13): an idempotent producer's retry of what is in the log already. Nothing was written, and the
    offsets and the time are those of the first time; `size_bytes` is 0.
    """

    base_offset: int
    last_offset: int
    size_bytes: int
    timestamp_ms: int
    is_duplicate: bool = False


class LogSlice(NamedTuple):
    """Whole batches as they lie in the log; empty where nothing lies between the offset and the upper bound.

    The first batch may begin below the offset that was asked for; `next_offset` is where to read on.
    """

    data: bytes | memoryview
    base_offset: int
    next_offset: int


class TimestampOffset(NamedTuple):
    """The first record at or after a timestamp (ListOffsets)."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


class OffsetOutOfRangeError(RefusedError):
    """OFFSET_OUT_OF_RANGE with what can be read: offsets from `earliest` on, below `latest`."""

    def __init__(self, offset: int, *, earliest: int, latest: int) -> None:
        super().__init__(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"offset {offset} is out of range: the earliest is {earliest}, the next to be written is {latest}",
        )
        self.offset = offset
        self.earliest = earliest
        self.latest = latest


class DamagedRangeError(RefusedError):
    """CORRUPT_MESSAGE with what is lost (S18): offsets from `offset` on, below `next_offset`, where to read on."""

    def __init__(self, log_name: str, *, offset: int, next_offset: int) -> None:
        super().__init__(
            ErrorCode.CORRUPT_MESSAGE,
            f"offsets {offset} to {next_offset - 1} of {log_name} are damaged on disk (see `kraft log verify`):"
            f" read on at offset {next_offset}",
        )
        self.offset = offset
        self.next_offset = next_offset
