"""What can happen to a cluster: each kind a context that strikes when it is entered and has healed when it is left.

Owns the list of kinds (`KINDS`) by which `scripts/faults --only` names them. Each acts on one `Strike`: the field, its
victim and a chance of its own. Nothing here judges; nothing here leaves a node down, a disk failing or a link cut
behind. A node that comes back is started, not waited for: how long it takes is what L1 is about. What a kind waits for
is what the fault itself needs, and says so. What was durable is taken away (`corruption`) from one victim only, alone,
and only while every replica was in sync before.
"""

import contextlib
import errno
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import power_cut
from tests.faults.battlefield import Battlefield
from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.corruption import corrupt
from tests.faults.harness import HEALED_S, Deadline, Node, wait_until
from tests.faults.history import Operation
from tests.faults.preload import DATA, METADATA, FailingCalls

CLOCK_JUMPS_MS = (-30 * 86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 30 * 86_400_000)
SLOW_SYNCS_S = (0.05, 2.0)
SPARE_DESCRIPTORS, CONNECTIONS = 4, 60
TRANSFER_S = 5.0
NOTHING = "nothing"


@dataclass(slots=True)
class Strike:
    """One blow: at whom, and what came of it. How much it draws from its chance depends on what it meets."""

    field: Battlefield
    topic: str
    victim: Node
    chance: random.Random
    history: list[Operation]
    """What a kind itself reads of the topic belongs here."""
    told: Counter[str] = field(default_factory=Counter)

    @property
    def others(self) -> list[Node]:
        return [node for node in self.field.nodes if node is not self.victim]

    def pause(self, longest_s: float) -> None:
        time.sleep(self.chance.uniform(0, longest_s))  # sleeps: how long it lasts is what the seed draws

    @property
    def calls(self) -> FailingCalls:
        """There where there is a C compiler: see `needs_compiler`."""
        return self.field.calls[self.victim.node_id]

    @property
    def hits_a_leader(self) -> bool:
        """The victim leads a partition of the topic, or the quorum."""
        if self.field.leads(self.victim, self.topic):
            return True
        with contextlib.suppress(AssertionError, NotSentError, DoubtfulError):
            return self.field.cluster.quorum_leader() is self.victim
        return False


Kind = Callable[[Strike], contextlib.AbstractContextManager[None]]


# --- processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def kill(strike: Strike) -> Iterator[None]:
    """kill -9 of the victim; half of the time it is back at once, before anybody has missed it."""
    strike.victim.kill()
    if strike.chance.random() < 0.5:
        strike.field.start(strike.victim)
    yield
    strike.field.begin_dead()


@contextlib.contextmanager
def kill_all(strike: Strike) -> Iterator[None]:
    """kill -9 of all nodes at once; half of the time all are back at once."""
    for node in strike.field.nodes:
        node.signal(signal.SIGKILL)
    for node in strike.field.nodes:
        node.kill()
    if strike.chance.random() < 0.5:
        strike.field.begin_dead()
    yield
    strike.field.begin_dead()


@contextlib.contextmanager
def pause(strike: Strike) -> Iterator[None]:
    """SIGSTOP: it does not know afterwards that it was away."""
    strike.victim.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        strike.victim.signal(signal.SIGCONT)


@contextlib.contextmanager
def rolling_restart(strike: Strike) -> Iterator[None]:
    """Each in turn, in order, the next when the last one is ready; its replicas may still be behind."""
    yield
    for node in strike.chance.sample(strike.field.nodes, len(strike.field.nodes)):
        strike.field.cluster.wait_ready()
        node.signal(signal.SIGTERM)
        wait_until(lambda node=node: not node.is_running(), f"node {node.node_id} stops when asked", timeout_s=60)
        strike.field.begin_dead()


@contextlib.contextmanager
def descriptors(strike: Strike) -> Iterator[None]:
    """So many connections that the victim has no file descriptor left."""
    pid = strike.victim.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as connections:
        in_use = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use + SPARE_DESCRIPTORS, before[1]))
        for _ in range(CONNECTIONS):
            with contextlib.suppress(OSError):
                one = socket.create_connection((strike.victim.host, strike.victim.port), timeout=1)
                connections.enter_context(contextlib.closing(one))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


