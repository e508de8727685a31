"""Where the logs of two replicas parted, from their leader epochs (pure; KIP-101, KIP-279, KIP-320).

Owns the two halves of one conversation: the leader says where an epoch ended in its log, the follower derives what it
must cut. Refuses to guess by watermarks. Invariants:
- S5: two logs that hold the same epoch hold the same records up to the smaller end of that epoch, so the cut keeps
  all that they share; a record that the leader has is never cut.
- Every cut is below the follower's end, so the conversation ends.
"""

from typing import Final, NamedTuple, Protocol

NO_EPOCH: Final = -1
NO_OFFSET: Final = -1


class EpochEnd(NamedTuple):
    """A leader epoch, and the offset after its last record."""

    epoch: int
    end_offset: int


class EpochHistory(Protocol):
    """Which epoch began where, in one log (`logstore.leader_epochs.LeaderEpochs`)."""

    @property
    def latest(self) -> int | None: ...

    def epoch_for(self, offset: int, /) -> int | None: ...

    def end_offset_for(self, epoch: int, log_end_offset: int, /) -> tuple[int, int]: ...


class ReplicaLog(Protocol):
    """What the cores read of a log (`logstore.partition_log.PartitionLog`); they never change it."""

    @property
    def log_start_offset(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...

    @property
    def durable_end_offset(self) -> int: ...

    @property
    def high_watermark(self) -> int: ...

    @property
    def leader_epochs(self) -> EpochHistory: ...


def last_record_epoch(log: ReplicaLog) -> int:
    """The epoch in which the log's last record was written; -1 for a log without records.

    Not `leader_epochs.latest`: this broker may have led an epoch in which it wrote nothing.
    """
    if log.log_end_offset == log.log_start_offset:
        return NO_EPOCH
    epoch = log.leader_epochs.epoch_for(log.log_end_offset - 1)
    return NO_EPOCH if epoch is None else epoch


def end_of_epoch(log: ReplicaLog, epoch: int, *, leader_epoch: int, epoch_start_offset: int) -> EpochEnd:
    """As the leader: the largest epoch <= `epoch` that is known here, and where it ended (OffsetsForLeaderEpoch).

    The present `leader_epoch` counts as known from its start on, even while nothing was written in it. (-1, -1) where
    the log cannot say: for no epoch, and for one above the present.
    """
    if epoch == NO_EPOCH or epoch > leader_epoch:
        return EpochEnd(NO_EPOCH, NO_OFFSET)
    if epoch == leader_epoch:
        return EpochEnd(epoch, log.log_end_offset)
    history = log.leader_epochs
    latest = history.latest
    if latest is None:
        return EpochEnd(epoch, epoch_start_offset)
    if epoch >= latest:
        return EpochEnd(latest, epoch_start_offset)
    return EpochEnd(*history.end_offset_for(epoch, log.log_end_offset))


def parted_from(end: EpochEnd, *, fetch_offset: int, last_fetched_epoch: int) -> bool:
    """The follower's last record before `fetch_offset`, of `last_fetched_epoch`, is not in the leader's log."""
    return end.epoch < last_fetched_epoch or end.end_offset < fetch_offset


def is_beyond_memory(log: ReplicaLog, *, fetch_offset: int, last_fetched_epoch: int) -> bool:
    """As the leader: it has deleted everything that the follower holds, and cannot say whether it ever was the same.

    The follower's last record would be the one before this log's start, of an epoch older than any known here.
    """
    if fetch_offset != log.log_start_offset or last_fetched_epoch == NO_EPOCH:
        return False
    oldest = log.leader_epochs.epoch_for(log.log_start_offset)
    return oldest is None or last_fetched_epoch < oldest


def truncation_point(log: ReplicaLog, diverging: EpochEnd) -> int:
    """As the follower: where to cut, given where the leader's log ended the largest epoch that both may know.

    Where the follower does not know that epoch it cuts back to its own largest smaller one, and asks again (KIP-279).
    """
    epoch, end_offset = log.leader_epochs.end_offset_for(diverging.epoch, log.log_end_offset)
    if epoch == NO_EPOCH:
        return min(diverging.end_offset, log.log_end_offset)
    if epoch != diverging.epoch:
        return min(end_offset, log.log_end_offset)
    return min(end_offset, diverging.end_offset, log.log_end_offset)
