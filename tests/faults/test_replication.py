"""Three replicas under kill -9 and SIGSTOP: what was acknowledged is on every replica at its offset (S1, S6), and what
an idempotent producer sent again lies there once (S13).
"""

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tests.faults.checker import check
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, wait_until
from tests.faults.history import Final, Operation, Outcome, Send, counts
from tests.faults.nemesis import Nemesis
from tests.faults.replica_logs import read_replica
from tests.faults.replicated_workload import ReplicatedWorkload

TOPIC = "payments"
PARTITIONS = 6
SESSION_TIMEOUT_S = 2.0
HEALED_S = 30.0
LONG_S = float(os.environ.get("KRAFT_FAULT_SECONDS", "300"))


def begin(form: Form, chance: random.Random, *settings: str) -> tuple[Cluster, ReplicatedWorkload]:
    cluster = form(3, f"broker.session.timeout.ms={int(SESSION_TIMEOUT_S * 1000)}", "log.retention.ms=-1", *settings)
    configs = {"min.insync.replicas": "2"}
    with cluster[1].client() as client:
        created = client.create_topic(TOPIC, PARTITIONS, configs, replication_factor=3)
        assert created.topic_id is not None
    return cluster, ReplicatedWorkload(cluster.ports, cluster.kafka_ports, TOPIC, PARTITIONS, chance)


def judge(cluster: Cluster, workload: ReplicatedWorkload, told: str = "") -> None:
    """After healing: read through the leaders and from each node's disk, then let the checker speak."""
    workload.stop()
    cluster.restart_dead()
    cluster.wait_in_sync(TOPIC, PARTITIONS, timeout_s=HEALED_S)
    workload.read_everything()
    for partition in range(PARTITIONS):
        replicas = equal_replicas(cluster, partition)
        workload.history += replicas
        assert [0, 0, 0] == [replica.log_start_offset for replica in replicas]
    longest_s = longest_unavailability_s(workload.history)
    print(f"{counts(workload.history)}; {workload.retried} retries; no write for {longest_s:.1f} s at most; {told}")  # noqa: T201 - how much the run proved
    assert [] == check(workload.history)


def equal_replicas(cluster: Cluster, partition: int) -> list[Final]:
    """Each replica's own files, once they are equally long; a follower's last fetch may still be on its way."""
    found: list[Final] = []

    def are_equal() -> bool:
        read = (read_replica(n.directory, n.node_id, TOPIC, partition) for n in cluster.nodes.values())
        found[:] = [final for final in read if final is not None]
        return len({len(final.records) for final in found}) == 1

    wait_until(are_equal, f"the replicas of {TOPIC}-{partition} are equally long", timeout_s=HEALED_S)
    return found


def longest_unavailability_s(history: Iterable[Operation]) -> float:
    """Between two acknowledgements of one partition: how long nobody could write there."""
    ended: dict[str, list[float]] = defaultdict(list)
    for operation in history:
        if isinstance(operation, Send) and operation.outcome is Outcome.ACKNOWLEDGED:
            ended[operation.partition].append(operation.ended_s)
    gaps = (b - a for times in ended.values() for a, b in zip(sorted(times), sorted(times)[1:], strict=False))
    return max(gaps, default=0.0)


def test_the_death_of_a_leader_loses_nothing_and_duplicates_nothing(form: Form, chance: random.Random):
    cluster, workload = begin(form, chance)
    workload.start(producers=1)
    workload.start_replicated()
    try:
        workload.wait_for_more(500)
        leader = cluster.leader_of(TOPIC, 0)
        leader.kill()
        workload.wait_for_more(200)
        wait_until(lambda: cluster.leader_of(TOPIC, 0) is not leader, f"{TOPIC}-0 has another leader")
        leader.start()
        cluster.wait_in_sync(TOPIC, PARTITIONS)
        workload.wait_for_more(200)
    finally:
        workload.stop()
    judge(cluster, workload)


def test_all_killed_at_once_recover_without_an_operator(form: Form, chance: random.Random):
    """S10: where flush settings are the default, an unclean stop costs nobody its eligibility."""
    cluster, workload = begin(form, chance)
    workload.start(producers=1)
    workload.start_replicated()
    try:
        workload.wait_for_more(300)
        for node in cluster.nodes.values():
            node.kill()
        cluster.restart_dead()
        workload.wait_for_more(200)
    finally:
        workload.stop()
    judge(cluster, workload)


@pytest.mark.long
@pytest.mark.timeout(2 * LONG_S + 240)
@pytest.mark.parametrize("segment_bytes", ["1073741824", "65536"])
def test_minutes_of_kills_and_pauses_lose_nothing(form: Form, chance: random.Random, segment_bytes: str):
    """KRAFT_FAULT_SECONDS (300): how long each of these runs."""
    cluster, workload = begin(
        form, chance, f"log.segment.bytes={segment_bytes}", "log.flush.offset.checkpoint.interval.ms=500"
    )
    workload.start(producers=2, pollers=2)
    workload.start_replicated(idempotent=3, kafka=2)
    nemesis = Nemesis(cluster, workload, TOPIC, chance)
    end_s = time.monotonic() + LONG_S
    try:
        while time.monotonic() < end_s:
            workload.wait_for_more(chance.randint(1, 2000), timeout_s=60)
            nemesis.strike()
            if chance.random() < 0.5:
                cluster.wait_in_sync(TOPIC, PARTITIONS, timeout_s=HEALED_S)
    finally:
        workload.stop()
    judge(cluster, workload, ", ".join(f"{count} x {what}" for what, count in sorted(nemesis.done.items())))
