"""aiokafka as one of the real clients. Its loop runs while a call is answered and while a member is polled."""

import asyncio
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import for_code
from driver_loop import REQUEST_S, Driver, UnsupportedError, decoded, serve, told


class AiokafkaDriver(Driver):
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.admin_client: AIOKafkaAdminClient | None = None

    def start(self, bootstrap: str) -> dict[str, str]:
        self.common: dict[str, Any] = {"bootstrap_servers": bootstrap, "metadata_max_age_ms": 2000}
        return {"version": aiokafka.__version__}

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def produce(self, topic: str, compression: str, acks: str, records: list[Any], *, idempotent: bool) -> Any:
        return self._run(self._produce(topic, compression, acks, records, idempotent=idempotent))

    async def _produce(self, topic: str, compression: str, acks: str, records: list[Any], *, idempotent: bool) -> Any:
        producer = AIOKafkaProducer(
            **self.common,
            acks="all" if acks == "all" else int(acks),
            compression_type=None if compression == "none" else compression,
            enable_idempotence=idempotent,
            linger_ms=20,
            max_request_size=2_000_000,
            request_timeout_ms=100_000,
        )
        await producer.start()
        try:
            futures = [
                await producer.send(
                    topic,
                    decoded(record["v"]),
                    decoded(record["k"]),
                    record["p"],
                    record["t"],
                    [(name, decoded(content)) for name, content in record["h"]],
                )
                for record in records
            ]
            placed = await asyncio.gather(*futures)
        finally:
            await producer.stop()
        return [[one.partition, one.offset] if one is not None else None for one in placed]

    async def _with_reader(self, work: Any) -> Any:
        consumer = AIOKafkaConsumer(**self.common, enable_auto_commit=False)
        await consumer.start()
        try:
            return await work(consumer)
        finally:
            await consumer.stop()

    def read(self, topic: str, partition: int, offset: int, count: int) -> Any:
        async def work(consumer: AIOKafkaConsumer) -> Any:
            wanted = TopicPartition(topic, partition)
            consumer.assign([wanted])
            consumer.seek(wanted, offset)
            return await _consumed(consumer, count)

        return self._run(self._with_reader(work))

    def read_paused(self, topic: str, count: int) -> Any:
        async def work(consumer: AIOKafkaConsumer) -> Any:
            partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
            consumer.assign(partitions)
            for one in partitions:
                consumer.seek(one, 0)
            consumer.pause(partitions[0])
            found = await _consumed(consumer, count) + await _polled(consumer, 500)
            consumer.resume(partitions[0])
            return {"while_paused": found, "after_resume": await _consumed(consumer, count)}

        return self._run(self._with_reader(work))

    def ends(self, topic: str, partition: int) -> Any:
        async def work(consumer: AIOKafkaConsumer) -> Any:
            asked = TopicPartition(topic, partition)
            return [(await consumer.beginning_offsets([asked]))[asked], (await consumer.end_offsets([asked]))[asked]]

        return self._run(self._with_reader(work))

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> Any:
        async def work(consumer: AIOKafkaConsumer) -> Any:
            asked = TopicPartition(topic, partition)
            return (await consumer.offsets_for_times({asked: timestamp}))[asked].offset

        return self._run(self._with_reader(work))

    # -- a member of a group

    def join(self, group: str, topics: list[str], strategy: str, session_timeout_ms: int) -> None:
        if strategy != "range":
            raise UnsupportedError("has no cooperative rebalancing")
        self.records: list[Any] = []
        self.positions: dict[TopicPartition, int] = {}

        async def work() -> None:
            self.member = AIOKafkaConsumer(
                *topics,
                **self.common,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=500,
                partition_assignment_strategy=(RangePartitionAssignor,),
            )
            await self.member.start()

        self._run(work())
        self.is_member = True

    def poll(self) -> None:
        for partition, found in self._run(self.member.getmany(timeout_ms=50)).items():
            self.records += [_told(one) for one in found]
            self.positions[partition] = found[-1].offset + 1

    def state(self) -> Any:
        records, self.records = self.records, []
        assignment = [[one.topic, one.partition] for one in self.member.assignment()]
        return {"assignment": sorted(assignment), "records": records}

    def commit(self) -> None:
        mine = self.member.assignment()  # it refuses to commit what it has no more
        self._run(self.member.commit({one: offset for one, offset in self.positions.items() if one in mine}))

    def leave(self) -> None:
        self.is_member = False
        self._run(self.member.stop())

    # -- admin

    def _admin(self) -> AIOKafkaAdminClient:
        if self.admin_client is None:

            async def work() -> AIOKafkaAdminClient:
                made = AIOKafkaAdminClient(bootstrap_servers=self.common["bootstrap_servers"])
                await made.start()
                return made

            self.admin_client = self._run(work())
        return self.admin_client

    def create_topic(self, topic: str, partitions: int, replication_factor: int, config: dict[str, str]) -> None:
        wanted = NewTopic(topic, partitions, replication_factor, topic_configs=config)
        self._check(self._run(self._admin().create_topics([wanted])).topic_errors)

    def list_topics(self) -> list[str]:
        return sorted(self._run(self._admin().list_topics()))

    def describe_topic(self, topic: str) -> Any:
        (found,) = self._run(self._admin().describe_topics([topic]))
        return sorted([one["partition"], one["leader"], one["replicas"], one["isr"]] for one in found["partitions"])

    def delete_topic(self, topic: str) -> None:
        self._check(self._run(self._admin().delete_topics([topic])).topic_error_codes)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self._check(self._run(self._admin().create_partitions({topic: NewPartitions(partitions)})).topic_errors)

    def describe_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self._run(self._admin().describe_configs([resource]))
        (found,) = answer.resources
        return {entry[0]: entry[1] for entry in found[4]}

    def alter_config(self, topic: str, config: dict[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, config)
        (answer,) = self._run(self._admin().alter_configs([resource]))
        self._check([(one[3], one[0]) for one in answer.resources])

    def list_groups(self) -> list[str]:
        return sorted(one[0] for one in self._run(self._admin().list_consumer_groups()))

    def describe_group(self, group: str) -> Any:
        (answer,) = self._run(self._admin().describe_consumer_groups([group]))
        found = answer.groups[0]
        return {"state": found[2], "members": len(found[5])}

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        asked = {TopicPartition(topic, partition): RecordsToDelete(before_offset=before)}
        self._run(self._admin().delete_records(asked))

    def delete_group(self, group: str) -> None:
        raise UnsupportedError("cannot delete groups")

    def describe_cluster(self) -> list[int]:
        return sorted(one["node_id"] for one in self._run(self._admin().describe_cluster())["brokers"])

    @staticmethod
    def _check(errors: Any) -> None:
        for name, code, *_ in errors:
            if code:
                raise for_code(code)(name)


async def _polled(consumer: AIOKafkaConsumer, timeout_ms: float, count: int | None = None) -> list[Any]:
    found = await consumer.getmany(timeout_ms=int(timeout_ms), max_records=count)
    return [_told(one) for some in found.values() for one in some]


async def _consumed(consumer: AIOKafkaConsumer, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        records = await _polled(consumer, REQUEST_S * 1000, count - len(found))
        if not records:
            raise TimeoutError(f"{len(found)} of {count} records came")
        found += records
    return found


def _told(one: Any) -> dict[str, Any]:
    return told(one.partition, one.offset, one.timestamp, one.key, one.value, one.headers)


if __name__ == "__main__":
    serve(AiokafkaDriver())
