"""The network between the nodes of one cluster, as a test speaks of it: cut, slow, losing packets, whole again.

Owns the process of the proxies (`link_proxy.py`) and the nodes' files: every address that a node advertises to others
leads through a proxy. Refuses to be laid under running nodes: addresses are read when a node starts.
"""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.harness import Cluster, Node

PROJECT = Path(__file__).resolve().parents[2]
Direction = tuple[int, int]
"""From which node to which; 0 is everybody else."""


class Links:
    """Proxies before the peer, Kafka and HTTP listener of each node; test clients reach the nodes without them."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        assert not any(node.is_running() for node in cluster.nodes.values()), "addresses are read at a start"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.link_proxy", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            text=True,
            start_new_session=True,  # an interrupt is for the test, which ends this by closing its input
        )
        self._weather: dict[str, Any] = {}
        voters = []
        for node in cluster.nodes.values():
            peer = self._laid_before(node, "peer.listeners")
            voters.append(f"{node.node_id}@{peer}")
        for node in cluster.nodes.values():
            kafka, http = self._laid_before(node, "listeners"), self._laid_before(node, "http.listeners")
            settings = {
                "controller.quorum.voters": ",".join(voters),
                "advertised.listeners": f"PLAINTEXT://{kafka}",
                "advertised.http.listeners": f"http://{http}",
            }
            put_settings(node, settings)

    def know(self, nodes: Iterable[Node]) -> None:
        """Which process is which node; said after every start, before the node has opened a connection."""
        self._order({"nodes": {str(node.node_id): node.pid for node in nodes}})

    def cut(self, directions: Iterable[Direction]) -> None:
        """Nothing arrives any more in these directions."""
        self._set(cut=sorted(directions))

    def lose(self, share: float) -> None:
        self._set(loss=share)

    def slow(self, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """Every chunk takes about `delay_s`, every direction of a connection carries so many bytes a second."""
        self._set(delay_s=delay_s, bytes_per_s=bytes_per_s)

    def reset(self, directions: Iterable[Direction]) -> None:
        """Every connection opened from there to there ends, and what was on its way with it."""
        self._order({"reset": sorted(directions)})

    def heal(self) -> None:
        self._weather = {}
        self._order({"weather": {}})

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=5)

    def _laid_before(self, node: Node, listener: str) -> str:
        port = int(setting(node, listener).rsplit(":", 1)[1])
        return f"127.0.0.1:{self._order({'listen': node.node_id, 'to': port})}"

    def _set(self, **weather: Any) -> None:
        self._weather |= weather
        self._order({"weather": self._weather})

    def _order(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the proxies between the nodes have died"
        return json.loads(answer)


def setting(node: Node, key: str) -> str:
    found = re.search(rf"^{re.escape(key)}=(.*)$", node.config_file.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{node.config_file} has no {key}"
    return found[1]


def put_settings(node: Node, settings: dict[str, str]) -> None:
    """Into the node's file, over what it said of them."""
    lines = node.config_file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("=")[0] not in settings]
    node.config_file.write_text("\n".join([*kept, *(f"{k}={v}" for k, v in settings.items()), ""]), encoding="utf-8")
