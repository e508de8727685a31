"""A cluster of which everything can fail: nodes on a network, disks and clocks that the test commands.

Owns the cluster, its network and each node's failing calls, and closes them all. Where there is no C compiler the disks
and clocks are as they are (`can_fail_calls`). Refuses nothing that a campaign may wish, and judges nothing.
"""

import contextlib
import random
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.harness import Cluster, Deadline, Node
from tests.faults.network import Network
from tests.faults.network_choice import Layer, choose
from tests.faults.preload import FailingCalls, library

SESSION_TIMEOUT_MS = 2000


def calls_can_fail() -> bool:
    """Whether this machine can put disk and clock faults under a node."""
    try:
        library()
    except LookupError:
        return False
    return True


class Battlefield:
    """`cluster` runs when this is made; every node that is started here is known to the network."""

    def __init__(
        self,
        directory: Path,
        nodes: int,
        seed: int,
        settings: Iterable[str] = (),
        *,
        with_journal: bool = False,
        can_fail_calls: bool = True,
        lay: Layer | None = None,
    ) -> None:
        """`lay` makes the network; without it the best that can be had here is."""
        settings = (f"broker.session.timeout.ms={SESSION_TIMEOUT_MS}", "log.retention.ms=-1", *settings)
        self.cluster = Cluster(directory, nodes, settings)
        self.calls: dict[int, FailingCalls] = {}
        self._network: Network | None = None
        self._lay = lay or choose().lay
        self._with_journal = with_journal
        try:
            self._lay_faults(seed, can_fail_calls=can_fail_calls)
        except BaseException:
            self.close()
            raise

    def _lay_faults(self, seed: int, *, can_fail_calls: bool) -> None:
        for node in self.nodes:
            node.kill()
            if can_fail_calls:
                calls = self.calls[node.node_id] = FailingCalls(node.directory)
                node.environment = dict(calls.environment(with_journal=self._with_journal))
        self._network = self._lay(self.cluster, seed)
        self.start_dead()

    @property
    def nodes(self) -> list[Node]:
        return list(self.cluster.nodes.values())

    @property
    def network(self) -> Network:
        assert self._network is not None
        return self._network

    def start(self, node: Node) -> None:
        """Start it; returns before it is ready."""
        node.start()
        self.network.know(self.nodes)

    def begin_dead(self) -> None:
        """Start every node that does not run; another fault may still keep it from being ready."""
        for node in self.nodes:
            if not node.is_running():
                self.start(node)

    def start_dead(self, deadline: Deadline | None = None) -> None:
        """Start every node that does not run, and wait until all are ready."""
        self.begin_dead()
        self.cluster.wait_ready(deadline)

    def heal(self) -> None:
        """Everything that this can break is whole; dead nodes stay dead."""
        self.network.heal()
        for calls in self.calls.values():
            calls.heal()
        for node in self.nodes:
            node.signal(signal.SIGCONT)

    def leads(self, node: Node, topic: str) -> bool:
        """As one of the nodes sees it."""
        for asked in self.nodes:
            with contextlib.suppress(AssertionError, NotSentError, DoubtfulError):
                listed = asked.ask(f"/v3/clusters/-/topics/{topic}/partitions", timeout_s=1)["data"]
                return any(partition["leader_id"] == node.node_id for partition in listed)
        return False

    def close(self) -> None:
        self.cluster.close()
        for calls in self.calls.values():
            calls.close()
        if self._network is not None:
            self._network.close()


@contextlib.contextmanager
def battlefield(
    directory: Path, nodes: int, chance: random.Random, *settings: str, **more: bool
) -> Iterator[Battlefield]:
    field = Battlefield(directory, nodes, chance.randrange(2**32), settings, **more)
    try:
        yield field
    finally:
        field.close()
