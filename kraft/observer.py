"""A node that is no voter: it follows the metadata log by asking voters for it, and never votes or appends.

Owns which voter is asked, how far this node has applied, and the snapshot that is being gathered. It keeps nothing on
disk: at its start it takes a snapshot from a voter and the entries behind it. A copy of its own could only be older,
and a node that reaches no voter could not be unfenced with it either.

Refuses: proposals and barriers (`NotLeader`, naming the leader). Invariants: commands are applied once each, in the
order of the log, because only applied entries are served and each answer is taken only where it continues what is
here; the state machine is called on this thread only; an answer is bounded (kraft/log_fetch.py); the leader is asked
where it is known, another voter where the one asked is silent or knows no leader.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from crc32c import crc32c

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable, QuorumError
from kraft.log_fetch import FetchLog, FetchSnapshot, LogSlice, SnapshotChunk, decode_answer, encode
from kraft.peer_frames import Channel
from kraft.peer_transport import PeerTransport
from kraft.quorum_config import QuorumConfig, StateMachine
from kraft.status import QuorumStatus, RoleChange, VoterStatus
from kraft.threaded_quorum import MemberReports, ThreadedQuorum

LONG_POLL_MS: Final = 1000
ANSWER_TIMEOUT_S: Final = 3.0
"""Longer than the long poll and a voter's slow fsync together; then another voter is asked."""
RETRY_S: Final = 0.05
AVOID_S: Final = 1.0
LEADER_FORGOTTEN_S: Final = 3.0

_log = structlog.get_logger("kraft.observer")


class Observer(ThreadedQuorum):
    """The `MetadataQuorum` of a node that is no voter."""

    def __init__(self, config: QuorumConfig, state_machine: StateMachine) -> None:
        assert not config.is_voter, f"node {config.node_id} is a voter: it needs a RaftQuorum"
        super().__init__(config, lambda reports: ObserverMember(config, state_machine, reports))


