"""One process of a node: the real `Node` and its real Kafka listener, on a simulated machine."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.kafka.context import KafkaContext
from api.kafka.listener import KafkaListener
from api.kafka.settings import KafkaSettings
from broker.config import load_config
from broker.config_values import Listener
from broker.meta_properties import MetaProperties
from broker.node import Node
from broker.node_config import NodeConfig
from metadata.image import Endpoint
from tests.simulation.machine import DISK, SimulatedMachine
from tests.simulation.quorum import SimulatedQuorum
from tests.simulation.virtual_loop import Life

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

SESSION_TIMEOUT_MS: Final = 1_000
LAG_TIME_MAX_MS: Final = 1_500
READY_POLL_S: Final = 0.01


def port_of(node_id: int) -> int:
    return 9_000 + node_id


def config_of(node_id: int, voters: tuple[int, ...]) -> NodeConfig:
    settings = [
        f"node.id={node_id}",
        f"node.directory={DISK}",
        "controller.quorum.voters=" + ",".join(f"{voter}@127.0.0.1:{19_000 + voter}" for voter in voters),
        f"broker.session.timeout.ms={SESSION_TIMEOUT_MS}",
        f"peer.listeners=127.0.0.1:{19_000 + node_id}",
        "broker.heartbeat.interval.ms=250",
        f"replica.lag.time.max.ms={LAG_TIME_MAX_MS}",
        "replica.fetch.wait.max.ms=200",
        "log.flush.offset.checkpoint.interval.ms=1000",
        "leader.imbalance.check.interval.seconds=5",
        "log.segment.bytes=16384",
        "min.insync.replicas=2",
        "default.replication.factor=3",
    ]
    config, _ = load_config(None, {}, settings)
    return replace(config, log_directories=(Path(DISK),))


class SimulatedProcess:
    """From start to its end, whichever that is."""

    def __init__(self, cluster: "SimulatedCluster", machine: SimulatedMachine) -> None:
        self.machine = machine
        self.life = Life(machine.address)
        self.node: Node | None = None
        self._cluster = cluster
        self._listener: KafkaListener | None = None
        self._is_started = False
        self._task = cluster.loop.create_task(self._run(), name=f"node {machine.address}", context=self.life.context)
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        cluster, node_id = self._cluster, self.machine.address
        ports = self.machine.ports(lambda *of: SimulatedQuorum(cluster.metadata, node_id, of[-1]))
        identity = MetaProperties(cluster.cluster_id, node_id, ports.new_id())
        self.node = node = Node(config_of(node_id, cluster.voters), identity, None, ports)
        context = KafkaContext(node, KafkaSettings(), chance=cluster.rng)
        at = Listener("PLAINTEXT", "127.0.0.1", port_of(node_id))
        self._listener = KafkaListener(context, at, is_replication=True)
        await node.start_quorum()
        await self._listener.start()
        endpoint = Endpoint("127.0.0.1", port_of(node_id))
        await node.start(http=Endpoint("127.0.0.1", 1), listeners={"PLAINTEXT": endpoint})
        node.listeners_open = self._is_started = True
        while node.broker_epoch is None:  # noqa: ASYNC110 - as the server does
            await asyncio.sleep(READY_POLL_S)  # sleeps: nothing announces it
        context.serve()
        await node.failed.wait()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A node that ends by itself has found a bug, in itself or in the simulator."""
        if task.cancelled() or not self.life.is_alive:
            return
        error = task.exception() or (None if self.node is None else self.node.failure)
        if isinstance(error, OSError) and not self._is_started:
            self._cluster.could_not_start(self.machine.address)
        elif error is not None:
            self._cluster.failed(self.machine.address, error)

    @property
    def is_ready(self) -> bool:
        return self.node is not None and self.node.listeners_open and not self.node.readiness()

    @property
    def has_failed_disk(self) -> bool:
        return self.node is not None and self.node._directories.all_offline  # the test sees everything

    @property
    def has_damage(self) -> bool:
        return self.has_failed_disk or (self.node is not None and bool(self.node._directories.damaged()))

    def kill(self) -> None:
        """The process is gone; its `finally` blocks never run."""
        self._cluster.loop.bury(self.life)
        self.life.kill()
        self._cluster.metadata.nodes.pop(self.machine.address, None)
