"""One partition on this broker: its log, and the role that the committed metadata gives it.

Owns the way of an append (role -> record batch check and stamp -> log -> sync -> high watermark -> answer) and of a
fetch (bounds -> log, or the wait for more). Refuses both unless this broker leads the partition. Invariants:
- S2/S12: nothing at or above the high watermark is ever returned.
- S4/S7: a batch is stamped with the epoch in which it was appended; an append whose leadership ended before its offset
  became durable is answered "unknown", never "done" and never "failed" (S15).
"""

from dataclasses import dataclass
from typing import Final

from broker.clock import Clock
from broker.errors import ExpectedOffsetError, OutcomeUnknownError
from broker.replication.leader import PartitionLeader
from broker.waiting_room import WaitingRoom
from logstore.log_answers import Appended, LogSlice, OffsetOutOfRangeError, TimestampOffset
from logstore.partition_log import PartitionLog
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import check_batches

ACKS_NONE: Final = 0
ACKS_LEADER: Final = 1
ACKS_ALL: Final = -1


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought: whole record batches below the high watermark, and where the log stood."""

    slice: LogSlice
    high_watermark: int
    log_start_offset: int
    log_end_offset: int


class Replica:
    """A partition's log in its present role."""

    __slots__ = ("_broker_id", "_clock", "_leader", "_progress", "_waiting_room", "log")

    def __init__(self, log: PartitionLog, *, broker_id: int, waiting_room: WaitingRoom, clock: Clock) -> None:
        self.log = log
        self._broker_id = broker_id
        self._waiting_room = waiting_room
        self._clock = clock
        self._leader: PartitionLeader | None = None
        self._progress = (log.topic_id, log.partition)
        log.on_durable = self._durable

    @property
    def topic(self) -> str:
        return self.log.topic_name

    @property
    def partition(self) -> int:
        return self.log.partition

    @property
    def is_leader(self) -> bool:
        return self._leader is not None

    @property
    def leader_epoch(self) -> int:
        """The epoch in which this broker leads; -1 where it does not."""
        return -1 if self._leader is None else self._leader.leader_epoch

    @property
    def high_watermark(self) -> int:
        return self.log.high_watermark

    @property
    def earliest_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def latest_offset(self) -> int:
        """The offset after the last one that can be read."""
        return self.log.high_watermark

    def lead(self, *, leader_epoch: int, in_sync_replicas: tuple[int, ...]) -> None:
        """Become the leader in `leader_epoch`; staying it in the same epoch changes nothing (S4)."""
        if self._leader is not None:
            if self._leader.leader_epoch == leader_epoch:
                return
            self.resign()
        log = self.log
        self._leader = PartitionLeader(
            broker_id=self._broker_id,
            leader_epoch=leader_epoch,
            in_sync_replicas=in_sync_replicas,
            high_watermark=log.high_watermark,
            durable_end_offset=log.durable_end_offset,
        )
        self._show_high_watermark(self._leader)

    def resign(self) -> None:
        """Lead no more: whoever waits here is told that nobody knows (S15)."""
        if self._leader is None:
            return
        epoch, self._leader = self._leader.leader_epoch, None
        self._waiting_room.failed(
            self._progress,
            OutcomeUnknownError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {self._broker_id} led {self.topic}-{self.partition} in epoch {epoch} and does no longer: "
                "what was being written may or may not be kept",
            ),
        )

    async def append(
        self, buffer: bytearray, *, acks: int, timeout_ms: int, expected_offset: int | None = None
    ) -> Appended:
        """Append whole record batches; at acks=-1 return when they are below the high watermark.

        Raises RefusedError (nothing was written) or OutcomeUnknownError (acks=-1 only: written, not yet durable).
        """
        leader = self._require_leader()
        log = self.log
        batches = check_batches(buffer, max_batch_bytes=log.config.max_message_bytes)
        if expected_offset is not None and expected_offset != log.log_end_offset:
            raise ExpectedOffsetError(expected_offset=expected_offset, log_end_offset=log.log_end_offset)
        try:
            appended = log.append(buffer, batches, leader_epoch=leader.leader_epoch, now_ms=self._clock.wall_ms())
        except OSError as error:
            raise OutcomeUnknownError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{self.topic}-{self.partition}: the disk failed while writing ({error}); it may or may not be kept",
            ) from error
        self._durable(log)
        if acks == ACKS_ALL and log.high_watermark <= appended.last_offset:
            await self._replicated(appended, timeout_ms)
        return appended

    async def _replicated(self, appended: Appended, timeout_ms: int) -> None:
        threshold = appended.last_offset + 1
        try:
            reached = await self._waiting_room.reached(self._progress, threshold, timeout_ms=timeout_ms)
        except OutcomeUnknownError as lost:
            raise OutcomeUnknownError(lost.code, lost.message) from None
        if not reached:
            raise OutcomeUnknownError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"{self.topic}-{self.partition}: offsets {appended.base_offset} to {appended.last_offset} were written "
                f"but not yet safe after timeout={timeout_ms} ms: they may or may not be kept",
            )

    async def fetch(self, offset: int, *, max_bytes: int, min_bytes: int = 1, timeout_ms: int = 0) -> Fetched:
        """Whole batches from the one that holds `offset` on, at least one where there is one.

        Where fewer than `min_bytes` are there, waits for more until `timeout_ms`. Raises RefusedError:
        OFFSET_OUT_OF_RANGE (`OffsetOutOfRangeError`, with both bounds) or NOT_LEADER_OR_FOLLOWER.
        """
        self._require_leader()
        self._check_bounds(offset)
        fetched = self._read(offset, max_bytes)
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        while len(fetched.slice.data) < min_bytes:
            left_ms = deadline_ms - self._clock.monotonic_ms()
            threshold = max(self.high_watermark, offset) + 1
            if not await self._more(threshold, left_ms):
                break
            self._check_bounds(offset)
            fetched = self._read(offset, max_bytes)
            if fetched.slice.next_offset < self.high_watermark:
                break  # the next batch would not fit: more will not come
        return fetched

    async def _more(self, threshold: int, timeout_ms: float) -> bool:
        try:
            return await self._waiting_room.reached(self._progress, threshold, timeout_ms=timeout_ms)
        except OutcomeUnknownError:
            self._require_leader()
            return True

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampOffset | None:
        """The first readable record at or after `timestamp_ms` (ListOffsets); None where there is none."""
        self._require_leader()
        return self.log.offset_for_timestamp(timestamp_ms, upper_offset=self.high_watermark)

    def _require_leader(self) -> PartitionLeader:
        if self._leader is None:
            raise RefusedError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {self._broker_id} does not lead {self.topic}-{self.partition}: ask its leader",
            )
        return self._leader

    def _check_bounds(self, offset: int) -> None:
        log = self.log
        if not log.log_start_offset <= offset <= log.log_end_offset:
            raise OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=log.high_watermark)

    def _read(self, offset: int, max_bytes: int) -> Fetched:
        log = self.log
        if offset < log.high_watermark:
            found = log.read(offset, max_bytes=max_bytes, upper_offset=log.high_watermark)
        else:
            found = LogSlice(b"", offset, offset)
        return Fetched(found, log.high_watermark, log.log_start_offset, log.log_end_offset)

    def _durable(self, log: PartitionLog) -> None:
        leader = self._leader
        if leader is not None and leader.durable(self._broker_id, log.durable_end_offset):
            self._show_high_watermark(leader)

    def _show_high_watermark(self, leader: PartitionLeader) -> None:
        if leader.high_watermark > self.log.high_watermark:
            self.log.advance_high_watermark(leader.high_watermark)
        assert self.log.high_watermark <= self.log.log_end_offset
        self._waiting_room.advanced(self._progress, self.log.high_watermark)
