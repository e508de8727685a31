"""Producers and consumers of the simulated cluster, over the Kafka protocol as any client speaks it.

Every value is sent once, or again with the same sequence by an idempotent producer, so that whatever lies in a log
twice is a duplicate. What they are told goes to the checkers; what nobody told them is unknown, and may be either.
Each goes by the id of the topic that it has learned, until it learns another: perhaps long after that one is deleted.
"""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.client_connection import ANSWER_TIMEOUT_S, PipelinedConnection, connect, heard
from tests.simulation.process import port_of
from tests.simulation.virtual_loop import MACHINE_EPOCH_MS, Life
from wire.errors import ErrorCode
from wire.messages import ApiKey
from wire.messages.init_producer_id import InitProducerIdRequest
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.record_batch import build_batch

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

FIRST_ADDRESS = 100
PRODUCE_VERSION = 13
PRODUCE_TIMEOUT_S = 1.5
SEND_EVERY_S = 0.033
CATCH_UP_PAUSE_S = 0.01
"""A producer that could not send for a while makes up for it, so that all runs are written to alike."""
STALE_FOR = 0.8
"""How likely it is, each time, that who goes by a deleted topic's id has not heard of it yet."""
IN_FLIGHT = (1, 2, 4, 5, 5)
"""Batches that are sent before the first is answered; five is what an idempotent producer may have under way."""
RECORDS = (1, 1, 1, 1, 2, 6)
SENT_TWICE = 0.02
"""How often an idempotent producer sends over two connections at once: what a network that repeats would do."""
NOTHING_WRITTEN = {ErrorCode.NOT_ENOUGH_REPLICAS}
OUT_OF_SEQUENCE = {
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID, ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
}  # fmt: skip
BEGINS_ANEW = {*OUT_OF_SEQUENCE, ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.UNKNOWN_TOPIC_ID}
"""Told one of these, an idempotent producer gives up what is left, and goes on with another producer id."""
Answered = tuple[ErrorCode | None, int]
"""The error code, None where nobody knows, and the base offset."""


class Client:
    """Connections to all nodes, in a process and on a machine of its own."""

    def __init__(self, cluster: "SimulatedCluster", number: int) -> None:
        self.cluster = cluster
        self.rng = Random(f"{cluster.seed} client {number}")
        self.life = Life(FIRST_ADDRESS + number)
        self.told: Counter[str] = Counter()
        self.topic_id: UUID | None = None
        self._connections: dict[int, PipelinedConnection] = {}

    def run(self, work: Any, name: str) -> None:
        task = self.cluster.loop.create_task(work, name=name, context=self.life.context)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.cluster.failed(self.life.address, error)

    async def connected(self, node_id: int) -> PipelinedConnection:
        """Raises OSError."""
        connection = self._connections.get(node_id)
        if connection is None or not connection.is_open:
            connection = self._connections[node_id] = await connect(port_of(node_id))
        return connection

    async def ask(self, node_id: int, api_key: ApiKey, version: int, request: Any) -> Any:
        """The answer; raises OSError."""
        connection = await self.connected(node_id)
        (answer,) = await self.answers(connection, [connection.send(api_key, version, request)])
        if answer is None:
            raise TimeoutError("no answer")
        return await answer

    async def answers(
        self, connection: PipelinedConnection, asked: "list[asyncio.Future[Any]]"
    ) -> "list[asyncio.Future[Any] | None]":
        """Each is done, or None: who waits too long for an answer ends the connection, as any Kafka client does.

        L1: that never happens where everything runs and hears everything.
        """
        were_due = self.cluster.answers_are_due
        done, waiting = await asyncio.wait(asked, timeout=ANSWER_TIMEOUT_S)
        if waiting:
            connection.close()
            if were_due:
                raise ViolationError("L1", f"{len(waiting)} requests of {self.life.address} are never answered")
        return [answer if answer in done else None for answer in asked]

    async def learn(self) -> UUID | None:
        """Which topic has the name now, sooner or later; None, after a rest, while none has it."""
        topic = self.cluster.topic
        is_told = self.topic_id is None or self.rng.random() >= STALE_FOR
        if topic is None and is_told:
            await self.rest()
            return None
        if topic is not None and topic.topic_id != self.topic_id and is_told:
            self.topic_id = topic.topic_id
        return self.topic_id

    def leader_of(self, partition: int) -> int:
        """As the metadata says, or now and then as it does not."""
        cluster = self.cluster
        states = cluster.states()
        leader = states[partition].leader if states else -1
        return self.rng.choice(cluster.node_ids) if leader == -1 or self.rng.random() < 0.02 else leader

    async def rest(self, seconds: float = 0.02) -> None:
        await asyncio.sleep(seconds * self.rng.uniform(0.5, 1.5) / self.cluster.haste)


@dataclass(slots=True)
class Send:
    """One batch on its way."""

    topic_id: UUID
    sequence: int
    """-1 of a producer that is not idempotent."""
    values: list[int]
    batch: bytes
    sent_after: int
    """The last offset that anybody had been told when this was first sent (S14)."""


