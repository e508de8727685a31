"""kill -9, at any moment, as often as one likes: what was acknowledged stays, what was refused never shows (S1, S10,
S12, S14, S15, S16).
"""

import contextlib
import os
import random
import time

import pytest

from tests.faults.checker import check, check_topics
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, wait_until
from tests.faults.history import Creation, counts
from tests.faults.workload import Workload

PARTITIONS = 4
LONG_S = float(os.environ.get("KRAFT_FAULT_SECONDS", "30"))


def begin(cluster: Cluster, chance: random.Random) -> Workload:
    with cluster[1].client() as client:
        assert client.create_topic("orders", PARTITIONS).topic_id is not None
    return Workload(list(cluster.nodes.values()), "orders", PARTITIONS, chance)


def rest(chance: random.Random, longest_s: float) -> None:
    time.sleep(chance.uniform(0, longest_s))  # sleeps: the moment of a kill is what the seed draws, not a condition


def kill_some(cluster: Cluster, chance: random.Random) -> None:
    """One node, or sometimes all of them at once, and back again."""
    ids = list(cluster.nodes)
    for node_id in ids if chance.random() < 0.3 else [chance.choice(ids)]:
        cluster[node_id].kill()
    rest(chance, 0.3)
    cluster.restart_dead()


def judge(cluster: Cluster, workload: Workload) -> None:
    workload.stop()
    workload.read_everything()
    print(counts(workload.history))  # noqa: T201 - how much the run proved
    assert [] == check(workload.history)
    created = [operation for operation in workload.history if isinstance(operation, Creation)]
    for node in cluster.nodes.values():
        with node.client() as client:
            # it may hear of the last ones a moment after the node that said so
            with contextlib.suppress(AssertionError):
                wait_until(lambda client=client: not check_topics(created, client.topics()), "it knows every topic")
            assert [] == check_topics(created, client.topics()), f"asked of node {node.node_id}"


def test_one_node_keeps_every_acknowledged_record(form: Form, chance: random.Random):
    cluster = form(1)
    workload = begin(cluster, chance)
    workload.start(producers=2)
    try:
        for _ in range(3):
            workload.wait_for_more(200)
            rest(chance, 0.2)
            cluster[1].kill()
            cluster.restart_dead()
        workload.wait_for_more(100)
    finally:
        workload.stop()
    judge(cluster, workload)


def test_three_nodes_keep_every_acknowledged_record_and_topic(form: Form, chance: random.Random):
    cluster = form(3)
    workload = begin(cluster, chance)
    workload.start(producers=2, creators=1)
    try:
        workload.wait_for_more(200)
        cluster.quorum_leader().kill()
        rest(chance, 0.3)
        cluster.restart_dead()
        workload.wait_for_more(100)
        for node in cluster.nodes.values():
            node.kill()
        cluster.restart_dead()
        workload.wait_for_more(100)
    finally:
        workload.stop()
    judge(cluster, workload)


@pytest.mark.long
@pytest.mark.timeout(2 * LONG_S + 120)
@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("segment_bytes", ["1073741824", "65536"])
def test_minutes_of_kills_lose_nothing(form: Form, chance: random.Random, nodes: int, segment_bytes: str):
    """KRAFT_FAULT_SECONDS (30): how long each of these runs. Small segments roll and checkpoint all the time."""
    cluster = form(
        nodes,
        f"log.segment.bytes={segment_bytes}",
        "log.flush.offset.checkpoint.interval.ms=200",
        "log.retention.ms=-1",
    )
    workload = begin(cluster, chance)
    workload.start(producers=3, pollers=2, creators=1)
    end_s = time.monotonic() + LONG_S
    try:
        while time.monotonic() < end_s:
            workload.wait_for_more(chance.randint(1, 2000))
            rest(chance, 0.5)
            kill_some(cluster, chance)
    finally:
        workload.stop()
    judge(cluster, workload)


@pytest.mark.long
def test_nothing_is_lost_without_faults_either(form: Form, chance: random.Random):
    cluster = form(3)
    workload = begin(cluster, chance)
    workload.start(producers=2, creators=1)
    try:
        workload.wait_for_more(2000)
    finally:
        workload.stop()
    judge(cluster, workload)
