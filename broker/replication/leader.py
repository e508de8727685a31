"""What the leader of a partition knows and decides (pure: no log, no clock, no socket).

Owns, for one leader epoch: what each follower holds, the high watermark, and which change of the in-sync replicas is
wanted. Refuses fetches of other epochs and of strangers. Invariants:
- S2: the high watermark is the smallest durable end offset over the *maximal* in-sync replicas (those committed and
  those that may have joined unknown to this leader), and moves only while the committed ones are enough; the same
  number decides whether acks=all writes are admitted. It never falls.
- S4: a leader lives in exactly one leader epoch; a new epoch is a new `PartitionLeader`.
- S7: a fetch counts only in this leader epoch, and only where the follower's log is a prefix of the leader's.
- S8: who joins has fetched in this epoch at or beyond the high watermark and the end that the log had at the election;
  and since the last change of the partition: its disk may be gone since it fetched before (S3).
- S9: a change is asked for on the epochs that this leader saw, and joiners under the broker epoch that fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.replication.divergence import (
    NO_EPOCH,
    NO_OFFSET,
    EpochEnd,
    ReplicaLog,
    end_of_epoch,
    is_beyond_memory,
    parted_from,
)
from broker.replication.follower_progress import UNHEARD, FollowerProgress
from broker.replication.undecided_changes import ChangeInSyncReplicas, UndecidedChanges
from metadata.image import Partition
from wire.errors import ErrorCode, RefusedError

JOINER_AWAITED_MS: Final = 500
"""A follower that is about to join holds the high watermark for so long after its last fetch, and no longer."""

EpochInService = Callable[[int], int | None]
"""The broker epoch of a broker that is registered and in service by the image, None for any other."""


def nobody_in_service(_broker_id: int) -> None:
    """Without an image nobody may join."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerFetch:
    """A replica's Fetch for this partition, as far as the leader judges it."""

    broker_id: int
    broker_epoch: int
    leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    """The epoch of the record before `fetch_offset`; -1 where the follower's log is empty."""
    log_start_offset: int = UNHEARD
    """Where its log begins; -1: it does not say."""
    takes_records: bool = True
    """False: its disk is full, it asks for no bytes, and writers are not to wait for it (S19)."""
    is_read_again: bool = False
    """The same request, looked at once more while it waits: it says nothing of what the follower holds by now."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The fetch counts: give it what lies from its offset on."""

    high_watermark_moved: bool
    wants_change: bool
    """The follower may join the in-sync replicas, or must leave them: ask for `wanted_change` soon."""


