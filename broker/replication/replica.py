"""One partition on this broker: its log, and the role that the committed metadata gives it.

Owns the way of an append (role -> record batch check and stamp -> log -> sync -> high watermark -> answer) and of a
fetch (bounds -> log, or the wait for more). Refuses both unless this broker leads the partition. Invariants:
- S2/S12: nothing at or above the high watermark is ever returned.
- S4/S7: a batch is stamped with the epoch in which it was appended; an append whose leadership ended before its offset
  became durable is answered "unknown", never "done" and never "failed" (S15).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

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
NO_EPOCH: Final = -1


class EpochEnd(NamedTuple):
    """The largest leader epoch that this log knows up to the one asked for, and the offset at which it ends."""

    epoch: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought: whole record batches, and where the log stood."""

    slice: LogSlice
    high_watermark: int
    log_start_offset: int
    log_end_offset: int
    diverging: EpochEnd | None = None
    """Where the log of whoever asked parts from this one (KIP-320); then the slice is empty."""


class Replica:
    """A partition's log in its present role."""

    __slots__ = ("_broker_id", "_clock", "_leader", "_waiting_room", "high_watermark_key", "log", "log_end_key")

    def __init__(self, log: PartitionLog, *, broker_id: int, waiting_room: WaitingRoom, clock: Clock) -> None:
        self.log = log
        self._broker_id = broker_id
        self._waiting_room = waiting_room
        self._clock = clock
        self._leader: PartitionLeader | None = None
        self.high_watermark_key = (log.topic_id, log.partition)
        """In the waiting room: whoever waits for the high watermark of this partition to reach an offset."""
        self.log_end_key = (log.topic_id, log.partition, "log end")
        """In the waiting room: whoever waits for the log end (followers)."""
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
        lost = OutcomeUnknownError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            f"broker {self._broker_id} led {self.topic}-{self.partition} in epoch {epoch} and does no longer: "
            "what was being written may or may not be kept",
        )
        self._waiting_room.failed(self.high_watermark_key, lost)
        self._waiting_room.failed(self.log_end_key, lost)

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
        self._waiting_room.advanced(self.log_end_key, log.log_end_offset)
        self._durable(log)
        if acks == ACKS_ALL and log.high_watermark <= appended.last_offset:
            await self._replicated(appended, timeout_ms)
        return appended

    async def _replicated(self, appended: Appended, timeout_ms: int) -> None:
        threshold = appended.last_offset + 1
        try:
            reached = await self._waiting_room.reached(self.high_watermark_key, threshold, timeout_ms=timeout_ms)
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

    def fetch_now(
        self,
        offset: int,
        *,
        max_bytes: int,
        at_least_one: bool = True,
        current_leader_epoch: int = NO_EPOCH,
        last_fetched_epoch: int = NO_EPOCH,
    ) -> Fetched:
        """What lies below the high watermark from `offset` on, without waiting; an epoch of -1 is not checked.

        Raises RefusedError as `fetch`, and FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH.
        """
        leader = self._require_leader(current_leader_epoch)
        if last_fetched_epoch != NO_EPOCH and (diverging := self._divergence(leader, offset, last_fetched_epoch)):
            return self._nothing(offset, diverging)
        self._check_bounds(offset)
        return self._read(offset, max_bytes, at_least_one=at_least_one)

    def fetch_as_follower(
        self,
        *,
        broker_id: int,
        broker_epoch: int,  # noqa: ARG002 - what an expansion of the in-sync replicas will be based on (S9)
        current_leader_epoch: int,
        fetch_offset: int,
        last_fetched_epoch: int,
        max_bytes: int,
        at_least_one: bool = True,
    ) -> Fetched:
        """Take note of what broker `broker_id` holds durably (all below `fetch_offset`, S2), and what comes next.

        Whoever calls has checked that the request comes from that broker in its registered epoch (S9). Never waits:
        for more, wait for `log_end_key` to reach `fetch_offset + 1`. Raises RefusedError: NOT_LEADER_OR_FOLLOWER (also
        for a broker that holds no replica), FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_OUT_OF_RANGE
        (`OffsetOutOfRangeError`), KAFKA_STORAGE_ERROR, CORRUPT_MESSAGE.
        """
        leader = self._require_leader(current_leader_epoch)
        log = self.log
        if last_fetched_epoch != NO_EPOCH and (diverging := self._divergence(leader, fetch_offset, last_fetched_epoch)):
            return self._nothing(fetch_offset, diverging)
        if not log.log_start_offset <= fetch_offset <= log.log_end_offset:
            raise OffsetOutOfRangeError(fetch_offset, earliest=log.log_start_offset, latest=log.log_end_offset)
        if leader.durable(broker_id, fetch_offset):
            self._show_high_watermark(leader)
        if fetch_offset == log.log_end_offset:
            return self._nothing(fetch_offset)
        found = log.read(fetch_offset, max_bytes=max_bytes, upper_offset=log.log_end_offset, at_least_one=at_least_one)
        return Fetched(found, log.high_watermark, log.log_start_offset, log.log_end_offset)

    def end_offset_for_epoch(self, leader_epoch: int, *, current_leader_epoch: int = NO_EPOCH) -> EpochEnd:
        """Where `leader_epoch` ends in this log, (-1, -1) where it cannot say (OffsetsForLeaderEpoch, KIP-101).

        Raises RefusedError: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
        """
        return self._end_of(leader_epoch, self._require_leader(current_leader_epoch))

    def _end_of(self, epoch: int, leader: PartitionLeader) -> EpochEnd:
        log = self.log
        epochs = log.leader_epochs
        latest = NO_EPOCH if epochs.latest is None else epochs.latest
        if latest < epoch <= leader.leader_epoch:
            # Nothing was written between `latest` and this leader's first record, which begins at the log's end.
            return EpochEnd(epoch if latest == NO_EPOCH or epoch == leader.leader_epoch else latest, log.log_end_offset)
        return EpochEnd(*epochs.end_offset_for(epoch, log.log_end_offset))

    def _divergence(self, leader: PartitionLeader, fetch_offset: int, last_fetched_epoch: int) -> EpochEnd | None:
        """Where the fetcher's log leaves this one: the last common epoch's end; None where it is a part of this one."""
        end = self._end_of(last_fetched_epoch, leader)
        log = self.log
        if NO_EPOCH in end or fetch_offset < log.log_start_offset:
            raise OffsetOutOfRangeError(fetch_offset, earliest=log.log_start_offset, latest=log.log_end_offset)
        return end if end.epoch < last_fetched_epoch or end.end_offset < fetch_offset else None

    def _nothing(self, offset: int, diverging: EpochEnd | None = None) -> Fetched:
        log = self.log
        return Fetched(
            LogSlice(b"", offset, offset), log.high_watermark, log.log_start_offset, log.log_end_offset, diverging
        )

    async def _more(self, threshold: int, timeout_ms: float) -> bool:
        try:
            return await self._waiting_room.reached(self.high_watermark_key, threshold, timeout_ms=timeout_ms)
        except OutcomeUnknownError:
            self._require_leader()
            return True

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampOffset | None:
        """The first readable record at or after `timestamp_ms` (ListOffsets); None where there is none."""
        self._require_leader()
        return self.log.offset_for_timestamp(timestamp_ms, upper_offset=self.high_watermark)

    def _require_leader(self, current_leader_epoch: int = NO_EPOCH) -> PartitionLeader:
        """The leader, in the epoch that whoever asks believes in (S7); -1: it does not say."""
        leader = self._leader
        if leader is None:
            raise RefusedError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {self._broker_id} does not lead {self.topic}-{self.partition}: ask its leader",
            )
        if current_leader_epoch not in (NO_EPOCH, leader.leader_epoch):
            is_old = current_leader_epoch < leader.leader_epoch
            raise RefusedError(
                ErrorCode.FENCED_LEADER_EPOCH if is_old else ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"leader epoch {current_leader_epoch} of {self.topic}-{self.partition} "
                + (f"is over, it is {leader.leader_epoch}" if is_old else "is not known here yet: try again"),
            )
        return leader

    def _check_bounds(self, offset: int) -> None:
        log = self.log
        if not log.log_start_offset <= offset <= log.log_end_offset:
            raise OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=log.high_watermark)

    def _read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> Fetched:
        log = self.log
        if offset >= log.high_watermark:
            return self._nothing(offset)
        found = log.read(offset, max_bytes=max_bytes, upper_offset=log.high_watermark, at_least_one=at_least_one)
        return Fetched(found, log.high_watermark, log.log_start_offset, log.log_end_offset)

    def _durable(self, log: PartitionLog) -> None:
        leader = self._leader
        if leader is not None and leader.durable(self._broker_id, log.durable_end_offset):
            self._show_high_watermark(leader)

    def _show_high_watermark(self, leader: PartitionLeader) -> None:
        if leader.high_watermark > self.log.high_watermark:
            self.log.advance_high_watermark(leader.high_watermark)
        assert self.log.high_watermark <= self.log.log_end_offset
        self._waiting_room.advanced(self.high_watermark_key, self.log.high_watermark)
