"""What a follower of a partition asks for, and what it makes of the answer (pure: no log, no clock, no socket).

Owns, for one leader in one leader epoch: the position to fetch from, and whether an answer is still wanted. Refuses to
act on anything but the answer to the request in flight. Invariants:
- S2: it fetches at its durable end only, since that acknowledges everything below; while a sync is outstanding it does
  not fetch at all.
- S5: it cuts its log only where the leader's epochs show that the two parted, never by a watermark.
- S6: what it appends continues a log of which the leader has said, by answering with records, that it is a prefix.
- S11: an answer is used at most once, and only if no later request, cut or leader epoch came between.
"""

from dataclasses import dataclass, field
from typing import Final

from broker.replication.divergence import NO_OFFSET, EpochEnd, ReplicaLog, last_record_epoch, truncation_point
from wire.errors import ErrorCode

BACKOFF_MS: Final = 50
BACKOFF_MAX_MS: Final = 1_000
"""As Kafka's replica.fetch.backoff.ms; the first waits are shorter, since most of them are for an image on its way."""

Records = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class FetchPosition:
    """What one partition of a Fetch asks for. Its identity is the request's: keep it, and give it with the answer."""

    leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswer:
    """What the leader said of one partition (PartitionData). The log start offset counts in a refusal too."""

    error_code: int = ErrorCode.NONE
    high_watermark: int = -1
    log_start_offset: int = -1
    diverging: EpochEnd | None = None
    records: Records = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """Append `records` (maybe none) and sync them; then take over `high_watermark` and the leader's log start."""

    records: Records = field(repr=False)
    log_start_offset: int


@dataclass(frozen=True, slots=True)
class TruncateTo:
    """Cut the log from `offset` on, then fetch again."""

    offset: int
    committed_lost: int
    """So many records below this replica's own high watermark go too: an unclean election or a damaged leader has
    taken them back. 0 wherever elections are clean (S5)."""


@dataclass(frozen=True, slots=True)
class StartAt:
    """Drop the whole log, whose records the leader has deleted, and begin anew at `offset`."""

    offset: int


@dataclass(frozen=True, slots=True)
class BackOff:
    """Ask again after `delay_ms`; `error_code` NONE: the answer made no sense or never came."""

    delay_ms: int
    error_code: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """This leader epoch is over: ask no more until the image says who leads now (S7)."""


@dataclass(frozen=True, slots=True)
class Stale:
    """This answers no request in flight: nothing is to be done (S11)."""


Step = Append | TruncateTo | StartAt | BackOff | Fenced | Stale


class PartitionFollower:
    """One partition, followed in one leader epoch. The log is read here, and changed by the driver only."""

    __slots__ = (
        "_failed_at",
        "_failures",
        "_in_flight",
        "_leader_high_watermark",
        "is_fenced",
        "leader_epoch",
        "leader_id",
    )

    def __init__(self, *, leader_id: int, leader_epoch: int) -> None:
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.is_fenced = False
        self._in_flight: FetchPosition | None = None
        self._leader_high_watermark = -1
        self._failures = 0
        self._failed_at = NO_OFFSET

    def fetch_position(self, log: ReplicaLog) -> FetchPosition | None:
        """Where to fetch from next; None while the log's end is not durable yet, or once fenced.

        Asking again makes the answer to the request before stale.
        """
        self._in_flight = None
        if self.is_fenced or log.durable_end_offset < log.log_end_offset:
            return None
        self._in_flight = FetchPosition(
            leader_epoch=self.leader_epoch,
            fetch_offset=log.log_end_offset,
            last_fetched_epoch=last_record_epoch(log),
            log_start_offset=log.log_start_offset,
        )
        return self._in_flight

    def answered(self, asked: FetchPosition, answer: FetchAnswer, log: ReplicaLog) -> Step:
        """What to do about an answer to `asked`."""
        if asked is not self._in_flight:
            return Stale()
        self._in_flight = None
        assert asked.fetch_offset == log.log_end_offset, (asked, log.log_end_offset)
        if answer.error_code == ErrorCode.FENCED_LEADER_EPOCH:
            self.is_fenced = True
            return Fenced()
        if answer.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            return self._out_of_range(answer, log)
        if answer.error_code != ErrorCode.NONE:
            return self._back_off(answer.error_code)
        if answer.diverging is not None:
            return self._diverged(answer.diverging, log)
        if asked.fetch_offset != self._failed_at:
            self._failures = 0
        self._leader_high_watermark = answer.high_watermark
        return Append(answer.records, answer.log_start_offset)

    def failed(self, asked: FetchPosition) -> BackOff | Stale:
        """No answer will come (the connection broke, the time is over), or what came could not be appended: while a
        disk is full that is so again and again, and the same records are not to be fetched twenty times a second.
        """
        if self._in_flight not in (asked, None):
            return Stale()
        self._in_flight = None
        self._failed_at = asked.fetch_offset
        return self._back_off(ErrorCode.NONE)

    def high_watermark(self, log: ReplicaLog) -> int:
        """How far this replica knows its own log to be committed: at most its *durable* end.

        The leader's watermark may lie beyond what came with it, and what came is not synced yet. A watermark that is
        written down, or that this broker begins to lead with, must not fall with a power cut (S2, S12).
        """
        return max(log.high_watermark, min(self._leader_high_watermark, log.durable_end_offset))

    def log_start_offset(self, step: Append, log: ReplicaLog) -> int:
        """How far the beginning of the log follows the leader's: never beyond what is known to be committed."""
        return max(log.log_start_offset, min(step.log_start_offset, log.high_watermark))

    def _diverged(self, diverging: EpochEnd, log: ReplicaLog) -> Step:
        offset = truncation_point(log, diverging)
        if not 0 <= offset < log.log_end_offset:
            return self._back_off(ErrorCode.NONE)
        return TruncateTo(offset, max(0, log.high_watermark - offset))

    def _out_of_range(self, answer: FetchAnswer, log: ReplicaLog) -> Step:
        """Everything held here is below the leader's log start: it was committed, and deleted there. Above the
        leader's end only a log without records may move: one with records is cut by its epochs (S5), or not at all.
        """
        leader_start = answer.log_start_offset
        is_empty = log.log_start_offset == log.log_end_offset
        is_outlived = leader_start > log.log_end_offset or (leader_start == log.log_end_offset and not is_empty)
        if is_outlived or (is_empty and 0 <= leader_start < log.log_end_offset):
            return StartAt(leader_start)
        return self._back_off(ErrorCode.OFFSET_OUT_OF_RANGE)

    def _back_off(self, error_code: int) -> BackOff:
        delay_ms = min(BACKOFF_MS << min(self._failures, 10), BACKOFF_MAX_MS)
        self._failures += 1
        return BackOff(delay_ms, error_code)
