"""The end of a round: writers stop, everything is read through leaders and from disks, and the checker speaks.

Owns the rule that it speaks in every case: what fails on the way (a partition without a leader, a client that hangs, a
replica that stays behind) is noted and does not keep the rest from being read and judged. Refuses to call a round
judged of which anything could not be read. Where the cluster is not whole only the disks are read: a leader may not
know yet up to where it may let anybody read.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.faults.checker import Violation, check
from tests.faults.harness import HEALED_S, Cluster, Deadline
from tests.faults.history import Final
from tests.faults.replica_logs import read_replicas, settled_replicas
from tests.faults.replicated_workload import ReplicatedWorkload

REPLICAS = 3


@dataclass(slots=True)
class Judgement:
    """What was found in one round, in whatever state it ended."""

    violations: list[Violation] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """What was not as it must be before the checker was asked: L1, and clients' own complaints."""
    is_judged: bool = False
    """The cluster was whole, every partition was read through its leader and from each disk, and the checker spoke."""

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """What fails within is noted and ends there."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - told by `raise_first`, when everything was attempted
            self.failures.append(error)

    def raise_first(self) -> None:
        """The first failure, with the others as its notes."""
        for error in self.failures[1:]:
            if error is not self.failures[0]:
                self.failures[0].add_note(f"and then: {type(error).__name__}: {error}")
        if self.failures:
            raise self.failures[0]


def judge(judgement: Judgement, cluster: Cluster, topic: str, partitions: int, workload: ReplicatedWorkload) -> None:
    """Everything into the workload's history that can be read, and what the checker finds into the judgement."""
    is_well = False
    with judgement.attempt():
        workload.stop_writing()
    with judgement.attempt():
        cluster.wait_well(topic, partitions, Deadline(HEALED_S))
        is_well = True
    if is_well:
        with judgement.attempt():
            workload.read_everything(Deadline(HEALED_S))
        with judgement.attempt():
            workload.wait_for_readers(Deadline(HEALED_S))
    with judgement.attempt():
        workload.stop()
    workload.abandon()
    _read_disks(judgement, cluster, topic, partitions, workload, is_well=is_well)
    with judgement.attempt():
        workload.note_unanswered()
        history = list(workload.history)  # a client that hangs may still add to it
        judgement.violations += check(history)
        finals = sum(isinstance(operation, Final) for operation in history)
        judgement.is_judged = is_well and finals == partitions * (1 + REPLICAS)


def _read_disks(
    judgement: Judgement, cluster: Cluster, topic: str, partitions: int, workload: ReplicatedWorkload, *, is_well: bool
) -> None:
    nodes, deadline = list(cluster.nodes.values()), Deadline(HEALED_S)
    for partition in range(partitions):
        with judgement.attempt():
            if is_well:
                finals = settled_replicas(nodes, topic, partition, replicas=REPLICAS, deadline=deadline)
                workload.history += finals
                assert len(finals) == REPLICAS, f"{len(finals)} replicas of {topic}-{partition} lie on the nodes' disks"
            else:
                finals = read_replicas(nodes, topic, partition)
                workload.history += [replace(final, is_settled=False) for final in finals]
