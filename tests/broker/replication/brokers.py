"""Brokers for tests of replication: a log directory, its replicas and fetchers, and a door that answers Fetch.

The door is the smallest that a follower can speak to; the real one is tested in tests/api/kafka and tests/faults.
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
from broker.replication.replica import Fetched, Replica, Surroundings
from broker.replication.throttle import ReplicationThrottle
from broker.waiting_room import WaitingRoom
from logstore.flusher import Flusher
from logstore.log_answers import OffsetOutOfRangeError
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.storage import PosixStorage
from metadata.image import Broker, Endpoint, Partition
from wire.connection import RequestFrame, ServerConnection
from wire.errors import ErrorCode, RefusedError
from wire.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
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


class Door(asyncio.Protocol):
    """Answers each Fetch of one follower by itself, in full, without sessions."""

    def __init__(self, broker: "TestBroker") -> None:
        self._broker = broker
        self._wire = ServerConnection(1 << 20)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._broker.doors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._broker.doors.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        for frame in self._wire.receive(data):
            self._broker.run(self._answer(frame), "fetch")

    async def _answer(self, frame: RequestFrame) -> None:
        request = frame.request()
        assert isinstance(request, FetchRequest), request
        self._broker.asked.append(request)
        deadline_s = asyncio.get_running_loop().time() + request.max_wait_ms / 1000
        while True:
            topics = [
                FetchableTopicResponse(
                    topic_id=topic.topic_id,
                    partitions=[self._one(request, topic.topic_id, p) for p in topic.partitions],
                )
                for topic in request.topics
            ]
            news = any(
                p.records or p.error_code or p.diverging_epoch.end_offset >= 0 for t in topics for p in t.partitions
            )
            if news or asyncio.get_running_loop().time() > deadline_s:
                break
            await asyncio.sleep(0.002)
        await self._broker.may_answer.wait()
        if self._transport is not None and not self._transport.is_closing():
            response = FetchResponse(error_code=self._broker.refuses_with, responses=topics)
            self._transport.writelines(self._wire.respond(frame, response))

    def _one(self, request: FetchRequest, topic_id: UUID, asked: FetchPartition) -> PartitionData:
        try:
            found = self._fetch(request, topic_id, asked)
        except OffsetOutOfRangeError as refused:
            return PartitionData(
                partition_index=asked.partition, error_code=refused.code, log_start_offset=refused.earliest
            )
        except RefusedError as refused:
            return PartitionData(partition_index=asked.partition, error_code=refused.code)
        diverging = EpochEndOffset() if found.diverging is None else EpochEndOffset(*found.diverging)
        return PartitionData(
            partition_index=asked.partition,
            high_watermark=found.high_watermark,
            log_start_offset=found.log_start_offset,
            diverging_epoch=diverging,
            records=found.slice.data,
        )

    def _fetch(self, request: FetchRequest, topic_id: UUID, asked: FetchPartition) -> Fetched:
        replica = self._broker.replicas.get((topic_id, asked.partition))
        if replica is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, "not here")
        return replica.fetch_as_follower(
            broker_id=request.replica_state.replica_id,
            broker_epoch=request.replica_state.replica_epoch,
            current_leader_epoch=asked.current_leader_epoch,
            fetch_offset=asked.fetch_offset,
            last_fetched_epoch=asked.last_fetched_epoch,
            max_bytes=asked.partition_max_bytes,
        )


class TestBroker:
    """Broker `n` lives in broker epoch 10 * n."""

    __test__ = False

    def __init__(self, broker_id: int, folder: Path, **settings: Any) -> None:
        self.broker_id = broker_id
        self.replicas: dict[tuple[UUID, int], Replica] = {}
        self.asked: list[FetchRequest] = []
        self.wanting: list[Replica] = []
        self.in_service: dict[int, int] = {n: 10 * n for n in range(1, 6)}
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses_with = 0
        self.doors: set[Door] = set()
        self.throttle = ReplicationThrottle()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._port = 0
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
            listeners={"PLAINTEXT": Endpoint("127.0.0.1", self._port)},
            replication_listener="PLAINTEXT",
            fenced=False,
        )

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: Door(self), "127.0.0.1", port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Nobody comes in any more, and whoever was in is thrown out."""
        if self._server is not None:
            self._server.close()
            for door in list(self.doors):
                door.close()
            await self._server.wait_closed()
            self._server = None

    def run(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.shut()
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
            await broker.open()
        yield running
    finally:
        for broker in running:
            await broker.close()
