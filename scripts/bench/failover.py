"""How long nobody can write after a leader's kill -9, and what it costs the others when its broker comes back.

Failover: single 1 KiB records at a steady rate to all partitions with RF 3 and acks=all, by librdkafka's idempotent
producer; a broker is killed, and each partition that it led counts the time until a record sent after the kill is
acknowledged. Rounds kill each broker in turn, so one of them is the quorum's leader too.
Refill: with a broker down, so much is written that it misses `--missed` GB; then it starts, and the time counts until
every partition has its three replicas in sync, while the steady producer's p99 is set beside that of before.
"""

import json
import os
import signal
import statistics
import threading
import time
from collections import defaultdict
from typing import Final, Self

import confluent_kafka

from scripts.bench.nodes import Cluster, Node, cluster
from scripts.bench.raw_http import create_topic
from scripts.bench.replication import kafka_port, quantile_ms
from scripts.bench.report import bound, parser, show

TOPIC: Final = "orders"
PARTITIONS: Final = 6
RECORD_BYTES: Final = 1024
BULK_RECORD_BYTES: Final = 16 * 1024
REFILL_S_MAX: Final = 30.0
SLACK_S: Final = 1.0
P99_MS_MAX: Final = 25.0
PATIENCE_S: Final = 120.0


class SteadyProducer:
    """Sends one record every 1/`per_s` seconds until it is stopped; remembers when each was sent and acknowledged."""

    def __init__(self, bootstrap: str, *, per_s: float) -> None:
        self.acknowledged: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self.failed = 0
        self._per_s = per_s
        self._stopping = threading.Event()
        self._producer = confluent_kafka.Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 0,
            "delivery.timeout.ms": 120_000, "retry.backoff.ms": 50, "retry.backoff.max.ms": 100,
            "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "log_level": 0,
        })  # fmt: skip
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._producer.flush(60)

    def latencies_s(self, *, since_s: float, until_s: float) -> list[float]:
        """Of what was sent in between."""
        sent = (pair for pairs in list(self.acknowledged.values()) for pair in list(pairs))
        return [acknowledged_s - sent_s for sent_s, acknowledged_s in sent if since_s <= sent_s < until_s]

    def first_acknowledged_s(self, partition: int, *, sent_after_s: float) -> float | None:
        """When the first record that was sent so late was acknowledged."""
        return min((done for sent, done in list(self.acknowledged[partition]) if sent > sent_after_s), default=None)

    def _run(self) -> None:
        began_s, number = time.perf_counter(), 0
        while not self._stopping.is_set():
            due_s = began_s + number / self._per_s
            while (left_s := due_s - time.perf_counter()) > 0:
                self._producer.poll(min(left_s, 0.01))
            self._send(number % PARTITIONS, due_s)
            number += 1

    def _send(self, partition: int, due_s: float) -> None:
        def delivered(error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
            if error is None:
                self.acknowledged[partition].append((due_s, time.perf_counter()))
            else:
                self.failed += 1

        self._producer.produce(TOPIC, os.urandom(RECORD_BYTES), partition=partition, on_delivery=delivered)


def replicas(node: Node, partition: int) -> list[dict[str, object]]:
    with node.connect() as connection:
        answer = connection.get(f"/v3/clusters/-/topics/{TOPIC}/partitions/{partition}/replicas")
    found: list[dict[str, object]] = json.loads(bytes(answer.body))["data"] if answer.status == 200 else []
    return found


def led_by(made: Cluster, broker_id: int) -> list[int]:
    asked = made.nodes[0]
    leader_ids = [[one["broker_id"] for one in replicas(asked, p) if one["is_leader"]] for p in range(PARTITIONS)]
    return [partition for partition, ids in enumerate(leader_ids) if broker_id in ids]


def wait_in_sync(made: Cluster) -> float:
    """Seconds until every partition has all its replicas in sync."""
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < PATIENCE_S:
        found = [replicas(made.nodes[0], partition) for partition in range(PARTITIONS)]
        if all(len(some) == 3 and all(one["is_in_sync"] for one in some) for some in found):
            return time.perf_counter() - began_s
        time.sleep(0.02)
    raise SystemExit(f"bench: not in sync within {PATIENCE_S} s")


def failover(made: Cluster, producer: SteadyProducer, *, rounds: int, session_timeout_s: float, as_json: bool) -> None:
    rows = []
    for round_number in range(rounds):
        victim = next(node for node in made.nodes if node.node_id == round_number % 3 + 1)
        led = led_by(made, victim.node_id)
        killed_s = time.perf_counter()
        made.signal(signal.SIGKILL, [victim])
        gaps_s: list[float] = []
        while len(gaps_s) < len(led) and time.perf_counter() - killed_s < PATIENCE_S:
            time.sleep(0.05)
            firsts = [producer.first_acknowledged_s(p, sent_after_s=killed_s) for p in led]
            gaps_s = [first - killed_s for first in firsts if first is not None]
        made.start()
        wait_in_sync(made)
        rebalance(made)
        longest_s = max(gaps_s, default=0.0)
        rows.append({
            "killed": f"broker {victim.node_id}",
            "partitions led": len(led),
            "writes again after s": longest_s,
            "median s": statistics.median(gaps_s) if gaps_s else None,
            "bound": bound(longest_s, at_most=session_timeout_s + SLACK_S),
        })  # fmt: skip
    show(f"kill -9 of a leader, session timeout {session_timeout_s:g} s", rows, as_json=as_json)


def rebalance(made: Cluster) -> None:
    """Every partition back to its preferred leader, so that each round finds the same."""
    with made.nodes[0].connect() as connection:
        connection.post("/v3/clusters/-/partitions:elect-leaders", {"election": "PREFERRED"})


def write_bulk(bootstrap: str, size_bytes: int) -> float:
    """MB/s acknowledged."""
    producer = confluent_kafka.Producer({
        "bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5, "batch.size": 131_072,
        "queue.buffering.max.kbytes": 65_536, "log_level": 0,
    })  # fmt: skip
    began_s = time.perf_counter()
    value = os.urandom(BULK_RECORD_BYTES)
    for number in range(size_bytes // BULK_RECORD_BYTES):
        while True:
            try:
                producer.produce(TOPIC, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    producer.flush(120)
    return size_bytes / 1e6 / (time.perf_counter() - began_s)


def refill(made: Cluster, producer: SteadyProducer, bootstrap: str, *, missed_bytes: int, as_json: bool) -> None:
    seconds = 10.0
    time.sleep(seconds)
    now_s = time.perf_counter()
    before_ms = quantile_ms(producer.latencies_s(since_s=now_s - seconds, until_s=now_s - 0.5), 0.99)
    victim = made.nodes[1]
    made.signal(signal.SIGKILL, [victim])
    rate = write_bulk(bootstrap, missed_bytes)
    time.sleep(2)
    began_s = time.perf_counter()
    made.start()
    ready_s = time.perf_counter() - began_s
    wait_in_sync(made)
    ended_s = time.perf_counter()
    time.sleep(1)
    during_ms = quantile_ms(producer.latencies_s(since_s=began_s, until_s=ended_s), 0.99)
    rows = [{
        "missed MB": missed_bytes / 1e6,
        "written MB/s": rate,
        "ready s": ready_s,
        "in sync s": ended_s - began_s,
        "bound": bound(ended_s - began_s, at_most=REFILL_S_MAX),
        "p99 before ms": before_ms,
        "p99 meanwhile ms": during_ms,
        "p99 bound": bound(during_ms, at_most=max(2 * before_ms, P99_MS_MAX)),
    }]  # fmt: skip
    show("a broker comes back after it missed writes", rows, as_json=as_json)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--session-timeout-ms", type=int, default=6000)
    options.add_argument("--missed", type=float, default=1.0, help="GB that the broker misses")
    options.add_argument("--per-s", type=float, default=200.0)
    options.add_argument("--only", choices=("failover", "refill"))
    chosen = options.parse_args()
    settings = [f"broker.session.timeout.ms={chosen.session_timeout_ms}"]
    with cluster(3, directory=chosen.directory, settings=settings) as made:
        with made.nodes[0].connect() as connection:
            create_topic(connection, TOPIC, partitions=PARTITIONS, replication_factor=3)
        bootstrap = ",".join(f"127.0.0.1:{kafka_port(node.directory)}" for node in made.nodes)
        with SteadyProducer(bootstrap, per_s=chosen.per_s) as producer:
            time.sleep(3)
            if chosen.only != "refill":
                timeout_s = chosen.session_timeout_ms / 1000
                failover(made, producer, rounds=chosen.rounds, session_timeout_s=timeout_s, as_json=chosen.json)
            if chosen.only != "failover":
                refill(made, producer, bootstrap, missed_bytes=int(chosen.missed * 1e9), as_json=chosen.json)
        print(f"  failed deliveries: {producer.failed}")


if __name__ == "__main__":
    main()
