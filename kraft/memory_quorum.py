"""The metadata quorum without disks, threads or chance: one log in memory, leaders appointed by the test.

Owns a committed log that several `MemoryQuorum` nodes share, who is reachable from whom, and what an isolated leader
has taken but cannot commit. Same face and answers as `RaftQuorum`; only the timeouts come from the running loop.

Deterministic: a command commits and is applied on every reachable node, in the order of node ids, before `propose`
gives way to other tasks; callbacks run in the order of their causes, by `call_soon`. Invariants: entries commit only
while a majority of the voters is reachable; an election discards what only the old leader has; a node applies each
entry once, in order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable
from kraft.loop_lane import settle
from kraft.quorum_config import StateMachine
from kraft.status import QuorumStatus, RoleChange, VoterStatus
from wire.errors import ErrorCode, RefusedError

COMMAND_BYTES_MAX = 512 * 1024


@dataclass(slots=True)
class _Uncommitted:
    """A command (None: a barrier) that its leader has taken and that no majority holds yet."""

    command: bytes | None
    future: "asyncio.Future[Any]"


class MemoryCluster:
    """The nodes' common past, and the hand that moves leaders, cuts links and compacts."""

    def __init__(self, voters: Iterable[int]) -> None:
        self.voters = tuple(sorted(voters))
        self.term = 0
        self.leader_id: int | None = None
        self.nodes: dict[int, MemoryQuorum] = {}
        self._entries: dict[int, bytes | None] = {1: None}
        self._commit_index = 1
        self._snapshot: tuple[int, bytes] = (0, b"")
        self._isolated: set[int] = set()
        self._held: set[int] = set()

    @property
    def commit_index(self) -> int:
        """The last committed entry; entry 1 carries nothing, as in the real log."""
        return self._commit_index

    def elect(self, node_id: int | None) -> None:
        """Appoint a leader in a new term, or (None) leave the voters without one."""
        assert node_id is None or (node_id in self.voters and self._is_reachable(node_id)), (
            f"node {node_id} cannot lead"
        )
        assert node_id is None or self._has_majority(), "no majority of the voters is reachable"
        deposed = self.nodes.get(self.leader_id) if self.leader_id is not None else None
        self.term += 1
        self.leader_id = node_id
        if node_id is not None:
            self._append(None)
        self._spread()
        if deposed is not None and deposed.node_id != node_id and self._is_reachable(deposed.node_id):
            deposed.discard_uncommitted()

    def isolate(self, node_id: int) -> None:
        """Cut a node off. A leader goes on believing that it leads, and commits nothing."""
        self._isolated.add(node_id)
        for node in self.nodes.values():
            node.link_lost(node_id)

    def heal(self, node_id: int) -> None:
        """Let a node hear and be heard again: it learns the leader and catches up."""
        self._isolated.discard(node_id)
        node = self.nodes.get(node_id)
        if node is not None and node_id != self.leader_id:
            node.discard_uncommitted()
        self._spread()

    def hold(self, node_id: int) -> None:
        """Let a node lag: it is reachable and votes, but applies nothing until `release`."""
        self._held.add(node_id)

    def release(self, node_id: int) -> None:
        """End of `hold`."""
        self._held.discard(node_id)
        self._spread()

    def compact(self) -> None:
        """Replace the log below the commit index by the leader's snapshot; whoever starts later restores it."""
        assert self.leader_id is not None, "nobody to take the snapshot from"
        self._snapshot = (self._commit_index, self.nodes[self.leader_id].machine.snapshot())
        self._entries.clear()

    # -- what nodes do ------------------------------------------------------------------------------------------

    def joined(self, node: "MemoryQuorum") -> None:
        """A node started; the only voter of a cluster leads at once."""
        running = self.nodes.get(node.node_id)
        assert running is None, f"node {node.node_id} runs already"
        self.nodes[node.node_id] = node
        if self.voters == (node.node_id,) and self.leader_id is None:
            self.elect(node.node_id)
        else:
            self._spread()

    def left(self, node: "MemoryQuorum") -> None:
        """A node stopped; if it led, nobody does."""
        if self.nodes.get(node.node_id) is node:
            del self.nodes[node.node_id]
        for other in self.nodes.values():
            other.link_lost(node.node_id)
        if self.leader_id == node.node_id:
            self.elect(None)

    def are_linked(self, node_id: int, other_id: int) -> bool:
        """Whether a request from one reaches the other."""
        return node_id == other_id or (self._is_reachable(node_id) and self._is_reachable(other_id))

    def commit_taken(self) -> None:
        """Commit what the leader has taken, if a majority is there; then everybody reachable applies it."""
        leader = self.nodes.get(self.leader_id) if self.leader_id is not None else None
        if leader is None or not self._is_reachable(leader.node_id) or not self._has_majority():
            return
        answered = []
        for taken in leader.take_uncommitted():
            index = self._append(taken.command) if taken.command is not None else self._commit_index
            answered.append((taken, index))
        for node in self._reachable_nodes():
            node.catch_up()
        for taken, index in answered:
            leader.answer(taken.future, index, is_barrier=taken.command is None)

    def entries_after(self, index: int) -> list[tuple[int, bytes | None]]:
        """The committed entries behind an index; None is an entry without a command."""
        return [(at, self._entries[at]) for at in range(index + 1, self._commit_index + 1)]

    def snapshot_after(self, index: int) -> tuple[int, bytes] | None:
        """The snapshot, for a node whose next entry is compacted."""
        return self._snapshot if index < self._snapshot[0] else None

    def is_held(self, node_id: int) -> bool:
        return node_id in self._held

    def _append(self, command: bytes | None) -> int:
        self._commit_index += 1
        self._entries[self._commit_index] = command
        return self._commit_index

    def _spread(self) -> None:
        self.commit_taken()
        for node in self._reachable_nodes():
            node.catch_up()
            node.learn_role(self.term, self.leader_id)

    def _reachable_nodes(self) -> list["MemoryQuorum"]:
        return [node for node_id, node in sorted(self.nodes.items()) if node_id not in self._isolated]

    def _is_reachable(self, node_id: int) -> bool:
        return node_id in self.nodes and node_id not in self._isolated

    def is_followed(self, leader_id: int) -> bool:
        """Whether this leader is the one that a majority hears."""
        return self.leader_id == leader_id and self._is_reachable(leader_id) and self._has_majority()

    def _has_majority(self) -> bool:
        return 2 * sum(map(self._is_reachable, self.voters)) > len(self.voters)


