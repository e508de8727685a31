"""Producers and consumers of the simulated cluster, over the Kafka protocol as any client speaks it.

Every value is sent once, or again with the same sequence by an idempotent producer, so that whatever lies in a log
twice is a duplicate. What they are told goes to the checkers; what nobody told them is unknown, and may be either.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from broker.replication.leader_connection import LeaderConnection, open_connection
from metadata.image import Endpoint
from tests.simulation.process import port_of
from tests.simulation.virtual_loop import MACHINE_EPOCH_MS, Life
from wire.errors import ErrorCode
from wire.messages import ApiKey
from wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from wire.messages.init_producer_id import InitProducerIdRequest
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.record_batch import build_batch, iterate_batches

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

FIRST_ADDRESS = 100
PRODUCE_VERSION = 13
FETCH_VERSION = 16
PRODUCE_TIMEOUT_S = 1.5
ANSWER_TIMEOUT_S = 3.0
PAUSE_S = 0.015
NOTHING_WRITTEN = {ErrorCode.NOT_ENOUGH_REPLICAS}
LOST_SEQUENCE = {
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID, ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
}  # fmt: skip


class Client:
    """Connections to all nodes, in a process and on a machine of its own."""

    def __init__(self, cluster: "SimulatedCluster", number: int) -> None:
        self.cluster = cluster
        self.rng = Random(f"{cluster.seed} client {number}")
        self.life = Life(FIRST_ADDRESS + number)
        self.told: Counter[str] = Counter()
        self._connections: dict[int, LeaderConnection] = {}

    def run(self, work: Any, name: str) -> None:
        task = self.cluster.loop.create_task(work, name=name, context=self.life.context)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.cluster.failed(self.life.address, error)

    async def ask(self, node_id: int, api_key: ApiKey, version: int, request: Any) -> Any:
        """The answer; raises OSError."""
        connection = self._connections.get(node_id)
        if connection is None:
            at = Endpoint("127.0.0.1", port_of(node_id))
            connection = await open_connection(at, client_id="client", leader_id=node_id, tls=None)
            self._connections[node_id] = connection
        try:
            return await connection.ask(api_key, version, request, timeout_s=ANSWER_TIMEOUT_S)
        except OSError:
            self._connections.pop(node_id, None)
            connection.close()
            raise

    def leader_of(self, partition: int) -> int:
        """As the metadata says, or now and then as it does not."""
        cluster = self.cluster
        assert cluster.topic_id is not None
        state = cluster.watch.image.topics[cluster.topic_id].partitions[partition]
        return self.rng.choice(cluster.node_ids) if state.leader == -1 or self.rng.random() < 0.02 else state.leader

    async def rest(self, seconds: float = 0.02) -> None:
        await asyncio.sleep(seconds * self.rng.uniform(0.5, 1.5))


class Producer(Client):
    """Sends to one partition after another, one batch at a time."""

    def __init__(self, cluster: "SimulatedCluster", number: int, values: Iterator[int], *, idempotent: bool) -> None:
        super().__init__(cluster, number)
        self.is_idempotent = idempotent
        self._values = values
        self._producer_id = -1
        self._sequences: Counter[int] = Counter()

    async def send(self, partitions_count: int) -> None:
        """Until the cluster's sends are over."""
        for partition in itertools.cycle(range(partitions_count)):
            if self.cluster.sends_are_over:
                await self.rest(0.1)
                continue
            if self.is_idempotent and self._producer_id == -1:
                await self._begin_anew()
                continue
            values = [next(self._values) for _ in range(self.rng.choice([1, 1, 1, 3, 8]))]
            await self._send(partition, values)
            await self.rest(PAUSE_S)

    async def _begin_anew(self) -> None:
        try:
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
            answer = await self.ask(self.rng.choice(self.cluster.node_ids), ApiKey.INIT_PRODUCER_ID, 4, request)
        except OSError:
            await self.rest()
            return
        if answer.error_code == ErrorCode.NONE:
            self._producer_id = answer.producer_id
            self._sequences.clear()
        else:
            await self.rest()

    async def _send(self, partition: int, values: list[int]) -> None:
        checkers = self.cluster.checkers(partition)
        sent_after = checkers.last_acknowledged
        batch = self._batch(partition, values)
        while True:
            code, base_offset = await self._try(partition, bytes(batch))
            if code == ErrorCode.NONE:
                self._acknowledged(partition, values, base_offset, sent_after)
                return
            self.told["unknown" if code is None else code.name] += 1
            if not self.is_idempotent:
                if code in NOTHING_WRITTEN:
                    checkers.failed.update(values)
                return
            if code in LOST_SEQUENCE:
                self._producer_id = -1
                return
            if self.cluster.sends_are_over:
                self._producer_id = -1
                return
            await self.rest()

    def _batch(self, partition: int, values: list[int]) -> bytearray:
        records = [(None, str(value).encode(), (), MACHINE_EPOCH_MS) for value in values]
        if not self.is_idempotent:
            return build_batch(records)
        sequence = self._sequences[partition]
        self._sequences[partition] += len(values)
        return build_batch(records, producer_id=self._producer_id, producer_epoch=0, base_sequence=sequence)

    async def _try(self, partition: int, batch: bytes) -> tuple[ErrorCode | None, int]:
        topic_id = self.cluster.topic_id
        assert topic_id is not None
        data = [PartitionProduceData(index=partition, records=batch)]
        request = ProduceRequest(
            acks=-1,
            timeout_ms=int(PRODUCE_TIMEOUT_S * 1000),
            topic_data=[TopicProduceData(topic_id=topic_id, partition_data=data)],
        )
        try:
            answer = await self.ask(self.leader_of(partition), ApiKey.PRODUCE, PRODUCE_VERSION, request)
        except OSError:
            await self.rest()
            return None, -1
        found = answer.responses[0].partition_responses[0]
        return ErrorCode(found.error_code), found.base_offset

    def _acknowledged(self, partition: int, values: list[int], base_offset: int, sent_after: int) -> None:
        self.told["ok"] += 1
        cluster, checkers = self.cluster, self.cluster.checkers(partition)
        for offset, value in enumerate(values, base_offset):
            cluster.watch.check(
                lambda offset=offset, value=value: checkers.acknowledge(0, -1, offset, value, sent_after=sent_after)
            )


