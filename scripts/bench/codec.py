"""Encoding and decoding Kafka messages, against kio (Rust and Python) and kafka-python.

All take turns in one run; each figure is the best of many, the least that the neighbours of the machine disturb. All
three hold the same message, and what they make is compared before it is measured. Both peers are dependencies of
development: without one its column is empty.
"""

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from scripts.bench.report import bound, parser, show
from wire.codec import decode, encode
from wire.connection import ClientConnection, ServerConnection
from wire.messages import ApiKey
from wire.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.schema import Message

ROUNDS: Final = 40
TURN_S: Final = 0.004
TOPICS: Final = 10
PARTITIONS: Final = 100  # of each topic
BATCH: Final = bytes(range(256)) * 64
IDS: Final = [UUID(int=7919 * number + 1) for number in range(TOPICS)]

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    what: str
    message: Message
    version: int
    limits_us: tuple[float | None, float | None] = (None, None)  # of encoding and of decoding


def produce() -> Message:
    partition = PartitionProduceData(3, BATCH)
    return ProduceRequest(None, -1, 30_000, [TopicProduceData("payments", IDS[0], [partition])])


def fetch_request() -> Message:
    partitions = [FetchPartition(number, 5, 123_456 + number, 4, 0, 1 << 20) for number in range(PARTITIONS)]
    topics = [FetchTopic(f"topic-{number}", IDS[number], partitions) for number in range(TOPICS)]
    return FetchRequest(max_wait_ms=500, min_bytes=1, topics=topics)


def fetch_response(records: bytes) -> Message:
    partitions = [
        PartitionData(number, 0, 123_456, 123_456, 0, aborted_transactions=None, records=records)
        for number in range(PARTITIONS)
    ]
    return FetchResponse(
        responses=[FetchableTopicResponse(f"topic-{number}", IDS[number], partitions) for number in range(TOPICS)]
    )


def cases() -> list[Case]:
    return [
        Case("Produce, one batch of 16 KiB", produce(), 13, (None, 3.0)),
        Case("Fetch request, 1,000 partitions", fetch_request(), 17, (None, 1500.0)),
        Case("Fetch request, 1,000 partitions", fetch_request(), 11),
        Case("Fetch response, 1,000 x nothing", fetch_response(b""), 17, (1500.0, None)),
        Case("Fetch response, 1,000 x 16 KiB", fetch_response(BATCH), 17, (1500.0, None)),
    ]


def with_kio(case: Case, data: bytes) -> Mapping[str, Action]:
    try:
        from kio.index import load_request_schema, load_response_schema  # noqa: PLC0415 - optional
        from kio.serial import entity_reader, entity_writer  # noqa: PLC0415 - optional
    except ImportError:
        return {}
    is_request = type(case.message).__name__.endswith("Request")
    key = ApiKey.PRODUCE if isinstance(case.message, ProduceRequest) else ApiKey.FETCH
    cls: Any = (load_request_schema if is_request else load_response_schema)(key, case.version)
    read, write = entity_reader(cls), entity_writer(cls)
    theirs, _ = read(data, 0)

    def encoded() -> bytes:
        buffer = io.BytesIO()
        write(buffer, theirs)
        return buffer.getvalue()

    return {"encode": encoded, "decode": lambda: read(data, 0)}


def with_kafka_python(case: Case, data: bytes) -> Mapping[str, Action]:
    try:
        from kafka.protocol import consumer, producer  # noqa: PLC0415 - optional
    except ImportError:
        return {}
    name = type(case.message).__name__
    cls: Any = getattr(producer if name.startswith("Produce") else consumer, name)
    theirs = cls.decode(data, version=case.version)
    theirs._header = None  # noqa: SLF001 - what it decoded it encodes only so
    return {
        "encode": lambda: theirs.encode(version=case.version),
        "decode": lambda: cls.decode(data, version=case.version),
    }


def best_us(actions: Mapping[str, Action]) -> dict[str, float]:
    """The best time of each, all taking turns of about TURN_S."""
    best = dict.fromkeys(actions, float("inf"))
    repeats = dict.fromkeys(actions, 1)
    for _ in range(ROUNDS):
        for name, action in actions.items():
            began_s = time.perf_counter()
            for _ in range(repeats[name]):
                action()
            each_s = (time.perf_counter() - began_s) / repeats[name]
            repeats[name] = max(1, int(TURN_S / each_s))
            best[name] = min(best[name], each_s * 1e6)
    return best


def measure(case: Case) -> list[dict[str, object]]:
    data = b"".join(encode(case.message, case.version))
    ours: Mapping[str, Action] = {
        "encode": partial(encode, case.message, case.version),
        "decode": partial(decode, type(case.message), data, case.version),
    }
    peers = {"kio": with_kio(case, data), "kafka_python": with_kafka_python(case, data)}
    for peer in peers.values():
        assert not peer or data == bytes(peer["encode"]())  # type: ignore[call-overload]  # bytes, as all of them give
    rows: list[dict[str, object]] = []
    for action, limit_us in zip(("encode", "decode"), case.limits_us, strict=True):
        best = best_us({"ours": ours[action], **{name: peer[action] for name, peer in peers.items() if peer}})
        rows.append(row(action, f"{case.what} (v{case.version})", best, limit_us))
    return rows


def row(action: str, what: str, best: Mapping[str, float], limit_us: float | None) -> dict[str, object]:
    line: dict[str, object] = {"what": action, "message": what, "ours_us": round(best["ours"], 2)}
    for name in ("kio", "kafka_python"):
        line[f"{name}_us"] = round(best[name], 2) if name in best else None
        line[f"{name}_ratio"] = round(best[name] / best["ours"], 1) if name in best else None
    return {**line, "bound": bound(best["ours"], at_most=limit_us) if limit_us else ""}


def measure_connection() -> list[dict[str, object]]:
    """A small request through a server's connection: frame, header, message, and the answer's buffers."""
    server = ServerConnection(1 << 20)
    _, buffers = ClientConnection("bench").send(ApiKey.HEARTBEAT, 4, HeartbeatRequest("group", 7, "member"))
    data = b"".join(buffers)

    def answered() -> object:
        (frame,) = server.receive(data)
        frame.request()
        return server.respond(frame, HeartbeatResponse())

    return [row("serve", "Heartbeat (v4), without its socket", best_us({"ours": answered}), None)]


def main() -> None:
    chosen = parser(__doc__).parse_args()
    rows = [line for case in cases() for line in measure(case)] + measure_connection()
    show("Kafka messages", rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
