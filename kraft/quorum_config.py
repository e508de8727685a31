"""What one member of the metadata quorum is told at its start, and the state machine that it carries.

Invariants: the voter list is static and odd (1, 3 or 5); `initial_directories` is given in the first formation of a
cluster and never again: a directory that lost its journal must not vote (see kraft/voter_directories.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

VOTER_COUNTS = (1, 3, 5)


class StateMachine(Protocol):
    """What the committed commands are applied to. Called on the quorum's own thread only, never re-entered.

    An exception from any of the three is fatal for the node: a machine that cannot apply what the majority has applied
    must not go on.
    """

    def apply(self, index: int, command: bytes) -> object:
        """Apply one committed command; the return value is what `propose` answers. Indexes rise, with gaps."""

    def snapshot(self) -> bytes:
        """Everything applied so far, as bytes that `restore` reads."""

    def restore(self, index: int, snapshot: bytes) -> None:
        """Forget everything; become the state that applying up to `index` gave."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """Mutual TLS on the peer link; the certificate's name is bound to the node id (kraft/peer_transport.py)."""

    certificate_file: str
    key_file: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class QuorumConfig:
    """One node's place in the quorum. A node that is not in `voters` is an observer: it never votes and never appends.

    `voters` maps node id to (host, port) of the peer listener; `listen` is this node's own bind address; `directory`
    holds the journal, the term and vote, the snapshot and a lock, and nothing else.
    """

    cluster_id: str
    node_id: int
    directory_id: UUID
    voters: Mapping[int, tuple[str, int]]
    listen: tuple[str, int]
    directory: str
    initial_directories: Mapping[int, UUID] | None = None
    """Only while `--format` forms a new cluster: the directory id of every voter. Passing it to a voter that lost its
    journal would let an empty voter vote: that is how committed metadata gets lost (S16)."""
    tls: PeerTls | None = None

    election_timeout_min_s: float = 0.4
    """Four missed heartbeats; also the time for which a voter that heard a leader ignores candidates."""
    election_timeout_max_s: float = 0.8
    """A new leader in under 2 s needs two rounds to fit."""
    heartbeat_interval_s: float = 0.1
    leader_fallback_s: float = 2.0
    """A leader that hears no majority for so long resigns. The library's own default is 30 s of split brain."""

    snapshot_entries: int = 5_000
    """Entries applied since the last snapshot before the next one is taken."""
    snapshot_journal_bytes: int = 32 * 1024 * 1024
    """Bytes of commands held in memory since the last snapshot before the next one is taken."""
    retained_entries: int = 1_000
    """Entries kept below a snapshot: whoever is only a little behind gets entries and not the whole snapshot."""
    snapshot_chunk_bytes: int = 256 * 1024
    append_bytes_max: int = 1024 * 1024
    """Commands' bytes per append_entries message; a frame of the peer link must carry this plus its envelope."""
    command_bytes_max: int = 512 * 1024

    def __post_init__(self) -> None:
        if len(self.voters) not in VOTER_COUNTS:
            raise ValueError(f"voters: {len(self.voters)} given; a quorum has 1, 3 or 5 voters")
        if not 3 * self.heartbeat_interval_s < self.election_timeout_min_s < self.election_timeout_max_s:
            raise ValueError(
                "election_timeout_min_s must lie above 3 * heartbeat_interval_s and below election_timeout_max_s"
            )
        if self.command_bytes_max >= self.append_bytes_max:
            raise ValueError("command_bytes_max must be below append_bytes_max: one command travels in one message")
        if self.initial_directories is not None and set(self.initial_directories) != set(self.voters):
            raise ValueError("initial_directories must name the directory of every voter, and of no other node")

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.voters
