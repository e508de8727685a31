"""The door in front of real nodes: three of them in this process, with a quorum, log directories and syncs."""

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

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
from tests.api.http.conftest import Api, until

SIZE = 3


class RealNode(NamedTuple):
    """A node and its listeners; followers fetch from the Kafka one."""

    node: Node
    http: HttpListener
    kafka: KafkaListener

    async def leave(self) -> None:
        """As a process does that was asked to stop."""
        await self.node.hand_over()
        await asyncio.gather(self.http.drain(5.0), self.kafka.drain(5.0))
        await self.stop()

    async def stop(self) -> None:
        await asyncio.gather(self.http.stop(), self.kafka.stop())
        await self.node.stop()


class RealCluster:
    """What `Api` asks of a cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(free_ports(SIZE), start=1))
        self._cluster_id = new_cluster_id()
        self._directory_ids = {n: uuid.uuid4() for n in range(1, SIZE + 1)}
        self.real: dict[int, RealNode] = {}
        self.client = aiohttp.ClientSession()

    async def start(self, node_id: int) -> None:
        directory = self._folder / f"node-{node_id}"
        format_directory(directory, cluster_id=self._cluster_id, node_id=node_id, voter_directories=self._directory_ids)
        settings = [
            f"node.id={node_id}",
            f"node.directory={directory}",
            f"controller.quorum.voters={self._voters}",
            "http.listeners=http://127.0.0.1:0",
        ]
        config, _ = load_config(None, {}, settings)
        identity = read_meta_properties(directory)
        assert isinstance(identity, MetaProperties)
        node = Node(config, identity, read_formation(directory))
        context = KafkaContext(node, KafkaSettings())
        # a busy machine takes its time to hear of topics and leaders
        patient = HttpSettings(unknown_topic_wait_s=2.0, fetch_timeout_s=10.0, drain_kept_s=3.0)
        http = HttpListener(create_app(node, patient), "127.0.0.1", 0)
        kafka = KafkaListener(context, Listener("PLAINTEXT", "127.0.0.1", 0), is_replication=True)
        self.real[node_id] = RealNode(node, http, kafka)
        await node.start_quorum()
        forget_formation(directory)
        await http.start()
        await kafka.start()
        kafka_at = {"PLAINTEXT": Endpoint("127.0.0.1", kafka.port)}
        await node.start(http=Endpoint("127.0.0.1", http.port), listeners=kafka_at)
        node.listeners_open = True
        await until(lambda: node.broker_epoch is not None)
        context.serve()

    @property
    def nodes(self) -> list[Node]:
        return [real.node for real in self.real.values()]

    def url(self, path: str, *, node: int = 1) -> str:
        return f"http://127.0.0.1:{self.real[node].http.port}{path}"

    async def close(self) -> None:
        await self.client.close()
        await asyncio.gather(*(real.stop() for real in self.real.values()))


@pytest.fixture
async def real(tmp_path):
    cluster = RealCluster(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        await asyncio.gather(*(cluster.start(n) for n in range(1, SIZE + 1)))
        await until(lambda: not any(node.readiness() for node in cluster.nodes))
        await until(lambda: all(len(node.image.brokers) == SIZE for node in cluster.nodes))
        yield Api(cluster)


async def test_any_node_takes_any_request(real):
    api = real
    created = await api("POST", "/v3/clusters/-/topics", node=2, json={"topic_name": "t", "partitions_count": 6})
    assert 201 == created.status, created
    sent = {}
    for node in range(1, SIZE + 1):  # at once: the other nodes may not even know the topic yet
        entries = [
            {"id": f"{node}.{i}", "partition_id": i % 6, "value": {"type": "STRING", "data": f"{node}.{i}"}}
            for i in range(600)
        ]
        answer = await api("POST", "/v3/clusters/-/topics/t/records:batch", node=node, json={"entries": entries})
        assert (207, []) == (answer.status, answer.body["failures"])
        sent |= {(s["partition_id"], s["offset"]): s["id"] for s in answer.body["successes"]}
    assert SIZE * 600 == len(sent)
    for node in range(1, SIZE + 1):
        found = {}
        for partition in range(6):
            answer = await api.fetch("t", partition, node=node)
            found |= {(partition, r["offset"]): r["value"]["data"] for r in answer.body["records"]}
        assert sent == found
    leaders = {p["leader_id"] for p in (await api("GET", "/v3/clusters/-/topics/t/partitions")).body["data"]}
    assert {1, 2, 3} == leaders
    assert 416 == (await api.fetch("t", 0, "offset=99999")).status
    quorum = (await api("GET", "/v3/clusters/-/quorum")).body
    assert SIZE == len(quorum["voters"])
    assert (await api("GET", "/v3/clusters/-/health", node=3)).body["healthy"]
    assert 204 == (await api("DELETE", "/v3/clusters/-/topics/t", node=3)).status
    assert 404 == (await api.fetch("t", 0, node=3)).status


async def test_any_node_trims_a_topic_in_all_of_its_replicas(real):
    api, cluster = real, real.cluster
    await api.replicated("t", [[1, 2, 3]], min_insync_replicas="2")
    await until(lambda: all(node.image.topic("t") for node in cluster.nodes))
    path = "/v3/clusters/-/topics/t/partitions/0/records"
    for _ in range(5):
        assert 200 == (await api("POST", path, json={"value": {"type": "STRING", "data": "v"}})).status
    for node, before, begins_at in ((1, 2, 2), (2, 3, 3), (3, 1, 3), (3, None, 5)):
        answer = await api("POST", path + ":trim", node=node, json={"before_offset": before})
        assert (200, "t", 0, begins_at, 5) == (
            answer.status,
            *(answer.body[key] for key in ("topic_name", "partition_id", "log_start_offset", "high_watermark")),
        )
        key = (cluster.nodes[0].image.topic("t").topic_id, 0)
        assert [begins_at] * SIZE == [one.replica(*key).log.log_start_offset for one in cluster.nodes]
    beyond = await api("POST", path + ":trim", node=2, json={"before_offset": 6})
    assert (416, 5, 5) == (beyond.status, beyond.body["earliest_offset"], beyond.body["latest_offset"])
    for wrong in ({}, {"before_offset": -1}, {"before_offset": "1"}, {"before_offset": 1, "more": 1}):
        assert 400 == (await api("POST", path + ":trim", json=wrong)).status
    assert 404 == (await api("POST", path.replace("/0/", "/7/") + ":trim", json={"before_offset": 1})).status


async def test_a_leader_that_stops_fails_no_request_and_its_successor_knows_what_it_had(real):
    """No answer but success for plain writes through all nodes; S13 across the change of the leader."""
    api, cluster = real, real.cluster
    await api.replicated("t", [[1, 2, 3], [2, 3, 1]], min_insync_replicas="2")
    await until(lambda: all(node.image.topic("t") for node in cluster.nodes))
    path = "/v3/clusters/-/topics/t/partitions/0/records"
    producer = (await api("POST", "/v3/clusters/-/producers", node=2)).body
    stamp = {"Producer-Id": str(producer["producer_id"]), "Producer-Epoch": "0", "Producer-Seq": "0"}
    first = await api("POST", path, node=1, json={}, headers=stamp)
    assert 200 == first.status, first.body
    written: dict[int, str] = {}
    gone = asyncio.Event()

    async def write(node: int) -> None:
        """Until the leader has gone, and ten records longer."""
        left = 10
        while left:
            text = f"{node}.{len(written)}"
            answer = await api("POST", path, node=node, json={"value": {"type": "STRING", "data": text}})
            assert 200 == answer.status, answer.body
            assert answer.body["offset"] not in written
            written[answer.body["offset"]] = text
            left -= gone.is_set()

    async def leave() -> None:
        await until(lambda: len(written) > 20)
        await cluster.real.pop(1).leave()
        gone.set()

    await asyncio.gather(write(2), write(3), write(2), write(3), leave())
    again = await api("POST", path, node=3, json={}, headers=stamp)
    assert (200, first.body["offset"], True) == (again.status, again.body["offset"], again.body["duplicate"])
    assert again.headers["X-Leader-Id"] in ("2", "3")
    fetched = (await api.fetch("t", 0, node=2)).body["records"]
    found = {r["offset"]: r["value"]["data"] for r in fetched if r["value"] is not None}
    assert written == found, "each once, at the offset of its receipt"
    (partition,) = (await api("GET", "/v3/clusters/-/partitions?state=under-replicated&limit=1", node=3)).body["data"]
    assert [1] == sorted({*partition["replica_ids"]} - {*partition["in_sync_replica_ids"]})
    assert not (await api("GET", "/v3/clusters/-/health", node=2)).body["healthy"]
