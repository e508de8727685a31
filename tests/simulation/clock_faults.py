"""Wall clocks jump, and nothing else goes wrong (S20): whatever a node decides by its wall clock shows."""

from typing import TYPE_CHECKING, Final

from tests.simulation.nemesis import Nemesis

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS
JUMPS_MS: Final = (0, 3_000, 10_000, 60 * MINUTE_MS, 30 * DAY_MS)


class OnlyClocks(Nemesis):
    """As often as any fault comes, one machine's clock goes wrong, forwards or back."""

    def __init__(self, cluster: "SimulatedCluster", *, without: frozenset[str] = frozenset()) -> None:
        super().__init__(cluster, without=without)
        self._faults = {"clock": self._jump}
        self._directed = 0.0

    def begin(self) -> None:
        super().begin()
        self.cluster.watch.only_clocks_jump = True

    def _jump(self) -> str:
        machine = self.cluster.machines[self.rng.choice(self.cluster.node_ids)]
        machine.clock.wall_error_ms = self.rng.choice(JUMPS_MS) * self.rng.choice([1, -1])
        return f"node {machine.address} to {machine.clock.wall_error_ms} ms"
