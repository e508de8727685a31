"""One run of the model cluster: faults for a while, then healing, checked at every step.

A seed chooses the settings too, so that a printed seed is all that a failure needs.
"""

from dataclasses import dataclass

from tests.broker.replication.model_broker import Cores
from tests.broker.replication.model_cluster import ModelCluster
from tests.broker.replication.model_nemesis import Nemesis

FAULTS_UNTIL_MS = 8_000
HEALED_WITHIN_MS = 4_000


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run was worth."""

    events: int
    acknowledged: int
    elections: int
    faults: int


def run(seed: int, cores: Cores | None = None, *, directed: float = 0.25) -> Ran:
    """Raises ViolationError. Every fourth seed: one in-sync replica is enough, every fourth: relaxed flushes."""
    min_in_sync_replicas = 1 if seed % 4 == 0 else 2
    cluster = ModelCluster(seed, min_in_sync_replicas=min_in_sync_replicas, relaxed=seed % 4 == 3, cores=cores)
    nemesis = Nemesis(cluster, seed, directed=directed, wipes=min_in_sync_replicas > 1)
    cluster.sends_until_ms = FAULTS_UNTIL_MS
    cluster.begin()
    nemesis.begin()
    cluster.run_until(FAULTS_UNTIL_MS)
    nemesis.stop()
    cluster.check_healed(HEALED_WITHIN_MS)
    acknowledged = len(cluster.checkers.acknowledged)
    return Ran(cluster.events_run, acknowledged, cluster.elections, sum(nemesis.faults.values()))
