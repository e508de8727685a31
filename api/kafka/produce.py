"""Produce 3-13: append record batches to partitions that this broker leads.

0-2: advertised, answered UNSUPPORTED_VERSION (librdkafka compresses only where 0 is listed; KAFKA-18659). 7: zstd.
8: messages with the errors. 10: who leads instead (KIP-951). 13: topic ids instead of names (KIP-516).
Each partition is answered by itself. acks=0 gets no answer; an error then closes the connection, so that the client
learns of it. acks=all waits in the purgatory, without a task, until the high watermark has passed (S2).
Invariant: what may have been written is never answered as if it were not (S15): codes after the append are retriable.
"""

import asyncio
from typing import Final, NamedTuple

from api.kafka.context import Caller
from api.kafka.leaders import (
    NO_LEADER,
    NOT_LEADING,
    code_by_name,
    current_leader,
    node_endpoints,
)
from api.kafka.led_replicas import LedTopic
from broker.errors import OutcomeUnknownError
from broker.purgatory import Completion, Outcome, Waiter
from broker.replication.replica import ACKS_ALL, ACKS_LEADER, ACKS_NONE, Replica
from logstore.log_answers import Appended
from metadata.image import Topic
from metadata.topic_names import INTERNAL_TOPICS
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from wire.record_batch import ATTRIBUTES_AT, CODEC_MASK, HEADER_BYTES, LENGTH_END, Compression
from wire.schema import Buffer

LENGTH_AT: Final = LENGTH_END - 4
SERVED_SINCE: Final = 3
ZSTD_SINCE: Final = 7
IDS_SINCE: Final = 13


class NoAnswerError(Exception):
    """A request that gets no answer could not be carried out: the connection says so by closing."""


def handle(
    caller: Caller, header: RequestHeader, request: ProduceRequest
) -> ProduceResponse | asyncio.Future[ProduceResponse] | None:
    producing = _Producing(caller, header.api_version, request)
    if request.acks not in (ACKS_NONE, ACKS_LEADER, ACKS_ALL):
        return producing.refuse_all(
            RefusedError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={request.acks} is none of -1, 0 and 1")
        )
    if header.api_version < SERVED_SINCE:
        answer = producing.refuse_all(RefusedError(ErrorCode.UNSUPPORTED_VERSION, "use version 3 or later"))
    else:
        producing.append_all()
        if producing.waits:
            return producing.wait(request.timeout_ms)
        answer = producing.answer()
    if request.acks != ACKS_NONE:
        return answer
    for topic in answer.responses:
        for partition in topic.partition_responses:
            if partition.error_code:
                raise NoAnswerError(f"{topic.name or topic.topic_id}-{partition.index}: {partition.error_message}")
    return None