@dataclass(frozen=True, slots=True)
class Diverging:
    """The fetch does not count: the follower must cut its log first (KIP-320)."""

    end: EpochEnd


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The fetch does not count: nothing lies there."""

    log_start_offset: int
    log_end_offset: int


FetchVerdict = Acknowledged | Diverging | OutOfRange


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerState:
    """What is shown of a follower; offsets -1 and None: not heard in this leader epoch."""

    broker_id: int
    log_end_offset: int
    last_caught_up_ms: float | None
    is_in_sync: bool
    log_start_offset: int = UNHEARD


class PartitionLeader:
    """One partition's leader in one leader epoch. `now_ms` is monotonic time."""

    __slots__ = (
        "_changes",
        "_epoch_in_service",
        "_epoch_start_offset",
        "_followers",
        "_in_sync_replicas_needed",
        "_lag_time_max_ms",
        "_own_durable_end_offset",
        "_state",
        "_waited_for",
        "broker_id",
        "high_watermark",
        "maximal_in_sync_replicas",
    )

    def __init__(
        self,
        *,
        broker_id: int,
        state: Partition,
        min_in_sync_replicas: int,
        high_watermark: int,
        log_end_offset: int,
        durable_end_offset: int,
        lag_time_max_ms: int,
        now_ms: float,
        epoch_in_service: EpochInService = nobody_in_service,
    ) -> None:
        """`log_end_offset` is where this leader epoch begins; the offsets are those of the leader's log now."""
        assert broker_id == state.leader, (broker_id, state)
        assert broker_id in state.in_sync_replicas, (broker_id, state)
        assert high_watermark <= durable_end_offset <= log_end_offset, (high_watermark, durable_end_offset)
        self.broker_id = broker_id
        self.high_watermark = high_watermark
        self._state = state
        self._epoch_start_offset = log_end_offset
        self._own_durable_end_offset = durable_end_offset
        self._lag_time_max_ms = lag_time_max_ms
        self._epoch_in_service = epoch_in_service
        self._changes = UndecidedChanges()
        self._followers = {
            follower: FollowerProgress(follower, caught_up_ms=now_ms if follower in state.in_sync_replicas else None)
            for follower in state.replicas
            if follower != broker_id
        }
        self._waited_for: dict[int, float] = {}
        self._in_sync_replicas_needed = state.in_sync_replicas_needed(min_in_sync_replicas)
        self._take_membership()
        self._advance()

    @property
    def leader_epoch(self) -> int:
        return self._state.leader_epoch

    @property
    def partition_epoch(self) -> int:
        return self._state.partition_epoch

    @property
    def in_sync_replicas(self) -> tuple[int, ...]:
        """Those committed, as the image that this leader saw last says."""
        return self._state.in_sync_replicas

    @property
    def epoch_start_offset(self) -> int:
        """The log's end when this leader epoch began."""
        return self._epoch_start_offset

    @property
    def has_enough_in_sync(self) -> bool:
        """May acks=all writes be admitted, and does the high watermark move? Else NOT_ENOUGH_REPLICAS (S2)."""
        return len(self._state.in_sync_replicas) >= self._in_sync_replicas_needed

    def follower_states(self) -> tuple[FollowerState, ...]:
        """The followers in the order of their assignment."""
        return tuple(
            FollowerState(
                broker_id=one.broker_id,
                log_end_offset=one.log_end_offset,
                last_caught_up_ms=one.last_caught_up_ms,
                is_in_sync=one.broker_id in self._state.in_sync_replicas,
                log_start_offset=one.log_start_offset,
            )
            for one in self._followers.values()
        )

    # ---- what replicas hold

    def durable(self, end_offset: int, *, now_ms: float) -> bool:
        """The leader's own log is durable below `end_offset`; True when the high watermark moved."""
        if end_offset <= self._own_durable_end_offset:
            return False
        self._own_durable_end_offset = end_offset
        self._wait_no_longer(now_ms)
        return self._advance()

    def check_leader_epoch(self, leader_epoch: int) -> None:
        """Refuse whoever asks in another epoch: FENCED_LEADER_EPOCH below, UNKNOWN_LEADER_EPOCH above (S7, KIP-320)."""
        if leader_epoch < self.leader_epoch:
            raise RefusedError(
                ErrorCode.FENCED_LEADER_EPOCH,
                f"current_leader_epoch {leader_epoch} is over, broker {self.broker_id} leads in {self.leader_epoch}",
            )
        if leader_epoch > self.leader_epoch:
            raise RefusedError(
                ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"broker {self.broker_id} knows of leader epoch {self.leader_epoch}, not yet of {leader_epoch}",
            )

    def fetched(self, fetch: FollowerFetch, log: ReplicaLog, *, now_ms: float) -> FetchVerdict:
        """Judge a follower's fetch, and count it: at N it acknowledges everything below N (S2).

        Raises RefusedError, and counts nothing: the codes of `check_leader_epoch`, NOT_LEADER_OR_FOLLOWER for a broker
        without a replica here, STALE_BROKER_EPOCH for an earlier life of one (S9).
        """
        self.check_leader_epoch(fetch.leader_epoch)
        follower = self._followers.get(fetch.broker_id)
        if follower is None:
            raise RefusedError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {fetch.broker_id} holds no replica: the assigned ones are {self._state.replicas}",
            )
        known_epoch = max(follower.broker_epoch, self._epoch_in_service(fetch.broker_id) or 0)
        if fetch.broker_epoch < known_epoch:
            raise RefusedError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"broker_epoch {fetch.broker_epoch} of broker {fetch.broker_id} is over, it lives in {known_epoch}",
            )
        return self._judge(follower, fetch, log, now_ms)

    def _judge(self, follower: FollowerProgress, fetch: FollowerFetch, log: ReplicaLog, now_ms: float) -> FetchVerdict:
        offset, epoch = fetch.fetch_offset, fetch.last_fetched_epoch
        if offset < log.log_start_offset or is_beyond_memory(log, fetch_offset=offset, last_fetched_epoch=epoch):
            return OutOfRange(log.log_start_offset, log.log_end_offset)
        if epoch != NO_EPOCH:
            end = self.end_of_epoch(log, epoch)
            if end.end_offset == NO_OFFSET:
                return OutOfRange(log.log_start_offset, log.log_end_offset)
            if parted_from(end, fetch_offset=offset, last_fetched_epoch=epoch):
                return Diverging(end)
        if offset > log.log_end_offset:
            return OutOfRange(log.log_start_offset, log.log_end_offset)
        if fetch.is_read_again:
            return Acknowledged(high_watermark_moved=False, wants_change=False)
        follower.fetched(
            broker_epoch=fetch.broker_epoch,
            fetch_offset=offset,
            leader_end_offset=log.log_end_offset,
            now_ms=now_ms,
        )
        follower.log_start_offset = fetch.log_start_offset
        follower.takes_records = fetch.takes_records
        return self._count(follower, log.log_end_offset, now_ms)

    def end_of_epoch(self, log: ReplicaLog, epoch: int) -> EpochEnd:
        """Where the largest epoch <= `epoch` ended in this log (OffsetsForLeaderEpoch); (-1, -1): it cannot say."""
        return end_of_epoch(log, epoch, leader_epoch=self.leader_epoch, epoch_start_offset=self._epoch_start_offset)

    def _count(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> Acknowledged:
        self._wait_no_longer(now_ms)
        if follower.broker_id in self.maximal_in_sync_replicas:
            must_leave = follower.is_stuck(leader_end_offset=leader_end_offset) and not self._changes.is_waiting
            return Acknowledged(high_watermark_moved=self._advance(), wants_change=must_leave)
        self._wait_for(follower, leader_end_offset, now_ms)
        may_join = self._may_join(follower)
        wants_change = may_join and not self._changes.is_waiting
        return Acknowledged(high_watermark_moved=self._advance(), wants_change=wants_change)

    def _wait_for(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> None:
        """Under load a watermark that ran ahead of a follower on its heels would never let it join: it is waited for
        like a member, as long as it is on them and could join (as Kafka's maybeIncrementLeaderHW). Kafka waits for
        whoever was caught up within replica.lag.time.max.ms; that would hold up all writers while a broker that was
        away for seconds fetches what it missed, or is gone again.
        """
        is_close = follower.is_caught_up(
            leader_end_offset=leader_end_offset, now_ms=now_ms, lag_time_max_ms=JOINER_AWAITED_MS
        )
        if is_close and follower.takes_records and self._is_in_service(follower):
            self._waited_for[follower.broker_id] = now_ms + JOINER_AWAITED_MS
        else:
            self._waited_for.pop(follower.broker_id, None)

    def _wait_no_longer(self, now_ms: float) -> None:
        for broker_id in [broker_id for broker_id, until_ms in self._waited_for.items() if until_ms <= now_ms]:
            del self._waited_for[broker_id]

    def _is_in_service(self, follower: FollowerProgress) -> bool:
        """In service in the very epoch in which it fetched (S9)."""
        return follower.is_heard and self._epoch_in_service(follower.broker_id) == follower.broker_epoch

    def _may_join(self, follower: FollowerProgress) -> bool:
        """S8; the watermark of a new leader may lag behind the true one, the epoch's start does not."""
        needed = max(self.high_watermark, self._epoch_start_offset)
        return follower.log_end_offset >= needed and follower.takes_records and self._is_in_service(follower)

    def _advance(self) -> bool:
        if not self.has_enough_in_sync:
            return False
        reached = self._own_durable_end_offset
        for follower in self._followers.values():
            broker_id = follower.broker_id
            if follower.log_end_offset < reached and (
                broker_id in self.maximal_in_sync_replicas or broker_id in self._waited_for
            ):
                reached = follower.log_end_offset
        if reached <= self.high_watermark:
            return False
        self.high_watermark = reached
        return True

    # ---- who is in sync

    def wanted_change(self, *, log_end_offset: int, now_ms: float) -> ChangeInSyncReplicas | None:
        """The change of the in-sync replicas that is due, None where there is none; it counts as asked for (S2, S9).

        Ask after a fetch that said `wants_change`, after a refusal or a doubt, and every half
        `replica.lag.time.max.ms`: silence is an event too. The high watermark may have moved afterwards, by nobody
        being waited for any more. `log_end_offset`: of the leader's log now.
        """
        self._wait_no_longer(now_ms)
        self._advance()
        if self._changes.is_waiting:
            return None
        wanted = tuple(
            broker_id
            for broker_id in self._in_sync_order()
            if broker_id == self.broker_id or self._belongs(self._followers[broker_id], log_end_offset, now_ms)
        )
        if wanted == self._in_sync_order(self._state.in_sync_replicas) and not self._changes.is_doubtful:
            return None
        change = ChangeInSyncReplicas(
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
            in_sync_replicas=tuple((broker_id, self._broker_epoch(broker_id)) for broker_id in wanted),
        )
        self._changes.asked(change)
        self._take_membership()
        return change

    def change_refused(self, code: ErrorCode, *, partition_epoch: int) -> None:
        """The controller refused what was asked for: nothing of it counts any more, unless it may mean that the
        partition has moved on, or an earlier request is still in doubt (KIP-497). The high watermark may have moved.
        """
        self._changes.refused(code, partition_epoch=partition_epoch)
        self._take_membership()
        self._advance()

    def change_in_doubt(self, *, partition_epoch: int) -> None:
        """The answer was lost: the joiners go on counting until the image shows what became of it."""
        self._changes.in_doubt(partition_epoch=partition_epoch)

    def committed(self, state: Partition, *, min_in_sync_replicas: int) -> bool:
        """The image says so; True when the high watermark moved. An older image changes nothing."""
        if state.partition_epoch < self.partition_epoch or state.leader_epoch < self.leader_epoch:
            return False
        assert state.leader_epoch == self.leader_epoch, "S4: another leader epoch is another PartitionLeader"
        assert self.broker_id in state.in_sync_replicas, (self.broker_id, state)
        if state.partition_epoch > self.partition_epoch:
            self._changes.decided()
            self._forget_all_but(state.in_sync_replicas)
        self._state = state
        self._in_sync_replicas_needed = state.in_sync_replicas_needed(min_in_sync_replicas)
        self._followers = {
            follower: self._followers.get(follower) or FollowerProgress(follower, caught_up_ms=None)
            for follower in state.replicas
            if follower != self.broker_id
        }
        self._take_membership()
        return self._advance()

    def _forget_all_but(self, in_sync_replicas: tuple[int, ...]) -> None:
        """A change may say that a replica lost what it held, in the same broker epoch (S3): whoever is not in sync
        after it counts only by what it fetches from here on.
        """
        self._followers = {
            broker_id: one for broker_id, one in self._followers.items() if broker_id in in_sync_replicas
        }
        self._waited_for.clear()

    def _take_membership(self) -> None:
        self.maximal_in_sync_replicas = frozenset(self._state.in_sync_replicas) | self._changes.broker_ids
        for broker_id in self._waited_for.keys() - (self._followers.keys() - self.maximal_in_sync_replicas):
            del self._waited_for[broker_id]

    def _belongs(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> bool:
        if follower.broker_id not in self._state.in_sync_replicas:
            return self._may_join(follower)
        return not follower.is_stuck(leader_end_offset=leader_end_offset) and follower.is_caught_up(
            leader_end_offset=leader_end_offset, now_ms=now_ms, lag_time_max_ms=self._lag_time_max_ms
        )

    def _in_sync_order(self, of: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Replicas in the order of their assignment; one that is no longer assigned never joins."""
        assigned = (broker_id for broker_id in self._state.replicas)
        return tuple(broker_id for broker_id in assigned if of is None or broker_id in of)

    def _broker_epoch(self, broker_id: int) -> int:
        if broker_id == self.broker_id:
            return self._state.leader_broker_epoch
        return self._followers[broker_id].broker_epoch
