"""What three copies cost: RF 3 acks=all against RF 1 acks=1 on the same three nodes, and how long one record takes.

Throughput: 100 KiB batches over the Kafka listener to 6 partitions, spread over the nodes, the same producer for both;
rounds of both sides alternate and the ratio is the median of the rounds'. fdatasync is on for both (flush.messages=1):
RF 3 acks=all waits for it on all three nodes, RF 1 acks=1 is answered before it.
Latency: single records of 1 KiB at a steady rate, RF 3 acks=all, beside bare fdatasyncs of as much at the same rate on
the same disk, measured in turns. All three nodes and the producer share this machine.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Final

from scripts.bench.kafka_producer import Leaders, latencies_s, produce_for
from scripts.bench.nodes import Cluster, cluster
from scripts.bench.raw_http import create_topic
from scripts.bench.report import bound, parser, show
from wire.record_batch import build_batch

BATCH_BYTES: Final = 100 * 1024
PARTITIONS: Final = 6
RATIO_MIN: Final = 0.25
P99_MS_MAX: Final = 15.0


def batch_of(size_bytes: int) -> bytes:
    return bytes(build_batch([(None, os.urandom(size_bytes), (), time.time_ns() // 1_000_000)]))


def kafka_port(node_directory: Path) -> int:
    """The port of the Kafka listener in a node's configuration file."""
    for line in (node_directory / "server.properties").read_text(encoding="utf-8").splitlines():
        if line.startswith("listeners="):
            return int(line.rpartition(":")[2])
    raise SystemExit(f"bench: no Kafka listener in {node_directory}")


def fdatasync_s(directory: Path, *, per_s: float, seconds: float) -> list[float]:
    """Append 1 KiB and sync it, at a steady rate; from when each was due."""
    found = []
    handle = os.open(directory / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    data = os.urandom(1024)
    began_s = time.perf_counter()
    for number in range(int(per_s * seconds)):
        due_s = began_s + number / per_s
        if (left_s := due_s - time.perf_counter()) > 0:
            time.sleep(left_s)
        os.write(handle, data)
        os.fdatasync(handle)
        found.append(time.perf_counter() - due_s)
    os.close(handle)
    return found


def quantile_ms(values: list[float], share: float) -> float:
    return 1000 * sorted(values)[min(len(values) - 1, int(len(values) * share))]


def throughput(made: Cluster, *, rounds: int, seconds: float, in_flight: int, as_json: bool) -> None:
    bootstrap = ("127.0.0.1", kafka_port(made.nodes[0].directory))
    sides = {"RF 1 acks=1": (Leaders(bootstrap, "single"), 1), "RF 3 acks=all": (Leaders(bootstrap, "triple"), -1)}
    batch = batch_of(BATCH_BYTES)
    for leaders, acks in sides.values():
        produce_for(leaders, batch, acks=acks, in_flight=in_flight, seconds=1)
    found: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (leaders, acks) in sides.items():
            before_s = sum(node.cpu_seconds() for node in made.nodes)
            rate = produce_for(leaders, batch, acks=acks, in_flight=in_flight, seconds=seconds)
            time.sleep(0.5)  # followers and syncs end before the other side begins
            found[name].append(rate / 1e6)
            cpu[name].append((sum(node.cpu_seconds() for node in made.nodes) - before_s) / (rate * seconds / 1e9))
    ratios = [three / one for one, three in zip(*found.values(), strict=True)]
    ratio = statistics.median(ratios)
    rows = [
        {
            "side": name,
            "MB/s (median)": statistics.median(rates),
            "MB/s (all)": " ".join(f"{rate:.0f}" for rate in rates),
            "CPU s/GB": statistics.median(cpu[name]),
            "ratio": ratio if name.startswith("RF 3") else None,
            "bound": bound(ratio, at_least=RATIO_MIN) if name.startswith("RF 3") else "",
        }
        for name, rates in found.items()
    ]
    show(f"{PARTITIONS} partitions, 100 KiB batches, {in_flight} requests in flight a leader", rows, as_json=as_json)


def latency(made: Cluster, *, per_s: float, seconds: float, as_json: bool) -> None:
    leaders = Leaders(("127.0.0.1", kafka_port(made.nodes[0].directory)), "triple")
    batch = batch_of(1024)
    latencies_s(leaders, batch, acks=-1, per_s=per_s, seconds=1)
    bare: list[float] = []
    acknowledged: list[float] = []
    for _ in range(3):
        bare += fdatasync_s(made.directory, per_s=per_s, seconds=seconds / 3)
        acknowledged += latencies_s(leaders, batch, acks=-1, per_s=per_s, seconds=seconds / 3)
    p99 = {"bare fdatasync": quantile_ms(bare, 0.99), "RF 3 acks=all": quantile_ms(acknowledged, 0.99)}
    rows = [
        {
            "side": name,
            "p50 ms": quantile_ms(values, 0.5),
            "p99 ms": p99[name],
            "p99.9 ms": quantile_ms(values, 0.999),
            "p99 to bare": p99[name] / p99["bare fdatasync"],
            "bound": bound(p99[name], at_most=P99_MS_MAX) if name.startswith("RF 3") else "",
        }
        for name, values in (("bare fdatasync", bare), ("RF 3 acks=all", acknowledged))
    ]
    show(f"single records of 1 KiB, {per_s:g} a second", rows, as_json=as_json)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=4.0, help="of one round of throughput")
    options.add_argument("--in-flight", type=int, default=5, help="requests under way at each leader")
    options.add_argument("--latency-seconds", type=float, default=30.0)
    options.add_argument("--per-s", type=float, default=200.0)
    options.add_argument("--only", choices=("throughput", "latency"))
    chosen = options.parse_args()
    with cluster(3, directory=chosen.directory) as made:
        with made.nodes[0].connect() as connection:
            create_topic(connection, "single", partitions=PARTITIONS, replication_factor=1)
            create_topic(connection, "triple", partitions=PARTITIONS, replication_factor=3)
        if chosen.only != "latency":
            throughput(
                made,
                rounds=chosen.rounds,
                seconds=chosen.seconds,
                in_flight=chosen.in_flight,
                as_json=chosen.json,
            )
        if chosen.only != "throughput":
            latency(made, per_s=chosen.per_s, seconds=chosen.latency_seconds, as_json=chosen.json)


if __name__ == "__main__":
    main()
