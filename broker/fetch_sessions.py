"""Fetch sessions (KIP-227): what a client fetches is remembered, so that a request and its answer name only changes.

Owns the sessions of this node: their ids and epochs, how many there may be, and who makes room for whom. Refuses
(RefusedError) an id that it does not know (FETCH_SESSION_ID_NOT_FOUND), an epoch that is not the next one
(INVALID_FETCH_SESSION_EPOCH), and a session that is spoken to by topic ids and by names
(FETCH_SESSION_TOPIC_ID_ERROR); the client then begins anew with a full fetch.
Invariants: no more than `slots` sessions; a follower's session is never given up for a consumer's; a session answers
one request at a time, in the order of their epochs, and only to whom it belongs.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from broker.partition_fetches import Answered, FetchedPartition, FetchSet, Follower
from wire.errors import ErrorCode, RefusedError

NO_SESSION: Final = 0
FULL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
EPOCH_MAX: Final = 2**31 - 1
STALE_AFTER_S: Final = 120.0
"""Unused for so long a session makes room for any other, and so long a new one is safe from larger ones (Kafka's)."""


class FetchSession:
    """What one client fetches, over as many requests as it likes."""

    __slots__ = ("created_s", "epoch", "fetched", "session_id", "used_s", "uses_topic_ids")

    def __init__(self, session_id: int, fetched: FetchSet, *, uses_topic_ids: bool, now_s: float) -> None:
        self.session_id = session_id
        self.epoch = 1  # that of the next request
        self.fetched = fetched
        self.uses_topic_ids = uses_topic_ids
        self.created_s = self.used_s = now_s

    @property
    def follower(self) -> Follower | None:
        return self.fetched.follower

    @property
    def size(self) -> int:
        return len(self.fetched)


class Named(NamedTuple):
    """What a request says of its session."""

    session_id: int
    epoch: int

    @property
    def is_full(self) -> bool:
        return self.epoch in (FULL_EPOCH, FINAL_EPOCH)


def must_tell(partition: FetchedPartition, answered: Answered) -> bool:
    """Whether an incremental answer has anything to say of this partition."""
    found = answered.fetched
    return (
        found is None
        or found.diverging is not None
        or len(found.slice.data) > 0
        or found.high_watermark != partition.sent_high_watermark
        or found.log_start_offset != partition.sent_log_start_offset
    )


def note_told(partition: FetchedPartition, answered: Answered) -> None:
    """The client will know this of the partition."""
    found = answered.fetched
    partition.sent_high_watermark = -1 if found is None else found.high_watermark
    partition.sent_log_start_offset = -1 if found is None else found.log_start_offset


class FetchSessions:
    """All sessions of a node. `new_id` gives an id from 1 to 2^31-1, by chance; `now_s` is a monotonic clock."""

    def __init__(self, *, slots: int, new_id: Callable[[], int], now_s: Callable[[], float]) -> None:
        self._slots = slots
        self._new_id = new_id
        self._now_s = now_s
        self._sessions: dict[int, FetchSession] = {}  # the one unused for the longest time first

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, fetched: FetchSet, *, uses_topic_ids: bool) -> FetchSession | None:
        """Remember what a full fetch asked for; None where there is no room: the client fetches fully each time."""
        now_s = self._now_s()
        if not len(fetched) or not self._has_room(fetched, now_s):
            return None
        session_id = self._new_id()
        while session_id in self._sessions:
            session_id = self._new_id()
        session = FetchSession(session_id, fetched, uses_topic_ids=uses_topic_ids, now_s=now_s)
        self._sessions[session_id] = session
        fetched.watch()
        return session

    def resume(self, named: Named, *, follower: Follower | None, uses_topic_ids: bool) -> FetchSession:
        """The session of an incremental fetch, which from here on expects the next epoch."""
        session = self._sessions.get(named.session_id)
        if session is None or session.follower != follower:
            raise RefusedError(
                ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
                f"fetch session {named.session_id} is not known here (any more): begin a new one with a full fetch",
            )
        if session.epoch != named.epoch:
            raise RefusedError(
                ErrorCode.INVALID_FETCH_SESSION_EPOCH,
                f"fetch session {named.session_id} expects epoch {session.epoch}, not {named.epoch}",
            )
        if session.uses_topic_ids != uses_topic_ids:
            self.close(named.session_id, follower=follower)
            raise RefusedError(
                ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
                f"fetch session {named.session_id} was begun {'with' if session.uses_topic_ids else 'without'} topic "
                "ids: begin a new one with a full fetch",
            )
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_s = self._now_s()
        del self._sessions[named.session_id]
        self._sessions[named.session_id] = session
        return session

    def close(self, session_id: int, *, follower: Follower | None) -> None:
        """Forget it; no effect for one that is not known or belongs to another."""
        session = self._sessions.get(session_id)
        if session is not None and session.follower == follower:
            self._forget(session)

    def close_all(self) -> None:
        for session in list(self._sessions.values()):
            self._forget(session)

    def _forget(self, session: FetchSession) -> None:
        del self._sessions[session.session_id]
        session.fetched.close()

    def _has_room(self, fetched: FetchSet, now_s: float) -> bool:
        """Give up one that is stale, else the smallest that is less important than the new one."""
        if len(self._sessions) < self._slots:
            return True
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        stale_s = now_s - STALE_AFTER_S
        if oldest.used_s <= stale_s and (oldest.follower is None or fetched.follower is not None):
            self._forget(oldest)
            return True
        consumers = [session for session in self._sessions.values() if session.follower is None]
        if fetched.follower is None:
            size = len(fetched)
            consumers = [one for one in consumers if one.size < size and one.created_s <= stale_s]
        if not consumers:
            return False
        self._forget(min(consumers, key=lambda session: session.size))
        return True
