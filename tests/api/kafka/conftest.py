"""One node, or three of them, behind Kafka listeners."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.kafka.settings import KafkaSettings
from tests.api.kafka.raw_client import OPENED, RawClient
from tests.api.kafka.real_cluster import RealCluster


@pytest.fixture
def settings() -> KafkaSettings:
    """Overridden by tests that need other bounds."""
    return KafkaSettings()


@pytest.fixture
async def cluster(tmp_path: Path, settings: KafkaSettings) -> AsyncIterator[RealCluster]:
    made = RealCluster(tmp_path, size=1, kafka=settings, settings=[])
    try:
        yield await made.start()
    finally:
        await made.close()


@pytest.fixture
async def three(tmp_path: Path, settings: KafkaSettings) -> AsyncIterator[RealCluster]:
    made = RealCluster(tmp_path, size=3, kafka=settings, settings=["replica.lag.time.max.ms=60000"])
    try:
        yield await made.start()
    finally:
        await made.close()


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
async def client(cluster: RealCluster) -> RawClient:
    """A connection that speaks our own codec."""
    return await RawClient.connect(cluster.nodes[0].listener.port)