# --- network ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def partition(strike: Strike) -> Iterator[None]:
    """The victim alone, or one link; in both directions or in one; heard late or never."""
    victim = strike.victim.node_id
    others = [node.node_id for node in strike.others]
    if strike.chance.random() < 0.3:
        others = [strike.chance.choice(others)]
    to, back = {(victim, other) for other in others}, {(other, victim) for other in others}
    cut = strike.chance.choice((to | back, to | back, to, back))
    strike.told["asymmetric" if len(cut) == len(others) else "symmetric"] += 1
    strike.field.network.cut(cut)
    try:
        yield
    finally:
        if strike.chance.random() < 0.5:
            strike.field.network.reset(to | back)
        strike.field.network.heal()


@contextlib.contextmanager
def packet_loss(strike: Strike) -> Iterator[None]:
    """2, 10 or 30% of what nodes say to each other is lost on the way and sent again."""
    strike.field.network.lose(strike.chance.choice((0.02, 0.1, 0.3)))
    try:
        yield
    finally:
        strike.field.network.heal()


@contextlib.contextmanager
def slow_network(strike: Strike) -> Iterator[None]:
    """What nodes say to each other takes its time, or comes slowly."""
    strike.field.network.slow(strike.chance.choice((0.02, 0.1, 0.3)), strike.chance.choice((0.0, 50_000.0, 500_000.0)))
    try:
        yield
    finally:
        strike.field.network.heal()


# --- disks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk_full(strike: Strike) -> Iterator[None]:
    """The logs' disk: as the node sees it coming, or from one write to the next, a short one before it."""
    calls = strike.calls
    how = strike.chance.choice(("seen coming", "at a write", "both"))
    if how != "at a write":
        calls.tell_full(DATA)
    if how != "seen coming":
        calls.fail_writes(DATA, errno.ENOSPC, short=strike.chance.random() < 0.5)
    try:
        yield
    finally:
        calls.heal()


@contextlib.contextmanager
def disk_error(strike: Strike) -> Iterator[None]:
    """EIO on writes, on syncs or on both, of the logs or of the metadata; the node is restarted with another cable."""
    calls = strike.calls
    area = strike.chance.choice((DATA, DATA, METADATA))
    which = strike.chance.choice(("writes", "syncs", "both"))
    if which != "syncs":
        calls.fail_writes(area, errno.EIO)
    if which != "writes":
        calls.fail_syncs(area, errno.EIO)
    strike.told[f"{which} of the {'metadata' if area == METADATA else 'logs'}"] += 1
    try:
        yield
    finally:
        calls.heal()
        strike.victim.kill()
        strike.field.begin_dead()


@contextlib.contextmanager
def slow_disk(strike: Strike) -> Iterator[None]:
    """Every sync of the logs, of the metadata or of both takes longer."""
    calls = strike.calls
    delay_s = strike.chance.uniform(*SLOW_SYNCS_S)
    for area in strike.chance.choice(((DATA,), (METADATA,), (DATA, METADATA))):
        calls.delay_syncs(area, delay_s)
    try:
        yield
    finally:
        calls.heal()


def _cut_power(strike: Strike, nodes: list[Node]) -> None:
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        node.kill()
        taken = power_cut.cut(strike.field.calls[node.node_id].journal, node.directory, strike.chance)
        strike.told["writes taken back"] += taken.writes
        strike.told["names taken back"] += taken.names


@contextlib.contextmanager
def power(strike: Strike) -> Iterator[None]:
    """What the victim had not synced is gone."""
    _cut_power(strike, [strike.victim])
    yield
    strike.field.begin_dead()


@contextlib.contextmanager
def power_of_all(strike: Strike) -> Iterator[None]:
    """At one moment, as where they share a socket."""
    _cut_power(strike, strike.field.nodes)
    yield
    strike.field.begin_dead()


@contextlib.contextmanager
def corruption(strike: Strike) -> Iterator[None]:
    """Bytes of the stopped victim's files change. It repairs what it can; what it refuses to start with comes back.

    Over when the damage was met: the victim has started or its operator has given the file back, and where records were
    damaged it has been made to lead them and was read.
    """
    strike.victim.kill()
    damage = corrupt(strike.victim.directory, strike.topic, strike.chance)
    strike.told[damage.what] += 1
    strike.field.start(strike.victim)
    yield
    node = strike.victim
    wait_until(lambda: node.is_ready() or not node.is_running(), f"node {node.node_id} starts or says why not")
    if not node.is_running():
        strike.told["refused to start"] += 1
        damage.take_back()
        strike.field.begin_dead()
    damage.close()
    if damage.kind in {"segment", "index", "epochs"}:
        _read_through(strike, damage.file)


