"""What a follower wants of one leader, and which part of it that leader has not been told yet (KIP-227; pure).

Owns the fetch session as its client: the leader remembers what was asked, so a request names only what changed. A
leader that keeps no session (id 0) is asked for everything each time. Refuses to guess: after any error of the session
the next request is a full one.
Invariant: `changed` and `forgotten` of an incremental request together turn what the leader knows into what is wanted.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from broker.replication.follower import FetchPosition

Key = tuple[UUID, int]

NO_SESSION: Final = 0
FULL_FETCH_EPOCH: Final = 0
SESSION_EPOCH_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What one request says of the session; under `session_epoch` 0 `changed` is all that is wanted."""

    session_id: int
    session_epoch: int
    changed: dict[Key, FetchPosition]
    forgotten: list[Key]


class FetchSession:
    """One follower's fetches of one leader, over one connection."""

    def __init__(self) -> None:
        self.wanted: dict[Key, FetchPosition] = {}
        self._changed: dict[Key, None] = {}
        self._forgotten: dict[Key, None] = {}
        self._session_id = NO_SESSION
        self._epoch = FULL_FETCH_EPOCH

    def want(self, key: Key, position: FetchPosition) -> None:
        """Fetch this partition from there, from the next request on; it comes last, so that each gets its turn."""
        self.wanted.pop(key, None)
        self.wanted[key] = position
        self._changed[key] = None
        self._forgotten.pop(key, None)

    def drop(self, key: Key) -> None:
        """Fetch this partition no more; no effect where it is not wanted."""
        if self.wanted.pop(key, None) is not None:
            self._changed.pop(key, None)
            self._forgotten[key] = None

    def next_request(self) -> SessionRequest:
        """What to ask now; one request is in flight at a time."""
        if self._epoch == FULL_FETCH_EPOCH:
            request = SessionRequest(self._session_id, FULL_FETCH_EPOCH, dict(self.wanted), [])
        else:
            changed = {key: self.wanted[key] for key in self._changed}
            request = SessionRequest(self._session_id, self._epoch, changed, list(self._forgotten))
        self._changed.clear()
        self._forgotten.clear()
        return request

    def answered(self, session_id: int) -> None:
        """The leader answered the last request under this session id (0: it keeps none)."""
        if session_id == NO_SESSION:
            self._session_id, self._epoch = NO_SESSION, FULL_FETCH_EPOCH
        else:
            self._session_id = session_id
            self._epoch = 1 if self._epoch == SESSION_EPOCH_MAX else self._epoch + 1

    def reset(self) -> None:
        """The leader's memory of us cannot be relied upon: tell it everything anew."""
        self._session_id, self._epoch = NO_SESSION, FULL_FETCH_EPOCH
