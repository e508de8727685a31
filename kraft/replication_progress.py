"""How far one follower is, as its leader knows it, and what to send it next.

Owns the three modes of etcd's raft: PROBE (one message, then wait: where do the logs agree?), REPLICATE (a window of
messages ahead of the acknowledgements) and SNAPSHOT (chunks, because the entry that it needs is compacted). Refuses
stale answers: a late rejection must not undo an acknowledgement, and while probing only the answer to the outstanding
probe moves the position, so the walk back is monotone.

Pure: no disk, no clock, no network.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

WINDOW_MESSAGES = 64
DENIALS_BELIEVED = 3
"""One may be late; so many answered probes in a row mean that the follower's disk lost what it had acknowledged."""
WINDOW_BYTES = 8 * 1024 * 1024


class Mode(Enum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


@dataclass(slots=True)
class OutgoingSnapshot:
    """The follower has acknowledged `offset` bytes; the chunk from there on is under way if `is_under_way`."""

    index: int
    term: int
    content: bytes
    offset: int = 0
    is_under_way: bool = False


class ReplicationProgress:
    """One follower with one directory: a wiped one starts anew."""

    def __init__(self, directory: bytes | None, next_index: int) -> None:
        self.directory = directory
        self.match_index = 0
        self.next_index = next_index
        self.mode = Mode.PROBE
        self.is_probed = False
        self.snapshot: OutgoingSnapshot | None = None
        self.told_commit_index = 0
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._denials = 0

    def sent(self, last_index: int, size_bytes: int) -> None:
        """A message with entries up to `last_index` was queued."""
        if self.mode is Mode.REPLICATE:
            self.next_index = last_index + 1
            self._in_flight.append((last_index, size_bytes))
            self._in_flight_bytes += size_bytes

    @property
    def window_is_open(self) -> bool:
        return len(self._in_flight) < WINDOW_MESSAGES and self._in_flight_bytes < WINDOW_BYTES

    def acknowledged(self, match_index: int) -> None:
        """The follower's log equals the leader's up to `match_index`, durably."""
        reached = self.match_index if self.snapshot is None else self.snapshot.index
        if match_index >= reached and self.mode is not Mode.REPLICATE:
            self._start_replicating(match_index)
        self._denials = 0
        self.match_index = max(self.match_index, match_index)
        self.next_index = max(self.next_index, self.match_index + 1)
        while self._in_flight and self._in_flight[0][0] <= self.match_index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]

    def rejected(self, rejected_index: int, agreed_at_most: int) -> None:
        """The follower does not have the leader's entry at `rejected_index`, and can agree at most up to the other."""
        if self.mode is Mode.REPLICATE:
            if rejected_index > self.match_index:
                self.probe()
        elif self.mode is Mode.PROBE and rejected_index == self.next_index - 1:
            if rejected_index == self.match_index:
                self._denied()
            self.next_index = max(min(rejected_index, agreed_at_most + 1), self.match_index + 1)
            self.is_probed = False

    def _denied(self) -> None:
        """It lacks what it acknowledged. Believed, that counts for no commit any more, and it gets all anew.

        Without that it would be asked the same for as long as this leader leads (L1).
        """
        self._denials += 1
        if self._denials >= DENIALS_BELIEVED:
            self._denials = 0
            self.match_index = 0

    def probe(self) -> None:
        """Messages may be lost: find out anew, from what is acknowledged on."""
        if self.mode is Mode.REPLICATE:
            self.next_index = self.match_index + 1
        self.mode = Mode.PROBE
        self.is_probed = False
        self.snapshot = None
        self._forget_flight()

    def send_snapshot(self, snapshot: OutgoingSnapshot) -> None:
        """Entries that it needs are gone."""
        self.mode = Mode.SNAPSHOT
        self.snapshot = snapshot
        self._forget_flight()

    def _start_replicating(self, match_index: int) -> None:
        self.mode = Mode.REPLICATE
        self.snapshot = None
        self.next_index = match_index + 1
        self._forget_flight()

    def _forget_flight(self) -> None:
        self._in_flight.clear()
        self._in_flight_bytes = 0