class MemoryQuorum:
    """One node of a `MemoryCluster`: a voter, or an observer where the cluster's voters do not name it."""

    def __init__(self, cluster: MemoryCluster, node_id: int, machine: StateMachine) -> None:
        self.node_id = node_id
        self.machine = machine
        self.leader_id: int | None = None
        self.term = 0
        self.last_applied = 0
        self.failure: BaseException | None = None
        self._cluster = cluster
        self._is_running = False
        self._uncommitted: list[_Uncommitted] = []
        self._answers: dict[int, object] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._asked: dict[asyncio.Future[bytes], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handler: Callable[[int, bytes], Awaitable[bytes]] | None = None
        self._role_callbacks: list[Callable[[RoleChange], None]] = []
        self._failure_callbacks: list[Callable[[BaseException], None]] = []

    @property
    def is_leader(self) -> bool:
        return self._is_running and self.leader_id == self.node_id

    @property
    def is_followed(self) -> bool:
        return self.is_leader and self._cluster.is_followed(self.node_id)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_running = True
        self._cluster.joined(self)
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        if not self._is_running:
            return
        self._fall_silent("this node stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def propose(self, command: bytes, *, timeout_s: float) -> object:
        if len(command) > COMMAND_BYTES_MAX:
            limit = f"a metadata command holds at most {COMMAND_BYTES_MAX} bytes, this has {len(command)}"
            raise RefusedError(ErrorCode.MESSAGE_TOO_LARGE, limit)
        return await self._take(command, timeout_s)

    async def barrier(self, *, timeout_s: float) -> int:
        index: int = await self._take(None, timeout_s)
        return index

    async def wait_applied(self, index: int, *, timeout_s: float) -> None:
        if self.last_applied >= index:
            return
        if not self._is_running:
            raise OutcomeUnknown("this node's quorum member has stopped")
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((index, future))
        async with asyncio.timeout(timeout_s):
            await future

    def status(self) -> QuorumStatus:
        leads = self.is_leader
        return QuorumStatus(
            node_id=self.node_id,
            term=self.term,
            leader_id=self.leader_id,
            commit_index=self._cluster.commit_index if leads else self.last_applied,
            last_applied=self.last_applied,
            log_start_index=1,
            log_end_index=self.last_applied,
            snapshot_index=0,
            voters=tuple(self._voter_status(voter_id, leads=leads) for voter_id in self._cluster.voters),
        )

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        self._role_callbacks.append(callback)

    def on_failure(self, callback: Callable[[BaseException], None]) -> None:
        self._failure_callbacks.append(callback)

    def on_request(self, handler: Callable[[int, bytes], Awaitable[bytes]]) -> None:
        self._handler = handler

    def set_peer_endpoint(self, node_id: int, host: str, port: int) -> None:
        """Nodes of one process need no address."""

    def forget_peer(self, node_id: int) -> None:
        """Nodes of one process need no address."""

    async def request(self, node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        peer = self._cluster.nodes.get(node_id)
        if not self._is_running or peer is None or not self._cluster.are_linked(self.node_id, node_id):
            raise PeerUnavailable(f"no connection to node {node_id}")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._asked[future] = node_id
        peer.serve(self.node_id, payload, future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(f"no answer from node {node_id} within {timeout_s} s") from None
        finally:
            self._asked.pop(future, None)

    # -- what the cluster does to it ----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Apply what is committed, unless the test holds this node back."""
        if self.failure is not None or self._cluster.is_held(self.node_id):
            return
        try:
            if (snapshot := self._cluster.snapshot_after(self.last_applied)) is not None:
                self.machine.restore(*snapshot)
                self.last_applied = snapshot[0]
            for index, command in self._cluster.entries_after(self.last_applied):
                if command is not None:
                    answer = self.machine.apply(index, command)
                    if self.is_leader:
                        self._answers[index] = answer
                self.last_applied = index
        except Exception as error:  # noqa: BLE001  # whatever the state machine raises is fatal for its node, as in Raft
            self._fail(error)
        self._release_waiting()

    def learn_role(self, term: int, leader_id: int | None) -> None:
        """Hear who leads; every change is told once."""
        if (term, leader_id) == (self.term, self.leader_id):
            return
        self.term, self.leader_id = term, leader_id
        change = RoleChange(term=term, leader_id=leader_id, is_leader=leader_id == self.node_id)
        for callback in self._role_callbacks:
            self._loop.call_soon(callback, change)

    def take_uncommitted(self) -> list[_Uncommitted]:
        """Hand over what was taken as a leader, in order."""
        taken, self._uncommitted = self._uncommitted, []
        return taken

    def discard_uncommitted(self) -> None:
        """Another leads: whether what this node took survives is not for it to say."""
        for taken in self.take_uncommitted():
            settle(taken.future, None, OutcomeUnknown("leadership was lost before it was committed"))

    def answer(self, future: "asyncio.Future[Any]", index: int, *, is_barrier: bool) -> None:
        """A command of this leader is committed and, unless this node lags or failed, applied."""
        if self.last_applied < index:
            settle(future, None, OutcomeUnknown("committed, but not applied here"))
        else:
            settle(future, index if is_barrier else self._answers.pop(index), None)

    def link_lost(self, node_id: int) -> None:
        """The link to a node fell, or this node's links to all."""
        for future, asked_id in list(self._asked.items()):
            if node_id in (asked_id, self.node_id) and asked_id != self.node_id:
                settle(future, None, OutcomeUnknown(f"the connection to node {asked_id} was lost before its answer"))

    def serve(self, node_id: int, payload: bytes, answered: "asyncio.Future[bytes]") -> None:
        """A request came."""
        if self._handler is None:
            settle(answered, None, PeerUnavailable(f"node {self.node_id}: not ready for requests yet"))
            return
        task = self._loop.create_task(self._run_handler(self._handler, node_id, payload, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- its own ------------------------------------------------------------------------------------------------

    async def _take(self, command: bytes | None, timeout_s: float) -> Any:
        if not self.is_leader:
            raise NotLeader(self.leader_id if self._is_running else None)
        taken = _Uncommitted(command, self._loop.create_future())
        self._uncommitted.append(taken)
        self._cluster.commit_taken()
        try:
            async with asyncio.timeout(timeout_s):
                return await taken.future
        except TimeoutError:
            raise OutcomeUnknown(f"not committed and applied within {timeout_s} s") from None

    async def _run_handler(
        self,
        handler: Callable[[int, bytes], Awaitable[bytes]],
        node_id: int,
        payload: bytes,
        answered: "asyncio.Future[bytes]",
    ) -> None:
        try:
            settle(answered, await handler(node_id, payload), None)
        except Exception as error:  # noqa: BLE001  # whatever it is, the asker must hear that it failed
            settle(answered, None, OutcomeUnknown(f"node {self.node_id}: its handler raised {error!r}"))

    def _release_waiting(self) -> None:
        for _, future in [entry for entry in self._waiting if entry[0] <= self.last_applied]:
            settle(future, None, None)
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    def _voter_status(self, voter_id: int, *, leads: bool) -> VoterStatus:
        voter = self._cluster.nodes.get(voter_id)
        match_index = voter.last_applied if voter is not None and (leads or voter is self) else None
        lag = self._cluster.commit_index - match_index if leads and match_index is not None else None
        heard_ms = 0 if match_index is not None else None
        return VoterStatus(voter_id, "memory", 0, match_index, lag, heard_ms, directory_ok=True)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._loop.call_soon(self._fall_silent, f"this node's quorum member failed: {error!r}")
        for callback in self._failure_callbacks:
            self._loop.call_soon(callback, error)

    def _fall_silent(self, reason: str) -> None:
        if not self._is_running:
            return
        self._is_running = False
        self.leader_id = None
        ended = [taken.future for taken in self.take_uncommitted()]
        ended += [future for _, future in self._waiting]
        ended += list(self._asked)
        for future in ended:
            settle(future, None, OutcomeUnknown(reason))
        self._waiting.clear()
        self._cluster.left(self)
