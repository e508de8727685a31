"""Nodes for tests that run in this process: their directories, their life, and the Fetch door of each.

The door stands in for the Kafka listener, which lies above this room; it answers followers only.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from broker.config import load_config
from broker.meta_properties import (
    MetaProperties,
    forget_formation,
    format_directory,
    new_cluster_id,
    read_formation,
    read_meta_properties,
)
from broker.node import Node
from broker.replication.replica import ACKS_ALL, Replica
from cli.ports import free_ports
from metadata.answers import TopicCreated
from metadata.image import Endpoint
from metadata.requests import ConfigChange, CreateTopicRequest
from tests.broker.replication.doors import Doors
from wire.record_batch import build_batch, iterate_batches

HTTP = Endpoint("127.0.0.1", 8082)


class Cluster:
    """Formatted directories of some nodes, of which any may run in this process."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        ids = range(1, size + 1)
        self.voters = ",".join(
            f"{node_id}@127.0.0.1:{port}" for node_id, port in zip(ids, free_ports(size), strict=True)
        )
        cluster_id, directories = new_cluster_id(), {node_id: uuid.uuid4() for node_id in ids}
        for node_id in ids:
            format_directory(
                self.directory(node_id), cluster_id=cluster_id, node_id=node_id, voter_directories=directories
            )

    def directory(self, node_id: int) -> Path:
        return self.folder / f"node-{node_id}"

    @asynccontextmanager
    async def running(self, node_id: int = 1, *settings: str) -> AsyncIterator[Node]:
        directory = self.directory(node_id)
        config, _ = load_config(
            None,
            {},
            [
                f"node.id={node_id}",
                f"node.directory={directory}",
                f"controller.quorum.voters={self.voters}",
                *settings,
            ],
        )
        identity = read_meta_properties(directory)
        assert isinstance(identity, MetaProperties)
        node = Node(config, identity, read_formation(directory))
        doors = Doors(node.replica)
        try:
            await node.start_quorum()
            forget_formation(directory)
            await doors.open()
            await node.start(http=HTTP, listeners=doors.listeners)
            node.listeners_open = True
            yield node
        finally:
            await doors.shut()
            await node.stop()


async def until(condition: Callable[[], object], *, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a state of another thread's making
            await asyncio.sleep(0.01)


async def ready(node: Node) -> Node:
    await until(lambda: not node.readiness())
    return node


async def create(
    node: Node, name: str, partitions_count: int = 1, replication_factor: int = 1, **configs: str
) -> uuid.UUID:
    request = CreateTopicRequest(
        name=name,
        partitions_count=partitions_count,
        replication_factor=replication_factor,
        configs=tuple(ConfigChange(name=key.replace("_", "."), value=value) for key, value in configs.items()),
    )
    answer = await node.admin(request, timeout_s=30)
    assert isinstance(answer, TopicCreated)
    return answer.topic_id


async def leading(node: Node, topic_id: uuid.UUID) -> Replica:
    """Taken into service, a broker is elected by the next entry of the log."""
    await until(lambda: node.replica(topic_id, 0).is_leader)
    return node.replica(topic_id, 0)


async def send(replica: Replica, value: bytes) -> int:
    now_ms = time.time_ns() // 1_000_000  # else retention may have it before the test does
    sent = await replica.append(build_batch([(None, value, (), now_ms)]), acks=ACKS_ALL, timeout_ms=10_000)
    return sent.base_offset


async def values(replica: Replica) -> list[bytes | None]:
    data = (await replica.fetch(replica.earliest_offset, max_bytes=1 << 20)).slice.data
    return [record.value for batch in iterate_batches(data) for record in batch.records()]
