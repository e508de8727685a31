"""The story that scripts/demo tells, with real processes: every claim on the screen was checked a moment before.

Three nodes, a topic with three copies, an access log written under load, `kill -9` of the node that leads, and then of
all. Ends with exit code 1 at the first claim that does not hold. Whatever happens, its nodes are stopped and its folder
is deleted. Run by scripts/demo, which makes the environment.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

KRAFT: Final = str(Path(sys.executable).with_name("kraft"))
TOPIC: Final = "access"
PARTITIONS: Final = 3
LINES_A_SECOND: Final = 2_000
"""Into each partition: enough that there is always something in flight."""
SESSION_TIMEOUT_S: Final = 3
LIMIT_S: Final = 30.0
"""For whatever has to happen by itself; much longer than it takes."""
_PATHS: Final = ("/", "/search?q=log", "/cart", "/checkout", "/static/site.css", "/item/%d", "/api/v1/items")
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


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """How long it took, in seconds."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > LIMIT_S:
            raise Broken(f"{what}: not within {LIMIT_S:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began_s


class Cluster:
    """The demo's own cluster: its folder, and its nodes as `kraft up` told them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[dict[str, Any]] = []

    @property
    def servers(self) -> str:
        return ",".join(node["http"] for node in self.nodes)

    def up(self, *arguments: str) -> None:
        """Start the nodes that do not run."""
        shown(f"kraft up {' '.join(arguments)}".rstrip())
        began_s = time.monotonic()
        timeout = ("--set", f"broker.session.timeout.ms={SESSION_TIMEOUT_S}000") if arguments else ()
        place = ("--any-port", "--data-dir", str(self.folder), "--format", "json", "-q")
        ended = subprocess.run([KRAFT, "up", *arguments, *timeout, *place], capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise Broken(ended.stderr.strip())
        self.nodes = json.loads(ended.stdout)["nodes"]
        for node in self.nodes:
            print(f"  node {node['node_id']}  HTTP {node['http'][7:]}  Kafka {node['kafka']}  pid {node['pid']}")
        holds(f"{len(self.nodes)} nodes ready in {time.monotonic() - began_s:.1f} s", is_true=len(self.nodes) == 3)

    def kraft(self, *arguments: str) -> str:
        """Run a command as a person would, and show it."""
        shown("kraft " + " ".join(arguments))
        output = self.quietly(*arguments)
        for line in output.splitlines():
            print(f"  {line}".expandtabs(4))
        return output

    def quietly(self, *arguments: str) -> str:
        ended = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise Broken(f"kraft {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def command(self, *arguments: str) -> list[str]:
        return [KRAFT, *arguments, "-b", self.servers]

    def partition(self, number: int) -> dict[str, Any]:
        """What the cluster says of a partition, from whichever node answers; {} where none does."""
        for node in self.nodes:
            url = f"{node['http']}/v3/clusters/-/topics/{TOPIC}/partitions/{number}"
            try:
                with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - http
                    found: dict[str, Any] = json.loads(response.read())
                    return found
            except OSError:
                continue
        return {}

    def kill(self, node_ids: list[int], why: str) -> None:
        pids = [node["pid"] for node in self.nodes if node["node_id"] in node_ids]
        shown(f"kill -9 {' '.join(map(str, pids))}    # {why}")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def records(self, number: int) -> list[str]:
        return self.quietly("consume", TOPIC, "-p", str(number), "--from-beginning").splitlines()

    def copies(self, number: int) -> list[bytes]:
        """What lies on each node's disk of a partition: its segments, one after the other."""
        folders = self.folder.glob(f"node-*/data/{TOPIC}-{number}.*")
        return [b"".join(file.read_bytes() for file in sorted(folder.glob("*.log"))) for folder in folders]


class Writer(threading.Thread):
    """Feeds lines to a `kraft produce` of its own, at a steady rate, until it is told to end."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(daemon=True)
        self.sent: list[str] = []
        self.failure = ""
        self.ends = threading.Event()
        self._lines = access_log(seed=number)
        self._process = subprocess.Popen(
            cluster.command("produce", TOPIC, "-p", str(number), "-q", "--timeout", "60"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> None:
        assert self._process.stdin is not None
        began_s = time.monotonic()
        try:
            while not self.ends.wait(0.02):
                due = int((time.monotonic() - began_s) * LINES_A_SECOND) - len(self.sent)
                lines = [next(self._lines) for _ in range(min(due, LINES_A_SECOND))]
                self.sent += lines
                self._process.stdin.write("".join(f"{line}\n" for line in lines))
                self._process.stdin.flush()
        except BrokenPipeError:
            pass
        _, self.failure = self._process.communicate()

    def end(self) -> bool:
        """Let it finish what it has; True when every line was acknowledged."""
        self.ends.set()
        self.join(90)
        return self._process.poll() == 0


def access_log(*, seed: int) -> Iterator[str]:
    """A web shop that nobody visited, in the combined log format; every line is numbered, none is like another."""
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    number = 0
    while True:
        path = chance.choice(_PATHS)
        path = path % chance.randrange(1000) if "%d" in path else path
        clock = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
        yield (
            f'198.51.100.{chance.randrange(1, 255)} - - [12/Jun/2025:{clock} +0000] "GET {path} HTTP/1.1" '
            f'{chance.choice(_STATUS)} {chance.randrange(200, 20_000)} "-" "{chance.choice(_AGENTS)}" {seed}-{number}'
        )
        number += 1


def leader_dies(cluster: Cluster, writers: list[Writer]) -> None:
    """In the middle of the writing."""
    for writer in writers:
        writer.start()
    wait_until(lambda: (cluster.partition(0).get("high_watermark") or 0) > LINES_A_SECOND, "the first records")
    before = cluster.partition(0)
    written = sum(len(writer.sent) for writer in writers)
    print(f"  {written:,} lines on their way so far; node {before['leader_id']} leads {TOPIC}-0")
    cluster.kill([before["leader_id"]], f"node {before['leader_id']}, in the middle of it")
    seconds = wait_until(
        lambda: cluster.partition(0).get("leader_id") not in (None, before["leader_id"]), "a new leader"
    )
    now = cluster.partition(0)
    holds(
        f"node {now['leader_id']} leads {TOPIC}-0, {seconds:.1f} s later (a node is given up after 3 s)", is_true=True
    )
    more = wait_until(
        lambda: (cluster.partition(0).get("high_watermark") or 0) > before["high_watermark"] + LINES_A_SECOND,
        "records after the failover",
    )
    holds(f"and writes go on: {LINES_A_SECOND:,} more lines in it {more:.1f} s after that", is_true=True)
    is_true = all([writer.end() for writer in writers])  # noqa: C419 - all of them, also where one fails
    if not is_true:
        print("\n".join(writer.failure for writer in writers))
    total = sum(len(writer.sent) for writer in writers)
    holds(f"{total:,} lines, every one acknowledged; the writers noticed a pause, no failure", is_true=is_true)


def check_records(cluster: Cluster, writers: list[Writer]) -> None:
    shown(f"kraft consume {TOPIC} --from-beginning")
    for number, writer in enumerate(writers):
        found = cluster.records(number)
        lost = len(set(writer.sent) - set(found))
        doubled = len(found) - len(set(found))
        claim = (
            f"{TOPIC}-{number}: {len(found):,} of {len(writer.sent):,} lines, {lost} lost, {doubled} twice, in order"
        )
        holds(claim, is_true=found == writer.sent)


def comes_back(cluster: Cluster) -> None:
    cluster.up()

    def is_whole() -> bool:
        return all(len(cluster.partition(number).get("in_sync_replica_ids", ())) == 3 for number in range(PARTITIONS))

    seconds = wait_until(is_whole, "all replicas in sync")
    cluster.kraft("topic", "describe", TOPIC)
    holds(f"it has fetched what it missed; every replica in sync {seconds:.1f} s later", is_true=True)


def tell(cluster: Cluster) -> None:
    chapter("Three nodes from one command. No ZooKeeper, no JVM: they elect a leader among themselves.")
    cluster.up("-n", "3")
    chapter("A topic of which every record lies on three disks, and counts only when two or more have it.")
    cluster.kraft("topic", "create", TOPIC, "-p", str(PARTITIONS), "-r", "3", "-c", "min.insync.replicas=2")
    cluster.kraft("partition", "list")
    chapter(f"A web server's log goes in, {LINES_A_SECOND * PARTITIONS:,} lines a second. Then a leader dies.")
    writers = [Writer(cluster, number) for number in range(PARTITIONS)]
    shown(f"tail -f access.log | kraft produce {TOPIC}")
    leader_dies(cluster, writers)
    chapter("What is left of it? Every line is numbered.")
    check_records(cluster, writers)
    chapter("The node comes back.")
    comes_back(cluster)
    chapter("Everything dies, and is started again.")
    cluster.kill([node["node_id"] for node in cluster.nodes], "all of them")
    cluster.up()
    check_records(cluster, writers)
    subprocess.run([KRAFT, "down", "--data-dir", str(cluster.folder), "-q"], capture_output=True, check=False)
    copies = [cluster.copies(number) for number in range(PARTITIONS)]
    is_true = all(len(found) == 3 and len(set(found)) == 1 and found[0] for found in copies)
    holds("the three copies of each partition are the same, byte for byte", is_true=is_true)


def clean_up(folder: Path) -> None:
    down = [KRAFT, "down", "--data-dir", str(folder), "-q", "--timeout", "10"]
    subprocess.run(down, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="kraft-demo-"))
    began_s = time.monotonic()
    code = 1
    try:
        tell(Cluster(folder))
        code = 0
    except Broken as broken:
        print(f"\n{RED}The story does not hold: {broken}{PLAIN}", file=sys.stderr)
        print("The nodes' logs end with:", file=sys.stderr)
        for log in sorted(folder.glob("node-*/kraft.log")):
            lines = log.read_text(errors="replace").splitlines()[-5:]
            print(f"-- {log.parent.name}", *lines, sep="\n", file=sys.stderr)
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
