"""The door in front of real nodes: three of them in this process, with a quorum, log directories and syncs."""

import asyncio
import contextlib
import socket
import uuid
from pathlib import Path

import aiohttp
import pytest

from api.http.app import create_app
from api.http.listener import HttpListener
from api.http.settings import HttpSettings
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
from metadata.image import Endpoint
from tests.api.http.conftest import Api, until

SIZE = 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealCluster:
    """What `Api` asks of a cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._voters = ",".join(f"{n}@127.0.0.1:{free_port()}" for n in range(1, SIZE + 1))
        self._cluster_id = new_cluster_id()
        self._directory_ids = {n: uuid.uuid4() for n in range(1, SIZE + 1)}
        self.nodes: list[Node] = []
        self.listeners: list[HttpListener] = []
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
        self.nodes.append(node)
        await node.start_quorum()
        forget_formation(directory)
        listener = HttpListener(create_app(node, HttpSettings()), "127.0.0.1", 0)
        await listener.start()
        self.listeners.append(listener)
        await node.start(http=Endpoint("127.0.0.1", listener.port))
        node.listeners_open = True

    def url(self, path: str, *, node: int = 1) -> str:
        return f"http://127.0.0.1:{self.listeners[node - 1].port}{path}"

    async def close(self) -> None:
        await self.client.close()
        await asyncio.gather(*(listener.stop() for listener in self.listeners))
        await asyncio.gather(*(node.stop() for node in self.nodes))


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
