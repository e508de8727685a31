"""Real nodes in this process behind real Kafka listeners: quorum, logs, syncs, replication."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from api.kafka.context import KafkaContext
from api.kafka.listener import KafkaListener
from api.kafka.settings import KafkaSettings
from broker.config import load_config
from broker.config_values import Listener
from broker.meta_properties import (
    MetaProperties,
    forget_formation,
    format_directory,
    new_cluster_id,
    read_formation,
    read_meta_properties,
)
from broker.node import Node
from cli.ports import free_ports
from metadata.image import Endpoint, Topic
from metadata.requests import ConfigChange, CreateTopicRequest


async def until(condition: Callable[[], object], *, timeout_s: float = 30.0) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the state of another end of a socket
            await asyncio.sleep(0.005)  # sleeps: there is no event to wait for


class RealNode:
    """A node, and its listeners PLAINTEXT (for replication too) and CLIENTS."""

    def __init__(self, node: Node, settings: KafkaSettings) -> None:
        self.node = node
        self.context = KafkaContext(node, settings)
        self.listener = self._listener("PLAINTEXT", is_replication=True)
        self.clients = self._listener("CLIENTS", is_replication=False)

    def _listener(self, name: str, *, is_replication: bool) -> KafkaListener:
        return KafkaListener(self.context, Listener(name, "127.0.0.1", 0), is_replication=is_replication)

    async def start(self) -> None:
        await self.listener.start()
        await self.clients.start()
        endpoints = {one.door.name: Endpoint("127.0.0.1", one.port) for one in (self.listener, self.clients)}
        await self.node.start(http=Endpoint("127.0.0.1", 1), listeners=endpoints)
        self.node.listeners_open = True
        await until(lambda: self.node.broker_epoch is not None)
        self.context.serve()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.port}"

    async def stop(self) -> None:
        await asyncio.gather(self.listener.stop(), self.clients.stop())
        await self.node.stop()


class RealCluster:
    """Nodes 1 to `size`, formed from nothing."""

    def __init__(self, folder: Path, *, size: int, kafka: KafkaSettings, settings: list[str]) -> None:
        self._folder = folder
        self._kafka = kafka
        self._settings = settings
        self._ids = range(1, size + 1)
        self._voters = ",".join(
            f"{n}@127.0.0.1:{port}" for n, port in zip(self._ids, free_ports(len(self._ids)), strict=True)
        )
        self._directory_ids = {n: uuid.uuid4() for n in self._ids}
        self.cluster_id = new_cluster_id()
        self.nodes: list[RealNode] = []
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> "RealCluster":
        await asyncio.gather(*(self._start(n) for n in self._ids))
        await until(lambda: not any(one.node.readiness() for one in self.nodes))
        await until(lambda: all(len(one.node.image.brokers) == len(self._ids) for one in self.nodes))
        self.nodes.sort(key=lambda one: one.node.broker_id)
        return self

    async def _start(self, node_id: int) -> None:
        directory = self._folder / f"node-{node_id}"
        format_directory(directory, cluster_id=self.cluster_id, node_id=node_id, voter_directories=self._directory_ids)
        config, _ = load_config(
            None,
            {},
            [
                f"node.id={node_id}",
                f"node.directory={directory}",
                f"controller.quorum.voters={self._voters}",
                *self._settings,
            ],
        )
        identity = read_meta_properties(directory)
        assert isinstance(identity, MetaProperties)
        real = RealNode(Node(config, identity, read_formation(directory)), self._kafka)
        self._stack.push_async_callback(real.stop)
        self.nodes.append(real)
        await real.node.start_quorum()
        forget_formation(directory)
        await real.start()

    async def close(self) -> None:
        await self._stack.aclose()

    @property
    def bootstrap(self) -> str:
        return self.nodes[0].address

    @property
    def context(self) -> KafkaContext:
        return self.nodes[0].context

    async def create(self, name: str = "t", partitions: int = 1, replicas: int = 1, **configs: str) -> Topic:
        """A topic that every node knows and whose partitions are led."""
        request = CreateTopicRequest(
            name=name,
            partitions_count=partitions,
            replication_factor=replicas,
            configs=tuple(ConfigChange(name=key.replace("_", "."), value=value) for key, value in configs.items()),
        )
        await self.nodes[0].node.admin(request, timeout_s=30)
        await until(lambda: all(self._is_led(one.node, name, partitions) for one in self.nodes))
        topic = self.nodes[0].node.image.topic(name)
        assert topic is not None
        return topic

    @staticmethod
    def _is_led(node: Node, name: str, partitions: int) -> bool:
        topic = node.image.topic(name)
        return topic is not None and all(node.image.leader_of(topic, index) for index in range(partitions))

    def leader(self, topic: Topic, partition: int = 0) -> RealNode:
        state = self.nodes[0].node.image.partition(topic.topic_id, partition)
        assert state is not None
        return self.nodes[state.leader - 1]


def quick(**changes: object) -> KafkaSettings:
    return replace(KafkaSettings(), **changes)
