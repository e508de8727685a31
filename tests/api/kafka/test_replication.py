"""Three nodes that copy from each other over their Kafka listeners, as a producer and a consumer meet them."""

import time

from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import RealCluster, until
from wire.errors import ErrorCode
from wire.messages import ApiKey
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.record_batch import build_batch, iterate_batches

NOW_MS = int(time.time() * 1000)  # retention looks at it


def produce(topic_id, *values: bytes, acks: int = -1, partition: int = 0, timeout_ms: int = 20_000) -> ProduceRequest:
    batch = build_batch([(None, value, (), NOW_MS) for value in values])
    data = [PartitionProduceData(partition, bytes(batch))]
    return ProduceRequest(None, acks, timeout_ms, [TopicProduceData(topic_id=topic_id, partition_data=data)])


async def test_what_was_acknowledged_by_all_lies_on_every_replica(three: RealCluster):
    topic = await three.create("t", partitions=3, replicas=3, min_insync_replicas="2")
    state = three.nodes[0].node.image.partition(topic.topic_id, 0)
    assert state is not None
    for partition in range(3):
        client = await RawClient.connect(three.leader(topic, partition).listener.port)
        for number in range(5):
            answer = await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"%d" % number, partition=partition))
            (one,) = answer.responses[0].partition_responses
            assert (ErrorCode.NONE, number) == (one.error_code, one.base_offset), one
        client.close()
    for real in three.nodes:
        for partition in range(3):
            log = real.node.replica(topic.topic_id, partition).log
            await until(lambda log=log: log.high_watermark == 5)
            data = log.read(0, max_bytes=1 << 20, upper_offset=5).data
            values = [record.value for batch in iterate_batches(data) for record in batch.records()]
            assert [b"0", b"1", b"2", b"3", b"4"] == values
