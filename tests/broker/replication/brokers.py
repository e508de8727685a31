"""Brokers for tests of replication: a log directory, its replicas and fetchers, and a door that answers Fetch.

No node, no quorum: who leads is said by the test.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from broker.clock import SystemClock
from broker.replication.fetcher import FetchSettings
from broker.replication.fetchers import Fetchers
from broker.replication.replica import Replica
from broker.replication.surroundings import Surroundings
from broker.replication.throttle import ReplicationThrottle
from broker.waiting_room import WaitingRoom
from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.storage import PosixStorage
from metadata.image import Broker, Endpoint, Partition
from tests.broker.replication.doors import Doors
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch, iterate_batches

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
TOPIC_ID = uuid4()


async def until(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a state that nothing announces
            await asyncio.sleep(0.002)


def batch(*values: bytes) -> bytearray:
    return build_batch([(None, value, (), 1_000) for value in values])


def values_of(replica: Replica) -> list[bytes | None]:
    """All that lies in the log, committed or not."""
    log = replica.log
    data = log.read(log.log_start_offset, max_bytes=1 << 24, upper_offset=log.log_end_offset).data
    return [record.value for one in iterate_batches(data) for record in one.records()]


def flip_a_bit(replica: Replica, *, at: int) -> None:
    """What a bad disk does, in the first segment."""
    segment = min(Path(replica.log.folder).glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[at] ^= 1
    segment.write_bytes(data)


class TestBroker:
    """Broker `n` lives in broker epoch 10 * n."""

    __test__ = False

    def __init__(self, broker_id: int, folder: Path, **settings: Any) -> None:
        self.broker_id = broker_id
        self.replicas: dict[tuple[UUID, int], Replica] = {}
        self.wanting: list[Replica] = []
        self.in_service: dict[int, int] = {n: 10 * n for n in range(1, 6)}
        self.doors = Doors(self._held)
        self.throttle = ReplicationThrottle()
        self._tasks: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(4)
        flusher = Flusher(submit=self._pool.submit, post=loop.call_soon_threadsafe, on_failure=lambda _: None)
        self.directory = LogDirectory(
            str(folder / f"broker-{broker_id}"), storage=PosixStorage(), flusher=flusher, reserved_bytes=0
        )
        self.directory.open()
        self.room = WaitingRoom(loop)
        self._surroundings = Surroundings(
            broker_id=broker_id,
            clock=SystemClock(),
            waiting_room=self.room,
            lag_time_max_ms=30_000,
            epoch_in_service=self.in_service.get,
            wants_in_sync_change=self.wanting.append,
            damaged=lambda _: None,
            is_heard=lambda: True,
        )
        known = {
            "max_wait_ms": 500,
            "min_bytes": 1,
            "partition_max_bytes": 1 << 20,
            "response_max_bytes": 8 << 20,
            "answer_timeout_s": 30.0,
            "reconnect_s": 0.02,
        }
        fetching = FetchSettings(
            broker_id=broker_id,
            cluster_id=CLUSTER_ID,
            broker_epoch=lambda: 10 * broker_id,
            clock=SystemClock(),
            throttle=self.throttle,
            tls=lambda: None,
            **(known | settings),
        )
        self.fetchers = Fetchers(fetching, self.run)

    def replica(self, partition: int = 0, **config: Any) -> Replica:
        key = (TOPIC_ID, partition)
        if key not in self.replicas:
            log = self.directory.create_log(*key[:1], "pay", partition, LogConfig(**config))
            self.replicas[key] = Replica(log, self._surroundings)
        return self.replicas[key]

    def lead(self, state: Partition, partition: int = 0, *, min_in_sync_replicas: int = 2) -> Replica:
        self.fetchers.unfollow((TOPIC_ID, partition))
        replica = self.replica(partition)
        replica.lead(state, min_in_sync_replicas=min_in_sync_replicas)
        return replica

    def follow(self, leader: "TestBroker", state: Partition, partition: int = 0) -> Replica:
        replica = self.replica(partition)
        replica.resign()
        self.fetchers.follow(replica, state, leader.registration)
        return replica

    @property
    def registration(self) -> Broker:
        return Broker(
            broker_id=self.broker_id,
            epoch=10 * self.broker_id,
            incarnation_id=uuid4(),
            directory_ids=(),
            http=Endpoint("127.0.0.1", 1),
            peer=Endpoint("127.0.0.1", 1),
            listeners=self.doors.listeners,
            replication_listener="PLAINTEXT",
            fenced=False,
        )

    def _held(self, topic_id: UUID, partition: int) -> Replica:
        replica = self.replicas.get((topic_id, partition))
        if replica is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, "not here")
        return replica

    def run(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.doors.shut()
        for key in list(self.replicas):
            self.fetchers.unfollow(key)
        self.room.close()
        self.directory.close()
        self._pool.shutdown()
        failures = [one for one in ended if isinstance(one, Exception)]
        if failures:
            raise failures[0]


def state_of(replicas: Iterable[int], **fields: Any) -> Partition:
    """Led by the first replica, all in sync, unless said otherwise."""
    replicas = tuple(replicas)
    one = {"replicas": replicas, "in_sync_replicas": replicas, "leader": replicas[0], "leader_epoch": 1}
    state = one | fields
    return Partition(leader_broker_epoch=10 * state["leader"], **state)


@contextlib.asynccontextmanager
async def brokers(folder: Path, count: int = 3, **settings: Any) -> AsyncIterator[list[TestBroker]]:
    """Brokers 1 to `count`, their doors open."""
    running = [TestBroker(broker_id, folder, **settings) for broker_id in range(1, count + 1)]
    try:
        for broker in running:
            await broker.doors.open()
        yield running
    finally:
        for broker in running:
            await broker.close()
