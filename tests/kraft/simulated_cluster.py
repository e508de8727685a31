"""Real cores on simulated disks, over a simulated network, under a virtual clock: one thread, one seed, no chance.

`SimulatedCluster` is what both the directed tests and the fuzzer drive. It checks, at every step: at most one leader
per term, and the same command at the same index on every node (S16). `Weather` decides what becomes of each message.
"""

import heapq
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
import pysyncobj.syncobj
from pysyncobj.transport import Transport

from kraft.core import Core
from kraft.errors import QuorumError
from kraft.quorum_config import QuorumConfig
from kraft.raft_messages import RaftMessage, lacks_keys
from kraft.voters import Voter
from tests.kraft.simulated_disk import DiskError, PowerCut, SimulatedDisk

TICK_S = 0.03
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RaftMessage).decode


class CommittedIsLostError(AssertionError):
    """Two nodes applied different commands at one index."""


class TwoLeadersError(AssertionError):
    """Two nodes led in one term."""


class StaleBarrierError(AssertionError):
    """A barrier was answered by a node that had not applied what was acknowledged before it."""


class NodeFailedError(AssertionError):
    """A core stopped although its disk did what it was told."""


def name_of(command: bytes) -> bytes:
    """What identifies a command: its first word. The rest is there to fill messages and files."""
    return command.partition(b" ")[0]


class RecordingMachine:
    """The list of applied commands' names; checks each against what any node has applied at that index."""

    def __init__(self, history: dict[int, bytes]) -> None:
        self._history = history
        self.applied: list[bytes] = []
        self.last_index = 0
        self.raises: Exception | None = None

    def apply(self, index: int, command: bytes) -> int:
        if self.raises is not None:
            raise self.raises
        if index <= self.last_index:
            raise CommittedIsLostError(f"index {index} applied after {self.last_index}")
        if self._history.setdefault(index, command) != command:
            raise CommittedIsLostError(f"{index}: {name_of(command)!r} and {name_of(self._history[index])!r}")
        self.last_index = index
        self.applied.append(name_of(command))
        return len(self.applied)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.last_index, self.applied))

    def restore(self, index: int, snapshot: bytes) -> None:
        self.last_index, self.applied = msgspec.msgpack.decode(snapshot, type=tuple[int, list[bytes]])
        assert self.last_index <= index


class SimulatedTransport(Transport):
    def __init__(self, cluster: "SimulatedCluster", node_id: int) -> None:
        super().__init__(None, None, [])
        self._cluster, self._node_id = cluster, node_id
        self._queue: list[tuple[int, bytes]] = []
        self.refuses_to_send = False

    def send(self, node: Voter, message: dict[str, Any]) -> bool:
        if self.refuses_to_send:
            return False
        self._queue.append((node.id, _encode(message)))
        return True

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        for receiver, frame in queue:
            self._cluster.post(self._node_id, receiver, frame)


@dataclass
class Weather:
    """What the network does to messages. `blocked` holds (sender, receiver) pairs, so partitions can be asymmetric."""

    latency_s: tuple[float, float] = (0.0005, 0.002)
    loss: float = 0.0
    duplication: float = 0.0
    stragglers: float = 0.0
    straggle_s: float = 1.5
    blocked: set[tuple[int, int]] = field(default_factory=set)


class SimulatedNode:
    def __init__(self, node_id: int, directory_id: UUID, disk: SimulatedDisk) -> None:
        self.node_id = node_id
        self.directory_id = directory_id
        self.disk = disk
        self.is_new = True
        self.core: Core | None = None
        self.machine: RecordingMachine | None = None
        self.transport: SimulatedTransport | None = None
        self.paused_until = 0.0
        self.power_stays = False
        """What goes down in the middle of a write is the process, not the machine."""
        self.tick_is_due = False
        self.life = 0
        self.failures: list[BaseException] = []
        self.roles: list[Any] = []


