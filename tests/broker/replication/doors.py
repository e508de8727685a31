"""The smallest door that followers can fetch through; the real one lies above this room (tests/api/kafka).

It answers Fetch only, in full, without sessions, and looks again and again for what a long poll waits for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from broker.replication.replica import Fetched, Replica
from cli.ports import free_ports
from logstore.log_answers import OffsetOutOfRangeError
from metadata.image import Endpoint
from wire.connection import RequestFrame, ServerConnection
from wire.errors import RefusedError
from wire.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)


class Doors:
    """One listener, and what a test may do to it."""

    def __init__(self, find: Callable[[UUID, int], Replica]) -> None:
        """`find` raises RefusedError for what is not there."""
        self.find = find
        self.asked: list[FetchRequest] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses_with = 0
        self.open_doors: set[Door] = set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listeners(self) -> dict[str, Endpoint]:
        return {"PLAINTEXT": Endpoint("127.0.0.1", self.port)}

    async def open(self) -> None:
        """At the same port each time."""
        self.port = self.port or free_ports(1)[0]
        self._server = await asyncio.get_running_loop().create_server(lambda: Door(self), "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Nobody comes in any more, and whoever was in is thrown out."""
        if self._server is not None:
            self._server.close()
            for door in list(self.open_doors):
                door.close()
            await self._server.wait_closed()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Door(asyncio.Protocol):
    """Answers each Fetch of one follower by itself, in full, without sessions."""

    def __init__(self, doors: "Doors") -> None:
        self._doors = doors
        self._wire = ServerConnection(1 << 20)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._doors.open_doors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._doors.open_doors.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        for frame in self._wire.receive(data):
            self._doors.run(self._answer(frame))

    async def _answer(self, frame: RequestFrame) -> None:
        request = frame.request()
        assert isinstance(request, FetchRequest), request
        self._doors.asked.append(request)
        deadline_s = asyncio.get_running_loop().time() + request.max_wait_ms / 1000
        is_again = False
        while True:
            topics = [
                FetchableTopicResponse(
                    topic_id=topic.topic_id,
                    partitions=[self._one(request, topic.topic_id, p, is_again=is_again) for p in topic.partitions],
                )
                for topic in request.topics
            ]
            news = any(
                p.records or p.error_code or p.diverging_epoch.end_offset >= 0 for t in topics for p in t.partitions
            )
            if news or asyncio.get_running_loop().time() > deadline_s:
                break
            is_again = True
            await asyncio.sleep(0.002)
        await self._doors.may_answer.wait()
        if self._transport is not None and not self._transport.is_closing():
            response = FetchResponse(error_code=self._doors.refuses_with, responses=topics)
            self._transport.writelines(self._wire.respond(frame, response))

    def _one(self, request: FetchRequest, topic_id: UUID, asked: FetchPartition, *, is_again: bool) -> PartitionData:
        try:
            found = self._fetch(request, topic_id, asked, is_again=is_again)
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

    def _fetch(self, request: FetchRequest, topic_id: UUID, asked: FetchPartition, *, is_again: bool) -> Fetched:
        replica = self._doors.find(topic_id, asked.partition)
        return replica.fetch_as_follower(
            broker_id=request.replica_state.replica_id,
            broker_epoch=request.replica_state.replica_epoch,
            current_leader_epoch=asked.current_leader_epoch,
            fetch_offset=asked.fetch_offset,
            last_fetched_epoch=asked.last_fetched_epoch,
            max_bytes=asked.partition_max_bytes,
            takes_records=asked.partition_max_bytes > 0,
            is_read_again=is_again,
        )
