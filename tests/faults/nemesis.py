"""What happens to the nodes of a replicated cluster, drawn from a seed: kill -9, SIGSTOP, at once or after a while.

Owns the bound that makes every loss a defect: at most one of three nodes is out at a time, so a majority of the quorum
and one replica that holds everything are always there. Counts how many faults hit a node that led partitions while
requests were in flight.
"""

import contextlib
import random
import signal
import time
from collections import Counter

from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.harness import Cluster, Node
from tests.faults.replicated_workload import ReplicatedWorkload

PAUSE_S_MAX = 10.0


class Nemesis:
    """Faults for one cluster, one after the other."""

    def __init__(self, cluster: Cluster, workload: ReplicatedWorkload, topic: str, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._cluster = cluster
        self._workload = workload
        self._topic = topic
        self._chance = chance

    def strike(self) -> None:
        """One fault, from its beginning to the node's being up again (not: caught up)."""
        fault = self._chance.choice((self._kill, self._kill, self._kill_for_a_while, self._pause))
        node = self._victim()
        if self._workload.in_flight and self._leads(node):
            self.done["hit a leader with requests in flight"] += 1
        fault(node)

    def _victim(self) -> Node:
        kind = self._chance.choice(("any", "leader", "controller"))
        with contextlib.suppress(AssertionError, NotSentError, DoubtfulError):
            if kind == "leader":
                return self._cluster.leader_of(self._topic, 0)
            if kind == "controller":
                return self._cluster.quorum_leader()
        return self._chance.choice(list(self._cluster.nodes.values()))

    def _leads(self, node: Node) -> bool:
        try:
            topic = node.ask(f"/v3/clusters/-/topics/{self._topic}/partitions")
        except (AssertionError, NotSentError, DoubtfulError):
            return False
        return any(partition["leader_id"] == node.node_id for partition in topic["data"])

    def _kill(self, node: Node) -> None:
        """And back at once, faster than the session timeout."""
        self.done["kill -9, back at once"] += 1
        node.kill()
        node.start()
        node.wait_ready()

    def _kill_for_a_while(self, node: Node) -> None:
        self.done["kill -9, back after a while"] += 1
        node.kill()
        time.sleep(self._chance.uniform(0, 8))  # sleeps: how long it is away is what the seed draws
        node.start()
        node.wait_ready()

    def _pause(self, node: Node) -> None:
        self.done["SIGSTOP"] += 1
        node.signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.5, PAUSE_S_MAX))  # sleeps: how long it stands is what the seed draws
        node.signal(signal.SIGCONT)
        node.wait_ready()
