"""How the log travels: what a follower answers, and what a leader sends and counts. The layer above elections.

Invariants
- A follower acknowledges only what its log has in common with the leader's, as of the leader's term; nothing leaves
  before it is synced (`Core.tick`).
- The commit index moves only to entries that are known to match: a snapshot's chunk commits nothing, and a leader's
  commit index counts up to the last entry that its message covers.
- An answer counts only in the term in which it was given, and for the directory that is committed for its sender.
- What the log already has is kept when a snapshot of less arrives.
"""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from kraft.disk import Disk
from kraft.elections import Elections
from kraft.log_matching import Matched, are_contiguous, match_entries
from kraft.pinned_syncobj import LEADER
from kraft.raft_messages import RaftMessage
from kraft.replication_progress import Mode, OutgoingSnapshot, ReplicationProgress
from kraft.snapshot import IncomingSnapshot, Snapshot, decode_snapshot, read_snapshot_file, store_snapshot
from kraft.voter_directories import Newcomers
from kraft.voters import Voter

PROBE_BYTES = 64 * 1024
"""A probe is repeated with every heartbeat until it is answered: it carries little."""

logger = logging.getLogger(__name__)


class Replication(Elections):
    """Needs `disk` and `restore` too."""

    disk: Disk
    restore: Callable[[Snapshot], None]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.progress: dict[Voter, ReplicationProgress] = {}
        self.newcomers = Newcomers()
        self.owes_sync = False
        """An acknowledgement is queued whose entries may not be on disk yet."""
        self.replicate_soon = False
        self._replicated_through = (0, 0)
        self._incoming: IncomingSnapshot | None = None
        self._outgoing: OutgoingSnapshot | None = None

    # The follower's side

    def on_append_entries(self, voter: Voter, message: RaftMessage) -> None:
        prev_index, entries = message["prev_log_index"], message["entries"]
        if message["term"] < self.current_term:
            self._answer_only_term(voter)
            return
        if not are_contiguous(prev_index, entries):
            logger.warning("%s sent entries that do not follow %d; dropped", voter, prev_index)
            return
        self.accept_leader(voter, message["term"])
        result = match_entries(self.journal, self.committed, prev_index, message["prev_log_term"], entries)
        if isinstance(result, Matched):
            self._commit(min(message["commit_index"], result.match_index))
            self._acknowledge(voter, result.match_index)
        else:
            self._answer(voter, next_index=result.agreed_at_most + 1, rejected=prev_index, hint_term=result.term)

    def _commit(self, index: int) -> None:
        if index > self.committed:
            self.committed = index
            self.journal.setRaftCommitIndex(index)

    def _acknowledge(self, voter: Voter, match_index: int) -> None:
        self.owes_sync = True
        self._answer(voter, next_index=match_index + 1)

    def _answer(self, voter: Voter, *, next_index: int, rejected: int | None = None, hint_term: int = 0) -> None:
        self.links.send(
            voter,
            {
                "type": "next_node_idx",
                "term": self.current_term,
                "success": rejected is None,
                "next_node_idx": next_index,
                "rejected": rejected or 0,
                "hint_term": hint_term,
            },
        )

    def _answer_only_term(self, voter: Voter) -> None:
        """To a leader of an older term: it may lead this one by now, and would take a position for a probe's answer."""
        self._answer(voter, next_index=0, rejected=0)

    def on_snapshot_chunk(self, voter: Voter, message: RaftMessage) -> None:
        if message["term"] < self.current_term:
            self._answer_only_term(voter)
            return
        self.accept_leader(voter, message["term"])
        index, term = message["snapshot_index"], message["snapshot_term"]
        if index <= self.committed or self.journal.term_at(index) == term:
            self._incoming = None
            self._acknowledge(voter, max(index, self.committed))
            return
        source = (voter.id, message["term"], index, term, message["total_bytes"])
        if self._incoming is None or self._incoming.source != source:
            self._incoming = IncomingSnapshot(source, message["total_bytes"])
        self._incoming.add(message["offset"], message["data"])
        if self._incoming.is_complete and self._install(self._incoming.content()):
            self._acknowledge(voter, index)
            return
        answer = {"type": "snapshot_chunk_ack", "term": self.current_term, "offset": self._incoming_offset()}
        self.links.send(voter, answer | {"snapshot_index": index, "snapshot_term": term})

    def _incoming_offset(self) -> int:
        return 0 if self._incoming is None else self._incoming.wanted_offset

    def _install(self, content: bytes) -> bool:
        """Become the snapshot. Its file first: from there on a crash finds it, and the journal is aligned at start."""
        self._incoming = None
        snapshot = decode_snapshot(content)
        if snapshot is None:
            logger.warning("a received snapshot does not match its checksum; asking for it again")
            return False
        store_snapshot(self.disk, content)
        self.restore(snapshot)
        self.journal.align(snapshot.index, snapshot.term)
        return True

    # The leader's side

    def on_elected(self) -> None:
        """Everybody's position is unknown. The no-op of the new term is synced before the library counts it."""
        self.newcomers = Newcomers()
        next_index = self.journal.last_index + 1
        self.progress = {voter: ReplicationProgress(None, next_index) for voter in self.others}
        self.lead()
        self.journal.sync()

    def on_connected(self, voter: Voter) -> None:
        """What was under way on the connection before may be lost."""
        if voter in self.progress:
            self.progress[voter].probe()
        self.replicate_soon = True

    def on_next_node_idx(self, voter: Voter, message: RaftMessage) -> None:
        progress = self._heard_from(voter, message)
        if progress is None:
            return
        if not message["success"]:
            agreed_at_most = self.journal.last_agreement(message["next_node_idx"] - 1, message["hint_term"])
            progress.rejected(message["rejected"], agreed_at_most)
        elif message["next_node_idx"] - 1 <= self.journal.last_index:
            progress.acknowledged(message["next_node_idx"] - 1)
        self.count_match(voter)
        self.replicate_soon = True

    def on_snapshot_chunk_ack(self, voter: Voter, message: RaftMessage) -> None:
        progress = self._heard_from(voter, message)
        if progress is None or progress.snapshot is None:
            return
        snapshot = progress.snapshot
        if (snapshot.index, snapshot.term) == (message["snapshot_index"], message["snapshot_term"]):
            snapshot.offset = min(message["offset"], len(snapshot.content))
            snapshot.is_under_way = False
            self.replicate_soon = True

    def _heard_from(self, voter: Voter, message: RaftMessage) -> ReplicationProgress | None:
        """The sender's progress, if this node leads and the answer belongs to its term."""
        if message["term"] > self.current_term:
            self.adopt_term(message["term"])
        if self.state != LEADER or message["term"] != self.current_term:
            return None
        self.last_response_at[voter] = self.now()
        progress = self.progress[voter]
        if progress.directory is None:
            progress.directory = message["directory"]
        elif progress.directory != message["directory"]:
            progress = ReplicationProgress(message["directory"], self.journal.last_index + 1)
            self.progress[voter] = progress
        if self.is_seat_of(voter, message):
            self.newcomers.gone(voter.id)
        else:
            self.newcomers.seen(voter.id, UUID(bytes=message["directory"]), last_index=self.journal.last_index)
        return progress

    def count_match(self, voter: Voter) -> None:
        """Only what a seated voter holds counts towards a commit."""
        progress = self.progress[voter]
        is_seated = progress.directory is not None and self._seats.get(voter.id) == progress.directory
        self.counted_match[voter] = progress.match_index if is_seated else 0

    def send_heartbeats(self) -> None:
        """The library's timer: every follower hears something, and unanswered probes and chunks are repeated."""
        self.next_heartbeat_at = self.now() + self.config.heartbeat_interval_s
        for voter in self.others:
            self._replicate(voter, self.progress[voter], is_heartbeat=True)
        if all(progress.mode is not Mode.SNAPSHOT for progress in self.progress.values()):
            self._outgoing = None

    def replicate(self) -> None:
        """Send what has changed since the last time: new entries, a new commit index, a follower's answer."""
        through = (self.journal.last_index, self.committed)
        if self.state != LEADER or (through == self._replicated_through and not self.replicate_soon):
            return
        self._replicated_through = through
        self.replicate_soon = False
        for voter in self.others:
            self._replicate(voter, self.progress[voter], is_heartbeat=False)

    def _replicate(self, voter: Voter, progress: ReplicationProgress, *, is_heartbeat: bool) -> None:
        if voter not in self.connected:
            return
        if progress.mode is not Mode.SNAPSHOT and progress.next_index <= self.journal.first_index:
            progress.send_snapshot(self._outgoing_snapshot())
        if progress.mode is Mode.SNAPSHOT:
            self._send_chunk(voter, progress, is_heartbeat=is_heartbeat)
        elif progress.mode is Mode.PROBE:
            if is_heartbeat or not progress.is_probed:
                progress.is_probed = self._send_entries(voter, progress, PROBE_BYTES)
        else:
            self._send_ahead(voter, progress, is_heartbeat=is_heartbeat)

    def _send_ahead(self, voter: Voter, progress: ReplicationProgress, *, is_heartbeat: bool) -> None:
        is_told = False
        while progress.next_index <= self.journal.last_index and progress.window_is_open:
            if not self._send_entries(voter, progress, self.config.append_bytes_max):
                progress.probe()
                return
            is_told = True
        if not is_told and (is_heartbeat or progress.told_commit_index < self.committed):
            self._send_entries(voter, progress, 0)

    def _send_entries(self, voter: Voter, progress: ReplicationProgress, max_bytes: int) -> bool:
        prev_index = progress.next_index - 1
        entries = self.journal.entries_from(progress.next_index, max_bytes=max_bytes) if max_bytes else []
        message = {
            "type": "append_entries",
            "term": self.current_term,
            "commit_index": self.committed,
            "prev_log_index": prev_index,
            "prev_log_term": self.journal.term_at(prev_index),
            "entries": entries,
        }
        if not self.links.send(voter, message):
            return False
        progress.told_commit_index = self.committed
        if entries:
            progress.sent(entries[-1][1], sum(len(entry[0]) for entry in entries))
        return True

    def _outgoing_snapshot(self) -> OutgoingSnapshot:
        """A position of its own in the file's bytes, which the followers share."""
        if self._outgoing is None:
            snapshot, content = read_snapshot_file(self.disk)
            self._outgoing = OutgoingSnapshot(snapshot.index, snapshot.term, content)
        return OutgoingSnapshot(self._outgoing.index, self._outgoing.term, self._outgoing.content)

    def forget_outgoing_snapshot(self) -> None:
        """A newer one was taken; whoever is amid the older one gets it to its end."""
        self._outgoing = None

    def _send_chunk(self, voter: Voter, progress: ReplicationProgress, *, is_heartbeat: bool) -> None:
        snapshot = progress.snapshot
        assert snapshot is not None
        if snapshot.is_under_way and not is_heartbeat:
            return
        message = {
            "type": "snapshot_chunk",
            "term": self.current_term,
            "snapshot_index": snapshot.index,
            "snapshot_term": snapshot.term,
            "total_bytes": len(snapshot.content),
            "offset": snapshot.offset,
            "data": snapshot.content[snapshot.offset : snapshot.offset + self.config.snapshot_chunk_bytes],
        }
        snapshot.is_under_way = self.links.send(voter, message)