class _Producing:
    """One request: what became of each partition, and which of them wait for their followers."""

    __slots__ = ("_caller", "_is_refused", "_request", "_topics", "_version", "waits")

    def __init__(self, caller: Caller, version: int, request: ProduceRequest) -> None:
        self._caller = caller
        self._version = version
        self._request = request
        self._topics: list[tuple[TopicProduceData, list[PartitionProduceResponse]]] = []
        self._is_refused = False
        self.waits: list[_Wait] = []

    # -- appending

    def append_all(self) -> None:
        led, by_id = self._caller.door.context.led, self._version >= IDS_SINCE
        for topic_data in self._request.topic_data:
            answers: list[PartitionProduceResponse] = []
            self._topics.append((topic_data, answers))
            try:
                topic = led.topic(topic_data.topic_id if by_id else topic_data.name)
                _check_writable(topic.topic)
            except RefusedError as refused:
                answers += [self._refusal(data, refused, None) for data in topic_data.partition_data]
                continue
            for data in topic_data.partition_data:
                try:
                    answers.append(self._append(topic, data, answers))
                except (RefusedError, OutcomeUnknownError) as error:
                    answers.append(self._refusal(data, error, topic.topic))

    def _append(
        self, topic: LedTopic, data: PartitionProduceData, answers: list[PartitionProduceResponse]
    ) -> PartitionProduceResponse:
        records, acks = data.records, self._request.acks
        if not records:
            raise RefusedError(ErrorCode.INVALID_RECORD, "there is no record batch: send one for each partition")
        _check_single_batch(records, self._version)
        replica = topic.replica(data.index)
        appended = replica.append_now(_mutable(records), acks=acks)
        if acks == ACKS_ALL and replica.high_watermark <= appended.last_offset:
            self.waits.append(_Wait(topic.topic, data, replica, appended, answers, len(answers)))
        return PartitionProduceResponse(
            data.index, 0, appended.base_offset, appended.timestamp_ms, replica.earliest_offset
        )

    # -- answering

    def refuse_all(self, refused: RefusedError) -> ProduceResponse:
        self._topics = [
            (topic, [self._refusal(data, refused, None) for data in topic.partition_data])
            for topic in self._request.topic_data
        ]
        return self.answer()

    def _refusal(
        self, data: PartitionProduceData, error: RefusedError | OutcomeUnknownError, topic: Topic | None
    ) -> PartitionProduceResponse:
        self._is_refused = True
        code = error.code if self._version >= IDS_SINCE else code_by_name(error.code)
        leader = NO_LEADER
        if code in NOT_LEADING and topic is not None:
            leader = current_leader(self._caller.door.context.node.image, topic.topic_id, data.index)
        return PartitionProduceResponse(
            data.index, code, base_offset=-1, error_message=error.message, current_leader=leader
        )

    def answer(self) -> ProduceResponse:
        responses = [TopicProduceResponse(topic.name, topic.topic_id, answers) for topic, answers in self._topics]
        if not self._is_refused:
            return ProduceResponse(responses)
        leaders = [one.current_leader for topic in responses for one in topic.partition_responses]
        return ProduceResponse(responses, node_endpoints=node_endpoints(self._caller.door, leaders))

    # -- waiting for followers

    def wait(self, timeout_ms: int) -> asyncio.Future[ProduceResponse]:
        """The answer once every partition is safe, or doubtful."""
        context = self._caller.door.context
        timeout_ms = max(0, min(timeout_ms, context.settings.produce_timeout_ms_max))
        room = context.node.waiting_room
        future: asyncio.Future[ProduceResponse] = asyncio.get_running_loop().create_future()
        left = len(self.waits)

        def ended(wait: _Wait, completion: Completion) -> None:
            nonlocal left
            left -= 1
            if completion is not Outcome.REACHED:
                self._doubt(wait, completion, timeout_ms)
            if not left and not future.done():
                future.set_result(self.answer())

        def begin(wait: _Wait) -> Waiter:
            key, threshold = wait.replica.safe_key, wait.appended.last_offset + 1
            return room.wait(key, threshold, timeout_ms=timeout_ms, complete=lambda completion: ended(wait, completion))

        waiters = [begin(wait) for wait in self.waits]

        def over(_: asyncio.Future[ProduceResponse]) -> None:
            for waiter in waiters:
                room.cancel(waiter)

        future.add_done_callback(over)
        return future

    def _doubt(self, wait: "_Wait", completion: Completion, timeout_ms: int) -> None:
        if completion is Outcome.EXPIRED:
            completion = wait.replica.not_yet_safe(wait.appended, timeout_ms=timeout_ms)
        assert isinstance(completion, OutcomeUnknownError), completion
        wait.answers[wait.position] = self._refusal(wait.data, completion, wait.topic)


class _Wait(NamedTuple):
    """An append that is not safe yet, and where its answer stands."""

    topic: Topic
    data: PartitionProduceData
    replica: Replica
    appended: Appended
    answers: list[PartitionProduceResponse]
    position: int


def _check_writable(topic: Topic) -> None:
    if topic.name in INTERNAL_TOPICS:
        raise RefusedError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic.name} is the cluster's own to write")


def _check_single_batch(records: Buffer, version: int) -> None:
    """As Kafka: one batch a partition, and zstd only from version 7 on (KIP-110). The log checks all the rest."""
    if len(records) < HEADER_BYTES:
        return
    batch_bytes = LENGTH_END + int.from_bytes(records[LENGTH_AT:LENGTH_END], "big", signed=True)
    if HEADER_BYTES <= batch_bytes < len(records):
        raise RefusedError(ErrorCode.INVALID_RECORD, "there is more than one record batch: send one for each partition")
    if version < ZSTD_SINCE and records[ATTRIBUTES_AT + 1] & CODEC_MASK == Compression.ZSTD:
        raise RefusedError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs version 7 of Produce")


def _mutable(records: Buffer) -> bytearray | memoryview:
    """The bytes as they lie in the frame, which nobody else has any more; the log stamps offsets into them."""
    if isinstance(records, memoryview) and not records.readonly:
        return records
    return bytearray(records)
