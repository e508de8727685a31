"""The network between the nodes of one cluster, made of proxies: where there are no namespaces to be had.

Owns the process of the proxies (`link_proxy.py`) and the nodes' files: every address that a node advertises to others
leads through a proxy. Refuses to be laid under running nodes: addresses are read when a node starts.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.harness import Cluster, Node
from tests.faults.network import Direction, put_settings, setting

PROJECT = Path(__file__).resolve().parents[2]


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

    @contextlib.contextmanager
    def newcomer(self, cluster: Cluster) -> Iterator[int]:
        """As on one machine; no proxy stands before it, and it reaches the others through theirs."""
        node_id, folder = 1 + max(cluster.nodes), str(cluster.directory)
        cluster.kraft("up", "--add", "1", "--any-port", "--data-dir", folder)
        try:
            yield node_id
        finally:
            cluster.kraft("down", "--data-dir", folder, "--node", str(node_id), "--remove")

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