def _read_through(strike: Strike, file: Path) -> None:
    """Make the victim lead what was damaged, and read it there: damage shows, nothing wrong is served (S18)."""
    partition = int(file.parent.name.partition(".")[0].rpartition("-")[2])
    replica, to = f"{strike.topic}-{partition}", str(strike.victim.node_id)

    def leads() -> bool:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            strike.field.cluster.kraft("partition", "transfer-leader", replica, "--to", to, timeout_s=TRANSFER_S)
            return True
        return False

    within = Deadline(HEALED_S)
    strike.field.cluster.wait_ready(within)
    within.wait_until(leads, f"node {to} leads {replica} when asked to")
    offset = 0
    with strike.victim.client() as client:
        while (polled := client.poll(strike.topic, partition, offset)) is not None and polled.records:
            strike.history.append(polled)
            offset = polled.records[-1][0] + 1
            strike.told["records read through a damaged leader"] += len(polled.records)


# --- clocks, and operators -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def clock(strike: Strike) -> Iterator[None]:
    """The victim's wall clock jumps, perhaps twice; it is right again at the end."""
    calls = strike.calls
    calls.move_clock(strike.chance.choice(CLOCK_JUMPS_MS))
    if strike.chance.random() < 0.3:
        strike.pause(2)
        calls.move_clock(strike.chance.choice(CLOCK_JUMPS_MS))
    try:
        yield
    finally:
        calls.heal()


@contextlib.contextmanager
def growth(strike: Strike) -> Iterator[None]:
    """A broker joins, takes replicas of the topic, and is drained and removed again, while everybody writes."""
    cluster = strike.field.cluster
    before = sorted(cluster.nodes)
    try:
        with strike.field.network.newcomer(cluster) as newcomer:
            replicas = [newcomer, *strike.chance.sample(before, min(len(before), 2))]
            cluster.kraft("partition", "move", strike.topic, "--to", ",".join(map(str, replicas)))
            yield
    finally:
        cluster.kraft("partition", "move", strike.topic, "--to", ",".join(map(str, before)))


@contextlib.contextmanager
def nothing(_: Strike) -> Iterator[None]:
    """A campaign that fails here fails by itself."""
    yield


KINDS: dict[str, Kind] = {
    "kill": kill,
    "kill-all": kill_all,
    "pause": pause,
    "partition": partition,
    "loss": packet_loss,
    "slow-network": slow_network,
    "disk-full": disk_full,
    "disk-error": disk_error,
    "slow-disk": slow_disk,
    "power": power,
    "power-all": power_of_all,
    "corruption": corruption,
    "clock": clock,
    "descriptors": descriptors,
    "rolling": rolling_restart,
    "growth": growth,
    NOTHING: nothing,
}
ALONE = {"growth", "rolling", "corruption", "kill-all", "power-all", NOTHING}
"""Never together with another kind: they need the others whole, or hit them all."""
KILLING = {"kill", "power", "disk-error", "pause", "descriptors"}
"""At most one of these at a time: each is about the victim's one process."""


def choose(names: list[str], chance: random.Random) -> list[str]:
    """What strikes in the next cycle: mostly one kind, at times two or three at once on the same victim."""
    first = chance.choice(names)
    chosen = [first]
    if first in ALONE:
        return chosen
    for name in chance.sample(names, min(len(names), chance.choice((0, 0, 1, 2)))):
        is_second = name in KILLING and KILLING & set(chosen)
        if name not in chosen and name not in ALONE and not is_second:
            chosen.append(name)
    return chosen


def draw_victim(field: Battlefield, topic: str, partitions: int, chance: random.Random) -> Node:
    """Any node, the leader of a partition, or that of the quorum; what is drawn does not depend on who leads."""
    kind = chance.choice(("any", "leader", "controller"))
    drawn, partition = chance.choice(field.nodes), chance.randrange(partitions)
    with contextlib.suppress(AssertionError, NotSentError, DoubtfulError):
        if kind == "leader":
            return field.cluster.leader_of(topic, partition)
        if kind == "controller":
            return field.cluster.quorum_leader()
    return drawn


def needs_compiler(name: str) -> bool:
    return name in {"disk-full", "disk-error", "slow-disk", "power", "power-all", "clock"}


assert sys.platform == "linux", "SIGSTOP, /proc and prlimit are as Linux has them"
