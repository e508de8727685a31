"""A whole cluster on a virtual clock: real nodes, real listeners, simulated machines, network and quorum.

Everything is drawn from one seed. The run ends at the first violation, and says at what time and after how many events.
"""

import asyncio
import base64
import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextvars import Context
from random import Random
from typing import Final

from broker.errors import OutcomeUnknownError
from broker.replication.replica import Replica
from metadata.image import Partition, Topic
from metadata.requests import AdminRequest, ConfigChange, CreateTopicRequest
from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.machine import SimulatedMachine
from tests.simulation.network import Network
from tests.simulation.partition_checkers import PartitionCheckers
from tests.simulation.process import SimulatedProcess
from tests.simulation.quorum import MetadataLog
from tests.simulation.virtual_loop import VirtualLoop, virtual_loop
from tests.simulation.watch import TOPIC, Watch
from wire.errors import RefusedError

STEP_S: Final = 0.05
RESTART_S: Final = 0.5
PATIENCE_S: Final = 3.0
OPERATOR_LOOKS_S: Final = 0.3


class SimulatedCluster:
    """Nodes 1 to n, of which the first three or five vote."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        nodes_count: int = 3,
        voters_count: int = 3,
        partitions_count: int = 2,
        min_in_sync_replicas: int = 2,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.rng = Random(seed)
        self.cluster_id = base64.urlsafe_b64encode(uuid.UUID(int=seed + 1).bytes).rstrip(b"=").decode()
        self.node_ids = tuple(range(1, nodes_count + 1))
        self.voters = self.node_ids[:voters_count]
        self.partitions_count = partitions_count
        self.network = Network(loop, Random(f"{seed} network"))
        self.metadata = MetadataLog(loop, self.network, Random(f"{seed} quorum"), self.voters)
        self.watch = Watch(self.node_ids, min_in_sync_replicas=min_in_sync_replicas, cluster_id=self.cluster_id)
        self.metadata.on_commit = self.watch.committed
        self.metadata.on_take = self.watch.taken
        self.watch.knows_topic = self._knows_topic
        self.machines = {
            node_id: SimulatedMachine(node_id, loop, Random(f"{seed} machine {node_id}")) for node_id in self.node_ids
        }
        self.processes: dict[int, SimulatedProcess] = {}
        self.sends_are_over = False
        self.answers_are_due = False
        """Everything runs and hears everything: whoever asks is answered by his timeout (L1)."""
        self.haste = 1.0
        """How fast producers send: a cluster that does not heal is watched, not fed."""
        self.bug: BaseException | None = None

    @property
    def topic(self) -> Topic | None:
        """The one that has the name now, as the metadata says."""
        return self.watch.image.topic(TOPIC)

    def checkers(self, topic_id: uuid.UUID, partition: int) -> PartitionCheckers:
        return self.watch.of((topic_id, partition))

    # ---- processes

    def start(self, node_id: int) -> None:
        if node_id not in self.processes:
            self.processes[node_id] = SimulatedProcess(self, self.machines[node_id])

    def kill(self, node_id: int) -> None:
        """kill -9: its machine goes on, and resets its connections."""
        process = self.processes.pop(node_id, None)
        if process is not None:
            process.kill()
            self.network.died(process.life, silently=False)
            self.machines[node_id].lose_process()
            self.watch.left(node_id, keeps_unsynced=True)

    def cut_power(self, node_id: int) -> None:
        """What was not synced may be gone, and nobody is told of the connections."""
        process = self.processes.pop(node_id, None)
        if process is not None:
            process.kill()
            self.network.died(process.life, silently=True)
            self.watch.left(node_id, keeps_unsynced=False)
            self.machines[node_id].lose_power()

    def replace_disk(self, node_id: int) -> None:
        """The machine dies and comes back with an empty disk."""
        self.cut_power(node_id)
        self.machines[node_id].replace_disk()
        self.metadata.lose_disk(node_id)
        self.watch.wiped(node_id)

    def could_not_start(self, node_id: int) -> None:
        """Its disk is full or broken: whoever supervises the process tries again."""
        self.loop.call_soon(self.kill, node_id, context=Context())
        self.loop.call_later(RESTART_S, self.start, node_id, context=Context())

    def failed(self, node_id: int, error: BaseException) -> None:
        if self.bug is None:
            self.bug = error
            error.add_note(f"node {node_id} ended at {self.loop.time():.3f} s")

    def act_as(self, node_id: int, action: Callable[[], object]) -> None:
        """Do something inside a node's process; a refusal or a failing disk is the answer to an operator."""

        def act() -> None:
            with contextlib.suppress(RefusedError, OSError):
                action()

        self.loop.call_soon(act, context=self.processes[node_id].life.context)

    def ask(self, node_id: int, request: AdminRequest) -> None:
        """An operator's request to this node, whatever becomes of it."""
        node = self.processes[node_id].node
        assert node is not None

        async def ask() -> None:
            with contextlib.suppress(RefusedError, OutcomeUnknownError):
                await node.admin(request, timeout_s=5)

        self.loop.create_task(ask(), context=self.processes[node_id].life.context)

    # ---- what is there

    def states(self) -> tuple[Partition, ...]:
        return () if self.topic is None else self.topic.partitions

    def _knows_topic(self, node_id: int, topic_id: uuid.UUID) -> bool:
        node = self.processes[node_id].node
        return node is not None and topic_id in node.image.topics

    def replicas(self) -> list[tuple[int, Replica]]:
        """Of all running nodes."""
        return [
            (node_id, replica)
            for node_id, process in sorted(self.processes.items())
            if process.node is not None and not process.life.is_stopped
            for replica in process.node._reconciler.replicas.values()
            if replica.topic == TOPIC
        ]

    # ---- time

    async def run_for(self, seconds: float) -> None:
        """Let the world go on; raises the first violation or bug."""
        until_s = self.loop.time() + seconds
        while self.loop.time() < until_s:
            await asyncio.sleep(min(STEP_S, until_s - self.loop.time()))  # sleeps: virtual time
            self.check()

    def check(self) -> None:
        if self.watch.violation is not None:
            raise self.watch.violation
        bug = self.bug or next(iter(self.loop.bugs), None)
        if bug is not None:
            raise bug

    async def until(self, condition: object, what: str, within_s: float) -> None:
        """L1: `condition()` holds some time within `within_s`."""
        assert callable(condition)
        until_s = self.loop.time() + within_s
        while not condition():
            if self.loop.time() > until_s:
                raise ViolationError("L1", f"after {within_s} s still not: {what}")
            self.haste = 1.0 if until_s - self.loop.time() > within_s - PATIENCE_S else 0.05
            await self.run_for(STEP_S)

    # ---- the usual beginning and end

    async def begin(self) -> None:
        """All nodes in service, and the topic."""
        for node_id in self.node_ids:
            self.start(node_id)
        await self.until(self._all_ready, "all nodes ready", 30)
        self._look_after_the_topic()
        await self.until(lambda: self.topic is not None, "the topic created", 15)

    def _look_after_the_topic(self) -> None:
        """As an operator does who finds it missing: at the beginning, and after somebody deleted it."""
        ready = [node_id for node_id, process in sorted(self.processes.items()) if process.is_ready]
        if self.topic is None and ready:
            configs = (
                ConfigChange(name="min.insync.replicas", value="2"),
                ConfigChange(name="retention.ms", value="-1"),  # a clock that jumps by a month deletes nothing
            )
            create = CreateTopicRequest(
                name=TOPIC, partitions_count=self.partitions_count, replication_factor=3, configs=configs
            )
            self.ask(self.rng.choice(ready), create)
        self.loop.call_later(self.rng.uniform(0, OPERATOR_LOOKS_S), self._look_after_the_topic, context=Context())

    def _all_ready(self) -> bool:
        return all(node_id in self.processes and self.processes[node_id].is_ready for node_id in self.node_ids)

    def heal(self) -> None:
        """Everything runs and hears everything, and every disk does what it is told."""
        self.network.slowness = 0.0
        for source, target in sorted(self.network.blocked):
            self.network.unblock(source, target)
        for node_id in self.node_ids:
            machine = self.machines[node_id]
            machine.sync_s = (0.0001, 0.001)
            machine.disk.heal()
            process = self.processes.get(node_id)
            if process is None:
                self.start(node_id)
            elif process.life.is_stopped:
                process.life.go_on()

    def restart_those_with_failed_disks(self) -> None:
        """As an operator does."""
        for node_id, process in list(self.processes.items()):
            if process.has_failed_disk:
                self.kill(node_id)
                self.start(node_id)

    def is_fully_replicated(self) -> bool:
        """Everything is led, and all assigned replicas are in sync. Restarts whom a failed disk keeps from it."""
        self.restart_those_with_failed_disks()
        return (
            bool(self.states())
            and self._all_ready()
            and all(
                state.leader != -1 and {*state.in_sync_replicas} == {*state.replicas} and not state.is_reassigning
                for state in self.states()
            )
        )

    def is_settled(self) -> bool:
        """All replicas in sync, and none still on its way: a link that was mended may be found to be so much later."""
        return self.is_fully_replicated() and all(
            checkers.shadows[node_id].log_end_offset >= len(checkers.committed)
            for checkers in self.watch.partitions.values()
            if checkers.state is not None
            for node_id in checkers.state.replicas
        )


@contextlib.contextmanager
def simulated_cluster(seed: int, **settings: int) -> Iterator[SimulatedCluster]:
    """A cluster and its loop, for one `loop.run_until_complete`; nothing of it is left afterwards."""
    with virtual_loop() as loop:
        cluster = SimulatedCluster(loop, seed, **settings)
        with cluster.watch.installed():
            yield cluster
