"""confluent-kafka (librdkafka) as one of the real clients."""

from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition, admin
from driver_loop import REQUEST_S, Driver, decoded, serve, told


class ConfluentDriver(Driver):
    def start(self, bootstrap: str) -> dict[str, str]:
        self.common = {"bootstrap.servers": bootstrap, "topic.metadata.refresh.interval.ms": 2000}
        self.admin_client: admin.AdminClient | None = None
        return {"version": f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"}

    def produce(self, topic: str, compression: str, acks: str, records: list[Any], *, idempotent: bool) -> Any:
        producer = Producer(
            self.common
            | {"acks": acks, "compression.type": compression, "enable.idempotence": idempotent}
            | {"linger.ms": 20, "message.max.bytes": 2_000_000, "delivery.timeout.ms": 100_000}
        )
        found: dict[int, Any] = {}
        for index, record in enumerate(records):
            producer.produce(
                topic,
                decoded(record["v"]),
                decoded(record["k"]),
                -1 if record["p"] is None else record["p"],
                on_delivery=lambda error, message, index=index: found.update({index: (error, message)}),
                timestamp=record["t"],
                headers=[(name, decoded(content)) for name, content in record["h"]],
            )
            producer.poll(0)
        if producer.flush(110):
            raise TimeoutError("not all was delivered")
        for error, _ in found.values():
            if error is not None:
                raise KafkaException(error)
        return [[message.partition(), message.offset()] for _, (_, message) in sorted(found.items())]

    def _reader(self) -> Consumer:
        return Consumer(self.common | {"group.id": "nobody", "enable.auto.commit": False})

    def read(self, topic: str, partition: int, offset: int, count: int) -> Any:
        consumer = self._reader()
        consumer.assign([TopicPartition(topic, partition, offset)])
        try:
            return [_told(message) for message in _consumed(consumer, count)]
        finally:
            consumer.close()

    def read_paused(self, topic: str, count: int) -> Any:
        consumer = self._reader()
        paused = [TopicPartition(topic, 0, 0)]
        consumer.assign([*paused, TopicPartition(topic, 1, 0)])
        try:
            consumer.pause(paused)
            found = _consumed(consumer, count) + consumer.consume(100, 0.5)
            consumer.resume(paused)
            return {
                "while_paused": list(map(_told, found)),
                "after_resume": list(map(_told, _consumed(consumer, count))),
            }
        finally:
            consumer.close()

    def ends(self, topic: str, partition: int) -> list[int]:
        consumer = self._reader()
        try:
            return list(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_S))
        finally:
            consumer.close()

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int:
        consumer = self._reader()
        try:
            found = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=REQUEST_S)
            return int(found[0].offset)
        finally:
            consumer.close()

    # -- a member of a group

    def join(self, group: str, topics: list[str], strategy: str, session_timeout_ms: int) -> None:
        self.member = Consumer(
            self.common
            | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
            | {"session.timeout.ms": session_timeout_ms, "heartbeat.interval.ms": 500}
            | {"partition.assignment.strategy": "cooperative-sticky" if strategy == "cooperative" else strategy}
        )
        self.records: list[Any] = []
        self.positions: dict[tuple[str, int], int] = {}
        self.member.subscribe(topics)
        self.is_member = True

    def poll(self) -> None:
        for message in self.member.consume(500, 0.05):
            if message.error() is None:
                self.records.append(_told(message))
                self.positions[message.topic(), message.partition()] = message.offset() + 1

    def state(self) -> Any:
        records, self.records = self.records, []
        assignment = [[one.topic, one.partition] for one in self.member.assignment()]
        return {"assignment": sorted(assignment), "records": records}

    def commit(self) -> None:
        offsets = [TopicPartition(*key, offset) for key, offset in self.positions.items()]
        self.member.commit(offsets=offsets, asynchronous=False)

    def leave(self) -> None:
        self.is_member = False
        self.member.close()

    # -- admin

    @property
    def admin(self) -> admin.AdminClient:
        if self.admin_client is None:
            self.admin_client = admin.AdminClient(self.common)
        return self.admin_client

    def create_topic(self, topic: str, partitions: int, replication_factor: int, config: dict[str, str]) -> None:
        wanted = admin.NewTopic(topic, partitions, replication_factor, config=config)
        self.admin.create_topics([wanted], request_timeout=REQUEST_S)[topic].result()

    def list_topics(self) -> list[str]:
        return sorted(self.admin.list_topics(timeout=REQUEST_S).topics)

    def describe_topic(self, topic: str) -> Any:
        found = self.admin.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions
        return [[number, one.leader, one.replicas, one.isrs] for number, one in sorted(found.items())]

    def delete_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic], request_timeout=REQUEST_S)[topic].result()

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions([admin.NewPartitions(topic, partitions)])[topic].result()

    def describe_config(self, topic: str) -> dict[str, str]:
        resource = admin.ConfigResource(admin.ConfigResource.Type.TOPIC, topic)
        return {name: entry.value for name, entry in self.admin.describe_configs([resource])[resource].result().items()}

    def alter_config(self, topic: str, config: dict[str, str]) -> None:
        entries = [
            admin.ConfigEntry(name, value, incremental_operation=admin.AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = admin.ConfigResource(admin.ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result()

    def list_groups(self) -> list[str]:
        found = self.admin.list_consumer_groups(request_timeout=REQUEST_S).result()
        if found.errors:
            raise KafkaException(found.errors[0])
        return sorted(one.group_id for one in found.valid)

    def describe_group(self, group: str) -> Any:
        found = self.admin.describe_consumer_groups([group], request_timeout=REQUEST_S)[group].result()
        return {"state": found.state.name.title(), "members": len(found.members)}

    def group_offsets(self, group: str) -> Any:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self.admin.list_consumer_group_offsets(asked)[group].result()
        return [[one.topic, one.partition, one.offset] for one in found.topic_partitions]

    def delete_group(self, group: str) -> None:
        self.admin.delete_consumer_groups([group], request_timeout=REQUEST_S)[group].result()

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        asked = TopicPartition(topic, partition, before)
        found = self.admin.delete_records([asked])
        return int(next(iter(found.values())).result().low_watermark)

    def describe_cluster(self) -> list[int]:
        return sorted(node.id for node in self.admin.describe_cluster(request_timeout=REQUEST_S).result().nodes)


def _consumed(consumer: Consumer, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        messages = consumer.consume(count - len(found), REQUEST_S)
        if not messages:
            raise TimeoutError(f"{len(found)} of {count} records came")
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
        found += messages
    return found


def _told(message: Any) -> dict[str, Any]:
    headers = message.headers()
    return told(message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers)


if __name__ == "__main__":
    serve(ConfluentDriver())
