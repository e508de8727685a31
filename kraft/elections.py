"""Who leads: pre-vote, votes, and when a voter refuses to hear of either. The layer of the core above the library.

Owns the mended rules of elections; candidacy itself and the counting are the library's. Invariants
- No term is raised by a voter that could not win: first a majority must say that it hears no leader and that the
  candidate's log is not behind its own (pre-vote, Raft thesis 9.6). So a voter that was cut off returns without
  deposing anybody.
- A voter that heard a leader within the minimum election timeout ignores candidates, and so does a leader that hears a
  majority (thesis 4.2.3): a refused request must not depose either.
- A voter is counted once per term, and only when it speaks from its committed directory; one that is not seated grants
  nothing and does not campaign (kraft/voter_directories.py).
- Term and vote are durable before the reply that shows them (S16).
"""

import math
from typing import Any
from uuid import UUID

from kraft.journal import DurableJournal
from kraft.pinned_syncobj import CANDIDATE, FOLLOWER, LEADER, PinnedSyncObj
from kraft.quorum_config import QuorumConfig
from kraft.raft_messages import RaftMessage
from kraft.voters import Voter


class Elections(PinnedSyncObj):
    """Needs `config`, `journal` and `directories` before the library's constructor runs."""

    config: QuorumConfig
    journal: DurableJournal

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard_leader_at = -math.inf
        self._pre_votes: set[int] | None = None
        self._has_won_pre_vote = False
        self._votes: tuple[int, set[int]] = (0, set())

    @property
    def directories(self) -> dict[int, UUID]:
        """The committed directory of each voter, as applied so far."""
        return self._directories

    @directories.setter
    def directories(self, directories: dict[int, UUID]) -> None:
        self._directories = directories
        self._seats = {node_id: directory.bytes for node_id, directory in directories.items()}

    @property
    def is_seated(self) -> bool:
        """Whether this voter's directory is the committed one."""
        return self._seats.get(self.config.node_id) == self.journal.directory_id.bytes

    def is_seat_of(self, voter: Voter, message: RaftMessage) -> bool:
        """Whether a message comes from the committed directory of its sender."""
        return self._seats.get(voter.id) == message["directory"]

    def is_majority(self, voters: int) -> bool:
        return 2 * voters > len(self.config.voters)

    def campaign_when_due(self) -> None:
        """Nobody leads that this voter hears: ask whether an election could be won. A single voter has won already.

        A won pre-vote makes `campaign_at` past, which is what the library's next tick campaigns on.
        """
        now = self.now()
        if self.state == LEADER or now < self.campaign_at or self._has_won_pre_vote:
            return
        self.campaign_at = now + self.election_timeout_s()
        self.leader = None
        if not self.is_seated:
            return
        self._pre_votes = {self.config.node_id}
        for voter in self.others:
            self.links.send(voter, self._candidacy("pre_vote", self.current_term + 1))
        self._campaign_if_winnable()

    def _candidacy(self, kind: str, term: int) -> dict[str, Any]:
        last_index, last_term = self.journal.last_index, self.journal.last_term
        return {"type": kind, "term": term, "last_log_index": last_index, "last_log_term": last_term}

    def _campaign_if_winnable(self) -> None:
        if self._pre_votes is not None and self.is_majority(len(self._pre_votes)):
            self._pre_votes = None
            self._has_won_pre_vote = True
            self.campaign_at = -math.inf

    def tick_library(self) -> None:
        """One turn of the library: campaign if the pre-vote was won, count matches, apply, heartbeat, compact."""
        self.library_tick()
        self._has_won_pre_vote = False

    def hears_leader(self) -> bool:
        """Whether a leader, maybe this node itself, was in contact within the minimum election timeout."""
        since = self.now() - self.config.election_timeout_min_s
        if self.state == LEADER:
            return self.is_majority(1 + sum(heard_at > since for heard_at in tuple(self.last_response_at.values())))
        return self.heard_leader_at > since

    def leader_silent_ms(self) -> int:
        """Since when the leader that this node followed last is silent; 0 where it never followed one."""
        return 0 if self.heard_leader_at == -math.inf else int(1000 * (self.now() - self.heard_leader_at))

    def adopt_term(self, term: int) -> None:
        """A higher term was seen: whatever this node was, it follows now, and knows no leader yet."""
        assert term > self.current_term
        self.store_term(term, None)
        if self.state != FOLLOWER:
            self.campaign_at = self.now() + self.election_timeout_s()
        self.become_follower()
        self.leader = None
        self._pre_votes = None
        self._has_won_pre_vote = False

    def accept_leader(self, voter: Voter, term: int) -> None:
        """A leader of this term or a later one spoke."""
        if term > self.current_term:
            self.store_term(term, None)
        else:
            assert self.state != LEADER, f"two leaders in term {term}: {voter} and this node"
            assert self.leader in {None, voter}, f"two leaders in term {term}: {voter} and {self.leader}"
        if self.state != FOLLOWER:
            self.become_follower()
        self.leader = voter
        self.heard_leader_at = self.now()
        self.campaign_at = self.heard_leader_at + self.election_timeout_s()
        self._pre_votes = None
        self._has_won_pre_vote = False

    def on_pre_vote(self, voter: Voter, message: RaftMessage) -> None:
        granted = (
            message["term"] > self.current_term
            and self.state != LEADER
            and not self.hears_leader()
            and self._may_vote_for(voter, message)
        )
        answer = {"type": "response_pre_vote", "term": self.current_term}
        self.links.send(voter, answer | {"campaign_term": message["term"], "granted": granted})

    def on_response_pre_vote(self, voter: Voter, message: RaftMessage) -> None:
        if message["term"] > self.current_term:
            # Without this a candidate with the longest log and an old term would be refused for ever.
            self.adopt_term(message["term"])
            return
        is_current = message["campaign_term"] == self.current_term + 1
        if self._pre_votes is not None and is_current and message["granted"] and self.is_seat_of(voter, message):
            self._pre_votes.add(voter.id)
            self._campaign_if_winnable()

    def on_request_vote(self, voter: Voter, message: RaftMessage) -> None:
        if self.hears_leader() or not self.is_seated or not self.is_seat_of(voter, message):
            return
        if message["term"] > self.current_term:
            self.adopt_term(message["term"])
        is_free = self.state == FOLLOWER and self.leader is None and self.voted_for in {None, voter.id}
        if message["term"] < self.current_term or not is_free or not self._may_vote_for(voter, message):
            return
        self.store_term(self.current_term, voter.id)
        self.campaign_at = self.now() + self.election_timeout_s()
        self.links.send(voter, {"type": "response_vote", "term": self.current_term})

    def _may_vote_for(self, voter: Voter, message: RaftMessage) -> bool:
        """Both are seated, and the candidate's log is not behind this one (Raft, section 5.4.1)."""
        theirs = (message["last_log_term"], message["last_log_index"])
        ours = (self.journal.last_term, self.journal.last_index)
        return self.is_seated and self.is_seat_of(voter, message) and theirs >= ours

    def on_response_vote(self, voter: Voter, message: RaftMessage) -> None:
        if self.state != CANDIDATE or message["term"] != self.current_term or not self.is_seat_of(voter, message):
            return
        if self._votes[0] != self.current_term:
            self._votes = (self.current_term, set())
        if voter.id not in self._votes[1]:
            self._votes[1].add(voter.id)
            self.count_vote(voter)
