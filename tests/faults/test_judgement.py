"""A round is judged in whatever state it ended: nothing that was lost hides behind what else went wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import judgement as judging
from tests.faults.harness import Deadline, Node
from tests.faults.history import Final, Operation, Outcome, Poll, Send
from tests.faults.judgement import Judgement, judge
from tests.faults.test_replica_logs import batch, broken, write

A, B = Send("t-0", ("a",), 0, 1, Outcome.ACKNOWLEDGED, (0,)), Send("t-0", ("b",), 2, 3, Outcome.ACKNOWLEDGED, (1,))
LOG = ((0, "a"), (1, "b"))


@dataclass
class Clients:
    """A workload that is over; what they still fail with, step by step."""

    history: list[Operation]
    finals: list[Operation] = field(default_factory=lambda: [Final("t-0", LOG)])
    errors: dict[str, Exception] = field(default_factory=dict)
    under_way: list[Operation] = field(default_factory=list)

    def _step(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]

    def stop_writing(self) -> None:
        self._step("stop_writing")

    def read_everything(self, _: Deadline) -> None:
        self.history += self.finals
        self._step("read_everything")

    def wait_for_readers(self, _: Deadline) -> None:
        self._step("wait_for_readers")

    def stop(self) -> None:
        self._step("stop")

    def abandon(self) -> None:
        pass

    def note_unanswered(self) -> None:
        self.history += self.under_way


def judged(clients: Clients, nodes: list[Node], *, is_well: bool = True) -> Judgement:
    def wait_well(*_: object) -> None:
        assert is_well, "t is not whole again (L1)"

    made = Judgement()
    judge(made, SimpleNamespace(nodes=dict(enumerate(nodes)), wait_well=wait_well), "t", 1, clients)
    return made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "HEALED_S", 0.2)


def whole(tmp_path: Path, count: int = 3) -> list[Node]:
    return [write(tmp_path, node_id, batch("a"), batch("b")) for node_id in range(1, count + 1)]


def names(made: Judgement) -> set[str]:
    return {violation.name for violation in made.violations}


def test_a_clean_round_is_judged_and_clean(tmp_path: Path):
    made = judged(Clients([A, B]), whole(tmp_path))
    assert ([], [], True) == (made.violations, made.failures, made.is_judged)


def test_a_replica_that_stays_short_is_a_lost_record_not_only_a_wait_in_vain(tmp_path: Path):
    made = judged(Clients([A, B]), [*whole(tmp_path, 2), write(tmp_path, 3, batch("a"))])
    assert {"acked-not-on-replica", "replica-divergence"} == names(made)
    assert made.is_judged


def test_a_batch_with_a_broken_crc_is_a_lost_record_on_that_replica(tmp_path: Path):
    made = judged(Clients([A, B]), [*whole(tmp_path, 2), write(tmp_path, 3, batch("a"), broken(batch("b")))])
    assert {"damaged-replica", "acked-not-on-replica", "replica-divergence"} == names(made)


def test_a_replica_that_is_not_there_leaves_the_round_unjudged_and_is_told(tmp_path: Path):
    made = judged(Clients([A, B]), whole(tmp_path, 2))
    assert not made.is_judged
    with pytest.raises(AssertionError, match="2 replicas of t-0 lie on the nodes' disks"):
        made.raise_first()


@pytest.mark.parametrize("step", ["stop_writing", "read_everything", "wait_for_readers", "stop"])
def test_whatever_fails_on_the_way_the_checker_is_asked_before_it_is_raised(tmp_path: Path, step: str):
    clients = Clients([A, B], finals=[Final("t-0", LOG[:1])], errors={step: AssertionError(f"{step} failed")})
    made = judged(clients, whole(tmp_path))
    assert "lost-write" in names(made)
    with pytest.raises(AssertionError, match=f"{step} failed"):
        made.raise_first()


def test_a_partition_that_could_not_be_read_leaves_the_round_unjudged(tmp_path: Path):
    clients = Clients([A, B], finals=[], errors={"read_everything": ValueError("the batch at offset 1 is broken")})
    made = judged(clients, whole(tmp_path))
    assert {"never-read"} == names(made)
    assert not made.is_judged


def test_what_was_lost_on_every_disk_shows_also_where_the_cluster_never_healed(tmp_path: Path):
    nodes = [write(tmp_path, node_id, batch("a")) for node_id in (1, 2, 3)]
    made = judged(Clients([A, B]), nodes, is_well=False)
    assert ["b... was acknowledged at (1,): no replica has it there"] == [one.what for one in made.violations]
    assert not made.is_judged
    with pytest.raises(AssertionError, match="not whole again"):
        made.raise_first()


def test_what_a_reader_saw_has_to_be_on_some_disk_where_the_cluster_never_healed(tmp_path: Path):
    nodes = [write(tmp_path, node_id, batch("a")) for node_id in (1, 2, 3)]
    doubtful = Send("t-0", ("b",), 2, 3, Outcome.UNKNOWN)
    made = judged(Clients([A, doubtful, Poll("t-0", 3, 4, 0, LOG, 2)]), nodes, is_well=False)
    assert {"lost-read"} == names(made)


def test_a_follower_that_is_behind_is_no_defect_where_the_cluster_never_healed(tmp_path: Path):
    """It lacks what was acknowledged, and holds what its leader never got round to acknowledging."""
    nodes = [*whole(tmp_path, 2), write(tmp_path, 3, batch("a"), batch("x"), batch("y"))]
    never = [Send("t-0", (value,), 1, 9, Outcome.UNKNOWN) for value in ("x", "y")]
    assert set() == names(judged(Clients([A, B, *never]), nodes, is_well=False))


def test_polls_and_sends_are_judged_without_any_final_read(tmp_path: Path):
    refused = Send("t-0", ("b",), 2, 3, Outcome.REFUSED)
    made = judged(Clients([A, refused, Poll("t-0", 4, 5, 0, ((0, "b"),), 1)]), [], is_well=False)
    assert {"aborted-read", "inconsistent-offset"} <= names(made)


def test_what_a_client_that_died_had_sent_is_no_phantom(tmp_path: Path):
    """It lies in the log, and nobody has noted what became of it."""
    clients = Clients([A], errors={"stop_writing": AssertionError("409")})
    clients.under_way.append(Send("t-0", ("b",), 2, 3, Outcome.UNKNOWN))
    made = judged(clients, whole(tmp_path))
    assert [] == made.violations


def test_all_failures_are_told_with_the_first():
    made = Judgement()
    for text in ("first", "second"):
        with made.attempt():
            raise AssertionError(text)
    with pytest.raises(AssertionError, match="first") as raised:
        made.raise_first()
    assert ["and then: AssertionError: second"] == raised.value.__notes__
