"""The Raft core: pysyncobj's SyncObj with its faults mended. One thread owns it and calls everything on it.

Layers, bottom to top: the library under plain names (pinned_syncobj.py), who leads (elections.py), how the log travels
(replication.py), and here: proposals, applying, snapshots, failure, and the one order of a turn.

Driver's contract
- `transport` is a pysyncobj `Transport` with one more method, `flush()`. `send(voter, message) -> bool` only queues
  (False: not connected or queue full, and nothing was queued); nothing may leave before the core calls `flush()`, which
  it does from `tick()` when everything that the messages promise is on disk. `ready` is True from the start.
  The shapes of messages stand in kraft/raft_messages.py; the transport drops what does not have them.
- The transport calls `self._onNodeConnected(Voter(id))`, `self._onNodeDisconnected(...)` and
  `self._onMessageReceived(Voter(id), message)` for voters only, on the core's thread, never from inside `send`/`flush`,
  and then sees to it that `tick()` runs soon (one tick may serve many messages).
- `tick()` runs at least every 50 ms, and soon after any message, connection or proposal. It returns True when it wants
  to be called again at once. It never raises: a fatal error is reported once to `on_failure`; after it the core
  sends nothing, answers nothing and ignores everything.
- Callbacks come from inside `tick()`, last, when the core is at rest: they may call `propose`, `barrier` and `status`,
  not `tick`. One that raises is a fatal error.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj import SyncObjConf

from kraft.disk import Disk, PosixDisk
from kraft.entry_kinds import EntryKind
from kraft.errors import NotLeader, OutcomeUnknown, QuorumError
from kraft.formation import open_journal
from kraft.pinned_syncobj import LEADER
from kraft.quorum_config import QuorumConfig, StateMachine
from kraft.raft_messages import RaftMessage
from kraft.replication import Replication
from kraft.snapshot import Snapshot, load_snapshot, store_snapshot
from kraft.status import QuorumStatus, RoleChange, VoterStatus
from kraft.voter_directories import decode_changes, encode_changes, with_changes
from kraft.voters import Voter
from wire.errors import ErrorCode, RefusedError

Outcome = Callable[[object, QuorumError | None], None]
"""Called once: (the state machine's answer, None), or (None, NotLeader | OutcomeUnknown)."""

APPLY_ENTRIES_MAX = 1_000
"""Entries applied per tick: heartbeats and votes must not wait for a long log."""
UNCOMMITTED_ENTRIES_MAX = 20_000
"""Proposals beyond this are refused: a leader without a majority must not fill its memory until it resigns."""

logger = logging.getLogger(__name__)


class CoreTransport(Protocol):
    """A pysyncobj Transport that queues in `send` and lets go in `flush`."""

    @property
    def ready(self) -> bool: ...
    def send(self, node: Any, message: Any) -> bool: ...
    def flush(self) -> None: ...
    def destroy(self) -> None: ...


class StampedLinks:
    """The transport as the core uses it: every message carries the sender's directory id."""

    ready = True

    def __init__(self, transport: CoreTransport, directory: bytes) -> None:
        self._transport = transport
        self._directory = directory
        self.flush = transport.flush
        self.destroy = transport.destroy

    def send(self, voter: Voter, message: dict[str, Any]) -> bool:
        message["directory"] = self._directory
        return self._transport.send(voter, message)


class Core(Replication):
    def __init__(
        self,
        config: QuorumConfig,
        state_machine: StateMachine,
        transport: CoreTransport,
        *,
        disk: Disk | None = None,
        on_applied: Callable[[int], None] = lambda _: None,
        on_role_change: Callable[[RoleChange], None] = lambda _: None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Open journal, term, vote and snapshot and restore the state machine; raises what is wrong with them.

        `on_applied` gets the last applied index, once per tick that applied something, after the outcomes of its
        proposals. DamagedError, OSError or the state machine's own exception: no message has left.
        """
        assert config.is_voter, f"node {config.node_id} is no voter; it observes"
        self.config = config
        self.state_machine = state_machine
        self.failure: BaseException | None = None
        self._on_applied, self._on_role_change, self._on_failure = on_applied, on_role_change, on_failure
        self._waiting: dict[int, tuple[int, Outcome]] = {}
        self._outcomes: list[tuple[Outcome, object, QuorumError | None]] = []
        self._open_barriers: list[Outcome] = []
        self._snapshot_index = 1
        self._applied_bytes = 0
        self._reported_applied = 0
        self._reported_role = RoleChange(0, None, is_leader=False)
        self._is_closed = False
        self.disk = PosixDisk(config.directory) if disk is None else disk
        self.disk.lock()
        try:
            self._open(transport)
        except BaseException:
            self.disk.close()
            raise

    def _open(self, transport: CoreTransport) -> None:
        config = self.config
        self.journal = open_journal(config, self.disk)
        self.directories = {}
        snapshot = load_snapshot(self.disk)
        self.journal.align(*((1, 0) if snapshot is None else (snapshot.index, snapshot.term)))
        others = [Voter(node_id) for node_id in sorted(config.voters) if node_id != config.node_id]
        super().__init__(Voter(config.node_id), others, self._library_config(), transport)
        self.links = StampedLinks(transport, self.journal.directory_id.bytes)
        self._recover(snapshot)
        if not others:
            self.campaign_at = self.now()

    def _library_config(self) -> SyncObjConf:
        """What is left to the library; `journalFile` is the journal itself (see kraft/pinned_syncobj.py)."""
        config = self.config
        return SyncObjConf(
            autoTick=False,
            journalFile=self.journal,
            raftMinTimeout=config.election_timeout_min_s,
            raftMaxTimeout=config.election_timeout_max_s,
            connectionTimeout=10 * config.election_timeout_max_s,
            appendEntriesPeriod=config.heartbeat_interval_s,
            leaderFallbackTimeout=config.leader_fallback_s,
            appendEntriesUseBatch=True,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            useFork=False,
            onStateChanged=self._state_changed,
        )

    def _recover(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self.restore(snapshot)
        self.committed = max(self.committed, self.applied)
        while self.applied < self.committed:
            self.apply_committed()
        self._reported_applied = self.applied

    # The turn

    def tick(self) -> bool:
        """One turn; see the driver's contract. True: call again at once."""
        if self.failure is not None or self._is_closed:
            return False
        try:
            self._turn()
        except BaseException as failure:  # whatever it is, this core must not go on
            self._fail(failure)
            if not isinstance(failure, Exception):
                raise
            return False
        return self.applied < self.committed or not self.journal.is_synced

    def _turn(self) -> None:
        """The durability order: entries to followers, our own disk, answers that rest on it, then count and apply.

        A leader's entries promise nothing, so they leave while its own disk works; what a follower acknowledges and
        what a leader counts for itself is synced before (S16).
        """
        self._open_barriers = []
        if not self.owes_sync:
            self.replicate()
            self.links.flush()
        self.journal.sync()
        self.owes_sync = False
        self.links.flush()
        self.campaign_when_due()
        self.tick_library()
        self._seat_newcomers()
        self.replicate()
        self.links.flush()
        assert self.state != LEADER or self.committed <= self.journal.durable_index, "counted what is not on disk"
        self._deliver()

    def on_message(self, voter: Voter, message: RaftMessage) -> None:
        """A message of a peer, of a shape that the transport has checked."""
        if self.failure is not None or self._is_closed:
            return
        try:
            self._handlers[message["type"]](self, voter, message)
        except BaseException as failure:  # whatever it is, this core must not go on
            self._fail(failure)
            if not isinstance(failure, Exception):
                raise

    _handlers: dict[str, Callable[["Core", Voter, RaftMessage], None]] = {  # noqa: RUF012 - a constant of the class
        "append_entries": Replication.on_append_entries,
        "next_node_idx": Replication.on_next_node_idx,
        "snapshot_chunk": Replication.on_snapshot_chunk,
        "snapshot_chunk_ack": Replication.on_snapshot_chunk_ack,
        "request_vote": Replication.on_request_vote,
        "response_vote": Replication.on_response_vote,
        "pre_vote": Replication.on_pre_vote,
        "response_pre_vote": Replication.on_response_pre_vote,
    }

    def _deliver(self) -> None:
        """Tell the outside, last: what it does in a callback finds the core at rest."""
        outcomes, self._outcomes = self._outcomes, []
        for outcome, answer, error in outcomes:
            outcome(answer, error)
        if self.applied != self._reported_applied:
            self._reported_applied = self.applied
            self._on_applied(self.applied)
        silent_ms = self.leader_silent_ms()
        role = RoleChange(self.term, self.leader_id, is_leader=self.is_leader, leader_silent_ms=silent_ms)
        if role != self._reported_role:
            self._reported_role = role
            self._on_role_change(role)

    # Proposals

    def propose(self, command: bytes, outcome: Outcome) -> None:
        """Append on the leader. Not the leader: `outcome(None, NotLeader)` at once, from inside this call.

        RefusedError, nothing appended: MESSAGE_TOO_LARGE above config.command_bytes_max, THROTTLING_QUOTA_EXCEEDED
        while too much waits for a majority.
        """
        if len(command) > self.config.command_bytes_max:
            raise RefusedError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the change is {len(command)} bytes and one change of the cluster metadata is at most "
                f"{self.config.command_bytes_max}; split the request",
            )
        if not self.is_leader:
            outcome(None, NotLeader(self.leader_id))
            return
        if self.journal.last_index - self.committed >= UNCOMMITTED_ENTRIES_MAX:
            raise RefusedError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                f"{UNCOMMITTED_ENTRIES_MAX} changes wait for a majority of the metadata quorum; retry later",
            )
        self._waiting[self._append(EntryKind.APPLICATION, command)] = (self.current_term, outcome)

    def barrier(self, outcome: Outcome) -> None:
        """The result is an index: all that was acknowledged before this call is applied here, and this node leads."""
        if not self.is_leader:
            outcome(None, NotLeader(self.leader_id))
            return
        # Only barriers of the same turn share an entry: one that was sent before may be acknowledged from the past.
        self._open_barriers.append(outcome)
        if len(self._open_barriers) == 1:
            index = self._append(EntryKind.NO_OP, b"")
            self._waiting[index] = (self.current_term, _all_of(self._open_barriers, index))

    def _append(self, kind: EntryKind, payload: bytes) -> int:
        index = self.journal.last_index + 1
        self.journal.add(kind.prefix + payload, index, self.current_term)
        return index

    def _state_changed(self, old_state: int, _new_state: int) -> None:
        """The library's callback. Whoever waits for a deposed leader learns that the outcome is unknown, at once."""
        if old_state == LEADER:
            self._abandon_waiting()

    def _abandon_waiting(self) -> None:
        unknown = OutcomeUnknown("leadership was lost before the change was known to be committed")
        self._outcomes += [(outcome, None, unknown) for _term, outcome in self._waiting.values()]
        self._waiting.clear()

    def _seat_newcomers(self) -> None:
        """Propose the directory of a voter that lost its own and has caught up."""
        if self.state != LEADER:
            return
        for voter in self.others:
            change = self.newcomers.due(
                voter.id,
                match_index=self.progress[voter].match_index,
                committed=self.directories.get(voter.id),
            )
            if change is not None:
                self._append(EntryKind.VOTER_DIRECTORIES, encode_changes([change]))

    # Applying

    def apply_committed(self) -> None:
        """Apply in order, once. What raises here is fatal: the entry is neither skipped nor tried again."""
        last = min(self.committed, self.applied + APPLY_ENTRIES_MAX)
        if last == self.applied:
            return
        for command, index, term in self.journal.entries_between(self.applied + 1, last):
            answer = self._apply(command, index)
            self.applied = index
            self._applied_bytes += len(command)
            if index in self._waiting:
                waiting_term, outcome = self._waiting.pop(index)
                assert waiting_term == term, "a deposed leader's proposals were abandoned with its leadership"
                self._outcomes.append((outcome, answer, None))

    def _apply(self, command: bytes, index: int) -> object:
        kind = command[0]
        if kind == EntryKind.APPLICATION:
            return self.state_machine.apply(index, command[1:])
        if kind == EntryKind.VOTER_DIRECTORIES:
            self.directories = with_changes(self.directories, decode_changes(command[1:]))
            for voter in self.progress:
                self.count_match(voter)
            # So that a whole cluster that restarts knows who is seated before anything new is committed.
            self.journal.mark_commit_index()
        else:
            assert kind == EntryKind.NO_OP, f"entry {index} is of the unknown kind {kind}: written by a later version?"
        return None

    def restore(self, snapshot: Snapshot) -> None:
        """Become the snapshot; the caller has made it durable."""
        self.state_machine.restore(snapshot.index, snapshot.state)
        self.directories = dict(snapshot.directories)
        self.applied = snapshot.index
        self.committed = max(self.committed, snapshot.index)
        self._snapshot_index = snapshot.index
        self._applied_bytes = 0

    def compact(self) -> None:
        """Take a snapshot when enough was applied since the last; then, and only then, forget entries below it."""
        is_due = self.applied - self._snapshot_index >= self.config.snapshot_entries
        if not is_due and self._applied_bytes < self.config.snapshot_journal_bytes:
            return
        term = self.journal.term_at(self.applied)
        assert term is not None
        snapshot = Snapshot(self.applied, term, self.directories, self.state_machine.snapshot())
        store_snapshot(self.disk, snapshot.encode())
        self._snapshot_index = self.applied
        self._applied_bytes = 0
        self.forget_outgoing_snapshot()
        self.journal.compact_to(self._first_index_to_retain())

    def _first_index_to_retain(self) -> int:
        first = max(self.journal.first_index, self._snapshot_index - self.config.retained_entries)
        retained_bytes = 0
        for command, index, _term in reversed(self.journal.entries_between(first, self._snapshot_index)):
            retained_bytes += len(command)
            if retained_bytes > self.config.snapshot_journal_bytes // 4:
                return min(index + 1, self._snapshot_index)
        return first

    # Failure and the end

    def _fail(self, failure: BaseException) -> None:
        """Stop for good: nothing more is sent, and whoever waits learns that the outcome is unknown."""
        self.failure = failure
        logger.critical("the metadata quorum of node %d failed", self.config.node_id, exc_info=failure)
        self._settle_all()
        self._call_safely(self._on_failure, failure)

    def _settle_all(self) -> None:
        self._abandon_waiting()
        outcomes, self._outcomes = self._outcomes, []
        for outcome, answer, error in outcomes:
            self._call_safely(outcome, answer, error)

    @staticmethod
    def _call_safely(callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a callback failed while the metadata quorum stopped")

    def close(self) -> None:
        """Sync and close the files, destroy the transport; outcomes still waiting get OutcomeUnknown."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.failure is None:
            self._settle_all()
            self.journal.mark_commit_index()
            self.journal.sync()
        self._doDestroy()
        self.disk.close()

    # What others read

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead; act on it only after a `barrier`."""
        return self.state == LEADER and self.failure is None and not self._is_closed

    @property
    def is_followed(self) -> bool:
        return self.is_leader and self.hears_leader()

    @property
    def leader_id(self) -> int | None:
        return None if self.leader is None else self.leader.id

    @property
    def term(self) -> int:
        return self.current_term

    @property
    def last_applied(self) -> int:
        return self.applied

    @property
    def commit_index(self) -> int:
        return self.committed

    def committed_entries(self, from_index: int, max_bytes: int) -> tuple[list[tuple[int, bytes]], int] | None:
        """Applied application commands from `from_index` on as (index, command), and the index to ask for next.

        At least one entry where there is one; none and `from_index` where there is none yet.
        None: compacted away, use the snapshot.
        """
        if from_index <= self.journal.first_index:
            return None
        if from_index > self.applied:
            return [], from_index
        entries = self.journal.entries_from(from_index, max_bytes=max_bytes)
        applied = [entry for entry in entries if entry[1] <= self.applied]
        commands = [(index, command[1:]) for command, index, _term in applied if command[0] == EntryKind.APPLICATION]
        return commands, applied[-1][1] + 1

    def snapshot_for_observer(self) -> tuple[int, bytes]:
        """(last applied index, the state machine's snapshot at it)."""
        return self.applied, self.state_machine.snapshot()

    def status(self) -> QuorumStatus:
        return QuorumStatus(
            node_id=self.config.node_id,
            term=self.term,
            leader_id=self.leader_id,
            commit_index=self.committed,
            last_applied=self.applied,
            log_start_index=self.journal.first_index,
            log_end_index=self.journal.last_index,
            snapshot_index=self._snapshot_index,
            voters=tuple(self._voter_status(node_id) for node_id in sorted(self.config.voters)),
        )

    def _voter_status(self, node_id: int) -> VoterStatus:
        host, port = self.config.voters[node_id]
        if node_id == self.config.node_id:
            return VoterStatus(node_id, host, port, self.journal.durable_index, 0, 0, directory_ok=self.is_seated)
        progress = self.progress.get(Voter(node_id)) if self.is_leader else None
        if progress is None or progress.directory is None:
            return VoterStatus(node_id, host, port, None, None, None, directory_ok=node_id in self.directories)
        return VoterStatus(
            node_id,
            host,
            port,
            match_index=progress.match_index,
            lag=self.journal.last_index - progress.match_index,
            last_heard_ms=int(1000 * (self.now() - self.last_response_at[Voter(node_id)])),
            directory_ok=self._seats.get(node_id) == progress.directory,
        )


def _all_of(outcomes: list[Outcome], index: int) -> Outcome:
    """One outcome for the barriers that share an entry."""

    def outcome(_answer: object, error: QuorumError | None) -> None:
        for waiting in outcomes:
            waiting(None if error else index, error)

    return outcome
