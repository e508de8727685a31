"""A campaign draws what its seed says, measures what its page says, and finds what it must: on a cluster of stubs."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import campaign as campaigning
from tests.faults import judgement as judging
from tests.faults.campaign import Campaign
from tests.faults.fault_kinds import KINDS, Strike
from tests.faults.harness import Deadline, wait_until
from tests.faults.history import Operation, Outcome, Poll, Send
from tests.faults.judgement import Judgement
from tests.faults.tally import Cycle, Tally


class Field:
    """Three nodes that lead everything; `slow_s`: how long each step of getting well again takes."""

    def __init__(self) -> None:
        self.nodes = [SimpleNamespace(node_id=node_id, directory=Path("/nowhere")) for node_id in (1, 2, 3)]
        self.calls: dict[int, object] = {}
        self.slow_s = 0.0
        self.steps: list[tuple[str, Deadline | None]] = []
        self.cluster = SimpleNamespace(
            nodes=dict(enumerate(self.nodes, 1)),
            wait_well=lambda _topic, _partitions, within: self.step("wait_well", within),
            leader_of=lambda *_: self.nodes[0],
            quorum_leader=lambda: self.nodes[0],
        )

    def step(self, name: str, within: Deadline | None = None) -> None:
        time.sleep(self.slow_s)  # sleeps: stands for nodes that need it
        self.steps.append((name, within))
        if within is not None:
            within.wait_until(lambda: True, name)

    def heal(self) -> None:
        self.step("heal")

    def begin_dead(self) -> None:
        self.step("begin_dead")

    def start_dead(self, within: Deadline) -> None:
        self.step("start_dead", within)

    def leads(self, *_: object) -> bool:
        return True


class Clients:
    """A workload without threads: `history` is what it has seen from the start."""

    placeless, in_flight, acknowledged = 0, 1, 0
    seen: tuple[Operation, ...] = ()
    field: Field

    def __init__(self, *_: object) -> None:
        self.history = list(self.seen)

    def wait_for_write(self, partition: int, within: Deadline) -> None:
        self.field.step(f"write {partition}", within)

    def nothing(self, *_: object, **__: object) -> None:
        pass

    start = start_replicated = wait_for_more = stop_writing = stop = abandon = note_unanswered = nothing
    read_everything = wait_for_readers = nothing


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> Field:
    """Rounds of three cycles that take no time; whatever they end with counts as judged."""
    field = Field()

    def judge(judgement: Judgement, *_: object) -> None:
        judgement.is_judged = True

    monkeypatch.setattr(campaigning, "ReplicatedWorkload", type("Bound", (Clients,), {"field": field}))
    monkeypatch.setattr(campaigning, "create", lambda *_: None)
    monkeypatch.setattr(campaigning, "delete", lambda *_: None)
    monkeypatch.setattr(campaigning, "judge", judge)
    monkeypatch.setattr(campaigning, "STRIKE_S", (0.0, 0.0))
    monkeypatch.setattr(campaigning, "CYCLES_A_ROUND", 3)
    monkeypatch.setitem(KINDS, "kill", KINDS["nothing"])
    return field


@dataclass
class Round:
    """One that ran, and what it handed to the tally."""

    cycles: list[Cycle]
    field: Field


def round_of(field: Field, folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> Round:
    """As it ended, be it with an error."""
    made = Campaign(field, names, seed, folder)
    cycles: list[Cycle] = []
    monkeypatch.setattr(Tally, "add", lambda _, __, of_round, *___, **____: cycles.extend(of_round))
    with contextlib.suppress(AssertionError):
        made._round(0, float("inf"))
    return Round(cycles, field)


def found(made: Campaign) -> list[str]:
    return [violation.name for violation in made.found]


# --- what a seed draws -----------------------------------------------------------------------------------------------


def test_a_seed_draws_the_same_faults_however_much_each_of_them_draws(field, tmp_path, monkeypatch):
    """How many files were dirty at a power cut changes what is lost, not what comes next."""

    def drawn(draws: Callable[[], int]) -> list[object]:
        victims: list[object] = []

        @contextlib.contextmanager
        def greedy(strike: Strike) -> Iterator[None]:
            victims.append(strike.victim.node_id)
            for _ in range(draws()):
                strike.chance.random()
            yield

        for name in KINDS:
            monkeypatch.setitem(KINDS, name, greedy)
        return [cycle.kinds for cycle in round_of(field, tmp_path, list(KINDS), monkeypatch).cycles] + victims

    monkeypatch.setattr(campaigning, "CYCLES_A_ROUND", 12)
    unlike = random.Random(5)
    assert drawn(lambda: 3) == drawn(lambda: unlike.randrange(50))


# --- L1 --------------------------------------------------------------------------------------------------------------


def test_all_waits_after_a_fault_share_one_deadline_that_begins_before_anything_is_healed(field, tmp_path, monkeypatch):
    field.slow_s = 0.01
    cycle = round_of(field, tmp_path, ["kill"], monkeypatch).cycles[0]
    steps = field.steps[: 3 + campaigning.PARTITIONS]
    assert ["heal", "start_dead", "wait_well", "write 0"] == [name for name, _ in steps[:4]]
    assert 1 == len({within for _, within in steps[1:]})
    assert cycle.heal_s >= 0.01 * len(steps)


def test_waits_that_are_each_short_enough_and_too_long_together_are_found(field, tmp_path, monkeypatch):
    monkeypatch.setattr(campaigning, "HEALED_S", 0.3)
    field.slow_s = 0.1
    made = Campaign(field, ["kill"], 1, tmp_path)
    made.run(1)
    assert ["AssertionError"] == found(made)
    assert "later than 0.3 s" in made.found[0].what
    assert made.tally.rows["kill"].heal_s > 0.3


def test_after_a_fault_that_never_healed_nothing_is_outside_of_faults(field, tmp_path, monkeypatch):
    monkeypatch.setattr(campaigning, "HEALED_S", 0.0)
    (cycle,) = round_of(field, tmp_path, ["kill"], monkeypatch).cycles
    assert float("inf") == cycle.ended_s


def test_nothing_hits_nobody(field, tmp_path, monkeypatch):
    assert [True] * 3 == [one.hit_leader for one in round_of(field, tmp_path, ["kill"], monkeypatch).cycles]
    assert [False] * 3 == [one.hit_leader for one in round_of(field, tmp_path, ["nothing"], monkeypatch).cycles]


# --- what ends a campaign --------------------------------------------------------------------------------------------


def test_refused_in_peace_is_found(field, tmp_path, monkeypatch):
    sends = [Send("t-0", (str(at),), at, at, Outcome.REFUSED if at % 3 else Outcome.ACKNOWLEDGED) for at in range(9)]
    monkeypatch.setattr(Clients, "seen", tuple(sends))
    made = Campaign(field, ["nothing"], 1, tmp_path)
    made.run(0.0001)
    assert ["unavailable"] == found(made)
    assert "outside of faults 33.3% of" in made.found[0].what


def test_a_round_that_ends_with_an_error_is_judged_all_the_same_and_its_requests_prove_nothing(
    field, tmp_path, monkeypatch
):
    history = (
        Send("round-0-0", ("a",), 0, 1, Outcome.ACKNOWLEDGED, (0,)),
        Send("round-0-0", ("b",), 2, 3, Outcome.REFUSED),
        Poll("round-0-0", 4, 5, 0, ((0, "b"),), 1, "poll-0"),
    )
    monkeypatch.setattr(Clients, "seen", history)
    monkeypatch.setattr(Clients, "wait_for_more", lambda *_, **__: wait_until(lambda: False, "more", timeout_s=0))
    monkeypatch.setattr(campaigning, "judge", judging.judge)
    field.cluster.wait_well = lambda *_: Deadline(0.0).wait_until(lambda: False, "t is whole again (L1)")
    made = Campaign(field, ["kill"], 1, tmp_path)
    made.run(60)
    assert {"aborted-read", "inconsistent-offset", "AssertionError"} <= set(found(made))
    total = made.tally.rows["all"]
    assert (0, 0, 2) == (total.acknowledged, total.refused, made.tally.unjudged)
    assert total.diverged >= 2
    assert made.ran_minutes < 1
    assert (tmp_path / "round-0.jsonl").exists()
