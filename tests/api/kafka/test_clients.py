"""Clients that we did not write: what they send comes back as it was, whichever way they speak."""

import asyncio
import os
import time
import warnings
from typing import Any

import aiokafka
import confluent_kafka
import pytest

from tests.api.kafka.real_cluster import RealCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own, of how it reads its own files
    import kafka

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
NOW_MS = int(time.time() * 1000)
RECORDS: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
    (b"key", b"value", []),
    (None, b"no key", [("header", b"1"), ("header", b"2")]),
    (b"tombstone", None, []),
    (b"", b"", [("empty", b"")]),
    ("ключ".encode(), b"compressible" * 2000, [("ключ", "значение".encode())]),
    (b"random", os.urandom(200_000), []),
]


async def in_thread(work, *arguments: Any) -> Any:
    """A client that blocks."""
    return await asyncio.wait_for(asyncio.to_thread(work, *arguments), 90)


def shown(record) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    return record.key, record.value, list(record.headers)


@pytest.mark.parametrize(("codec", "acks"), [*((codec, "all") for codec in CODECS), (None, 0), ("lz4", 1)])
async def test_aiokafka(cluster: RealCluster, codec, acks):
    await cluster.create("t", 3)
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap, compression_type=codec, acks=acks, enable_idempotence=acks == "all"
    )
    await producer.start()
    for key, value, headers in RECORDS:
        for partition in range(3):
            sent = await producer.send("t", value, key=key, headers=headers, partition=partition, timestamp_ms=NOW_MS)
            if acks:
                await sent
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([aiokafka.TopicPartition("t", partition) for partition in range(3)])
    found: dict[int, list] = {0: [], 1: [], 2: []}
    async with asyncio.timeout(60):
        while sum(map(len, found.values())) < 3 * len(RECORDS):
            record = await consumer.getone()
            found[record.partition].append(shown(record))
    await consumer.stop()
    assert {0: RECORDS, 1: RECORDS, 2: RECORDS} == found


@pytest.mark.parametrize("codec", ["none", *CODECS[1:]])
async def test_librdkafka(cluster: RealCluster, codec):
    await cluster.create("t", 2)

    def produce() -> list[tuple[Any, Any]]:
        told = []
        with_idempotence = {
            "bootstrap.servers": cluster.bootstrap, "compression.type": codec, "enable.idempotence": True,
        }  # fmt: skip
        producer = confluent_kafka.Producer(with_idempotence)
        for key, value, headers in RECORDS:
            producer.produce(
                "t", value, key, 1, headers=headers, on_delivery=lambda error, message: told.append((error, message))
            )
        assert 0 == producer.flush(60)
        return [(error, message.offset()) for error, message in told]

    assert [(None, offset) for offset in range(len(RECORDS))] == await in_thread(produce)

    def consume() -> list[Any]:
        consumer = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "none"})
        consumer.assign([confluent_kafka.TopicPartition("t", 1, 0)])
        found = []
        until_s = time.monotonic() + 60
        while len(found) < len(RECORDS) and time.monotonic() < until_s:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                found.append((message.key(), message.value(), message.headers() or []))
        bounds = consumer.get_watermark_offsets(confluent_kafka.TopicPartition("t", 1), timeout=30)
        consumer.close()
        assert (0, len(RECORDS)) == bounds
        return found

    assert RECORDS == await in_thread(consume)


async def test_what_librdkafka_compressed_lies_compressed_in_the_log(cluster: RealCluster):
    topic = await cluster.create("t")

    def produce() -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap, "compression.type": "zstd"})
        producer.produce("t", b"compressible" * 10_000)
        assert 0 == producer.flush(60)

    await in_thread(produce)
    assert cluster.nodes[0].node.replica(topic.topic_id, 0).log.size_bytes < 10_000


