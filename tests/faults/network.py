"""What lies between the nodes of one cluster, as a test speaks of it, whatever it is made of: the face of all of them.

Owns no network: `links.py` (proxies) and `namespaces.py` (packets) do; `network_choice.py` chooses. Every fault is on
what nodes say to each other: what the test's own clients say is never touched.
"""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from tests.faults.harness import Cluster, Node

Direction = tuple[int, int]
"""From which node to which."""


class Network(Protocol):
    """Laid between nodes that do not run yet, because addresses are read when a node starts."""

    def know(self, nodes: Iterable[Node]) -> None:
        """Which process is which node; said after every start, before the node has opened a connection."""

    def cut(self, directions: Iterable[Direction]) -> None:
        """Nothing arrives any more in these directions."""

    def lose(self, share: float) -> None:
        """This share of packets is lost, each of which is sent again."""

    def slow(self, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """What is said takes up to about `delay_s` longer, and at most so many bytes go in a second."""

    def reset(self, directions: Iterable[Direction]) -> None:
        """Every connection opened from there to there ends, and what was on its way with it."""

    def heal(self) -> None:
        """It is whole, and fast."""

    def newcomer(self, cluster: Cluster) -> AbstractContextManager[int]:
        """A broker joins that all nodes reach, and that is drained and removed at the end; its id."""

    def close(self) -> None:
        """Nothing of it is left; nodes that still use it are cut off."""


def setting(node: Node, key: str) -> str:
    found = re.search(rf"^{re.escape(key)}=(.*)$", node.config_file.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{node.config_file} has no {key}"
    return found[1]


def put_settings(node: Node, settings: dict[str, str]) -> None:
    """Into the node's file, over what it said of them."""
    lines = node.config_file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("=")[0] not in settings]
    node.config_file.write_text("\n".join([*kept, *(f"{k}={v}" for k, v in settings.items()), ""]), encoding="utf-8")
