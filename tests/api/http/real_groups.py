"""Three real nodes behind HTTP and Kafka listeners, with a small offsets topic: what tests of groups need."""

import asyncio
import contextlib
import uuid
from pathlib import Path

import aiohttp

from api.http.app import create_app
from api.http.listener import HttpListener
from api.http.settings import HttpSettings
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
from metadata.image import Endpoint
from tests.api.http.conftest import Answer, Api
from tests.api.kafka.real_cluster import until

C = "/v3/clusters/-"


class GroupNode:
    """A node, its HTTP listener and its Kafka listener (for followers too)."""

    def __init__(self, node: Node, settings: HttpSettings) -> None:
        self.node = node
        self.http = HttpListener(create_app(node, settings), "127.0.0.1", 0)
        self.context = KafkaContext(node, KafkaSettings())
        self.kafka = KafkaListener(self.context, Listener("PLAINTEXT", "127.0.0.1", 0), is_replication=True)
        self.is_up = False

    async def start(self) -> None:
        await self.http.start()
        await self.kafka.start()
        endpoint = Endpoint("127.0.0.1", self.kafka.port)
        await self.node.start(http=Endpoint("127.0.0.1", self.http.port), listeners={"PLAINTEXT": endpoint})
        self.node.listeners_open = True
        await until(lambda: self.node.broker_epoch is not None)
        self.context.serve()
        self.is_up = True

    async def leave(self) -> None:
        """As a process does that was asked to stop."""
        await self.node.hand_over()
        await asyncio.gather(self.http.drain(5.0), self.kafka.drain(5.0))
        await self.stop()

    async def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            await asyncio.gather(self.http.stop(), self.kafka.stop())
            await self.node.stop()


class GroupCluster:
    """What `Api` asks of a cluster."""

    def __init__(self, folder: Path, *, size: int, settings: HttpSettings, config: list[str]) -> None:
        self._folder = folder
        self._settings = settings
        self._config = ["offsets.topic.num.partitions=6", "group.min.session.timeout.ms=1000", *config]
        self._config.append(f"offsets.topic.replication.factor={size}")
        self._ids = range(1, size + 1)
        self._voters = ",".join(
            f"{n}@127.0.0.1:{port}" for n, port in zip(self._ids, free_ports(len(self._ids)), strict=True)
        )
        self._directory_ids = {n: uuid.uuid4() for n in self._ids}
        self._cluster_id = new_cluster_id()
        self.members: dict[int, GroupNode] = {}
        self.client = aiohttp.ClientSession()

    async def start(self) -> None:
        await asyncio.gather(*map(self.start_node, self._ids))
        await until(lambda: not any(node.readiness() for node in self.nodes))
        await until(lambda: all(len(node.image.brokers) == len(self._ids) for node in self.nodes))

    async def start_node(self, node_id: int) -> None:
        folder = self._folder / f"node-{node_id}"
        if not folder.exists():
            ids = self._directory_ids
            format_directory(folder, cluster_id=self._cluster_id, node_id=node_id, voter_directories=ids)
        settings = [
            f"node.id={node_id}",
            f"node.directory={folder}",
            f"controller.quorum.voters={self._voters}",
            *self._config,
        ]
        config, _ = load_config(None, {}, settings)
        identity = read_meta_properties(folder)
        assert isinstance(identity, MetaProperties)
        made = self.members[node_id] = GroupNode(Node(config, identity, read_formation(folder)), self._settings)
        await made.node.start_quorum()
        forget_formation(folder)
        await made.start()

    @property
    def nodes(self) -> list[Node]:
        return [member.node for member in self.members.values() if member.is_up]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{one.kafka.port}" for one in self.members.values() if one.is_up)

    def url(self, path: str, *, node: int = 1) -> str:
        return f"http://127.0.0.1:{self.members[node].http.port}{path}"

    def coordinator(self, group_id: str) -> int:
        """The node id of the broker that coordinates the group."""
        return self.nodes[0].groups.coordinator_of(group_id).broker_id

    async def close(self) -> None:
        await self.client.close()
        await asyncio.gather(*(member.stop() for member in self.members.values()), return_exceptions=True)


class GroupApi(Api):
    """Requests to the nodes, with what tests of groups do again and again."""

    async def ready(self, name: str, partitions: int, *, replicas: int = 1) -> None:
        """A topic that every node knows and whose partitions are led."""
        body = {"topic_name": name, "partitions_count": partitions, "replication_factor": replicas}
        answer = await self("POST", f"{C}/topics", json=body)
        assert 201 == answer.status, answer

        def is_led(node: Node) -> bool:
            topic = node.image.topic(name)
            return topic is not None and all(node.image.leader_of(topic, index) for index in range(partitions))

        await until(lambda: all(map(is_led, self.cluster.nodes)))

    async def produce(self, topic: str, partition: int, *values: str) -> None:
        entries = [
            {"id": str(n), "partition_id": partition, "value": {"type": "STRING", "data": value}}
            for n, value in enumerate(values)
        ]
        answer = await self("POST", f"{C}/topics/{topic}/records:batch", json={"entries": entries})
        assert (207, []) == (answer.status, answer.body["failures"])

    async def commit(self, group_id: str, offsets: dict[tuple[str, int], int], **options) -> Answer:
        body = [{"topic_name": t, "partition_id": p, "offset": offset} for (t, p), offset in offsets.items()]
        path = f"{C}/consumer-groups/{group_id}/offsets:commit"
        return await self("POST", path, json={"offsets": body}, **options)

    async def committed(self, group_id: str, **options) -> dict[tuple[str, int], int]:
        answer = await self("GET", f"{C}/consumer-groups/{group_id}/offsets", **options)
        assert 200 == answer.status, answer
        return {(one["topic_name"], one["partition_id"]): one["offset"] for one in answer.body["data"]}


@contextlib.asynccontextmanager
async def group_cluster(folder: Path, *, size: int = 3, settings: HttpSettings | None = None, config: tuple = ()):
    """A cluster and its `GroupApi`."""
    patient = HttpSettings(leader_wait_s=20.0, unknown_topic_wait_s=2.0, fetch_timeout_s=10.0)
    cluster = GroupCluster(folder, size=size, settings=settings or patient, config=list(config))
    try:
        await cluster.start()
        yield GroupApi(cluster)
    finally:
        await cluster.close()