@pytest.mark.parametrize("codec", [None, "gzip"])  # it has the others only with further packages
async def test_kafka_python(cluster: RealCluster, codec):
    await cluster.create("t", 2)

    def produce_and_consume() -> list[Any]:
        producer = kafka.KafkaProducer(bootstrap_servers=cluster.bootstrap, compression_type=codec)
        sent = [producer.send("t", value, key, headers, 1, NOW_MS) for key, value, headers in RECORDS]
        assert list(range(len(RECORDS))) == [one.get(60).offset for one in sent]
        producer.close()
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=60_000
        )
        consumer.assign([kafka.TopicPartition("t", 0), kafka.TopicPartition("t", 1)])
        found = []
        for record in consumer:
            found.append(shown(record))
            if len(found) == len(RECORDS):
                break
        consumer.close()
        return found

    assert RECORDS == await in_thread(produce_and_consume)


async def test_offsets_for_times_and_both_ends(cluster: RealCluster):
    await cluster.create("t", 2)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap)
    await producer.start()
    for number in range(5):
        await producer.send_and_wait("t", b"v", partition=0, timestamp_ms=NOW_MS + 1000 * number)
    await producer.stop()

    def ask() -> None:
        consumer = kafka.KafkaConsumer(bootstrap_servers=cluster.bootstrap)
        first, second = kafka.TopicPartition("t", 0), kafka.TopicPartition("t", 1)
        assert {first: 0, second: 0} == consumer.beginning_offsets([first, second])
        assert {first: 5, second: 0} == consumer.end_offsets([first, second])
        found = consumer.offsets_for_times({first: NOW_MS + 1500, second: NOW_MS})
        assert (2, NOW_MS + 2000) == (found[first].offset, found[first].timestamp)
        assert found[second] is None
        assert {first: None} == consumer.offsets_for_times({first: NOW_MS + 5000})
        consumer.close()

    await in_thread(ask)


async def test_a_topic_is_created_by_asking_for_it_where_that_is_allowed(tmp_path):
    from api.kafka.settings import KafkaSettings  # noqa: PLC0415 - only here

    made = RealCluster(tmp_path, size=1, kafka=KafkaSettings(creates_topics=True), settings=["num.partitions=3"])
    try:
        await made.start()
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=made.bootstrap)
        await producer.start()
        assert 0 == (await producer.send_and_wait("made", b"v")).offset
        assert {0, 1, 2} == await producer.partitions_for("made")
        await producer.stop()
    finally:
        await made.close()


async def test_a_topic_is_not_created_by_a_typo(cluster: RealCluster):
    def ask() -> set[str]:
        client = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap})
        assert client.list_topics("typo", timeout=30).topics["typo"].error.code() == 3
        return set(client.list_topics(timeout=30).topics)

    assert set() == await in_thread(ask)


async def test_a_producer_and_consumers_at_the_end_of_the_log_keep_up_with_each_other(cluster: RealCluster):
    """Long polls and pipelined requests on the same connections, several clients at once."""
    await cluster.create("t", 4)
    count = 400
    consumers = [
        aiokafka.AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") for _ in range(3)
    ]
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", linger_ms=1)
    await asyncio.gather(producer.start(), *(consumer.start() for consumer in consumers))
    for consumer in consumers:
        consumer.assign([aiokafka.TopicPartition("t", partition) for partition in range(4)])

    async def consume(consumer) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        while sum(map(len, found.values())) < count:
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                found.setdefault(partition.partition, []).extend(record.value for record in records)
        return found

    reading = [asyncio.ensure_future(consume(consumer)) for consumer in consumers]
    sending = [await producer.send("t", b"%d" % number, partition=number % 4) for number in range(count)]
    async with asyncio.timeout(60):
        await asyncio.gather(*sending)
        everything = await asyncio.gather(*reading)
    await asyncio.gather(producer.stop(), *(consumer.stop() for consumer in consumers))
    expected = {partition: [b"%d" % number for number in range(partition, count, 4)] for partition in range(4)}
    assert [expected] * 3 == everything
