"""A cluster on the battlefield lives through a short fault of each kind: nothing is lost, and it heals (L1).

The same kinds strike for minutes in `scripts/faults`; here each is short, to show that it strikes and heals.
"""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.battlefield import Battlefield, battlefield, calls_can_fail
from tests.faults.checker import check
from tests.faults.fault_kinds import KINDS, Strike, needs_compiler
from tests.faults.harness import HEALED_S, Deadline, wait_until
from tests.faults.history import Operation, Outcome
from tests.faults.replica_logs import settled_replicas

TOPIC = "payments"
PARTITIONS = 2


@pytest.fixture
def field(tmp_path: Path, chance: random.Random) -> Iterator[Battlefield]:
    with battlefield(
        tmp_path / "cluster", 3, chance, with_journal=calls_can_fail(), can_fail_calls=calls_can_fail()
    ) as made:
        with made.cluster[1].client() as client:
            client.create_topic(TOPIC, PARTITIONS, {"min.insync.replicas": "2"}, replication_factor=3)
        made.cluster.wait_well(TOPIC, PARTITIONS)
        yield made


def send(field: Battlefield, history: list[Operation], label: str, records: int = 20) -> None:
    """Whatever becomes of it is noted."""
    for number in range(records):
        with contextlib.closing(field.nodes[number % 3].client(timeout_s=2)) as client:
            partition = number % PARTITIONS
            history.append(client.send_batch(TOPIC, partition, (f"{label}/{number}",), timeout_ms=500)[0])


def is_written(field: Battlefield, history: list[Operation], label: str) -> bool:
    send(field, history, f"{label}/{len(history)}", 1)
    return history[-1].outcome is Outcome.ACKNOWLEDGED


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", KINDS)
def test_a_fault_of_each_kind_loses_nothing_and_heals(field: Battlefield, chance: random.Random, name: str):
    """S1, S6, L1."""
    if needs_compiler(name) and not calls_can_fail():
        pytest.skip("needs Linux and a C compiler")
    history: list[Operation] = []
    wait_until(lambda: is_written(field, history, "first"), "the topic takes writes")
    send(field, history, "before", 40)
    victim = field.cluster.leader_of(TOPIC, 0)
    with KINDS[name](Strike(field, TOPIC, victim, chance, history)):
        send(field, history, "during", 6)
    within = Deadline(HEALED_S)
    field.heal()
    field.start_dead(within)
    field.cluster.wait_well(TOPIC, PARTITIONS, within)
    within.wait_until(lambda: is_written(field, history, "after"), "the topic takes writes again")
    for partition in range(PARTITIONS):
        with field.cluster[1].client() as client:
            history.append(client.read_all(TOPIC, partition))
        history += settled_replicas(field.nodes, TOPIC, partition, replicas=3, deadline=Deadline(HEALED_S))
    assert [] == check(history)
