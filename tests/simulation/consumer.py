"""Who reads the simulated topic, from its beginning and wherever it is, and asks where its partitions end.

What is read and what is said of the ends goes to the checkers.
"""

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.clients import Client
from tests.simulation.shadow import values_of
from tests.simulation.watch import TOPIC
from wire.errors import ErrorCode, RefusedError
from wire.messages import ApiKey
from wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from wire.messages.list_offsets import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from wire.record_batch import RecordBatch, iterate_batches

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

FETCH_VERSION: Final = 16
LIST_OFFSETS_VERSION: Final = 9
READ_PAUSE_S: Final = 0.06
READ_AGAIN: Final = 0.3
"""How often it looks at something that it has seen before."""
ENDS_ASKED_FOR: Final = 0.2
"""How often it asks for the ends of a partition before it reads on."""


class Consumer(Client):
    """Reads every partition from its beginning, again and again a little more."""

    def __init__(self, cluster: "SimulatedCluster", number: int) -> None:
        super().__init__(cluster, number)
        self._ends: dict[tuple[UUID, int], tuple[int, int]] = {}
        """The newest leader epoch and the greatest end that it was told of."""
        self._positions: dict[tuple[UUID, int], int] = {}

    async def read(self) -> None:
        while True:
            if (topic_id := await self.learn()) is None:
                continue
            for partition in range(self.cluster.partitions_count):
                key = topic_id, partition
                try:
                    if self.rng.random() < ENDS_ASKED_FOR:
                        await self._ask_for_the_end(key)
                    at = self._positions.get(key, 0)
                    self._positions[key] = await self._read(key, at)
                    if self.rng.random() < READ_AGAIN:
                        await self._read(key, self.rng.randint(0, at))
                except OSError:
                    await self.rest()
            await self.rest(READ_PAUSE_S)

    async def _read(self, key: tuple[UUID, int], offset: int) -> int:
        topic_id, partition = key
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
        return self._seen(key, offset, data.records)

    def _seen(self, key: tuple[UUID, int], offset: int, data: Any) -> int:
        records = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data or ())
        self.cluster.watch.check(self._is_intact, key, records)
        for batch in iterate_batches(records):
            self.cluster.watch.check(self._follows, key, batch, offset)
            for at, value in enumerate(values_of(batch), batch.base_offset):
                self.cluster.watch.check(self.cluster.checkers(*key).seen, at, value)
            self.told["read"] += batch.last_offset_delta + 1
            offset = max(offset, batch.next_offset)
        return offset

    def _is_intact(self, key: tuple[UUID, int], records: Any) -> None:
        """S18: rotten bytes are never served."""
        try:
            is_intact = all(batch.crc_is_valid() for batch in iterate_batches(records))
        except RefusedError:
            is_intact = False
        if not is_intact:
            raise ViolationError("S18", f"a reader of {key} was given bytes that are no batch")

    def _follows(self, key: tuple[UUID, int], batch: RecordBatch, offset: int) -> None:
        """S12: nothing is left out."""
        if batch.base_offset > offset:
            raise ViolationError(
                "S12", f"whoever reads {key} from {offset} on is given what lies at {batch.base_offset}"
            )

    def has_read_all(self) -> bool:
        """Of the topic that is there now."""
        topic = self.cluster.topic
        return topic is not None and all(
            self._positions.get(key, 0) >= len(self.cluster.checkers(*key).committed)
            for key in ((topic.topic_id, partition) for partition in range(len(topic.partitions)))
        )

    async def _ask_for_the_end(self, key: tuple[UUID, int]) -> None:
        """By name, as this API asks, so what is said counts only where one topic has had the name all the time."""
        partition = key[1]
        known = self._ends.get(key, (-1, 0))
        timestamp = self.rng.choice((LATEST_TIMESTAMP, LATEST_TIMESTAMP, EARLIEST_TIMESTAMP))
        wanted = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[wanted])])
        answer = await self.ask(self.leader_of(partition), ApiKey.LIST_OFFSETS, LIST_OFFSETS_VERSION, request)
        told = answer.topics[0].partitions[0]
        if told.error_code != ErrorCode.NONE:
            self.told[ErrorCode(told.error_code).name] += 1
        elif self.cluster.watch.topics_made == 1:
            self.told["ends"] += 1
            self.cluster.watch.check(self._end_told, key, told, known, is_latest=timestamp == LATEST_TIMESTAMP)

    def _end_told(self, key: tuple[UUID, int], told: Any, known: tuple[int, int], *, is_latest: bool) -> None:
        """S12: no reader is sent beyond what is committed; to who knows a leader epoch no end goes back (KIP-207)."""
        committed = len(self.cluster.checkers(*key).committed)
        if told.offset > committed:
            raise ViolationError("S12", f"{key} ends at {told.offset}, said its leader; committed is {committed}")
        if is_latest and told.leader_epoch >= known[0]:
            if told.offset < known[1]:
                raise ViolationError("S12", f"{key} ended at {known}, now at {told.leader_epoch, told.offset}")
            self._ends[key] = (told.leader_epoch, told.offset)
