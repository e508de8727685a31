"""A consumer group under kill -9 of its coordinator: members, generation and offsets live on in the replicated log."""

import time

import confluent_kafka

from broker.groups.host import group_hash
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, wait_until

GROUP = "readers"
OFFSETS_PARTITIONS = 4
PARTITIONS = 4
RECORDS = 400


class Member:
    """One consumer that commits what it has taken."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap(cluster), "group.id": GROUP, "client.id": name,
                "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 15_000,
                "heartbeat.interval.ms": 300, "topic.metadata.refresh.interval.ms": 1000, "on_commit": self._committed,
            },
            logger=None,
        )  # fmt: skip
        self.taken: list[str] = []
        self.assigned: set[int] = set()
        self.rebalances = 0
        self.commits_under_way = 0
        self.consumer.subscribe(["t"], on_assign=self._assign, on_revoke=self._revoke)

    def _assign(self, _, partitions) -> None:
        self.assigned = {one.partition for one in partitions}
        self.rebalances += 1

    def _revoke(self, _, __) -> None:
        self.assigned = set()

    def _committed(self, _, __) -> None:
        self.commits_under_way -= 1

    def poll(self) -> None:
        message = self.consumer.poll(0.02)
        if message is not None and message.error() is None:
            self.taken.append(message.value().decode())
            if len(self.taken) % 20 == 0:
                self.consumer.commit(message, asynchronous=True)
                self.commits_under_way += 1


def bootstrap(cluster: Cluster) -> str:
    return cluster.kafka_servers


def test_a_group_goes_on_when_its_coordinator_is_killed(form: Form):
    cluster = form(3, "broker.session.timeout.ms=2000", f"offsets.topic.num.partitions={OFFSETS_PARTITIONS}")
    with cluster[1].client() as client:
        configs = {"min.insync.replicas": "2"}
        wait_until(lambda: client.create_topic("t", PARTITIONS, configs, replication_factor=3).topic_id, "the topic")
    members = [Member(cluster, name) for name in ("first", "second")]
    poll_until(members, lambda: sum(len(one.assigned) for one in members) == PARTITIONS and all_own(members))
    rebalances = sum(member.rebalances for member in members)

    produced: set[str] = set()
    produce(cluster, produced, 0)
    poll_until(members, lambda: len(taken(members)) >= RECORDS // 2)
    partition = group_hash(GROUP) % OFFSETS_PARTITIONS
    coordinator = cluster.leader_of("__consumer_offsets", partition)
    coordinator.kill()
    poll_until(members, lambda: taken(members) >= produced)
    produce(cluster, produced, 1)
    poll_until(members, lambda: taken(members) >= produced)
    commit_all(members)
    assert rebalances == sum(member.rebalances for member in members), "the next coordinator knew its members"

    coordinator.start()
    coordinator.wait_ready()
    cluster.wait_well("__consumer_offsets", OFFSETS_PARTITIONS)
    for member in members:
        member.consumer.close()
    cluster.leader_of("__consumer_offsets", partition).kill()
    late = Member(cluster, "late")
    produce(cluster, produced, 2)
    poll_until([late], lambda: len(late.taken) >= RECORDS)
    late.consumer.close()
    assert {value for value in produced if value.startswith("2:")} == set(late.taken), "it went on where they had been"


def all_own(members: list[Member]) -> bool:
    return all(member.assigned for member in members)


def taken(members: list[Member]) -> set[str]:
    return {value for member in members for value in member.taken}


def poll_until(members: list[Member], condition, timeout_s: float = 90) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, [(len(member.taken), member.assigned) for member in members]
        for member in members:
            member.poll()


def produce(cluster: Cluster, produced: set[str], series: int) -> None:
    """Acknowledged by all in-sync replicas."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap(cluster), "enable.idempotence": True, "acks": "all"}, logger=None
    )
    values = [f"{series}:{number}" for number in range(RECORDS)]
    for number, value in enumerate(values):
        producer.produce("t", value, partition=number % PARTITIONS)
    assert 0 == producer.flush(60)
    produced.update(values)


def commit_all(members: list[Member]) -> None:
    """Where each one is, synchronously, as a consumer does before it ends."""

    def is_committed(member: Member) -> bool:
        try:
            member.consumer.commit(asynchronous=False)
        except confluent_kafka.KafkaException as error:
            return error.args[0].code() == confluent_kafka.KafkaError._NO_OFFSET
        return True

    # the client sends an asynchronous commit again when its coordinator is gone, also after a later one was answered
    poll_until(members, lambda: not any(member.commits_under_way for member in members))
    for member in members:
        wait_until(lambda member=member: is_committed(member), "the offsets are committed")
