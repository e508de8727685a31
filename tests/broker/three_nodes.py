"""Three nodes in this process, of which any may leave and come back."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from broker.errors import OutcomeUnknownError
from broker.node import Node  # noqa: TC001 - one place for imports, as everywhere
from broker.replication.replica import ACKS_ALL, Replica
from metadata.image import Partition
from tests.broker.nodes import Cluster, ready, until
from wire.errors import RefusedError
from wire.record_batch import build_batch

FAST = ("broker.session.timeout.ms=2500", "broker.heartbeat.interval.ms=100", "replica.lag.time.max.ms=2500")
FOLLOWS_FOR_LONG = "replica.lag.time.max.ms=30000"
"""Nobody leaves the in-sync replicas for being slow, however busy the machine."""
PATIENT = ("broker.session.timeout.ms=30000", FOLLOWS_FOR_LONG)
"""For tests in which nobody dies in silence: a busy machine fences none either."""


class Three:
    """Three nodes of which any may leave and come back."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.cluster = Cluster(folder, 3)
        self.settings = (*FAST, *settings)
        self.nodes: dict[int, Node] = {}
        self._lives: dict[int, AsyncExitStack] = {}

    async def start(self, *broker_ids: int) -> None:
        for broker_id in broker_ids:
            life = self._lives[broker_id] = AsyncExitStack()
            self.nodes[broker_id] = await life.enter_async_context(self.cluster.running(broker_id, *self.settings))
        for broker_id in broker_ids:
            await ready(self.nodes[broker_id])

    async def stop(self, broker_id: int) -> None:
        """Without a word to anyone, as far as the others can tell."""
        del self.nodes[broker_id]
        await self._lives.pop(broker_id).aclose()

    async def close(self) -> None:
        for broker_id in list(self.nodes):
            await self.stop(broker_id)

    def state(self, topic_id: uuid.UUID, partition: int = 0) -> Partition:
        """As the node that is the furthest knows it."""
        image = max((node.image for node in self.nodes.values()), key=lambda image: image.applied_index)
        state = image.partition(topic_id, partition)
        assert state is not None
        return state

    async def leading(self, topic_id: uuid.UUID, partition: int = 0) -> Replica:
        """The replica that leads, wherever it is."""
        while True:
            for node in self.nodes.values():
                try:
                    replica = node.replica(topic_id, partition)
                except RefusedError:
                    continue
                state = self.state(topic_id, partition)
                if replica.is_leader and replica.leader_epoch == state.leader_epoch:
                    return replica
            await asyncio.sleep(0.01)

    async def replica(self, broker_id: int, topic_id: uuid.UUID, partition: int = 0) -> Replica:
        """A broker's replica, once it has heard of it: any other may be the first."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return self.nodes[broker_id].replica(topic_id, partition)
                except RefusedError:
                    await asyncio.sleep(0.01)

    async def send(self, topic_id: uuid.UUID, value: bytes, partition: int = 0) -> int:
        """Acknowledged with acks=all, whatever it takes; a doubtful one is sent again."""
        async with asyncio.timeout(60):
            while True:
                replica = await self.leading(topic_id, partition)
                try:
                    return (await replica.append(one(value), acks=ACKS_ALL, timeout_ms=20_000)).base_offset
                except (OutcomeUnknownError, RefusedError):
                    await asyncio.sleep(0.01)

    async def all_in_sync(self, topic_id: uuid.UUID, partition: int = 0) -> None:
        await until(lambda: len(self.state(topic_id, partition).in_sync_replicas) == 3, timeout_s=60)


def one(value: bytes) -> bytearray:
    return build_batch([(None, value, (), time.time_ns() // 1_000_000)])


@asynccontextmanager
async def three_nodes(folder: Path, *settings: str) -> AsyncIterator[Three]:
    three = Three(folder, *settings)
    try:
        await three.start(1, 2, 3)
        yield three
    finally:
        await three.close()
