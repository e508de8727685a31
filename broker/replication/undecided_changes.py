"""The changes of the in-sync replicas that a leader has asked for and whose outcome it does not know (pure; KIP-497).

Owns the answer to one question: who may be in sync already without this leader knowing? Invariants:
- S2: a joiner counts from the moment in which its joining is asked for until the image shows a newer partition epoch,
  or until the one request that named it is refused. Where a request is lost it may arrive late, even after a copy of it
  was refused: nothing but a newer partition epoch ends that doubt, and so a leader in doubt asks until it sees one.
- S9: all changes of one partition epoch are compare-and-set on it, so at most one of them ever happens.
"""

from dataclasses import dataclass

from wire.errors import ErrorCode

REFUSED_FOR_GOOD = frozenset(
    (ErrorCode.INELIGIBLE_REPLICA, ErrorCode.INVALID_REQUEST, ErrorCode.NOT_CONTROLLER, ErrorCode.UNSUPPORTED_VERSION)
)
"""Refusals that say: this request changed nothing and the partition is as this leader sees it. All others may mean that
the partition has moved on, perhaps by an earlier copy of the same change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeInSyncReplicas:
    """What a leader asks the controller for: the in-sync replicas as it wants them, with the broker epoch in which
    each was last heard (-1: not yet in this leader epoch), valid only on exactly these two epochs (S9, KIP-903).
    """

    leader_epoch: int
    partition_epoch: int
    in_sync_replicas: tuple[tuple[int, int], ...]

    @property
    def broker_ids(self) -> tuple[int, ...]:
        return tuple(broker_id for broker_id, _ in self.in_sync_replicas)


class UndecidedChanges:
    """All changes asked for since the last known partition epoch."""

    __slots__ = ("_asked", "_doubted")

    def __init__(self) -> None:
        self._asked: ChangeInSyncReplicas | None = None
        self._doubted: set[int] = set()

    @property
    def is_waiting(self) -> bool:
        """One was asked for and not answered."""
        return self._asked is not None

    @property
    def is_doubtful(self) -> bool:
        """Some request may still take effect though nobody waits for it."""
        return bool(self._doubted)

    @property
    def broker_ids(self) -> set[int]:
        """Whoever may be in sync by now."""
        return self._doubted if self._asked is None else self._doubted.union(self._asked.broker_ids)

    def asked(self, change: ChangeInSyncReplicas) -> None:
        assert self._asked is None, (self._asked, change)
        self._asked = change

    def refused(self, code: ErrorCode, *, partition_epoch: int) -> None:
        """The controller said no to the change asked for on that partition epoch."""
        if not self._waits_for(partition_epoch):
            return
        if code in REFUSED_FOR_GOOD:
            self._asked = None
        else:
            self.in_doubt(partition_epoch=partition_epoch)

    def in_doubt(self, *, partition_epoch: int) -> None:
        """The answer was lost: it may have happened, or may happen yet."""
        if self._asked is not None and self._waits_for(partition_epoch):
            self._doubted.update(self._asked.broker_ids)
            self._asked = None

    def _waits_for(self, partition_epoch: int) -> bool:
        """An answer about an epoch that is over says nothing of what was asked since."""
        return self._asked is not None and self._asked.partition_epoch == partition_epoch

    def decided(self) -> None:
        """A newer partition epoch is known: none of them can take effect any more."""
        self._asked = None
        self._doubted = set()
