"""Real nodes in real processes, made to die, pause and come back by pid.

Owns every process that it starts: `close` kills them all, paused ones too, however a test ended. Formed with `kraft up
--any-port`, restarted one by one. Refuses to signal a pid that is not (any more) the node's. Logs stay
in each node's folder, which pytest keeps; their tails are shown when a test fails.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli import node_process
from tests.faults.client import Client, DoubtfulError, NotSentError

KRAFT = Path(sys.executable).parent / "kraft"
LOOPBACK = "127.0.0.1"
READY_S = 30.0
HEALED_S = 30.0
"""L1: how long after the end of a fault everything may take to be whole again, starts of processes included."""
OPERATION_S = 60.0
POLL_S = 0.02
LOG_TAIL_LINES = 25


def wait_until(condition: Callable[[], object], what: str, *, timeout_s: float = READY_S) -> None:
    """Poll `condition` until it holds; fail with `what` (a sentence of what should have happened)."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"after {timeout_s:.1f} s still not: {what}")
        time.sleep(POLL_S)  # sleeps: another process's state, which nothing announces


@dataclass(frozen=True, slots=True)
class Deadline:
    """One moment for several waits: `within_s` seconds after it was made. What comes true later came too late."""

    within_s: float
    began_s: float = field(default_factory=time.monotonic)

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self.began_s

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        left_s = max(0.0, self.within_s - self.passed_s)
        wait_until(condition, f"{what} (within {self.within_s:g} s for all)", timeout_s=left_s)
        assert self.passed_s <= self.within_s, f"later than {self.within_s:g} s, after {self.passed_s:.1f} s: {what}"


