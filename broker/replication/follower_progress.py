"""What a leader knows of one follower in one leader epoch (pure).

Owns Kafka's rule of "caught up": a follower was so at the time of a fetch that reached the leader's log end, or at the
time of the fetch before, when this one reached what the log end was then. Refuses to remember across leader epochs: a
follower that has not fetched in this one is unheard of.
"""

from typing import Final

UNHEARD: Final = -1


class FollowerProgress:
    """One follower's last fetch, as it counts for the watermark and for membership."""

    __slots__ = (
        "broker_epoch",
        "broker_id",
        "last_caught_up_ms",
        "log_end_offset",
        "log_start_offset",
        "previous_fetch_ms",
        "previous_leader_end_offset",
        "takes_records",
    )

    def __init__(self, broker_id: int, *, caught_up_ms: float | None) -> None:
        """`caught_up_ms`: the time of the election for a member, that it may be heard; None for the others."""
        self.broker_id = broker_id
        self.broker_epoch = UNHEARD
        self.log_end_offset = UNHEARD
        """It holds everything below durably, and its log is a prefix of the leader's up to there."""
        self.log_start_offset = UNHEARD
        """It holds nothing below: what was deleted at the leader is gone there too (KIP-107)."""
        self.last_caught_up_ms = caught_up_ms
        self.previous_fetch_ms: float | None = None
        self.previous_leader_end_offset = UNHEARD
        self.takes_records = True
        """By its last fetch: its disk has room."""

    @property
    def is_heard(self) -> bool:
        """It has fetched in this leader epoch."""
        return self.broker_epoch != UNHEARD

    def fetched(self, *, broker_epoch: int, fetch_offset: int, leader_end_offset: int, now_ms: float) -> None:
        """A fetch at `fetch_offset` acknowledges everything below; where it is lower than before, so is what counts."""
        assert broker_epoch >= self.broker_epoch, (broker_epoch, self.broker_epoch)
        assert fetch_offset <= leader_end_offset, (fetch_offset, leader_end_offset)
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = now_ms
        elif self.previous_fetch_ms is not None and fetch_offset >= self.previous_leader_end_offset:
            self.last_caught_up_ms = self.previous_fetch_ms
        self.broker_epoch = broker_epoch
        self.log_end_offset = fetch_offset
        self.previous_fetch_ms = now_ms
        self.previous_leader_end_offset = leader_end_offset

    def is_caught_up(self, *, leader_end_offset: int, now_ms: float, lag_time_max_ms: int) -> bool:
        """At the leader's log end, or caught up within the last `lag_time_max_ms` (replica.lag.time.max.ms)."""
        if self.log_end_offset >= leader_end_offset:
            return True
        return self.last_caught_up_ms is not None and now_ms - self.last_caught_up_ms <= lag_time_max_ms

    def is_stuck(self, *, leader_end_offset: int) -> bool:
        """It lacks records and can take none (S19)."""
        return not self.takes_records and self.log_end_offset < leader_end_offset
