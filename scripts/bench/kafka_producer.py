"""A producer over the Kafka listener: one connection to each leader, a few requests in flight on each, no threads.

What it sends is encoded once; what comes back is read frame by frame and every error code is looked at.
"""

import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Self
from uuid import UUID

from wire.connection import ClientConnection
from wire.messages import ApiKey
from wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from wire.schema import Message

PRODUCE_VERSION: Final = 13
METADATA_VERSION: Final = 12
TIMEOUT_MS: Final = 30_000
READ_BYTES: Final = 1 << 16


class KafkaConnection:
    """One blocking connection."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_MS / 1000)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = ClientConnection("bench")
        self.sent_s: deque[float] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, api_key: ApiKey, version: int, request: Message) -> None:
        self.sent_s.append(time.perf_counter())
        self.socket.sendall(b"".join(self._wire.send(api_key, version, request)[1]))

    def receive(self) -> list[Message]:
        """The answers that the next bytes complete; blocks for some bytes."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        return [answer for _, answer in self._wire.receive(data)]

    def ask(self, api_key: ApiKey, version: int, request: Message) -> Message:
        self.send(api_key, version, request)
        while not (answers := self.receive()):
            pass
        self.sent_s.popleft()
        return answers[0]


class Leaders:
    """Where a topic's partitions are led."""

    def __init__(self, bootstrap: tuple[str, int], topic: str) -> None:
        with KafkaConnection(*bootstrap) as connection:
            request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
            answer = connection.ask(ApiKey.METADATA, METADATA_VERSION, request)
        assert isinstance(answer, MetadataResponse), answer
        found = answer.topics[0]
        assert not found.error_code, found
        places = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        self.topic_id: UUID = found.topic_id
        self.partitions: dict[tuple[str, int], list[int]] = {}
        for partition in found.partitions:
            assert partition.leader_id in places, partition
            self.partitions.setdefault(places[partition.leader_id], []).append(partition.partition_index)


def produce_request(topic_id: UUID, partitions: Sequence[int], batch: bytes, acks: int) -> ProduceRequest:
    """One batch for each partition."""
    data = [PartitionProduceData(index=partition, records=batch) for partition in partitions]
    return ProduceRequest(
        acks=acks, timeout_ms=TIMEOUT_MS, topic_data=[TopicProduceData(topic_id=topic_id, partition_data=data)]
    )


def check(answer: Message) -> None:
    assert isinstance(answer, ProduceResponse), answer
    for topic in answer.responses:
        for partition in topic.partition_responses:
            if partition.error_code:
                raise SystemExit(f"bench: produce was refused: {partition}")


def produce_for(leaders: Leaders, batch: bytes, *, acks: int, in_flight: int, seconds: float) -> float:
    """Acknowledged bytes a second, with `in_flight` requests under way at each leader."""
    connections: dict[KafkaConnection, ProduceRequest] = {}
    sizes: dict[KafkaConnection, int] = {}
    selector = selectors.DefaultSelector()
    for place, partitions in leaders.partitions.items():
        connection = KafkaConnection(*place)
        connections[connection] = produce_request(leaders.topic_id, partitions, batch, acks)
        sizes[connection] = len(batch) * len(partitions)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    acknowledged_bytes = 0
    began_s = time.perf_counter()
    until_s = began_s + seconds
    for connection, request in connections.items():
        for _ in range(in_flight):
            connection.send(ApiKey.PRODUCE, PRODUCE_VERSION, request)
    under_way = in_flight * len(connections)
    ended_s = began_s
    while under_way:
        for key, _ in selector.select():
            connection = key.data
            for answer in connection.receive():
                check(answer)
                connection.sent_s.popleft()
                under_way -= 1
                ended_s = time.perf_counter()
                if ended_s < until_s:
                    acknowledged_bytes += sizes[connection]
                    connection.send(ApiKey.PRODUCE, PRODUCE_VERSION, connections[connection])
                    under_way += 1
    for connection in connections:
        connection.socket.close()
    return acknowledged_bytes / seconds


def latencies_s(leaders: Leaders, batch: bytes, *, acks: int, per_s: float, seconds: float) -> list[float]:
    """From when each single request was due to its answer, at a steady rate, one partition after the other.

    Open loop: a slow answer does not put off what is due next.
    """
    selector = selectors.DefaultSelector()
    turns: list[tuple[KafkaConnection, ProduceRequest]] = []
    opened = []
    for place, partitions in leaders.partitions.items():
        connection = KafkaConnection(*place)
        opened.append(connection)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        turns += [(connection, produce_request(leaders.topic_id, [p], batch, acks)) for p in partitions]
    due: dict[KafkaConnection, deque[float]] = {connection: deque() for connection in opened}
    found: list[float] = []
    began_s = time.perf_counter()
    count, sent = int(per_s * seconds), 0
    while len(found) < count:
        next_s = began_s + sent / per_s
        left_s = next_s - time.perf_counter() if sent < count else 1.0
        for key, _ in selector.select(max(0.0, left_s)):
            for answer in key.data.receive():
                check(answer)
                key.data.sent_s.popleft()
                found.append(time.perf_counter() - due[key.data].popleft())
        if sent < count and time.perf_counter() >= next_s:
            connection, request = turns[sent % len(turns)]
            due[connection].append(next_s)
            connection.send(ApiKey.PRODUCE, PRODUCE_VERSION, request)
            sent += 1
    for connection in opened:
        connection.socket.close()
    return found