class Producer(Client):
    """Sends to one partition, up to five batches at a time."""

    def __init__(
        self, cluster: "SimulatedCluster", number: int, partition: int, values: Iterator[int], *, idempotent: bool
    ) -> None:
        super().__init__(cluster, number)
        self.is_idempotent = idempotent
        self._partition = partition
        self._values = values
        self._producer_id = -1
        self._sequence = 0
        self._due_s = 0.0
        self._placed: list[tuple[int, int]] = []
        """(sequence, offset) of what was acknowledged to this producer id, by sequence."""

    async def send(self) -> None:
        """Until the cluster's sends are over."""
        while True:
            if self.cluster.sends_are_over:
                await self.rest(0.1)
            elif (topic_id := await self._learned()) is None:
                continue
            elif self.is_idempotent and self._producer_id == -1:
                await self._begin_anew()
            else:
                sends = [self._batch(topic_id) for _ in range(self.rng.choice(IN_FLIGHT))]
                self._due_s += len(sends) * SEND_EVERY_S
                await self._send(sends)
                await self.rest(max(CATCH_UP_PAUSE_S, self._due_s - self.cluster.loop.time()))

    async def _learned(self) -> UUID | None:
        """In another topic sequences begin anew, and so does the producer."""
        before = self.topic_id
        topic_id = await self.learn()
        if topic_id != before:
            self._producer_id = -1
        return topic_id

    async def _begin_anew(self) -> None:
        try:
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
            answer = await self.ask(self.rng.choice(self.cluster.node_ids), ApiKey.INIT_PRODUCER_ID, 4, request)
        except OSError:
            await self.rest()
            return
        if answer.error_code == ErrorCode.NONE:
            self._producer_id = answer.producer_id
            self._sequence = 0
            self._placed.clear()
        else:
            await self.rest()

    def _batch(self, topic_id: UUID) -> Send:
        values = [next(self._values) for _ in range(self.rng.choice(RECORDS))]
        records = [(None, str(value).encode(), (), MACHINE_EPOCH_MS) for value in values]
        checkers = self.cluster.checkers(topic_id, self._partition)
        checkers.sent.update(values)
        sent_after = checkers.last_acknowledged
        if not self.is_idempotent:
            return Send(topic_id, -1, values, bytes(build_batch(records)), sent_after)
        sequence, self._sequence = self._sequence, self._sequence + len(values)
        batch = build_batch(records, producer_id=self._producer_id, producer_epoch=0, base_sequence=sequence)
        return Send(topic_id, sequence, values, bytes(batch), sent_after)

    async def _send(self, sends: list[Send]) -> None:
        """Until all are acknowledged; a producer that is not idempotent does not try again."""
        while sends:
            answers = await self._try(sends)
            left = []
            for one, (code, base_offset) in zip(sends, answers, strict=True):
                if code == ErrorCode.NONE:
                    self._acknowledged(one, base_offset)
                    continue
                self.told["unknown" if code is None else code.name] += 1
                if self.is_idempotent:
                    if not left and code in OUT_OF_SEQUENCE:
                        checkers = self.cluster.checkers(one.topic_id, self._partition)
                        self.cluster.watch.check(checkers.called_out_of_order, one.values, self._placed)
                    left.append((one, code))
                elif code in NOTHING_WRITTEN:
                    self.cluster.checkers(one.topic_id, self._partition).failed.update(one.values)
            if left and (left[0][1] in BEGINS_ANEW or self.cluster.sends_are_over):
                self._producer_id = -1
                return
            sends = [one for one, _ in left]
            if sends:
                await self.rest()

    async def _try(self, sends: list[Send]) -> list[Answered]:
        """All of them over one connection, in their order."""
        try:
            connection = await self.connected(self.leader_of(self._partition))
            if self.is_idempotent and self.rng.random() < SENT_TWICE:
                await self._repeat(sends)
        except OSError:
            await self.rest()
            return [(None, -1)] * len(sends)
        asked = [connection.send(ApiKey.PRODUCE, PRODUCE_VERSION, self._request(one)) for one in sends]
        return [_told(answer) for answer in await self.answers(connection, asked)]

    async def _repeat(self, sends: list[Send]) -> None:
        """The same once more, whose answers nobody waits for."""
        connection = await connect(port_of(self.leader_of(self._partition)))
        for one in sends:
            connection.send(ApiKey.PRODUCE, PRODUCE_VERSION, self._request(one))

    def _request(self, one: Send) -> ProduceRequest:
        data = [PartitionProduceData(index=self._partition, records=one.batch)]
        return ProduceRequest(
            acks=-1,
            timeout_ms=int(PRODUCE_TIMEOUT_S * 1000),
            topic_data=[TopicProduceData(topic_id=one.topic_id, partition_data=data)],
        )

    def _acknowledged(self, one: Send, base_offset: int) -> None:
        self.told["ok"] += 1
        cluster, checkers = self.cluster, self.cluster.checkers(one.topic_id, self._partition)
        if self.is_idempotent:
            insort(self._placed, (one.sequence, base_offset))
            cluster.watch.check(checkers.in_sequence, self._placed)
        for offset, value in enumerate(one.values, base_offset):
            cluster.watch.check(checkers.acknowledge, offset, value, sent_after=one.sent_after)


def _told(answer: "asyncio.Future[Any] | None") -> Answered:
    if answer is None or heard(answer) is not None:
        return None, -1
    found = answer.result().responses[0].partition_responses[0]
    return ErrorCode(found.error_code), found.base_offset