class Node:
    """One node's process, over several lives."""

    def __init__(self, node_id: int, directory: Path, port: int, pid: int, *, kafka_port: int | None = None) -> None:
        self.node_id = node_id
        self.directory = directory
        self.host = LOOPBACK
        self.port = port
        self.kafka_port = kafka_port
        self.pid = pid
        self.environment: dict[str, str] = {}
        """What its next lives are given beside the environment of the test."""
        self.within: tuple[str, ...] = ()
        """The command that its next lives are started through; it becomes the node, so the pid is the node's."""
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def config_file(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.directory / "kraft.log"

    def client(self, *, timeout_s: float = 10.0) -> Client:
        return Client(self.host, self.port, timeout_s=timeout_s)

    def is_running(self) -> bool:
        """Its process exists, and something of it may still hold its files and ports."""
        if self._child is not None:
            return self._child.poll() is None
        identity = node_process.process_identity(self.pid)
        return identity is not None and (not identity.command_line or str(self.config_file) in identity.command_line)

    def signal(self, number: signal.Signals) -> None:
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and return when it is gone."""
        self.signal(signal.SIGKILL)
        wait_until(lambda: not self.is_running(), f"node {self.node_id} is gone", timeout_s=60)
        if self._child is not None:
            self._child.wait()

    def start(self, *arguments: str) -> None:
        """Start it again as `kraft up` does; returns at once."""
        self._run(sys.executable, "-P", "-m", "kraft_bundle.server", "-c", str(self.config_file), *arguments)

    def join(self, servers: str, settings: Iterable[str]) -> None:
        """Start it for the first time, as a broker that comes to a running cluster; returns at once."""
        options = [option for setting in settings for option in ("--set", setting)]
        self._run(str(KRAFT), "node", "-c", str(self.config_file), "--join", servers, *options)

    def _run(self, *command: str) -> None:
        assert not self.is_running(), f"node {self.node_id} runs already"
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(
                [*self.within, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.pid = self._child.pid
        started = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        (self.directory / "pid").write_text(f"{self.pid} {started}\n", encoding="ascii")

    def wait_ready(self, deadline: Deadline | None = None) -> None:
        deadline = deadline or Deadline(READY_S)
        deadline.wait_until(lambda: self.is_ready() or not self.is_running(), f"node {self.node_id} is ready")
        assert self.is_running(), f"node {self.node_id} died instead of getting ready:\n{self.log_tail()}"

    def is_ready(self) -> bool:
        try:
            with self.client(timeout_s=2) as client:
                return client.get("/readyz").status == 200
        except (NotSentError, DoubtfulError):
            return False

    def exit_code(self, timeout_s: float = READY_S) -> int:
        """Of a node that ends by itself."""
        assert self._child is not None, "only of a node that this test started"
        return self._child.wait(timeout_s)

    def ask(self, path: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
        with self.client(timeout_s=timeout_s) as client:
            answer = client.get(path)
        assert answer.status == 200, (path, answer.status, answer.body[:500])
        body: dict[str, Any] = answer.json()
        return body

    def quorum(self) -> dict[str, Any]:
        return self.ask("/v3/clusters/-/quorum")

    def log_tail(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


class Cluster:
    """Nodes on this machine, formed from nothing in `directory`."""

    def __init__(self, directory: Path, nodes: int, settings: Iterable[str] = ()) -> None:
        self.directory = directory
        self.settings = tuple(settings)
        """What every node's file says beside its own addresses."""
        self.nodes: dict[int, Node] = {}
        command = [str(KRAFT), "up", "-n", str(nodes), "--any-port", "--data-dir", str(directory), "--format", "json"]
        command += [option for setting in self.settings for option in ("--set", setting)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=OPERATION_S + 15)
        assert answer.returncode == 0, answer.stderr
        for node in json.loads(answer.stdout)["nodes"]:
            node_id, port = node["node_id"], int(node["http"].rsplit(":", 1)[1])
            kafka_port = int(node["kafka"].rsplit(":", 1)[1]) if node["kafka"] else None
            self.nodes[node_id] = Node(node_id, directory / f"node-{node_id}", port, node["pid"], kafka_port=kafka_port)

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    @property
    def servers(self) -> str:
        """Where `kraft -b` finds it."""
        return ",".join(f"{node.host}:{node.port}" for node in self.nodes.values())

    @property
    def kafka_servers(self) -> str:
        """Where a Kafka client finds it."""
        return kafka_servers(self.nodes.values())

    def kraft(self, *arguments: str, timeout_s: float = OPERATION_S) -> None:
        """The command line, as an operator uses it."""
        command = [str(KRAFT), "-b", self.servers, "--yes", "--timeout", str(int(timeout_s)), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s + 15)
        assert answer.returncode == 0, f"kraft {' '.join(arguments)}: {answer.returncode}: {answer.stderr}"

    def wait_ready(self, deadline: Deadline | None = None) -> None:
        """Without a deadline for all of them each has its own."""
        for node in self.nodes.values():
            node.wait_ready(deadline)

    def is_well(self, topic: str, partitions: int) -> bool:
        """L1 but for the writes: in the eyes of every node all are ready, all partitions led, all replicas in sync."""
        path = f"/v3/clusters/-/topics/{topic}/partitions"
        with contextlib.suppress(AssertionError, NotSentError, DoubtfulError, KeyError):
            for node in self.nodes.values():
                if not node.is_ready():
                    return False
                for partition in range(partitions):
                    replicas = node.ask(f"{path}/{partition}/replicas")["data"]
                    is_led = 1 == sum(replica["is_leader"] for replica in replicas)
                    if not is_led or not all(replica["is_in_sync"] for replica in replicas):
                        return False
            return True
        return False

    def wait_well(self, topic: str, partitions: int, deadline: Deadline | None = None) -> None:
        deadline = deadline or Deadline(HEALED_S)
        deadline.wait_until(lambda: self.is_well(topic, partitions), f"{topic} is whole again (L1)")

    def restart_dead(self) -> None:
        """Start every node that does not run, and wait until all are ready."""
        for node in self.nodes.values():
            if not node.is_running():
                node.start()
        self.wait_ready()

    def quorum_leader(self, *, among: Iterable[int] | None = None) -> Node:
        """The node that these nodes agree to be the leader."""
        asked = [self.nodes[node_id] for node_id in (among or self.nodes)]

        named: set[int | None] = set()

        def is_agreed() -> bool:
            named.clear()
            with contextlib.suppress(AssertionError, NotSentError, DoubtfulError):
                named.update([node.quorum()["leader_id"] for node in asked])
            return len(named) == 1 and None not in named

        wait_until(is_agreed, "one leader of the quorum")
        return self.nodes[next(iter(named))]

    def leader_of(self, topic: str, partition: int) -> Node:
        """The node that leads the partition, as the first one that knows of any says."""
        path, led_by = f"/v3/clusters/-/topics/{topic}/partitions/{partition}", []

        def is_led() -> bool:
            for node in self.nodes.values():
                with contextlib.suppress(AssertionError, NotSentError, DoubtfulError, http.client.HTTPException):
                    if (leader_id := node.ask(path)["leader_id"]) is not None:
                        led_by.append(self.nodes[leader_id])
                        return True
            return False

        wait_until(is_led, f"{topic}-{partition} has a leader")
        return led_by[0]

    def close(self) -> None:
        """Nothing is left running."""
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
        for node in self.nodes.values():
            node.kill()

    def logs(self) -> str:
        return "\n\n".join(f"--- {node.log_file}\n{node.log_tail()}" for node in self.nodes.values())


def kafka_servers(nodes: Iterable[Node]) -> str:
    return ",".join(f"{node.host}:{node.kafka_port}" for node in nodes if node.kafka_port is not None)
