"""Real nodes on simulated machines: whatever fails, and in whatever order, nothing that was acknowledged is lost.

A failure prints its seed and the command that runs it again: `python -m tests.simulation --seed N`, with `--shrink` for
the few faults that it needs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.campaign import command, shrink
from tests.simulation.mutants import MUTANTS, Mutant, hunt
from tests.simulation.run import Ran, run
from tests.simulation.summary import CPU_S, HUNTED, SIMULATED
from tests.simulation.table import campaign_of

RecordProperty = Callable[[str, object], None]
PROJECT = Path(__file__).resolve().parents[2]
FAST_SEEDS = 30
LONG_SEEDS = 2_000
SEEDS_AT_A_TIME = 50
"""Runs differ a lot: a median is worth something over many of them only."""
CLOCK_SEEDS = 3
UNMASKED = [one for one in MUTANTS if not one.is_masked]
QUICKLY_FOUND = (
    "acknowledged_on_local_append", "min_in_sync_ignored_at_the_watermark", "an_old_life_goes_on",
    "timers_by_the_wall_clock",
)  # fmt: skip
PAGE = (PROJECT / "docs" / "proof" / "simulation.md").read_text(encoding="utf-8")


def checked(seed: int) -> Ran:
    ran = run(seed)
    if ran.found is not None:
        again = f"again: {command(ran, frozenset())}"
        sys.stdout.write("\n".join([*ran.log[-300:], ran.found.trace, again, ""]))
        raise AssertionError(f"seed {seed}: {ran.found} ({again})")
    return ran


def explore(seeds: range, record_property: RecordProperty) -> None:
    started_s = time.process_time()
    all_ran = [checked(seed) for seed in seeds]
    told = campaign_of(all_ran, time.process_time() - started_s)
    record_property(SIMULATED, [[ran.acknowledged, ran.faults.total(), ran.elections, ran.events] for ran in all_ran])
    record_property(CPU_S, told.cpu_s)
    assert told.acknowledged_median >= 2_000, f"hardly ever written to: it proves nothing: {told}"
    assert told.faults_median >= 10, f"hardly anything fails: it proves nothing: {told}"
    assert told.elections_median >= 1, f"nobody ever takes over: it proves nothing: {told}"


# The same seeds each time, so that who changes something hears of his own bugs. A seed is another run where the code is
# another; campaigns draw new ones (`python -m tests.simulation --seeds A:B --append`).
@pytest.mark.timeout(300)
def test_no_promise_is_broken_whatever_fails(record_property: RecordProperty) -> None:
    explore(range(FAST_SEEDS), record_property)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("first", range(FAST_SEEDS, LONG_SEEDS, SEEDS_AT_A_TIME))
def test_no_promise_is_broken_in_many_more_runs(first: int, record_property: RecordProperty) -> None:
    explore(range(first, min(first + SEEDS_AT_A_TIME, LONG_SEEDS)), record_property)


@pytest.mark.parametrize("seed", range(CLOCK_SEEDS))
def test_nobody_goes_by_a_wall_clock(seed: int) -> None:
    ran = run(seed, only_clocks=True)
    assert ran.found is None, f"{ran.found} (again: {command(ran, frozenset())})"
    assert ran.faults["clock"] >= 10
    assert ran.acknowledged >= 1_000


def find(mutant: Mutant, record_property: RecordProperty) -> None:
    hunted = hunt(mutant)
    record_property(HUNTED, str(hunted))
    assert not hunted.has_failed, f"{hunted}: the checkers do not see this bug, or see another"


@pytest.mark.parametrize("mutant", [one for one in UNMASKED if one.name in QUICKLY_FOUND], ids=lambda one: one.name)
def test_a_bug_is_found(mutant: Mutant, record_property: RecordProperty) -> None:
    find(mutant, record_property)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutant", [one for one in UNMASKED if one.name not in QUICKLY_FOUND], ids=lambda one: one.name)
def test_a_bug_that_hides_better_is_found(mutant: Mutant, record_property: RecordProperty) -> None:
    find(mutant, record_property)


def test_a_bug_that_something_else_is_found_of_is_not_found() -> None:
    (mutant,) = (one for one in MUTANTS if one.name == "acknowledged_on_local_append")
    hunted = hunt(replace(mutant, killed_by=frozenset({"S17"}), seeds=3))
    assert hunted.has_failed
    assert "something else: S2" == hunted.found_by


def test_the_page_says_which_promises_a_bug_that_was_put_in_breaks() -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith("Found broken by a bug put in: "))
    told = line.removeprefix("Found broken by a bug put in: ").rstrip(".").split(", ")
    broken = {name for one in UNMASKED for name in one.killed_by if name[1:].isdigit()}
    assert sorted(broken, key=_number) == told


def _number(promise: str) -> tuple[bool, int]:
    return promise[0] != "S", int(promise[1:])


def test_one_seed_is_one_run_in_any_process() -> None:
    """The order of sets follows hashes, and hashes differ between processes: nothing may depend on it."""
    seed = 3
    told = "(ran.trace, ran.events, sorted(ran.told.items()), sorted(ran.faults.items()))"
    program = f"from tests.simulation.run import run; ran = run({seed}); print({told})"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", program]
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    ran = run(seed)
    assert str((ran.trace, ran.events, sorted(ran.told.items()), sorted(ran.faults.items()))) == again.stdout.strip()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_faults_that_do_not_matter_are_left_out() -> None:
    (mutant,) = (one for one in MUTANTS if one.name == "unclean_elections")
    hunted = hunt(mutant)
    assert hunted.seed is not None
    with mutant.breaks():
        whole = run(hunted.seed)
        smaller, _ = shrink(whole, frozenset())
    assert whole.found is not None
    assert smaller.found is not None
    assert whole.found.name == smaller.found.name
    assert smaller.faults.total() < whole.faults.total()
