"""The metadata quorum as a node meets it, with delays, doubt and stale leaders, on a virtual clock.

The real quorum has a fuzzer of its own (tests/kraft). Here its promises are taken for granted, and everything that it
leaves open is drawn: who leads, when who hears of it, when an entry is applied where, whether what a deposed leader had
taken is kept, and whether a request arrives twice.

A process that starts knows what its disk says: nothing, if that is empty or no voter's; else its last snapshot and the
entries that it knew to be committed, fewer than it has applied. The rest comes over the network, some at a time. So it
acts on the image of a while ago, as a broker does that is back before anybody has missed it (KIP-903).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable
from kraft.quorum_config import StateMachine
from kraft.status import QuorumStatus, RoleChange, VoterStatus
from tests.simulation.network import Network
from tests.simulation.virtual_loop import Life, VirtualLoop, here

ELECTION_S = (0.3, 0.8)
STALE_LEADER_S = 1.5
LOOK_S = 0.05
SNAPSHOTS = 0.02
"""How often one is taken: after so many of the entries."""
BEHIND_S = (0.0, 0.0, 0.05, 0.3, 1.0)
"""For how long a process that has started is still being told what it missed."""
ENTRIES_AT_A_TIME = 4
TWICE = 0.02
TWICE_WITHIN_S = (0.001, 0.05, 1.0)


@dataclass(slots=True)
class Taken:
    """A command (None: a barrier) that a leader has taken."""

    term: int
    command: bytes | None
    future: "asyncio.Future[Any]"
    life: Life


@dataclass(slots=True)
class MetadataDisk:
    """Of one voter: its last snapshot with its index, and up to where it has applied the log, which is all there."""

    snapshot: bytes = b""
    snapshot_index: int = 0
    applied: int = 0
    is_seated: bool = True


class MetadataLog:
    """What the majority holds, and the elections."""

    def __init__(self, loop: VirtualLoop, network: Network, rng: Random, voters: tuple[int, ...]) -> None:
        self.loop = loop
        self.network = network
        self.rng = rng
        self.voters = voters
        self.term = 0
        self.leader: SimulatedQuorum | None = None
        """In one life: a process that starts leads in no term that was before."""
        self.entries: list[bytes | None] = [None]
        self.nodes: dict[int, SimulatedQuorum] = {}
        self.disks = {voter: MetadataDisk() for voter in voters}
        self.on_commit: Callable[[int, bytes], None] = lambda _index, _command: None
        self.on_take: Callable[[bytes], None] = lambda _command: None
        self._unheard_s = 0.0
        loop.call_later(LOOK_S, self._look)

    @property
    def leader_id(self) -> int | None:
        return None if self.leader is None else self.leader.node_id

    def lose_disk(self, node_id: int) -> None:
        """This one's is empty now. A voter does not count until it has everything again (S16)."""
        if node_id in self.disks:
            self.disks[node_id] = MetadataDisk(is_seated=False)

    @property
    def all_count(self) -> bool:
        """No voter's disk was lost of late: one more may be, and a majority still has everything (S16)."""
        return all(disk.is_seated for disk in self.disks.values())

    # ---- elections

    def _look(self) -> None:
        """Elect somebody else where the leader has been dead or cut off for an election timeout."""
        leads = self._leads()
        self._unheard_s = 0.0 if leads else self._unheard_s + LOOK_S
        if self._unheard_s > self.rng.uniform(*ELECTION_S):
            self.elect()
        if leads:
            self._tell_of_leader()
        self.loop.call_later(LOOK_S, self._look)

    def elect(self) -> None:
        """A new term; nobody leads where no voter reaches a majority."""
        candidates = [voter for voter in self.voters if self._may_lead(voter)]
        if not candidates:
            return
        self.term += 1
        self.leader = self.nodes[self.rng.choice(candidates)]
        self._unheard_s = 0.0
        self.entries.append(None)
        self._tell_of_leader()

    def _leads(self) -> bool:
        """The one that was elected runs still, and is heard."""
        leader = self.leader
        return leader is not None and self.nodes.get(leader.node_id) is leader and self._may_lead(leader.node_id)

    def _may_lead(self, node_id: int) -> bool:
        node = self.nodes.get(node_id)
        if node is None or node.life.is_stopped or not node.life.is_alive or not self.disks[node_id].is_seated:
            return False
        seated = [voter for voter in self.voters if self.disks[voter].is_seated]
        return 2 * sum(self._are_linked(node_id, voter) for voter in seated) > len(self.voters)

    def _are_linked(self, one: int, other: int) -> bool:
        node = self.nodes.get(other)
        if node is None or not node.life.is_alive or (node.life.is_stopped and one != other):
            return False
        return self.network.is_open(one, other) and self.network.is_open(other, one)

    def _tell_of_leader(self) -> None:
        leader_id = self.leader_id
        assert leader_id is not None
        for node_id, node in sorted(self.nodes.items()):
            if self._are_linked(leader_id, node_id):
                self._later(node, lambda node=node, term=self.term: node.hear(term, leader_id))

    def _later(self, node: "SimulatedQuorum", event: Callable[[], None]) -> None:
        self.loop.call_later(self.network.delay_s(), event, context=node.life.context)

    # ---- commands

    def take(self, node: "SimulatedQuorum", taken: Taken) -> None:
        """A leader took a command: its disk, the others' disks, the answer."""
        if taken.command is not None:
            self.on_take(taken.command)
        delay_s = 2 * self.network.delay_s() + self.rng.uniform(0.0002, 0.002)
        self.loop.call_later(delay_s, self._commit, node, taken, context=_outside_of_all())

    def _commit(self, node: "SimulatedQuorum", taken: Taken) -> None:
        still_leads = self.leader is node and self.term == taken.term
        if still_leads and not self._leads():
            self.loop.call_later(LOOK_S, self._commit, node, taken, context=_outside_of_all())
            return  # no majority hears it: it waits, and may be overtaken by an election
        if not still_leads and (taken.command is None or self.rng.random() < 0.5):
            self._answer(taken, None, OutcomeUnknown("leadership was lost before it was committed"))
            return  # overwritten by the next leader; else that one had it already, and commits it
        index = len(self.entries)
        if taken.command is not None:
            self.entries.append(taken.command)
            self.on_commit(index, taken.command)
        else:
            index -= 1
        self.spread()
        if still_leads:
            self._later(node, lambda: node.answered(taken, index))
        else:
            self._answer(taken, None, OutcomeUnknown("leadership was lost; it was committed all the same"))

    def _answer(self, taken: Taken, result: object, error: BaseException | None) -> None:
        self.loop.call_later(self.network.delay_s(), settle, taken.future, result, error, context=taken.life.context)

    def spread(self) -> None:
        """Whoever hears the leader learns what is committed."""
        for node_id, node in sorted(self.nodes.items()):
            if self.leader_id is not None and self._leads() and self._are_linked(self.leader_id, node_id):
                self._later(node, node.catch_up)


