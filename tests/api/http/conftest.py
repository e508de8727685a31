"""A cluster of fake nodes behind real listeners, and a client that reads JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import pytest

from api.http.settings import HttpSettings
from tests.api.http.fake_node import FakeCluster

QUICK = HttpSettings(
    leader_wait_s=0.3, header_deadline_s=5.0, linger_s=2.0, drain_kept_s=0.05, unknown_topic_wait_s=0.0
)


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Api:
    """Requests to the nodes of a cluster."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    async def __call__(self, method: str, path: str, *, node: int = 1, **options: Any) -> Answer:
        """`json=` bodies and answers; other bodies by `data=`."""
        url = self.cluster.url(path, node=node)
        async with self.cluster.client.request(method, url, allow_redirects=False, **options) as response:
            raw = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "") and raw
            try:
                body = msgspec.json.decode(raw) if is_json else raw
            except msgspec.DecodeError:
                body = [msgspec.json.decode(line) for line in raw.splitlines()]
            return Answer(response.status, body, response.headers)

    async def topic(self, name: str = "t", partitions: int = 1, **configs: str) -> None:
        body = {
            "topic_name": name,
            "partitions_count": partitions,
            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
        }
        answer = await self("POST", "/v3/clusters/-/topics", json=body)
        assert 201 == answer.status, answer

    async def replicated(self, name: str, replicas: list[list[int]], **configs: str) -> None:
        """A topic whose partitions lie where the lists say."""
        body = {
            "topic_name": name,
            "replicas_assignments": [{"partition_id": i, "broker_ids": ids} for i, ids in enumerate(replicas)],
            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
        }
        answer = await self("POST", "/v3/clusters/-/topics", json=body)
        assert 201 == answer.status, answer

    async def fetch(self, topic: str = "t", partition: int = 0, query: str = "offset=0", **options: Any) -> Answer:
        return await self("GET", f"/v3/clusters/-/topics/{topic}/partitions/{partition}/records?{query}", **options)

    async def values(self, topic: str = "t", partition: int = 0) -> list[Any]:
        answer = await self.fetch(topic, partition)
        return [record["value"] and record["value"]["data"] for record in answer.body["records"]]


@pytest.fixture
def settings() -> HttpSettings:
    """Overridden by tests that need other bounds."""
    return QUICK


@pytest.fixture
async def cluster(settings: HttpSettings) -> AsyncIterator[FakeCluster]:
    made = FakeCluster(settings)
    await made.add_node()
    yield made
    await made.close()


@pytest.fixture
async def api(cluster: FakeCluster) -> Api:
    return Api(cluster)


@pytest.fixture
async def two_nodes(cluster: FakeCluster) -> Api:
    await cluster.add_node()
    return Api(cluster)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the state of another end of a socket
            await asyncio.sleep(0.005)  # sleeps: there is no event to wait for


def quick(**changes: Any) -> HttpSettings:
    return replace(QUICK, **changes)


waits_for_leaders = pytest.mark.parametrize("settings", [quick(leader_wait_s=20.0)], ids=[""])
"""For a test in which there is a leader soon: a busy machine may take its time."""
