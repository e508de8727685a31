"""Consumer groups of clients that we did not write."""

import asyncio
import contextlib
import sys
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import aiokafka
import confluent_kafka
import confluent_kafka.admin
import pytest

from api.kafka.settings import KafkaSettings
from tests.api.kafka.real_cluster import RealCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own, of how it reads its own files
    import kafka

GROUPS = ["offsets.topic.num.partitions=4", "group.min.session.timeout.ms=1000"]


@pytest.fixture
async def cluster(tmp_path: Path, settings: KafkaSettings) -> AsyncIterator[RealCluster]:
    made = RealCluster(tmp_path, size=1, kafka=settings, settings=GROUPS)
    try:
        yield await made.start()
    finally:
        await made.close()


async def produce(cluster: RealCluster, topic: str, partitions: int, count: int) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.bootstrap)
    await producer.start()
    for partition in range(partitions):
        for number in range(count):
            await producer.send(topic, f"{partition}:{number}".encode(), partition=partition)
    await producer.stop()


def librdkafka(cluster: RealCluster, **settings) -> confluent_kafka.Consumer:
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 200,
        }
        | {name.replace("_", "."): value for name, value in settings.items()}
    )


async def in_thread(work, *arguments):
    return await asyncio.wait_for(asyncio.to_thread(work, *arguments), 90)


def take(consumer: confluent_kafka.Consumer, count: int, timeout_s: float = 60) -> list[str]:
    found: list[str] = []
    until_s = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < until_s:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message.value().decode())
    return found


async def test_librdkafka_resumes_where_its_group_committed(cluster: RealCluster):
    await cluster.create("t", 2)
    await produce(cluster, "t", 2, 10)

    def first() -> list[str]:
        consumer = librdkafka(cluster)
        consumer.subscribe(["t"])
        found = take(consumer, 7)
        consumer.commit(asynchronous=False)
        consumer.close()
        return found

    def second() -> list[str]:
        consumer = librdkafka(cluster)
        consumer.subscribe(["t"])
        found = take(consumer, 13)
        consumer.close()
        return found

    found = await in_thread(first) + await in_thread(second)
    assert {f"{partition}:{number}" for partition in range(2) for number in range(10)} == set(found)
    assert 20 == len(found)


class Member:
    """A librdkafka consumer that keeps what it is told of its partitions."""

    def __init__(self, cluster: RealCluster, **settings) -> None:
        self.consumer = librdkafka(cluster, **settings)
        self.assigned: set[int] = set()
        self.revoked: list[set[int]] = []
        self.taken: list[str] = []
        self.is_incremental = settings.get("partition_assignment_strategy") == "cooperative-sticky"

    def subscribe(self, *topics: str) -> None:
        self.consumer.subscribe(list(topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lost)

    def _assign(self, _, partitions) -> None:
        ids = {one.partition for one in partitions}
        self.assigned = self.assigned | ids if self.is_incremental else ids

    def _revoke(self, _, partitions) -> None:
        ids = {one.partition for one in partitions}
        self.revoked.append(ids)
        self.assigned -= ids

    def _lost(self, _, __) -> None:
        self.assigned = set()

    def poll(self, timeout_s: float = 0.05) -> None:
        message = self.consumer.poll(timeout_s)
        if message is not None and message.error() is None:
            self.taken.append(message.value().decode())

    def close(self) -> None:
        self.consumer.close()


def poll_until(members: list[Member], condition, timeout_s: float = 60) -> float:
    """Poll all until it holds; how long it took, in seconds."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() < began_s + timeout_s, [member.assigned for member in members]
        for member in members:
            member.poll()
    return time.monotonic() - began_s


def share(members: list[Member], partitions: int) -> bool:
    """Each has something, all together have everything, nobody what another has."""
    owned = [one for member in members for one in member.assigned]
    return all(member.assigned for member in members) and sorted(owned) == list(range(partitions))


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
async def test_librdkafka_shares_as_members_join_leave_and_die(cluster: RealCluster, strategy):
    await cluster.create("t", 6)

    def live() -> None:
        settings = {"partition_assignment_strategy": strategy}
        first = Member(cluster, **settings)
        first.subscribe("t")
        poll_until([first], lambda: share([first], 6))
        second = Member(cluster, **settings)
        second.subscribe("t")
        poll_until([first, second], lambda: share([first, second], 6))
        if strategy == "cooperative-sticky":
            assert [3] == [len(ids) for ids in first.revoked if ids], "it kept what stayed its own"
        second.close()
        took_s = poll_until([first], lambda: share([first], 6))
        assert took_s < 10, "a clean leave is noticed with the next heartbeat"
        dying = Member(cluster, **settings)
        dying.subscribe("t")
        poll_until([first, dying], lambda: share([first, dying], 6))
        first.close()
        dying.close()

    await in_thread(live)


async def test_a_static_member_that_restarts_takes_its_partitions_up_again(cluster: RealCluster):
    await cluster.create("t", 4)

    def live() -> None:
        stays, restarts = Member(cluster, group_instance_id="a"), Member(cluster, group_instance_id="b")
        both = [stays, restarts]
        for member in both:
            member.subscribe("t")
        poll_until(both, lambda: share(both, 4))
        before = set(restarts.assigned)
        revoked = len(stays.revoked)
        restarts.close()
        again = Member(cluster, group_instance_id="b")
        again.subscribe("t")
        poll_until([stays, again], lambda: share([stays, again], 4))
        assert (before, revoked) == (again.assigned, len(stays.revoked)), "nobody else noticed"
        stays.close()
        again.close()

    await in_thread(live)


DOOMED = """
import sys, confluent_kafka
consumer = confluent_kafka.Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": "g", "session.timeout.ms": 2000, "heartbeat.interval.ms": 200,
})
consumer.subscribe(["t"], on_assign=lambda _, partitions: print(len(partitions), flush=True))
while True:
    consumer.poll(0.1)
