"""Requests as tests write them, and the one partition of an answer."""

import time
from typing import Any
from uuid import UUID

from wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionData, ReplicaState
from wire.messages.produce import PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData
from wire.record_batch import build_batch, iterate_batches

NOW_MS = int(time.time() * 1000)  # retention looks at it


def batch(*values: bytes | None, **options: Any) -> bytes:
    return bytes(build_batch([(None, value, (), NOW_MS) for value in values], **options))


def produce(
    topic: UUID | str, *values: bytes | None, records: bytes | None = None, partition: int = 0, **options: Any
) -> ProduceRequest:
    """Of one partition; the values, or `records` as they are. Answered when a consumer can fetch them."""
    data = [PartitionProduceData(partition, batch(*values) if values else records)]
    by_id = isinstance(topic, UUID)
    one = (
        TopicProduceData(topic_id=topic, partition_data=data) if by_id else TopicProduceData(topic, partition_data=data)
    )
    return ProduceRequest(**{"acks": -1, "timeout_ms": 20_000, "topic_data": [one]} | options)


def produced(answer: Any) -> PartitionProduceResponse:
    (topic,) = answer.responses
    (partition,) = topic.partition_responses
    return partition


def fetch(
    topic: UUID | str, offset: int = 0, *, partition: int = 0, follower: tuple[int, int] | None = None, **options: Any
) -> FetchRequest:
    """Of one partition; `follower` is (broker id, broker epoch)."""
    of_partition = {
        name: options.pop(name)
        for name in ("current_leader_epoch", "last_fetched_epoch", "partition_max_bytes")
        if name in options
    }
    asked = FetchPartition(
        **{"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20} | of_partition
    )
    by_id = isinstance(topic, UUID)
    one = FetchTopic(topic_id=topic, partitions=[asked]) if by_id else FetchTopic(topic, partitions=[asked])
    if follower is not None:
        options["replica_state"] = ReplicaState(*follower)
    return FetchRequest(**{"min_bytes": 1, "topics": [one]} | options)


def fetched(answer: Any) -> PartitionData:
    (topic,) = answer.responses
    (partition,) = topic.partitions
    return partition


def values(data: PartitionData) -> list[bytes | None]:
    assert isinstance(data.records, memoryview | bytes), data
    return [record.value for one in iterate_batches(data.records) for record in one.records()]
