"""One partition on this broker: its log, and the role that the committed metadata gives it.

Owns the way of an append (role -> record batch check and stamp -> log -> sync -> high watermark -> answer), of a fetch
(bounds -> log, or the wait for more) and of a follower's fetch (the pure core judges it). Refuses all of them unless
this broker leads the partition. Invariants:
- S2/S12: nothing at or above the high watermark is ever returned to a client.
- S4/S7: a batch is stamped with the epoch in which it was appended. An append whose leadership ended before its offset
  was safe is "done" only when the next leader, of whose log this one is a prefix, says that it is committed; else it is
  answered "unknown", never "failed" (S15).
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from broker.errors import ExpectedOffsetError, OutcomeUnknownError
from broker.replication.divergence import NO_EPOCH, EpochEnd
from broker.replication.leader import (
    Acknowledged,
    Diverging,
    FollowerFetch,
    FollowerState,
    OutOfRange,
    PartitionLeader,
)
from broker.replication.surroundings import Surroundings
from logstore.append_rules import check_append
from logstore.log_answers import Appended, LogSlice, OffsetOutOfRangeError, TimestampOffset
from logstore.partition_log import PartitionLog
from metadata.image import Partition
from metadata.requests import InSyncReplicasChange
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

ACKS_NONE: Final = 0
ACKS_LEADER: Final = 1
ACKS_ALL: Final = -1


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

    __slots__ = (
        "_holds_writes",
        "_leader",
        "_of",
        "_unproven",
        "high_watermark_key",
        "log",
        "log_end_key",
        "on_durable",
        "safe_key",
    )

    def __init__(self, log: PartitionLog, surroundings: Surroundings) -> None:
        self.log = log
        self.high_watermark_key = object()  # its hash costs nothing, that of a topic id does
        """In the waiting room: readers, who wait for this leader's high watermark to reach an offset."""
        self.safe_key = (*log.key, "safe")
        """In the waiting room: writers with acks=all, who wait for their last offset to be committed; in whatever role,
        as long as their records are in this log."""
        self.log_end_key = object()
        """In the waiting room: whoever waits for the log end (followers)."""
        self.on_durable: Callable[[Replica], None] | None = None
        """As a follower: who waits for what was fetched to be synced."""
        self._of = surroundings
        self._leader: PartitionLeader | None = None
        self._holds_writes = False
        self._unproven: dict[int, int] = {}
        log.on_durable = self._durable
        log.on_damaged = partial(surroundings.damaged, self)  # whoever meets it: else it would lead on in vain (S18)

    def __repr__(self) -> str:
        return f"Replica({self.name}, {'leader' if self._leader else 'follower'})"

    @property
    def key(self) -> tuple[UUID, int]:
        return self.log.key

    @property
    def name(self) -> str:
        return self.log.name

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

    @property
    def knows_high_watermark(self) -> bool:
        """A new leader may lag behind what its predecessor showed, until the watermark has passed the epoch's start.

        Before, "the latest offset" is no answer for a client (OFFSET_NOT_AVAILABLE, KIP-207).
        """
        return self._leader is not None and self.log.high_watermark >= self._leader.epoch_start_offset

    @property
    def has_enough_in_sync(self) -> bool:
        """Writes with acks=all are admitted (`min.insync.replicas`)."""
        return self._leader is not None and self._leader.has_enough_in_sync

    def follower_states(self) -> tuple[FollowerState, ...]:
        """As the leader: what is known of each follower; empty elsewhere."""
        return () if self._leader is None else self._leader.follower_states()

    # ---- roles

    def lead(self, state: Partition, *, min_in_sync_replicas: int) -> None:
        """Lead as the image says; in the same leader epoch that is news of the in-sync replicas only (S4)."""
        leader = self._leader
        if leader is not None and leader.leader_epoch == state.leader_epoch:
            leader.committed(state, min_in_sync_replicas=min_in_sync_replicas)
            self._show_high_watermark(leader)
            self._of.waiting_room.advanced(self.high_watermark_key, self.high_watermark)  # hear those who wait anew
            return
        self.resign()
        log = self.log
        self.on_durable = None
        self._holds_writes = False
        self._unproven.clear()
        self._leader = PartitionLeader(
            broker_id=self._of.broker_id,
            state=state,
            min_in_sync_replicas=min_in_sync_replicas,
            high_watermark=log.high_watermark,
            log_end_offset=log.log_end_offset,
            durable_end_offset=log.durable_end_offset,
            lag_time_max_ms=self._of.lag_time_max_ms,
            now_ms=self._now_ms(),
            epoch_in_service=self._of.epoch_in_service,
        )
        self._show_high_watermark(self._leader)

    def resign(self) -> None:
        """Lead no more. Readers are told; writers wait on: the next leader may have their records, and say so."""
        if self._leader is None:
            return
        self._leader = None
        lost = self._lost()
        self._of.waiting_room.failed(self.high_watermark_key, lost)
        self._of.waiting_room.failed(self.log_end_key, lost)

    def abandon(self) -> None:
        """Neither lead nor follow: whoever waits here is told that nobody knows (S15)."""
        self.resign()
        self._of.waiting_room.failed(self.safe_key, self._lost())

    def _lost(self) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            f"broker {self._of.broker_id} led {self.name} and does no longer: "
            "what was being written may or may not be kept",
        )

    # ---- following

    def committed(self, high_watermark: int) -> None:
        """As a follower: the leader, of whose log this one is a prefix, has committed all below; so much is here."""
        assert self._leader is None, self
        if self.log.advance_high_watermark(high_watermark):
            self._of.waiting_room.advanced(self.safe_key, self.log.high_watermark)

    def truncate_to(self, offset: int) -> None:
        """As a follower: cut what the leader does not have; who wrote something there is told that nobody knows."""
        self._of.waiting_room.failed(self.safe_key, self._lost())
        self.log.truncate_to(offset)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """As a follower: begin anew."""
        self._of.waiting_room.failed(self.safe_key, self._lost())
        self.log.truncate_fully_and_start_at(offset)

    def hold_writes(self) -> None:
        """Take no more writes in this leader epoch: what is appended last, a successor might lack."""
        self._holds_writes = True

    # ---- writing

    async def append(
        self, buffer: bytearray | memoryview, *, acks: int, timeout_ms: int, expected_offset: int | None = None
    ) -> Appended:
        """Append whole record batches; at acks=-1 return when they are below the high watermark.

        Raises RefusedError (nothing was written; NOT_ENOUGH_REPLICAS among them) or OutcomeUnknownError (acks=-1 only:
        written, not yet safe).
        """
        appended = self.append_now(buffer, acks=acks, expected_offset=expected_offset)
        if acks == ACKS_ALL and self.log.high_watermark <= appended.last_offset:
            await self._replicated(appended, timeout_ms)
        return appended

    def append_now(self, buffer: bytearray | memoryview, *, acks: int, expected_offset: int | None = None) -> Appended:
        """As `append`, without the wait: at acks=-1 the answer is due when `safe_key` passes the last offset.

        Raises as `append`; OutcomeUnknownError also for a disk that failed while writing.
        """
        leader = self._require_leader()
        log = self.log
        if self._holds_writes:
            raise RefusedError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {self._of.broker_id} hands {self.name} over: nothing was written, ask its next leader",
            )
        if acks == ACKS_ALL and not leader.has_enough_in_sync:
            raise RefusedError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.name} has {len(leader.in_sync_replicas)} in-sync replicas {list(leader.in_sync_replicas)}, too "
                "few for acks=all by min.insync.replicas: nothing was written; try again when its brokers are back",
            )
        batches = check_append(buffer, log.config)
        if expected_offset is not None and expected_offset != log.log_end_offset and not log.duplicate_of(batches):
            refused = ExpectedOffsetError(expected_offset=expected_offset, log_end_offset=log.log_end_offset)
            raise self._of.told(refused, self.name)
        try:
            appended = log.append(buffer, batches, leader_epoch=leader.leader_epoch, now_ms=self._of.clock.wall_ms())
        except RefusedError as refused:
            raise self._of.told(refused, self.name) from None
        except OSError as error:
            raise OutcomeUnknownError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{self.name}: the disk failed while writing ({error}); it may or may not be kept",
            ) from error
        self._of.waiting_room.advanced(self.log_end_key, log.log_end_offset)
        self._durable(log)
        return appended

    async def _replicated(self, appended: Appended, timeout_ms: int) -> None:
        threshold = appended.last_offset + 1
        try:
            reached = await self._of.waiting_room.reached(self.safe_key, threshold, timeout_ms=timeout_ms)
        except OutcomeUnknownError as lost:
            raise OutcomeUnknownError(lost.code, lost.message) from None
        if not reached:
            raise self.not_yet_safe(appended, timeout_ms=timeout_ms)

    def not_yet_safe(self, appended: Appended, *, timeout_ms: int) -> OutcomeUnknownError:
        """What a writer with acks=all is told at its timeout: it may or may not be kept (S15)."""
        enough = self.has_enough_in_sync
        return OutcomeUnknownError(
            ErrorCode.REQUEST_TIMED_OUT if enough else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            f"{self.name}: offsets {appended.base_offset} to {appended.last_offset} were written but not yet safe "
            f"after timeout={timeout_ms} ms{'' if enough else ' (too few replicas are in sync)'}: they may or may not "
            "be kept",
        )

    # ---- reading

    async def fetch(self, offset: int, *, max_bytes: int, min_bytes: int = 1, timeout_ms: int = 0) -> Fetched:
        """Whole batches from the one that holds `offset` on, at least one where there is one.

        Where fewer than `min_bytes` are there, waits for more until `timeout_ms`. Raises RefusedError:
        OFFSET_OUT_OF_RANGE (`OffsetOutOfRangeError`, with both bounds) or NOT_LEADER_OR_FOLLOWER.
        """
        fetched = self.fetch_now(offset, max_bytes=max_bytes)
        deadline_ms = self._of.clock.monotonic_ms() + timeout_ms
        while len(fetched.slice.data) < min_bytes:
            left_ms = deadline_ms - self._of.clock.monotonic_ms()
            threshold = max(self.high_watermark, offset) + 1
            if not await self._more(threshold, left_ms):
                break
            fetched = self.fetch_now(offset, max_bytes=max_bytes)
            if fetched.slice.next_offset < self.high_watermark:
                break  # the next batch would not fit: more will not come
        return fetched

    async def _more(self, threshold: int, timeout_ms: float) -> bool:
        try:
            return await self._of.waiting_room.reached(self.high_watermark_key, threshold, timeout_ms=timeout_ms)
        except OutcomeUnknownError:
            self._require_leader()
            return True

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
        log = self.log
        if last_fetched_epoch != NO_EPOCH:
            end = leader.end_of_epoch(log, last_fetched_epoch)
            if end.epoch < last_fetched_epoch or end.end_offset < offset:
                return self._nothing(offset, end)
        if not log.log_start_offset <= offset <= log.log_end_offset:
            refused = OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=log.high_watermark)
            raise refused if offset < log.log_start_offset else self._of.told(refused, self.name)
        return self._read(offset, max_bytes, upper_offset=log.high_watermark, at_least_one=at_least_one)

    def fetch_as_follower(
        self,
        *,
        broker_id: int,
        broker_epoch: int,
        current_leader_epoch: int,
        fetch_offset: int,
        last_fetched_epoch: int,
        max_bytes: int,
        log_start_offset: int = -1,
        at_least_one: bool = True,
        takes_records: bool = True,
        is_read_again: bool = False,
    ) -> Fetched:
        """Take note of what broker `broker_id` holds durably (all below `fetch_offset`, S2), and what comes next.

        Whoever calls has checked that the request comes from that broker in its registered epoch (S9). Never waits:
        for more, wait for `log_end_key` to reach `fetch_offset + 1`; a request that has waited `is_read_again`. Raises
        RefusedError: NOT_LEADER_OR_FOLLOWER (also for a broker that holds no replica), FENCED_LEADER_EPOCH,
        UNKNOWN_LEADER_EPOCH, STALE_BROKER_EPOCH, OFFSET_OUT_OF_RANGE (`OffsetOutOfRangeError`), KAFKA_STORAGE_ERROR,
        CORRUPT_MESSAGE.
        """
        leader = self._require_leader(current_leader_epoch)
        log = self.log
        fetch = FollowerFetch(
            broker_id=broker_id,
            broker_epoch=broker_epoch,
            leader_epoch=current_leader_epoch,
            fetch_offset=fetch_offset,
            last_fetched_epoch=last_fetched_epoch,
            log_start_offset=log_start_offset,
            takes_records=takes_records,
            is_read_again=is_read_again,
        )
        match leader.fetched(fetch, log, now_ms=self._now_ms()):
            case Diverging(end):
                return self._nothing(fetch_offset, end)
            case OutOfRange(log_start_offset, log_end_offset):
                raise OffsetOutOfRangeError(fetch_offset, earliest=log_start_offset, latest=log_end_offset)
            case Acknowledged(high_watermark_moved, wants_change):
                if high_watermark_moved:
                    self._show_high_watermark(leader)
                if wants_change:
                    self._of.wants_in_sync_change(self)
        if not takes_records:
            return self._nothing(fetch_offset)
        return self._read(
            fetch_offset,
            max_bytes,
            upper_offset=log.log_end_offset,
            at_least_one=at_least_one,
            check_crc=self._is_suspect(broker_id, fetch_offset, leader),
        )

    def _is_suspect(self, broker_id: int, fetch_offset: int, leader: PartitionLeader) -> bool:
        """Whether a CRC is to be checked here before a follower does it: that costs as much as the rest of a fetch.

        What this leader appended was checked then and lies in memory still. Whoever asks twice for the same records may
        have found them broken: then the disk is the suspect, and this log notes its damage (S18).
        """
        if fetch_offset >= self.log.log_end_offset:
            return False
        is_repeated = self._unproven.get(broker_id) == fetch_offset
        self._unproven[broker_id] = fetch_offset
        return is_repeated or fetch_offset < leader.epoch_start_offset

    def end_offset_for_epoch(self, leader_epoch: int, *, current_leader_epoch: int = NO_EPOCH) -> EpochEnd:
        """Where `leader_epoch` ends in this log, (-1, -1) where it cannot say (OffsetsForLeaderEpoch, KIP-101).

        Raises RefusedError: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
        """
        return self._require_leader(current_leader_epoch).end_of_epoch(self.log, leader_epoch)

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
                f"broker {self._of.broker_id} does not lead {self.name}: ask its leader",
            )
        if current_leader_epoch != NO_EPOCH:
            leader.check_leader_epoch(current_leader_epoch)
        return leader

    def _read(
        self, offset: int, max_bytes: int, *, upper_offset: int, at_least_one: bool, check_crc: bool = True
    ) -> Fetched:
        log = self.log
        if offset >= upper_offset:
            return self._nothing(offset)
        try:
            found = log.read(
                offset, max_bytes=max_bytes, upper_offset=upper_offset, at_least_one=at_least_one, check_crc=check_crc
            )
        except RefusedError as refused:
            in_sync_replicas = () if self._leader is None else self._leader.in_sync_replicas
            raise self._of.damage_told(refused, self.name, in_sync_replicas) from None
        return Fetched(found, log.high_watermark, log.log_start_offset, log.log_end_offset)

    def _nothing(self, offset: int, diverging: EpochEnd | None = None) -> Fetched:
        log = self.log
        nothing = LogSlice(b"", offset, offset)
        return Fetched(nothing, log.high_watermark, log.log_start_offset, log.log_end_offset, diverging)

    # ---- in-sync replicas

    def wanted_in_sync_change(self) -> InSyncReplicasChange | None:
        """As the leader: the change that is due now; from here on it is pending until it is answered (S2)."""
        leader = self._leader
        if leader is None:
            return None
        change = leader.wanted_change(log_end_offset=self.log.log_end_offset, now_ms=self._now_ms())
        self._show_high_watermark(leader)
        if change is None:
            return None
        topic_id, partition = self.key
        return InSyncReplicasChange(
            topic_id=topic_id,
            partition=partition,
            leader_epoch=change.leader_epoch,
            partition_epoch=change.partition_epoch,
            in_sync_replicas=change.in_sync_replicas,
        )

    def in_sync_change_refused(self, change: InSyncReplicasChange, code: ErrorCode) -> None:
        """Nothing changed, for this reason."""
        if (leader := self._leader) is not None and leader.leader_epoch == change.leader_epoch:
            leader.change_refused(code, partition_epoch=change.partition_epoch)
            self._show_high_watermark(leader)

    def in_sync_change_in_doubt(self, change: InSyncReplicasChange) -> None:
        """Nobody knows whether it happened."""
        if (leader := self._leader) is not None and leader.leader_epoch == change.leader_epoch:
            leader.change_in_doubt(partition_epoch=change.partition_epoch)

    # ---- what is safe

    def _durable(self, log: PartitionLog) -> None:
        leader = self._leader
        if leader is None:
            if self.on_durable is not None:
                self.on_durable(self)
        elif leader.durable(log.durable_end_offset, now_ms=self._now_ms()):
            self._show_high_watermark(leader)

    def _show_high_watermark(self, leader: PartitionLeader) -> None:
        if self.log.advance_high_watermark(leader.high_watermark):
            room, high_watermark = self._of.waiting_room, self.log.high_watermark
            room.advanced(self.safe_key, high_watermark)
            room.advanced(self.high_watermark_key, high_watermark)

    def _now_ms(self) -> int:
        return int(self._of.clock.monotonic_ms())
