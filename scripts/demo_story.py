"""The story that scripts/demo tells, with real processes: every claim on the screen was checked a moment before.

Ends with exit code 1 at the first claim that does not hold. Whatever happens, its nodes are stopped and its folder is
deleted. Run by scripts/demo, which makes the environment.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

KRAFT: Final = str(Path(sys.executable).with_name("kraft"))
LINES: Final = 10_000
LEADER_LIMIT_S: Final = 2.0
_PATHS: Final = (
    "/",
    "/search?q=log",
    "/cart",
    "/checkout",
    "/static/site.css",
    "/static/logo.svg",
    "/item/%d",
    "/api/v1/items",
)
_AGENTS: Final = ("curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (iPhone)", "Googlebot/2.1")
_STATUS: Final = (200, 200, 200, 200, 200, 301, 304, 404, 500)
BOLD, GREEN, RED, GREY, PLAIN = (
    ("\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[90m", "\x1b[0m")
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    else [""] * 5
)


class Broken(Exception):  # noqa: N818 - the story ends here
    """A claim that does not hold."""


def chapter(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def shown(command: str) -> None:
    print(f"{GREY}$ {command}{PLAIN}", flush=True)


def holds(claim: str, *, is_true: bool) -> None:
    """Say what is claimed and whether it is so."""
    mark = f"{GREEN}✓{PLAIN}" if is_true else f"{RED}✗{PLAIN}"
    print(f"  {mark} {claim}", flush=True)
    if not is_true:
        raise Broken(claim)


class Cluster(NamedTuple):
    """The demo's own cluster."""

    folder: Path
    nodes: list[dict[str, Any]]

    @property
    def servers(self) -> str:
        return ",".join(node["http"] for node in self.nodes)

    def kraft(self, *arguments: str, stdin: str = "") -> str:
        """Run a command as a person would, and show it."""
        shown("kraft " + " ".join(arguments) + (" < access.log" if stdin else ""))
        output = self.quietly(*arguments, stdin=stdin)
        for line in output.splitlines():
            print(f"  {line}")
        return output

    def quietly(self, *arguments: str, stdin: str = "") -> str:
        command = [KRAFT, *arguments, "-b", self.servers]
        ended = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise Broken(f"kraft {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def call(self, node: int, method: str, path: str, body: object = None) -> Any:
        """One HTTP call to one node, shown as curl."""
        url = f"{self.nodes[node]['http']}/v3/clusters/-{path}"
        shown(f"curl {'' if method == 'GET' else f'-X {method} -d @body.json '}'{url}'")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - http
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - http
            return json.loads(response.read())

    def records(self, topic: str) -> list[str]:
        return self.quietly("consume", topic, "--from-beginning").splitlines()


def up(folder: Path, *arguments: str) -> Cluster:
    """Start the cluster's nodes, those that do not run."""
    shown(f"kraft up {' '.join(arguments)}".rstrip())
    began_s = time.monotonic()
    command = [KRAFT, "up", *arguments, "--any-port", "--data-dir", str(folder), "--format", "json", "-q"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Broken(ended.stderr.strip())
    nodes = json.loads(ended.stdout)["nodes"]
    for node in nodes:
        print(f"  node {node['node_id']}  {node['http']}  pid {node['pid']}")
    holds(f"{len(nodes)} nodes ready in {time.monotonic() - began_s:.1f} s", is_true=len(nodes) == 3)
    return Cluster(folder, nodes)


def records_in(cluster: Cluster, log: Sequence[str]) -> None:
    cluster.kraft("topic", "create", "access", "-p", "6")
    cluster.kraft("produce", "access", stdin="".join(f"{line}\n" for line in log))
    found = cluster.records("access")
    holds(f"{len(found):,} of {len(log):,} lines come out again, byte for byte", is_true=sorted(found) == sorted(log))


def over_http(cluster: Cluster) -> None:
    """A batch in at one node, out by offset at another."""
    cluster.kraft("topic", "create", "orders", "-p", "1")
    entries = [{"id": str(i), "value": {"type": "JSON", "data": {"order": i}}} for i in range(5)]
    answer = cluster.call(0, "POST", "/topics/orders/records:batch", {"entries": entries})
    holds(f"node 1 took {len(answer['successes'])} records", is_true=len(answer["successes"]) == len(entries))
    answer = cluster.call(1, "GET", "/topics/orders/partitions/0/records?offset=3")
    values = [record["value"]["data"] for record in answer["records"]]
    print(f"  {values}")
    holds("node 2 gives them out from offset 3", is_true=[json.loads(value)["order"] for value in values] == [3, 4])


def all_at_once(cluster: Cluster) -> None:
    """Three producers into two topics, three consumers of both."""
    cluster.kraft("topic", "create", "clicks", "payments", "-p", "3")
    shown("three producers into both topics and three consumers of both, at the same time")
    per_producer = 2_000
    expected = sorted(
        f"{topic}-{who}-{i}" for topic in ("clicks", "payments") for who in range(3) for i in range(per_producer)
    )
    consume = [
        KRAFT,
        "consume",
        "clicks",
        "payments",
        "--from-beginning",
        "-n",
        str(len(expected)),
        "-b",
        cluster.servers,
    ]
    consumers = [subprocess.Popen([*consume, "--timeout", "20"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    producers = []
    for who in range(3):
        for topic in ("clicks", "payments"):
            producer = subprocess.Popen(
                [KRAFT, "produce", topic, "-q", "-b", cluster.servers], stdin=subprocess.PIPE, text=True
            )
            assert producer.stdin is not None
            producer.stdin.write("".join(f"{topic}-{who}-{i}\n" for i in range(per_producer)))
            producer.stdin.close()
            producers.append(producer)
    written = all(producer.wait() == 0 for producer in producers)
    seen = [sorted(consumer.communicate()[0].splitlines()) for consumer in consumers]
    is_true = written and all(found == expected for found in seen)
    holds(f"each consumer saw all {len(expected):,} records once", is_true=is_true)


def kill_leader(cluster: Cluster) -> None:
    leader = json.loads(cluster.quietly("quorum", "status", "--format", "json"))["leader_id"]
    pid = next(node["pid"] for node in cluster.nodes if node["node_id"] == leader)
    shown(f"kill -9 {pid}    # node {leader}, the quorum's leader")
    os.kill(pid, signal.SIGKILL)
    began_s = time.monotonic()
    cluster.kraft("topic", "create", "after-the-crash", "-p", "1")
    seconds = time.monotonic() - began_s
    holds(f"a new leader, and a new topic, {seconds:.1f} s later", is_true=seconds < LEADER_LIMIT_S)


def kill_all(cluster: Cluster, log: Sequence[str], before: Mapping[str, int]) -> None:
    status = [KRAFT, "status", "--data-dir", str(cluster.folder), "--format", "json"]
    state = json.loads(subprocess.run(status, capture_output=True, text=True, check=False).stdout)
    pids = [node["pid"] for node in state["nodes"] if node["pid"]]
    shown(f"kill -9 {' '.join(map(str, pids))}")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    cluster = up(cluster.folder)
    topics = cluster.quietly("topic", "list", "-q").split()
    holds(f"all topics are there: {', '.join(topics)}", is_true={*before, "after-the-crash"} == set(topics))
    found = cluster.records("access")
    holds(f"access: {len(found):,} of {len(log):,} lines, byte for byte", is_true=sorted(found) == sorted(log))
    for topic, count in list(before.items())[1:]:
        found_count = len(cluster.records(topic))
        holds(f"{topic}: {found_count:,} of {count:,} records", is_true=found_count == count)


def access_log(count: int, *, seed: int = 7) -> Iterator[str]:
    """`count` lines of a web shop that nobody visited, in the combined log format; the same at every run."""
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    for number in range(count):
        path = chance.choice(_PATHS)
        path = path % chance.randrange(1000) if "%d" in path else path
        second = number % 86_400
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        address = f"198.51.100.{chance.randrange(1, 255)}"
        yield (
            f'{address} - - [12/Jun/2025:{clock} +0000] "GET {path} HTTP/1.1" {chance.choice(_STATUS)} '
            f'{chance.randrange(200, 20_000)} "-" "{chance.choice(_AGENTS)}"'
        )


def tell(folder: Path) -> None:
    log = list(access_log(LINES))
    chapter("Three nodes from one command. No ZooKeeper, no JVM: they elect a leader among themselves.")
    cluster = up(folder, "-n", "3")
    chapter(f"A web server's access log goes in, {LINES:,} lines, and comes out again.")
    records_in(cluster, log)
    chapter("Any node takes any request, over plain HTTP.")
    over_http(cluster)
    chapter("Many at once.")
    all_at_once(cluster)
    before = {topic: len(cluster.records(topic)) for topic in ("access", "orders", "clicks", "payments")}
    chapter("The leader dies.")
    kill_leader(cluster)
    chapter("Everything dies, and is started again.")
    kill_all(cluster, log, before)


def clean_up(folder: Path) -> None:
    subprocess.run(
        [KRAFT, "down", "--data-dir", str(folder), "-q", "--timeout", "10"], capture_output=True, check=False
    )
    shutil.rmtree(folder, ignore_errors=True)


def main() -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="kraft-demo-"))
    began_s = time.monotonic()
    code = 1
    try:
        tell(folder)
        code = 0
    except Broken as broken:
        print(f"\n{RED}The story does not hold: {broken}{PLAIN}", file=sys.stderr)
        print("The nodes' logs end with:", file=sys.stderr)
        for log in sorted(folder.glob("node-*/kraft.log")):
            print(
                f"-- {log.parent.name}", *log.read_text(errors="replace").splitlines()[-5:], sep="\n", file=sys.stderr
            )
    except KeyboardInterrupt:
        code = 130
    finally:
        clean_up(folder)
    if code == 0:
        print(f"\n{BOLD}Nothing that was acknowledged was lost.{PLAIN}  ({time.monotonic() - began_s:.0f} s)")
        print("Yours: scripts/cluster up -n 3")
    sys.exit(code)


if __name__ == "__main__":
    main()
