"""One seed: a cluster, its clients, its faults, then healing; everything checked on the way.

The seed chooses the size of the cluster too. What a run tells is the same each time (`Ran.trace` is a digest of it).
"""

import contextlib
import gc
import hashlib
import itertools
import logging
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.clients import Producer
from tests.simulation.clock_faults import OnlyClocks
from tests.simulation.cluster import SimulatedCluster, simulated_cluster
from tests.simulation.consumer import Consumer
from tests.simulation.nemesis import Nemesis
from tests.simulation.virtual_loop import LIFE

SIZES = ((3, 3), (4, 3), (3, 3), (4, 3), (5, 3), (5, 5))
"""Nodes, and how many of them vote."""
FAULTS_S = 12.0
HEALED_WITHIN_S = 30.0
SETTLED_S = 2.0
EVENTS_KEPT = 3_000


@dataclass(frozen=True, slots=True)
class Found:
    """What ended a run: the invariant, or the kind of exception, and what it says."""

    name: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> "Found":
        name = error.name if isinstance(error, ViolationError) else type(error).__name__
        return cls(name, str(error), "".join(traceback.format_exception(error)))

    def __str__(self) -> str:
        return f"{self.name}: {self.message.removeprefix(f'{self.name}: ')}"


@dataclass(slots=True)
class Ran:
    """What a run was worth, and what it found."""

    seed: int
    only_clocks: bool = False
    events: int = 0
    acknowledged: int = 0
    elections: int = 0
    told: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    healed_s: float = 0.0
    trace: str = ""
    found: Found | None = None
    fault_names: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class EventLog:
    """What the nodes log, with virtual time; the last of it is kept, all of it goes into a digest."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.lines: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._digest = hashlib.sha256()

    def __call__(self, _: Any, __: str, event: Any) -> Any:
        life = LIFE.get()
        what = event.pop("event")
        details = " ".join(f"{key}={value}" for key, value in sorted(event.items()) if key != "exc_info")
        address = 0 if life is None else life.address
        if isinstance(error := event.get("exc_info"), BaseException):
            self._cluster.failed(address, error)  # it was caught, but nobody had expected it
        line = f"{self._cluster.loop.time():9.4f} node {address}: {what} {details}"
        self.lines.append(line)
        self._digest.update(line.encode())
        raise structlog.DropEvent

    def digest(self) -> str:
        return self._digest.hexdigest()[:16]

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        before = structlog.get_config()
        structlog.configure(
            processors=[self],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles: it would take a tenth of a run, which is over in a second or two."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@uncollected()
def run(seed: int, *, without: frozenset[str] = frozenset(), only_clocks: bool = False) -> Ran:
    """Never raises what it finds: see `Ran.found`. With `only_clocks` nothing but wall clocks goes wrong."""
    ran = Ran(seed, only_clocks)
    nodes_count, voters_count = SIZES[seed % len(SIZES)]
    with simulated_cluster(seed, nodes_count=nodes_count, voters_count=voters_count) as cluster:
        nemesis = (OnlyClocks if only_clocks else Nemesis)(cluster, without=without)
        events = EventLog(cluster)
        values = itertools.count()
        partitions = cluster.partitions_count
        producers = [
            Producer(cluster, number, number % partitions, values, idempotent=number >= partitions)
            for number in range(3 * partitions)
        ]
        consumer = Consumer(cluster, len(producers))
        with events.installed():
            try:
                cluster.loop.run_until_complete(_live(cluster, nemesis, producers, consumer, ran))
            except (ViolationError, Exception) as found:  # noqa: BLE001 - whatever ends a run is what it found
                ran.found = Found.of(found)
        ran.events = cluster.loop.callbacks_run
        ran.acknowledged = sum(producer.told["ok"] for producer in producers)
        ran.elections = cluster.watch.elections
        ran.told = sum((producer.told for producer in producers), Counter[str]())
        ran.faults = nemesis.told
        ran.fault_names = nemesis.names
        ran.trace = events.digest()
        ran.log = sorted([*events.lines, *nemesis.log])
    return ran


async def _live(
    cluster: SimulatedCluster, nemesis: Nemesis, producers: list[Producer], consumer: Consumer, ran: Ran
) -> None:
    await cluster.begin()
    for producer in producers:
        producer.run(producer.send(), "producer")
    consumer.run(consumer.read(), "consumer")
    nemesis.begin()
    await cluster.run_for(FAULTS_S)
    nemesis.stop()
    cluster.heal()
    healed_s = cluster.loop.time()

    async def soon(condition: Callable[[], bool], what: str) -> None:
        """L1: all of it within so long after the last fault."""
        await cluster.until(condition, what, healed_s + HEALED_WITHIN_S - cluster.loop.time())

    await soon(cluster.is_fully_replicated, "all replicas in sync")
    ran.healed_s = cluster.loop.time() - healed_s
    cluster.answers_are_due = True
    before = [producer.told["ok"] for producer in producers]

    def all_write() -> bool:
        return all(producer.told["ok"] > told for producer, told in zip(producers, before, strict=True))

    await soon(all_write, "a write of every producer acknowledged")
    cluster.sends_are_over = True
    await cluster.run_for(SETTLED_S)
    await soon(cluster.is_settled, "every replica up to date")
    await soon(consumer.has_read_all, "everything read that was committed")
    for checkers in cluster.watch.partitions.values():
        checkers.healed()