class SimulatedCluster:
    def __init__(self, voters: int, *, seed: int = 0, start: bool = True, **settings: Any) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.weather = Weather()
        self.settings: dict[str, Any] = {"snapshot_entries": 10_000} | settings
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self.history: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.leaders: dict[int, int] = {}
        self.barriers = 0
        self.messages: list[tuple[int, int, Any]] | None = None
        self.intercept: Callable[[int, int, Any], bool] = lambda _sender, _receiver, _message: True
        """Called for each message that leaves; False: the test took it away."""
        self.bears: tuple[type[BaseException], ...] = (DiskError,)
        """What a core may stop by; anything else is a bug."""
        self.on_stop: Callable[[int], None] = lambda _node_id: None
        """Called with who has stopped by that, at each of its turns until it is killed."""
        ids = [UUID(int=self.chance.getrandbits(128)) for _ in range(voters)]
        self.initial_directories = dict(enumerate(ids, start=1))
        self.nodes = {
            node_id: SimulatedNode(node_id, directory, SimulatedDisk(self.chance))
            for node_id, directory in self.initial_directories.items()
        }
        if start:
            for node_id in self.nodes:
                self.start(node_id)

    # Life and death of nodes

    def config(self, node: SimulatedNode) -> QuorumConfig:
        return QuorumConfig(
            cluster_id="simulated",
            node_id=node.node_id,
            directory_id=node.directory_id,
            voters={node_id: ("simulated", node_id) for node_id in self.initial_directories},
            listen=("simulated", node.node_id),
            directory="",
            initial_directories=self.initial_directories if node.is_new else None,
            **self.settings,
        )

    def start(self, node_id: int) -> Core:
        """Start a node on what its disk holds; the error of a refused start is the caller's."""
        node = self.nodes[node_id]
        node.life += 1
        node.machine = RecordingMachine(self.history)
        node.transport = SimulatedTransport(self, node_id)
        node.core = Core(
            self.config(node),
            node.machine,
            node.transport,
            disk=node.disk,
            on_failure=node.failures.append,
            on_role_change=node.roles.append,
        )
        node.is_new = False
        for other in self.nodes:
            if other != node_id:
                node.transport._onNodeConnected(Voter(other))
        self._tick_for_ever(node, node.life)
        return node.core

    def crash(self, node_id: int) -> None:
        """Power is gone: unsynced bytes are lost, messages to it too."""
        self.kill(node_id)
        self.nodes[node_id].disk.crash()

    def kill(self, node_id: int) -> None:
        """The process is gone: the machine keeps what it wrote, for as long as it has power."""
        node = self.nodes[node_id]
        node.core = node.machine = node.transport = None
        node.disk.close()

    def _down(self, node: SimulatedNode) -> None:
        """In the middle of a write: with the machine, or by itself."""
        if node.power_stays:
            self.kill(node.node_id)
        else:
            self.crash(node.node_id)

    def wipe(self, node_id: int) -> None:
        """The disk is gone as well; the node comes back formatted anew, under the same id."""
        self.crash(node_id)
        node = self.nodes[node_id]
        node.disk = SimulatedDisk(self.chance)
        node.directory_id = UUID(int=self.chance.getrandbits(128))

    def reconnect(self, node_id: int, other: int) -> None:
        """This node's link to the other breaks and comes back."""
        transport = self.nodes[node_id].transport
        if transport is not None:
            transport._onNodeDisconnected(Voter(other))
            transport._onNodeConnected(Voter(other))

    def core(self, node_id: int) -> Core:
        core = self.nodes[node_id].core
        assert core is not None
        return core

    def machine(self, node_id: int) -> RecordingMachine:
        machine = self.nodes[node_id].machine
        assert machine is not None
        return machine

    @property
    def running(self) -> list[SimulatedNode]:
        return [node for node in self.nodes.values() if node.core is not None]

    # Time

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Run until it holds; an AssertionError where it does not within that much virtual time."""
        end = self.now + within_s
        while not condition():
            assert self._events, "nothing is ever going to happen"
            assert self.now < end, f"not within {within_s} s: {self.describe()}"
            self.now, _, action = heapq.heappop(self._events)
            action()

    def _tick_for_ever(self, node: SimulatedNode, life: int) -> None:
        if node.core is not None and node.life == life:
            self.tick(node)
            self.at(self.now + TICK_S * (0.5 + self.chance.random()), lambda: self._tick_for_ever(node, life))

    def tick(self, node: SimulatedNode) -> None:
        node.tick_is_due = False
        if node.core is None or node.paused_until > self.now:
            return
        try:
            wants_more = node.core.tick()
        except PowerCut:
            self._down(node)
            return
        self._check(node)
        if wants_more:
            self.tick_soon(node)

    def tick_soon(self, node: SimulatedNode) -> None:
        if not node.tick_is_due:
            node.tick_is_due = True
            self.at(self.now + 0.0002, lambda: self.tick(node))

    def _check(self, node: SimulatedNode) -> None:
        core = node.core
        if core is None:
            return
        if core.failure is not None:
            if isinstance(core.failure, CommittedIsLostError | StaleBarrierError):
                raise core.failure
            if not isinstance(core.failure, self.bears):
                raise NodeFailedError(f"node {node.node_id}: {core.failure!r}") from core.failure
            self.on_stop(node.node_id)
        elif core.is_leader and self.leaders.setdefault(core.term, node.node_id) != node.node_id:
            raise TwoLeadersError(f"nodes {self.leaders[core.term]} and {node.node_id} in term {core.term}")

    # Messages

    def post(self, sender: int, receiver: int, frame: bytes) -> None:
        message = _decode(frame)
        assert not lacks_keys(message), lacks_keys(message)
        if self.messages is not None:
            self.messages.append((sender, receiver, message))
        if not self.intercept(sender, receiver, message) or (sender, receiver) in self.weather.blocked:
            return
        if self.chance.random() < self.weather.loss:
            return
        copies = 2 if self.chance.random() < self.weather.duplication else 1
        for _ in range(copies):
            delay = self.chance.uniform(*self.weather.latency_s)
            if self.chance.random() < self.weather.stragglers:
                delay += self.chance.random() * self.weather.straggle_s
            self.at(self.now + delay, lambda: self.deliver(sender, receiver, _decode(frame)))

    def deliver(self, sender: int, receiver: int, message: Any) -> None:
        """Hand a message over, now."""
        node = self.nodes[receiver]
        if node.paused_until > self.now:
            self.at(node.paused_until, lambda: self.deliver(sender, receiver, message))
            return
        if node.core is None or node.transport is None:
            return
        try:
            node.transport._onMessageReceived(Voter(sender), message)
        except PowerCut:
            self._down(node)
            return
        self._check(node)
        self.tick_soon(node)

    # Clients

    def propose(self, node_id: int, command: bytes, refused: list[QuorumError] | None = None) -> None:
        """Propose on this node; what it acknowledges is recorded, with the position that it answers."""
        node = self.nodes[node_id]
        assert node.core is not None

        def outcome(answer: object, error: QuorumError | None) -> None:
            if error is None:
                assert isinstance(answer, int)
                assert name_of(command) not in self.acknowledged, "acknowledged twice"
                self.acknowledged[name_of(command)] = answer
            elif refused is not None:
                refused.append(error)

        node.core.propose(command, outcome)
        self.tick_soon(node)

    def barrier(self, node_id: int) -> None:
        """Ask this node for a barrier; where it answers, it must have applied all that was acknowledged before."""
        node = self.nodes[node_id]
        assert node.core is not None
        seen, machine = max(self.acknowledged.values(), default=0), node.machine

        def outcome(_answer: object, error: QuorumError | None) -> None:
            if error is None:
                self.barriers += 1
                assert machine is not None
                if len(machine.applied) < seen:
                    raise StaleBarrierError(f"node {node_id} has applied {len(machine.applied)} commands of {seen}")

        node.core.barrier(outcome)
        self.tick_soon(node)

    def leader(self) -> int:
        """Run until one node leads, is followed by a majority, and has committed an entry of its term."""
        self.run_until(lambda: self._settled_leader() is not None)
        leader = self._settled_leader()
        assert leader is not None
        return leader

    def _settled_leader(self) -> int | None:
        for node in self.running:
            core = node.core
            assert core is not None
            followers = sum(n.core is not None and n.core.leader_id == node.node_id for n in self.running)
            if core.is_leader and core.is_majority(followers) and core.journal.term_at(core.committed) == core.term:
                return node.node_id
        return None

    def commit(self, *commands: bytes) -> None:
        """Propose on the leader and wait until all are acknowledged."""
        leader = self.leader()
        for command in commands:
            self.propose(leader, command)
        self.run_until(lambda: all(name_of(command) in self.acknowledged for command in commands))

    def heal(self) -> None:
        """Fair weather, all nodes up and awake."""
        self.weather = Weather()
        for node in self.nodes.values():
            node.paused_until = 0.0
            node.disk.heal()
            if node.core is not None and node.core.failure is not None:
                self.kill(node.node_id)
            if node.core is None:
                self.start(node.node_id)

    def converge(self, *, within_s: float = 60.0) -> None:
        """Run until every running node has applied the same commands, all of them."""
        self.leader()
        self.run_until(self._is_converged, within_s=within_s)

    def _is_converged(self) -> bool:
        cores = [node.core for node in self.running if node.core is not None]
        ends = {(core.applied, core.journal.last_index, core.term) for core in cores}
        return len(ends) == 1 and cores[0].applied == cores[0].journal.last_index

    def check_acknowledged(self) -> None:
        """AcknowledgedSurvives: every acknowledged command on every running node, once, at the position answered."""
        for node in self.running:
            applied = self.machine(node.node_id).applied
            assert len(set(applied)) == len(applied), f"node {node.node_id} applied a command twice"
            positions = {command: position for position, command in enumerate(applied, start=1)}
            lost = [command for command, answer in self.acknowledged.items() if positions.get(command) != answer]
            if lost:
                raise CommittedIsLostError(f"node {node.node_id} lacks {len(lost)} acknowledged, first {lost[0]!r}")

    def isolate(self, node_id: int) -> None:
        """Cut a node off, both ways."""
        for other in self.nodes:
            self.weather.blocked |= {(node_id, other), (other, node_id)}

    def describe(self) -> str:
        lines = []
        for node in self.nodes.values():
            core = node.core
            lines.append(
                f"node {node.node_id}: down"
                if core is None
                else f"node {node.node_id}: state {core.state} term {core.term} leader {core.leader_id} "
                f"log {core.journal.first_index}..{core.journal.last_index} committed {core.committed} "
                f"applied {core.applied} seated {core.is_seated} failure {core.failure!r}"
            )
        return "; ".join(lines)


@contextmanager
def simulated(voters: int, *, seed: int = 0, start: bool = True, **settings: Any) -> Iterator[SimulatedCluster]:
    """A cluster whose cores live in its own time; the library's clock and dice are put back afterwards."""
    library = pysyncobj.syncobj
    originals = library.monotonicTime, library.random
    cluster = SimulatedCluster.__new__(SimulatedCluster)
    library.monotonicTime, library.random = (lambda: cluster.now), random.Random(seed)
    logging.disable(logging.CRITICAL)
    try:
        cluster.__init__(voters, seed=seed, start=start, **settings)  # type: ignore[misc]  # the clock must exist first
        yield cluster
    finally:
        logging.disable(logging.NOTSET)
        library.monotonicTime, library.random = originals
