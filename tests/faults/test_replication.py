"""Three replicas under kill -9 and SIGSTOP: what was acknowledged is on every replica at its offset (S1, S6), and what
an idempotent producer sent again lies there once (S13).
"""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.battlefield import SESSION_TIMEOUT_MS, battlefield
from tests.faults.conftest import Form
from tests.faults.fault_kinds import KINDS, Strike, draw_victim
from tests.faults.harness import Cluster, wait_until
from tests.faults.history import Send, counts
from tests.faults.judgement import Judgement, judge
from tests.faults.replicated_workload import ReplicatedWorkload
from tests.faults.tally import longest_silence_s

TOPIC = "payments"
PARTITIONS = 6
STRIKE_S_MAX = 10.0
LONG_S = float(os.environ.get("KRAFT_FAULT_SECONDS", "30"))


def begin(form: Form, chance: random.Random) -> tuple[Cluster, ReplicatedWorkload]:
    cluster = form(3, f"broker.session.timeout.ms={SESSION_TIMEOUT_MS}", "log.retention.ms=-1")
    return cluster, made_topic(cluster, chance)


def made_topic(cluster: Cluster, chance: random.Random) -> ReplicatedWorkload:
    with cluster[1].client() as client:
        created = client.create_topic(TOPIC, PARTITIONS, {"min.insync.replicas": "2"}, replication_factor=3)
        assert created.topic_id is not None
    return ReplicatedWorkload(list(cluster.nodes.values()), TOPIC, PARTITIONS, chance)


def end(cluster: Cluster, workload: ReplicatedWorkload, told: str = "") -> None:
    """After healing: read through the leaders and from each node's disk, then let the checker speak."""
    judgement = Judgement()
    judge(judgement, cluster, TOPIC, PARTITIONS, workload)
    sends = [operation for operation in workload.history if isinstance(operation, Send)]
    longest_s = longest_silence_s(sends, 0, float("inf"))
    print(f"{counts(workload.history)}; {workload.retried} retries; no write for {longest_s:.1f} s at most; {told}")  # noqa: T201 - how much the run proved
    assert [] == judgement.violations
    judgement.raise_first()
    assert judgement.is_judged


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
        cluster.wait_well(TOPIC, PARTITIONS)
        workload.wait_for_more(200)
        end(cluster, workload)
    finally:
        workload.stop()


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
        end(cluster, workload)
    finally:
        workload.stop()


@pytest.mark.long
@pytest.mark.timeout(2 * LONG_S + 240)
@pytest.mark.parametrize("segment_bytes", ["1073741824", "65536"])
def test_minutes_of_kills_and_pauses_lose_nothing(tmp_path: Path, chance: random.Random, segment_bytes: str):
    """One node at a time; at times the next one before the last one is in sync again, unlike in a campaign.

    KRAFT_FAULT_SECONDS (30): how long each of these runs; for hours there is scripts/faults.
    """
    settings = f"log.segment.bytes={segment_bytes}", "log.flush.offset.checkpoint.interval.ms=500"
    with battlefield(tmp_path / "cluster", 3, chance, *settings, can_fail_calls=False) as field:
        workload = made_topic(field.cluster, chance)
        workload.start(producers=2, pollers=2)
        workload.start_replicated(idempotent=3, kafka=2)
        told: Counter[str] = Counter()
        end_s = time.monotonic() + LONG_S
        try:
            while time.monotonic() < end_s:
                workload.wait_for_more(chance.randint(1, 2000), timeout_s=60)
                kind, victim = chance.choice(("kill", "pause")), draw_victim(field, TOPIC, PARTITIONS, chance)
                strike = Strike(field, TOPIC, victim, chance, workload.history)
                told[kind] += 1
                told["hit a leader with requests in flight"] += bool(workload.in_flight) and strike.hits_a_leader
                with KINDS[kind](strike):
                    strike.pause(STRIKE_S_MAX)
                field.start_dead()
                if chance.random() < 0.5:
                    field.cluster.wait_well(TOPIC, PARTITIONS)
            end(field.cluster, workload, ", ".join(f"{count} x {what}" for what, count in sorted(told.items())))
        except BaseException as error:
            error.add_note(field.cluster.logs())
            raise
        finally:
            workload.stop()
