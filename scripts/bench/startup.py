"""How soon a node is there, what it costs while nothing happens, and what many topics and partitions cost.

Warm start means: the cluster was formed before and stopped; Python's files are in the page cache. "spawn to ready" is
from starting the process to `/readyz` 200, "kraft up" is what a person waits for. Medians of `--rounds`.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from scripts.bench.nodes import KRAFT, Cluster, Node, cluster
from scripts.bench.raw_http import Connection, create_topic, encode_request, expect
from scripts.bench.report import bound, parser, show

IDLE_S: Final = 10
MANY_PARTITIONS: Final = 2000
MANY_TOPICS: Final = 1000
BIG_TOPIC_PARTITIONS: Final = 1000
MIB: Final = 1024 * 1024


def row(measured: str, value: float, unit: str, verdict: str = "") -> dict[str, object]:
    return {"measured": measured, "value": round(value, 4), "unit": unit, "bound": verdict}


def seconds_of(action: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def kraft_help_s() -> float:
    return seconds_of(lambda: subprocess.run([KRAFT, "--help"], check=True, capture_output=True, timeout=60))


def measure_help(rounds: int) -> list[dict[str, object]]:
    kraft_help_s()
    seconds = statistics.median([kraft_help_s() for _ in range(2 * rounds)])
    return [row("kraft --help", seconds, "s", bound(seconds, at_most=0.15))]


def measure_warm_start(nodes: int, rounds: int, directory: str | None) -> list[dict[str, object]]:
    with cluster(nodes, directory=directory) as made:
        ups = [warm(made, made.start) for _ in range(rounds)]
        up_s = statistics.median(ups)
        limit_s = 0.6 if nodes == 1 else 2.0
        rows = []
        if nodes == 1:
            starts = [(warm(made, made.start_node_alone), made.nodes[0].cpu_seconds()) for _ in range(rounds)]
            node_s, cpu_s = (statistics.median(figures) for figures in zip(*starts, strict=True))
            rows.append(row("warm start, one node: spawn to ready", node_s, "s", bound(node_s, at_most=limit_s)))
            rows.append(row("warm start, one node: CPU until ready", cpu_s, "s"))
            made.stop()
            made.start()
        rows.append(
            row(f"warm start, {nodes} node{'s'[: nodes - 1]}: kraft up", up_s, "s", bound(up_s, at_most=limit_s))
        )
        return rows + measure_idle(made.nodes)


def warm(made: Cluster, start: Callable[[], float]) -> float:
    made.stop()
    return start()


def measure_idle(nodes: Sequence[Node]) -> list[dict[str, object]]:
    """Resident memory and CPU of the busiest of the idle nodes."""
    time.sleep(2)  # the start's own work ends; what follows is idleness, which has no event to wait for
    before = [node.cpu_seconds() for node in nodes]
    began_s = time.perf_counter()
    time.sleep(IDLE_S)
    elapsed_s = time.perf_counter() - began_s
    cpu = max((node.cpu_seconds() - start) / elapsed_s * 100 for node, start in zip(nodes, before, strict=True))
    rss_mib = max(node.rss_bytes() for node in nodes) / MIB
    name = f"idle node of {len(nodes)}"
    return [
        row(f"{name}: resident memory", rss_mib, "MiB", bound(rss_mib, at_most=60)),
        row(f"{name}: CPU over {IDLE_S} s", cpu, "% of a core", bound(cpu, at_most=1.5)),
    ]


def measure_partitions(directory: str | None, partitions: int) -> list[dict[str, object]]:
    """One node with nothing, then with `partitions` that hold one record each, both after a restart."""
    with cluster(1, directory=directory) as made:
        made.stop()
        empty_s = made.start_node_alone()
        empty_rss, empty_files = settled(made.nodes[0])
        created_s = seconds_of(lambda: make_partitions(made.nodes[0], partitions))
        made.stop()
        full_s = made.start_node_alone()
        rss, files = settled(made.nodes[0])
        written_s = seconds_of(lambda: write_to_all(made.nodes[0], partitions))
        used_rss, used_files = settled(made.nodes[0])
    each_kib, used_kib = (rss - empty_rss) / partitions / 1024, (used_rss - empty_rss) / partitions / 1024
    each_files, used_each_files = (files - empty_files) / partitions, (used_files - empty_files) / partitions
    name = f"{partitions} partitions on one node"
    return [
        row("empty node: spawn to ready", empty_s, "s"),
        row(f"{name}: created as topics of 100", created_s, "s"),
        row(f"{name}: spawn to ready", full_s, "s", bound(full_s, at_most=3)),
        row(f"{name}: memory each after the start", each_kib, "KiB", bound(each_kib, at_most=10)),
        row(f"{name}: open files each after the start", each_files, "", bound(each_files, at_most=3)),
        row(f"{name}: a record into each", written_s, "s"),
        row(f"{name}: memory each, all written to", used_kib, "KiB", bound(used_kib, at_most=10)),
        row(f"{name}: open files each, all written to", used_each_files, "", bound(used_each_files, at_most=3)),
    ]


def settled(node: Node) -> tuple[int, int]:
    """Resident bytes and open files once they stop growing."""
    seen = (node.rss_bytes(), node.open_files())
    for _ in range(20):
        time.sleep(0.25)
        now = (node.rss_bytes(), node.open_files())
        if now == seen:
            break
        seen = now
    return seen


def make_partitions(node: Node, partitions: int) -> None:
    with node.connect() as connection:
        for number in range(partitions // 100):
            create_topic(connection, f"many-{number}", 100)
        write_to(connection, partitions)


def write_to_all(node: Node, partitions: int) -> None:
    with node.connect() as connection:
        write_to(connection, partitions)


def write_to(connection: Connection, partitions: int) -> None:
    body = b'{"records":[{"value":1}]}'
    for number in range(partitions):
        path = f"/topics/many-{number // 100}/partitions/{number % 100}?acks=1"
        expect(connection.ask(encode_request("POST", path, body, "application/vnd.kafka.json.v2+json")), 200)


def make_topics(connection: Connection, topics: int) -> None:
    for number in range(topics):
        create_topic(connection, f"topic-{number}")


def measure_topics(nodes: int, directory: str | None, topics: int) -> list[dict[str, object]]:
    """One after the other through one connection, each answered when that node has applied it."""
    with cluster(nodes, directory=directory) as made, made.nodes[0].connect() as connection:
        create_topic(connection, "warm-up")
        one_by_one_s = seconds_of(lambda: make_topics(connection, topics))
        big_s = seconds_of(lambda: create_topic(connection, "big", BIG_TOPIC_PARTITIONS))
    name = f"{nodes} node{'s' if nodes > 1 else ''}"
    return [
        row(f"{name}: {topics} topics one by one", one_by_one_s, "s"),
        row(f"{name}: topics a second", topics / one_by_one_s, "1/s", bound(topics / one_by_one_s, at_least=300)),
        row(f"{name}: one topic of {BIG_TOPIC_PARTITIONS} partitions", big_s, "s"),
    ]


def main() -> None:
    options = parser(__doc__)
    parts = ["help", "start", "partitions", "topics"]
    options.add_argument("--only", choices=parts, action="append", help="leave out the rest; may be given again")
    options.add_argument("--rounds", type=int, default=5, help="starts whose median counts (default: 5)")
    chosen = options.parse_args()
    wanted, rounds = chosen.only or parts, max(1, min(chosen.rounds, 50))
    rows: list[dict[str, object]] = []
    if "help" in wanted:
        rows += measure_help(rounds)
    if "start" in wanted:
        rows += measure_warm_start(1, rounds, chosen.directory) + measure_warm_start(3, rounds, chosen.directory)
    if "partitions" in wanted:
        rows += measure_partitions(chosen.directory, MANY_PARTITIONS)
    if "topics" in wanted:
        rows += measure_topics(1, chosen.directory, MANY_TOPICS) + measure_topics(3, chosen.directory, MANY_TOPICS)
    show("Start, idleness, many topics and partitions", rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