class ObserverMember:
    """Made, used and closed on the observer's thread; its integers may be read from any."""

    is_leader = False
    is_followed = False

    def __init__(self, config: QuorumConfig, state_machine: StateMachine, reports: MemberReports) -> None:
        self.leader_id: int | None = None
        self.term = 0
        self.last_applied = 0
        self.transport = PeerTransport(config, wake=lambda: None)
        self._config = config
        self._machine = state_machine
        self._reports = reports
        self._snapshot_index = 0
        self._chunks = bytearray()
        self._chunks_index = 0
        self._must_fetch_snapshot = False
        self._committed = 0
        self._turn = config.node_id  # observers begin at different voters
        self._avoided_until_s: dict[int, float] = {}
        self._heard_at_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.transport.start()
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._task.add_done_callback(self._follow_ended)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.transport.stop()

    def propose(self, _command: bytes, outcome: Callable[[object, QuorumError | None], None]) -> None:
        outcome(None, NotLeader(self.leader_id))

    def barrier(self, outcome: Callable[[object, QuorumError | None], None]) -> None:
        outcome(None, NotLeader(self.leader_id))

    def status(self) -> QuorumStatus:
        return QuorumStatus(
            node_id=self._config.node_id,
            term=self.term,
            leader_id=self.leader_id,
            commit_index=max(self._committed, self.last_applied),
            last_applied=self.last_applied,
            log_start_index=self.last_applied + 1,
            log_end_index=self.last_applied,
            snapshot_index=self._snapshot_index,
            voters=tuple(
                VoterStatus(node_id, host, port, match_index=None, lag=None, last_heard_ms=None, directory_ok=True)
                for node_id, (host, port) in sorted(self._config.voters.items())
            ),
        )

    async def _follow(self) -> None:
        while True:
            voter_id = self._voter_to_ask()
            if voter_id is None or not await self._ask(voter_id):
                self._forget_silent_leader()
                await asyncio.sleep(RETRY_S)
            self._reports.flush()

    def _follow_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reports.failed(error)

    def _voter_to_ask(self) -> int | None:
        """The leader if it is linked and answers, else the linked voters in turn."""
        now_s = asyncio.get_running_loop().time()
        linked = sorted(self.transport.connected_ids() & self._config.voters.keys())
        answering = [node_id for node_id in linked if self._avoided_until_s.get(node_id, 0.0) <= now_s]
        if self.leader_id in answering:
            return self.leader_id
        candidates = answering or linked
        self._turn += 1
        return candidates[self._turn % len(candidates)] if candidates else None

    async def _ask(self, voter_id: int) -> bool:
        """One question; False where it brought nothing and the next should wait a little."""
        question: FetchLog | FetchSnapshot = FetchLog(self.last_applied + 1, LONG_POLL_MS)
        if self._must_fetch_snapshot:
            question = FetchSnapshot(self._chunks_index, len(self._chunks))
        try:
            payload = await self.transport.requests.call(
                voter_id, Channel.METADATA_LOG, encode(question), timeout_s=ANSWER_TIMEOUT_S
            )
            answer = decode_answer(payload)
        except (PeerUnavailable, OutcomeUnknown, msgspec.MsgspecError) as error:
            _log.info("a voter did not serve the metadata log", peer_id=voter_id, reason=str(error))
            self._avoided_until_s[voter_id] = asyncio.get_running_loop().time() + AVOID_S
            return False
        if isinstance(answer, SnapshotChunk):
            return self._take_chunk(answer)
        return self._take_slice(voter_id, answer)

    def _take_slice(self, voter_id: int, answer: LogSlice) -> bool:
        self._heard(voter_id, answer)
        self._committed = max(self._committed, answer.last_applied)
        if answer.is_compacted:
            self._must_fetch_snapshot = True
            return True
        before = self.last_applied
        for index, command in answer.entries:
            assert index > self.last_applied, f"entry {index} was served after {self.last_applied}"
            self._machine.apply(index, command)
            self.last_applied = index
        self.last_applied = max(self.last_applied, answer.next_index - 1)
        if self.last_applied > before:
            self._report_applied()
        return self.last_applied > before or answer.leader_id is not None

    def _take_chunk(self, chunk: SnapshotChunk) -> bool:
        if chunk.snapshot_index != self._chunks_index or chunk.offset != len(self._chunks):
            self._chunks.clear()
            self._chunks_index = chunk.snapshot_index
        if chunk.offset != len(self._chunks):
            return False
        self._chunks += chunk.data
        if len(self._chunks) < chunk.total_bytes:
            return bool(chunk.data)
        snapshot = bytes(self._chunks)
        self._chunks, self._chunks_index, self._must_fetch_snapshot = bytearray(), 0, False
        if crc32c(snapshot) != chunk.crc32c:
            _log.warning("a snapshot of the metadata arrived damaged; it is fetched again", index=chunk.snapshot_index)
            return False
        if chunk.snapshot_index > self.last_applied:
            self._machine.restore(chunk.snapshot_index, snapshot)
            self.last_applied = self._snapshot_index = chunk.snapshot_index
            self._report_applied()
        return True

    def _report_applied(self) -> None:
        self._reports.applied(self.last_applied)
        self._reports.status_changed(self.status())

    def _heard(self, voter_id: int, answer: LogSlice) -> None:
        """Follow what the voter knows of the leader, unless this node has heard of a later term."""
        if answer.leader_id is not None:
            self._heard_at_s = asyncio.get_running_loop().time()
        else:
            self._avoided_until_s[voter_id] = asyncio.get_running_loop().time() + AVOID_S
        if answer.term > self.term or (answer.term == self.term and answer.leader_id is not None):
            self._set_role(answer.term, answer.leader_id)

    def _forget_silent_leader(self) -> None:
        if asyncio.get_running_loop().time() - self._heard_at_s > LEADER_FORGOTTEN_S:
            self._set_role(self.term, None)

    def _set_role(self, term: int, leader_id: int | None) -> None:
        if (term, leader_id) != (self.term, self.leader_id):
            self.term, self.leader_id = term, leader_id
            self._reports.role_changed(RoleChange(term=term, leader_id=leader_id, is_leader=False))
            self._reports.status_changed(self.status())