class Consumer(Client):
    """Reads every partition from its beginning, again and again a little more."""

    async def read(self, partitions_count: int) -> None:
        positions = dict.fromkeys(range(partitions_count), 0)
        while True:
            for partition, offset in positions.items():
                try:
                    positions[partition] = await self._read(partition, offset)
                except OSError:
                    await self.rest()
            await self.rest()

    async def _read(self, partition: int, offset: int) -> int:
        topic_id = self.cluster.topic_id
        assert topic_id is not None
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 16)
        request = FetchRequest(
            max_wait_ms=50, min_bytes=1, max_bytes=1 << 16, topics=[FetchTopic(topic_id=topic_id, partitions=[wanted])]
        )
        answer = await self.ask(self.leader_of(partition), ApiKey.FETCH, FETCH_VERSION, request)
        if not answer.responses:
            return offset
        data = answer.responses[0].partitions[0]
        if data.error_code != ErrorCode.NONE:
            self.told[ErrorCode(data.error_code).name] += 1
            await self.rest()
            return data.log_start_offset if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE else offset
        return self._seen(partition, offset, data.records)

    def _seen(self, partition: int, offset: int, data: Any) -> int:
        checkers = self.cluster.checkers(partition)
        records = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data or ())
        for batch in iterate_batches(records):
            for record in batch.records():
                value = int(record.value or b"-1")
                self.cluster.watch.check(lambda at=record.offset, value=value: checkers.seen(at, value))
            self.told["read"] += batch.last_offset_delta + 1
            offset = max(offset, batch.next_offset)
        return offset
