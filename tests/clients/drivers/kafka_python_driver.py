"""kafka-python as one of the real clients."""

from typing import Any

import kafka
from driver_loop import REQUEST_S, Driver, UnsupportedError, decoded, serve, told
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

ASSIGNORS = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}


class KafkaPythonDriver(Driver):
    def start(self, bootstrap: str) -> dict[str, str]:
        self.common: dict[str, Any] = {"bootstrap_servers": bootstrap.split(","), "metadata_max_age_ms": 2000}
        self.admin_client: KafkaAdminClient | None = None
        return {"version": kafka.__version__}

    def produce(self, topic: str, compression: str, acks: str, records: list[Any], *, idempotent: bool) -> Any:
        if any(content is None for record in records for _, content in record["h"]):
            raise UnsupportedError("cannot write a null header")
        producer = KafkaProducer(
            **self.common,
            acks="all" if acks == "all" else int(acks),
            compression_type=None if compression == "none" else compression,
            enable_idempotence=idempotent,
            linger_ms=20,
            max_request_size=2_000_000,
            delivery_timeout_ms=100_000,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    decoded(record["v"]),
                    decoded(record["k"]),
                    [(name, decoded(content)) for name, content in record["h"]],
                    record["p"],
                    record["t"],
                )
                for record in records
            ]
            producer.flush(110)
            placed = [future.get(1) for future in futures]
        finally:
            producer.close(5)
        return [[one.partition, one.offset] for one in placed]

    def _reader(self) -> KafkaConsumer:
        return KafkaConsumer(**self.common, enable_auto_commit=False)

    def read(self, topic: str, partition: int, offset: int, count: int) -> Any:
        consumer = self._reader()
        wanted = TopicPartition(topic, partition)
        consumer.assign([wanted])
        consumer.seek(wanted, offset)
        try:
            return _consumed(consumer, count)
        finally:
            consumer.close()

    def read_paused(self, topic: str, count: int) -> Any:
        consumer = self._reader()
        partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        try:
            consumer.pause(partitions[0])
            found = _consumed(consumer, count) + _polled(consumer, 500)
            consumer.resume(partitions[0])
            return {"while_paused": found, "after_resume": _consumed(consumer, count)}
        finally:
            consumer.close()

    def ends(self, topic: str, partition: int) -> list[int]:
        consumer, asked = self._reader(), TopicPartition(topic, partition)
        try:
            return [consumer.beginning_offsets([asked])[asked], consumer.end_offsets([asked])[asked]]
        finally:
            consumer.close()

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int:
        consumer, asked = self._reader(), TopicPartition(topic, partition)
        try:
            return int(consumer.offsets_for_times({asked: timestamp})[asked].offset)
        finally:
            consumer.close()

    # -- a member of a group

    def join(self, group: str, topics: list[str], strategy: str, session_timeout_ms: int) -> None:
        self.member = KafkaConsumer(
            *topics,
            **self.common,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[ASSIGNORS[strategy]],
        )
        self.records: list[Any] = []
        self.positions: dict[TopicPartition, int] = {}
        self.is_member = True

    def poll(self) -> None:
        for partition, found in self.member.poll(timeout_ms=50).items():
            self.records += [_told(one) for one in found]
            self.positions[partition] = found[-1].offset + 1

    def state(self) -> Any:
        records, self.records = self.records, []
        assignment = [[one.topic, one.partition] for one in self.member.assignment()]
        return {"assignment": sorted(assignment), "records": records}

    def commit(self) -> None:
        self.member.commit({one: OffsetAndMetadata(offset, "", -1) for one, offset in self.positions.items()})

    def leave(self) -> None:
        self.is_member = False
        self.member.close()

    # -- admin

    @property
    def admin(self) -> KafkaAdminClient:
        if self.admin_client is None:
            self.admin_client = KafkaAdminClient(**self.common)
        return self.admin_client

    def create_topic(self, topic: str, partitions: int, replication_factor: int, config: dict[str, str]) -> None:
        wanted = {"num_partitions": partitions, "replication_factor": replication_factor, "configs": config}
        self.admin.create_topics({topic: wanted})

    def list_topics(self) -> list[str]:
        return sorted(self.admin.list_topics())

    def describe_topic(self, topic: str) -> Any:
        (found,) = self.admin.describe_topics([topic])
        return sorted(
            [one["partition_index"], one["leader_id"], one["replica_nodes"], one["isr_nodes"]]
            for one in found["partitions"]
        )

    def delete_topic(self, topic: str) -> None:
        self.admin.delete_topics([topic])

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions({topic: partitions})

    def describe_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def alter_config(self, topic: str, config: dict[str, str]) -> None:
        found = self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        outcome = found["topic"][topic]
        if "Error" in str(outcome) and "NoError" not in str(outcome):
            raise RuntimeError(str(outcome))

    def list_groups(self) -> list[str]:
        return sorted(one["group_id"] for one in self.admin.list_groups())

    def describe_group(self, group: str) -> Any:
        found = self.admin.describe_groups([group])[group]
        return {"state": found["group_state"], "members": len(found["members"])}

    def delete_group(self, group: str) -> None:
        self.admin.delete_groups([group])

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        self.admin.delete_records({TopicPartition(topic, partition): before})

    def describe_cluster(self) -> list[int]:
        return sorted(one.get("broker_id", one.get("node_id")) for one in self.admin.describe_cluster()["brokers"])


def _polled(consumer: KafkaConsumer, timeout_ms: int) -> list[Any]:
    return [_told(one) for found in consumer.poll(timeout_ms=timeout_ms).values() for one in found]


def _consumed(consumer: KafkaConsumer, count: int) -> list[Any]:
    """The first `count` records; what a poll brings beyond them is left unread."""
    found: list[Any] = []
    while len(found) < count:
        records = consumer.poll(timeout_ms=REQUEST_S * 1000, max_records=count - len(found))
        if not records:
            raise TimeoutError(f"{len(found)} of {count} records came")
        found += [_told(one) for some in records.values() for one in some]
    return found


def _told(one: Any) -> dict[str, Any]:
    return told(one.partition, one.offset, one.timestamp, one.key, one.value, one.headers)


if __name__ == "__main__":
    serve(KafkaPythonDriver())
