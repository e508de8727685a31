"""What all replicas of a broker share.

Owns the question whether this broker's word about a partition's end counts. A leader that was away (stopped, cut off)
may have a successor of whom it has not heard: what it writes is never acknowledged (S2, S7), but what it refuses for
the sake of its own log's end may well be in order there. Such a refusal is told as what it is: ask the leader.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker.clock import Clock
from broker.errors import ExpectedOffsetError
from broker.replication.leader import EpochInService
from broker.waiting_room import WaitingRoom
from logstore.log_answers import DamagedRangeError
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from broker.replication.replica import Replica

BY_THE_LOG_END: Final = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.OFFSET_OUT_OF_RANGE})
"""Refusals that a client takes for final (it gives up, or reads on somewhere else), and that only the true leader's log
can justify; that of an `expected_offset` too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Handed to each replica; the same for all."""

    broker_id: int
    clock: Clock
    waiting_room: WaitingRoom
    lag_time_max_ms: int
    epoch_in_service: EpochInService
    """By the image of now: who may join in-sync replicas, and in which broker epoch."""
    wants_in_sync_change: Callable[["Replica"], None]
    """A leader's in-sync replicas may change: `wanted_in_sync_change` is to be asked soon."""
    damaged: Callable[["Replica"], object]
    """Its log has met damage (S18), whoever read it."""
    is_heard: Callable[[], bool]
    """The controller has heard this broker so lately that it cannot have been fenced since (see `Heartbeats`)."""

    def told(self, refused: RefusedError, name: str) -> RefusedError:
        """`refused`; where its reason is a log end that may be an old one: ask the leader (S12, S15)."""
        if self.is_heard() or not (refused.code in BY_THE_LOG_END or isinstance(refused, ExpectedOffsetError)):
            return refused
        return RefusedError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            f"broker {self.broker_id} was not heard by the controller for a while and may not lead {name} any more: "
            "ask again, nothing was done",
        )

    def damage_told(self, refused: RefusedError, name: str, in_sync_replicas: Sequence[int]) -> RefusedError:
        """`refused`; while another replica has what is damaged here, no reader shall go on behind it (S1, S18)."""
        if not isinstance(refused, DamagedRangeError) or len(in_sync_replicas) < 2:
            return refused
        return RefusedError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            f"broker {self.broker_id} met damage on its disk and hands {name} over: ask its next leader, who has these "
            "records",
        )
