"""Nodes to measure: a cluster in a directory of its own, started and stopped through `kraft`, watched through /proc.

Owns every process that it started and stops them by pid, also when a bench fails. Linux only: CPU and memory come from
/proc.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench.raw_http import Connection

KRAFT: Final = str(Path(sys.executable).with_name("kraft"))
START_S_MAX: Final = 120
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Node:
    """One running node."""

    node_id: int
    pid: int
    port: int
    directory: Path

    def connect(self) -> Connection:
        return Connection("127.0.0.1", self.port)

    def cpu_seconds(self) -> float:
        """User and system time of the whole process until now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]) * PAGE_BYTES

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - a count of names, not of paths

    def is_running(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False


class Cluster:
    """N nodes on free ports in one directory; `start` again after `stop` or `kill` finds the same data."""

    def __init__(self, directory: Path, nodes: int, settings: Sequence[str] = ()) -> None:
        self.directory = directory
        self.nodes: list[Node] = []
        self._count = nodes
        self._settings = settings

    def start(self) -> float:
        """Start what is down, until all are ready; the seconds that the command took."""
        arguments = [KRAFT, "up", "--data-dir", str(self.directory), "--format", "json"]
        if not (self.directory / "cluster.json").exists():
            arguments += ["-n", str(self._count), "--any-port"]
            arguments += [word for setting in self._settings for word in ("--set", setting)]
        began_s = time.perf_counter()
        answer = subprocess.run(arguments, capture_output=True, text=True, timeout=START_S_MAX, check=False)
        seconds = time.perf_counter() - began_s
        if answer.returncode:
            sys.exit(f"bench: {' '.join(arguments)} failed: {answer.stderr.strip()[-2000:]}")
        self.nodes = [self._node(entry) for entry in json.loads(answer.stdout)["nodes"]]
        return seconds

    def _node(self, entry: dict[str, object]) -> Node:
        node_id, port = int(str(entry["node_id"])), int(str(entry["http"]).rpartition(":")[2])
        return Node(node_id, int(str(entry["pid"])), port, self.directory / f"node-{node_id}")

    def signal(self, number: signal.Signals, nodes: Sequence[Node] | None = None) -> None:
        """Signal the nodes and wait until they are gone; SIGKILL for those that stay."""
        chosen = self.nodes if nodes is None else nodes
        for attempt in (number, signal.SIGKILL):
            for node in chosen:
                if node.is_running():
                    os.kill(node.pid, attempt)
            deadline_s = time.monotonic() + 30
            while any(node.is_running() for node in chosen) and time.monotonic() < deadline_s:
                time.sleep(0.005)
        self.nodes = [node for node in self.nodes if node not in chosen]

    def stop(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def start_node_alone(self) -> float:
        """Start the only node without the command line around it; seconds from spawn to `/readyz` 200."""
        assert self._count == 1
        directory = self.directory / "node-1"
        port = http_port(directory / "server.properties")
        arguments = [sys.executable, "-P", "-m", "kraft_bundle.server", "-c", str(directory / "server.properties")]
        began_s = time.perf_counter()
        with (directory / "kraft.log").open("ab") as log:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, start_new_session=True
            )
        node = Node(1, process.pid, port, directory)
        self.nodes = [node]
        wait_until_ready(node, lambda: process.poll() is None)
        return time.perf_counter() - began_s


def http_port(config_file: Path) -> int:
    """The port of the HTTP listener in a node's configuration file."""
    found = re.search(
        r"^[a-z.]*listeners?\s*=.*http://127\.0\.0\.1:(\d+)", config_file.read_text(), re.IGNORECASE | re.MULTILINE
    )
    if found is None:
        sys.exit(f"bench: no HTTP listener in {config_file}")
    return int(found[1])


def wait_until_ready(node: Node, is_alive: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline_s:
        try:
            with node.connect() as connection:
                if connection.get("/readyz").status == 200:
                    return
        except OSError:
            pass  # nobody listens yet
        if not is_alive():
            sys.exit(f"bench: the node ended before it was ready; see {node.directory / 'kraft.log'}")
        time.sleep(0.002)
    sys.exit(f"bench: the node was not ready within {START_S_MAX} s; see {node.directory / 'kraft.log'}")


@contextmanager
def cluster(
    nodes: int = 1, *, directory: str | None = None, settings: Sequence[str] = (), keep: bool = False
) -> Iterator[Cluster]:
    """A cluster of `nodes` in a temporary directory (made in `directory`), started; gone at the end."""
    path = Path(tempfile.mkdtemp(prefix="kraft-bench-", dir=directory))
    made = Cluster(path, nodes, settings)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
