"""Producers that retry without duplicating: one over HTTP, one a Kafka client that we did not write.

Owns what such a producer knows of each send: acknowledged with its offset, or unknown. Refuses to guess: a sequence
error although everything before was acknowledged is a defect of the cluster, and is raised.
"""

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Sequence

import confluent_kafka

from tests.faults.client import Client
from tests.faults.harness import Node, kafka_servers
from tests.faults.history import Outcome, Poll, Send
from tests.faults.record_batches import Producer
from tests.faults.workload import PAUSE_S, Workload

RETRIED_UNKNOWN_S = 60.0
DELIVERY_TIMEOUT_MS = 60_000
MAX_SEQUENCE = 2**31 - 1


class ReplicatedWorkload(Workload):
    """`idempotent` producers over HTTP and `kafka` ones over the Kafka protocol, beside the plain ones."""

    def __init__(self, nodes: Sequence[Node], topic: str, partitions: int, chance: random.Random) -> None:
        super().__init__(nodes, topic, partitions, chance)
        self.in_flight = 0
        self.retried = 0
        self.placeless = 0
        self._bootstrap = kafka_servers(nodes)

    def start_replicated(self, *, idempotent: int = 2, kafka: int = 1, consumers: int = 0) -> None:
        """Beside those of `start`."""
        self._begin(self._produce_idempotently, idempotent)
        self._begin(self._produce_over_kafka, kafka)
        self._begin_reader(self._consume_over_kafka, consumers)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def _produce_idempotently(self, name: str, chance: random.Random) -> None:
        """One producer id; in each partition one batch at a time, sent again until it is acknowledged."""
        clients = [node.client() for node in self._nodes]
        counter = itertools.count()
        producers: dict[int, Producer] = {}
        while not self._stopping.is_set():
            partition = chance.randrange(self._partitions)
            producer = producers.get(partition) or chance.choice(clients).new_producer()
            if producer is None:
                self._stopping.wait(PAUSE_S)
                continue
            values = tuple(f"{partition}/{name}/{next(counter)}" for _ in range(chance.randint(1, 20)))
            self.in_flight += 1
            self._send_off(partition, values)
            sent = self._until_acknowledged(clients, chance, partition, values, producer)
            self.in_flight -= 1
            self._note([sent])
            self._stopping.wait(self.think_s)
            next_sequence = (producer.base_sequence + len(values)) % (MAX_SEQUENCE + 1)
            producers[partition] = producer._replace(base_sequence=next_sequence)
            if sent.outcome is not Outcome.ACKNOWLEDGED:
                del producers[partition]
        for client in clients:
            client.close()

    def _until_acknowledged(
        self, clients: list[Client], chance: random.Random, partition: int, values: tuple[str, ...], producer: Producer
    ) -> Send:
        began_s = time.monotonic()
        was_in_doubt = False
        while True:
            client = chance.choice(clients)
            sent, answer = client.send_batch(self._topic, partition, values, producer=producer)
            if sent.outcome is Outcome.ACKNOWLEDGED:
                return Send(sent.partition, values, began_s, sent.ended_s, sent.outcome, sent.offsets)
            if answer is not None:
                assert answer.status >= 500 or answer.status in {404, 429}, (producer, answer.status, answer.body[:500])
            was_in_doubt = was_in_doubt or sent.outcome is Outcome.UNKNOWN
            if time.monotonic() - began_s > RETRIED_UNKNOWN_S or self._stopping.is_set():
                outcome = Outcome.UNKNOWN if was_in_doubt else Outcome.REFUSED
                return Send(sent.partition, values, began_s, sent.ended_s, outcome)
            self.retried += 1
            self._stopping.wait(PAUSE_S)

    # --- Kafka's protocol ---------------------------------------------------------------------------------------------

    def _produce_over_kafka(self, name: str, chance: random.Random) -> None:
        """librdkafka with enable.idempotence; what its delivery report calls an error is unknown to us."""
        producer = confluent_kafka.Producer({
            "bootstrap.servers": self._bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "reconnect.backoff.max.ms": 500,
            "retry.backoff.ms": 50,
            "log_level": 0,
        })  # fmt: skip
        counter = itertools.count()
        while not self._stopping.is_set():
            partition = chance.randrange(self._partitions)
            self._deliver(producer, partition, f"{partition}/{name}/{next(counter)}")
            self._stopping.wait(self.think_s / 10)
            producer.poll(0.01 if self.in_flight > 100 or chance.random() < 0.2 else 0)
        left = producer.flush(DELIVERY_TIMEOUT_MS / 1000 + 5)
        assert left == 0, f"{left} messages were neither delivered nor given up by their deadline (L1)"

    def _deliver(self, producer: confluent_kafka.Producer, partition: int, value: str) -> None:
        began_s = time.monotonic()
        self.in_flight += 1
        self._send_off(partition, (value,))

        def delivered(error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
            self.in_flight -= 1
            key = f"{self._topic}-{partition}"
            ended_s = time.monotonic()
            if error is None:
                offset = (
                    message.offset()
                )  # none where a batch sent again was too old for the broker to say where it lies
                offsets = () if offset is None or offset < 0 else (offset,)
                self.placeless += not offsets
                self._note([Send(key, (value,), began_s, ended_s, Outcome.ACKNOWLEDGED, offsets)])
            else:
                self._add([Send(key, (value,), began_s, ended_s, Outcome.UNKNOWN)])

        producer.produce(self._topic, value=value.encode(), partition=partition, on_delivery=delivered)

    def _consume_over_kafka(self, name: str, _: random.Random) -> None:
        """librdkafka with all partitions assigned, from their beginning; noted with the offset that was due."""
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self._bootstrap, "group.id": "assigned", "enable.auto.commit": False,
                "auto.offset.reset": "error", "reconnect.backoff.max.ms": 500, "retry.backoff.ms": 50, "log_level": 0,
            }
        )  # fmt: skip
        due = self.positions[name] = dict.fromkeys(range(self._partitions), 0)
        consumer.assign([confluent_kafka.TopicPartition(self._topic, partition, 0) for partition in due])
        while not self._has_read_all.is_set():
            began_s = time.monotonic()
            came: dict[int, list[tuple[int, str]]] = defaultdict(list)
            for message in consumer.consume(500, 0.1):
                if message.error() is None:
                    came[message.partition()].append((message.offset(), message.value().decode()))
            ended_s = time.monotonic()
            for partition, records in came.items():
                end = records[-1][0] + 1
                key = f"{self._topic}-{partition}"
                self.history.append(Poll(key, began_s, ended_s, due[partition], tuple(records), end, name))
                due[partition] = end
        consumer.close()