"""


async def test_a_member_that_is_killed_is_replaced_within_its_session_timeout(cluster: RealCluster):
    await cluster.create("t", 2)
    dies = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOOMED, cluster.bootstrap, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert dies.stdout is not None
        assert b"2\n" == await asyncio.wait_for(dies.stdout.readline(), 60)
        lives = Member(cluster, session_timeout_ms=2000)
        lives.subscribe("t")
        await in_thread(poll_until, [lives], lambda: len(lives.assigned) == 1)
        dies.kill()
        took_s = await in_thread(poll_until, [lives], lambda: len(lives.assigned) == 2)
        assert 1.0 < took_s < 30.0
        await in_thread(lives.close)
    finally:
        with contextlib.suppress(ProcessLookupError):
            dies.kill()
        await dies.wait()


async def test_aiokafka_commits_with_metadata_and_resumes(cluster: RealCluster):
    await cluster.create("t", 1)
    await produce(cluster, "t", 1, 10)
    partition = aiokafka.TopicPartition("t", 0)

    def consumer() -> aiokafka.AIOKafkaConsumer:
        return aiokafka.AIOKafkaConsumer(
            "t", bootstrap_servers=cluster.bootstrap, group_id="g", enable_auto_commit=False,
            auto_offset_reset="earliest",
        )  # fmt: skip

    first = consumer()
    await first.start()
    found = [(await first.getone()).value for _ in range(4)]
    await first.commit({partition: aiokafka.OffsetAndMetadata(4, "note")})
    assert 4 == await first.committed(partition)
    await first.stop()
    second = consumer()
    await second.start()
    found += [(await second.getone()).value for _ in range(6)]
    await second.stop()
    assert [f"0:{number}".encode() for number in range(10)] == found


async def test_kafka_python_in_a_group(cluster: RealCluster):
    await cluster.create("t", 2)
    await produce(cluster, "t", 2, 5)

    def live() -> None:
        settings = {"bootstrap_servers": cluster.bootstrap, "group_id": "g", "auto_offset_reset": "earliest"}
        first = kafka.KafkaConsumer("t", enable_auto_commit=False, **settings)
        found: list[bytes] = []
        until_s = time.monotonic() + 60
        while len(found) < 10 and time.monotonic() < until_s:
            for records in first.poll(200).values():
                found += [record.value for record in records]
        assert 10 == len(set(found))
        first.commit()
        assert 5 == first.committed(kafka.TopicPartition("t", 0))
        first.close()
        second = kafka.KafkaConsumer("t", consumer_timeout_ms=1500, **settings)
        assert [] == [record.value for record in second]
        second.close()

    await in_thread(live)


async def test_a_consumer_that_assigns_its_partitions_itself_commits_without_a_group(cluster: RealCluster):
    await cluster.create("t", 1)
    await produce(cluster, "t", 1, 5)
    partition = confluent_kafka.TopicPartition("t", 0, 3)

    def live() -> None:
        consumer = librdkafka(cluster)
        consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
        take(consumer, 3)
        consumer.commit(offsets=[partition], asynchronous=False)
        consumer.close()
        again = librdkafka(cluster)
        (found,) = again.committed([partition], timeout=30)
        again.close()
        assert 3 == found.offset

    await in_thread(live)


async def test_an_administrator_lists_describes_and_deletes_groups(cluster: RealCluster):
    await cluster.create("t", 1)
    await produce(cluster, "t", 1, 5)

    def live() -> None:
        member = Member(cluster, client_id="me")
        member.subscribe("t")
        poll_until([member], lambda: share([member], 1) and member.taken)
        member.consumer.commit(asynchronous=False)
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": cluster.bootstrap})
        (listed,) = admin.list_consumer_groups().result(30).valid
        assert ("g", confluent_kafka.ConsumerGroupState.STABLE) == (listed.group_id, listed.state)
        described = admin.describe_consumer_groups(["g"])["g"].result(30)
        (one,) = described.members
        assert ("me", "127.0.0.1") == (one.client_id, one.host.strip("/"))
        assert [0] == [partition.partition for partition in one.assignment.topic_partitions]
        with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups(["g"])["g"].result(30)
        member.close()
        (offsets,) = admin.list_consumer_group_offsets([confluent_kafka.ConsumerGroupTopicPartitions("g")]).values()
        assert [("t", 0)] == [(found.topic, found.partition) for found in offsets.result(30).topic_partitions]
        admin.delete_consumer_groups(["g"])["g"].result(30)
        assert [] == admin.list_consumer_groups().result(30).valid

    await in_thread(live)