class SimulatedQuorum:
    """`kraft.quorum.MetadataQuorum` of one node, in one life of its process."""

    def __init__(self, log: MetadataLog, node_id: int, machine: StateMachine) -> None:
        self.node_id = node_id
        self.life = here()
        self.leader_id: int | None = None
        self.term = 0
        self.last_applied = 0
        self.failure: BaseException | None = None
        self._log = log
        self._machine = machine
        self._heard_s = 0.0
        self._behind_until_s = 0.0
        self._answers: dict[int, object] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._handler: Callable[[int, bytes], Awaitable[bytes]] | None = None
        self._role_callbacks: list[Callable[[RoleChange], None]] = []
        self._failure_callbacks: list[Callable[[BaseException], None]] = []

    @property
    def is_leader(self) -> bool:
        return self.leader_id == self.node_id

    @property
    def is_followed(self) -> bool:
        return self.is_leader and self._log.loop.time() - self._heard_s <= 2 * LOOK_S

    async def start(self) -> None:
        log = self._log
        log.nodes[self.node_id] = self
        self._behind_until_s = log.loop.time() + log.rng.choice(BEHIND_S)
        if (disk := log.disks.get(self.node_id)) is not None and disk.applied:
            self._restore(disk)
            known = [disk.applied, max(self.last_applied, disk.applied - 3), self.last_applied]
            self._apply_up_to(log.rng.choice([*known, log.rng.randint(self.last_applied, disk.applied)]))
        self._check_lease()

    def _restore(self, disk: MetadataDisk) -> None:
        """A snapshot that is newer than what is here: of the own disk, or of the leader's."""
        if disk.snapshot_index > self.last_applied:
            self._machine.restore(disk.snapshot_index, disk.snapshot)
            self.last_applied = disk.snapshot_index

    async def stop(self) -> None:
        if self._log.nodes.get(self.node_id) is self:
            del self._log.nodes[self.node_id]

    def _check_lease(self) -> None:
        """A leader that has not heard a majority for a while leads no more."""
        loop = self._log.loop
        if self.is_leader and loop.time() - self._heard_s > STALE_LEADER_S:
            self._become(self.term, None)
        loop.call_later(LOOK_S, self._check_lease)

    def hear(self, term: int, leader_id: int | None) -> None:
        """Somebody leads, and is heard here."""
        if term < self.term:
            return
        self._heard_s = self._log.loop.time()
        self._become(term, leader_id)
        self.catch_up()

    def _become(self, term: int, leader_id: int | None) -> None:
        if (term, leader_id) == (self.term, self.leader_id):
            return
        self.term, self.leader_id = term, leader_id
        change = RoleChange(term=term, leader_id=leader_id, is_leader=self.is_leader)
        for callback in self._role_callbacks:
            self._log.loop.call_soon(callback, change)

    def catch_up(self) -> None:
        """All that is committed, or for a while after the start some more of it, or the leader's snapshot."""
        log = self._log
        last = len(log.entries) - 1
        if log.loop.time() < self._behind_until_s:
            last = min(last, self.last_applied + log.rng.randint(0, ENTRIES_AT_A_TIME))
        elif log.leader is not None and last - self.last_applied > ENTRIES_AT_A_TIME and log.rng.random() < 0.5:
            self._restore(log.disks[log.leader.node_id])
        self._apply_up_to(last)

    def _apply_up_to(self, index: int) -> None:
        while self.last_applied < index:
            at = self.last_applied + 1
            command = self._log.entries[at]
            if command is not None:
                answer = self._machine.apply(at, command)
                if self.is_leader:
                    self._answers[at] = answer
            self.last_applied = at
        self._remember()
        for waiting in [one for one in self._waiting if one[0] <= self.last_applied]:
            self._waiting.remove(waiting)
            settle(waiting[1], None, None)

    def _remember(self) -> None:
        """On a voter's disk, as far as it goes: an observer keeps nothing."""
        log = self._log
        if (disk := log.disks.get(self.node_id)) is None or disk.applied >= self.last_applied:
            return
        disk.applied = self.last_applied
        disk.is_seated = disk.is_seated or disk.applied == len(log.entries) - 1
        if log.rng.random() < SNAPSHOTS:
            disk.snapshot, disk.snapshot_index = self._machine.snapshot(), self.last_applied

    def answered(self, taken: Taken, index: int) -> None:
        self._apply_up_to(len(self._log.entries) - 1)
        settle(taken.future, index if taken.command is None else self._answers.pop(index, None), None)

    async def propose(self, command: bytes, *, timeout_s: float) -> object:
        return await self._take(command, timeout_s)

    async def barrier(self, *, timeout_s: float) -> int:
        index: int = await self._take(None, timeout_s)
        return index

    async def _take(self, command: bytes | None, timeout_s: float) -> Any:
        if not self.is_leader:
            raise NotLeader(self.leader_id)
        taken = Taken(self.term, command, self._log.loop.create_future(), here())
        self._log.take(self, taken)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await taken.future
        except TimeoutError:
            raise OutcomeUnknown(f"not committed within {timeout_s} s") from None
        if answer is None:
            raise OutcomeUnknown("committed, but applied before this node led")
        return answer

    async def wait_applied(self, index: int, *, timeout_s: float) -> None:
        if self.last_applied >= index:
            return
        future: asyncio.Future[None] = self._log.loop.create_future()
        self._waiting.append((index, future))
        async with asyncio.timeout(timeout_s):
            await future

    def status(self) -> QuorumStatus:
        voters = tuple(
            VoterStatus(voter, "localhost", 1, None, None, None, directory_ok=True) for voter in self._log.voters
        )
        applied = self.last_applied
        return QuorumStatus(self.node_id, self.term, self.leader_id, applied, applied, 1, applied, 0, voters)

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        self._role_callbacks.append(callback)

    def on_failure(self, callback: Callable[[BaseException], None]) -> None:
        self._failure_callbacks.append(callback)

    def on_request(self, handler: Callable[[int, bytes], Awaitable[bytes]]) -> None:
        self._handler = handler

    def set_peer_endpoint(self, node_id: int, host: str, port: int) -> None:
        """Addresses are node ids here."""

    def forget_peer(self, node_id: int) -> None:
        """Addresses are node ids here."""

    async def request(self, node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        log, me = self._log, here()
        future: asyncio.Future[bytes] = log.loop.create_future()

        def answer(result: bytes | None, error: BaseException | None) -> None:
            peer = log.nodes.get(node_id)
            if peer is None or log.network.is_open(node_id, self.node_id):
                log.loop.call_later(log.network.delay_s(), settle, future, result, error, context=me.context)

        def deliver() -> None:
            peer = log.nodes.get(node_id)
            if peer is None:
                answer(None, PeerUnavailable(f"no connection to node {node_id}"))
            elif log.network.is_open(self.node_id, node_id):
                log.loop.call_soon(peer.serve, self.node_id, payload, answer, context=peer.life.context)

        log.loop.call_later(log.network.delay_s(), deliver, context=_outside_of_all())
        if log.rng.random() < TWICE:  # as of somebody who heard no answer and asked again
            log.loop.call_later(log.rng.uniform(0, log.rng.choice(TWICE_WITHIN_S)), deliver, context=_outside_of_all())
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(f"no answer from node {node_id} within {timeout_s} s") from None

    def serve(self, node_id: int, payload: bytes, answer: Callable[[bytes | None, BaseException | None], None]) -> None:
        handler = self._handler
        if handler is None:
            answer(None, PeerUnavailable(f"node {self.node_id}: not ready for requests yet"))
            return

        async def run() -> None:
            try:
                answer(await handler(node_id, payload), None)
            except Exception as error:  # noqa: BLE001 - as the real one: whoever asked hears that nobody knows
                answer(None, OutcomeUnknown(str(error)))

        self._log.loop.create_task(run())


def settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _outside_of_all() -> Any:
    from contextvars import Context  # noqa: PLC0415 - the context of no process

    return Context()
