"""Real nodes on simulated machines: whatever fails, and in whatever order, nothing that was acknowledged is lost.

A failure prints its seed and the command that runs it again: `python -m tests.simulation --seed N`, with `--shrink` for
the few faults that it needs.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import shrink
from tests.simulation.mutants import MUTANTS, Mutant, hunt
from tests.simulation.run import Ran, name_of, run

PROJECT = Path(__file__).resolve().parents[2]
FIRST_SEED = int(os.environ.get("KRAFT_TEST_SEED", "0")) * 10_000
FAST_SEEDS = 10
LONG_SEEDS = 2_000
SEEDS_AT_A_TIME = 50
QUICKLY_FOUND = ("acknowledged_on_local_append", "min_in_sync_ignored_at_the_watermark", "an_old_life_goes_on")


def checked(seed: int) -> Ran:
    ran = run(seed)
    if ran.found is not None:
        again = f"again: python -m tests.simulation --seed {seed}"
        sys.stdout.write("\n".join([*ran.log[-300:], again, ""]))
        raise AssertionError(f"seed {seed}: {ran.found} ({again})") from ran.found
    return ran


def explore(seeds: range) -> None:
    all_ran = [checked(seed) for seed in seeds]
    acknowledged = statistics.median(ran.acknowledged for ran in all_ran)
    faults = statistics.median(ran.faults.total() for ran in all_ran)
    elections = statistics.median(ran.elections for ran in all_ran)
    sys.stdout.write(
        f"seeds {seeds.start} to {seeds.stop - 1}, a run (median): {acknowledged:.0f} acknowledged sends, {faults:.0f} "
        f"faults, {elections:.0f} elections; {sum(ran.events for ran in all_ran):,} events\n"
    )
    assert acknowledged > 200, "hardly ever written to: it proves nothing"
    assert faults > 0


@pytest.mark.parametrize("first", range(0, FAST_SEEDS, 2))
def test_no_promise_is_broken_whatever_fails(first: int) -> None:
    explore(range(FIRST_SEED + first, FIRST_SEED + first + 2))


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("first", range(FAST_SEEDS, LONG_SEEDS, SEEDS_AT_A_TIME))
def test_no_promise_is_broken_in_many_more_runs(first: int) -> None:
    explore(range(FIRST_SEED + first, FIRST_SEED + min(first + SEEDS_AT_A_TIME, LONG_SEEDS)))


def find(mutant: Mutant) -> None:
    hunted = hunt(mutant)
    sys.stdout.write(f"{hunted}\n")
    assert hunted.seed is not None, f"{hunted}: the checkers do not see this bug"


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.name in QUICKLY_FOUND], ids=lambda one: one.name)
def test_a_bug_is_found(mutant: Mutant) -> None:
    find(mutant)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.name not in QUICKLY_FOUND and not one.is_masked], ids=lambda one: one.name
)
def test_a_bug_that_hides_better_is_found(mutant: Mutant) -> None:
    find(mutant)


def test_one_seed_is_one_run_in_any_process() -> None:
    """The order of sets follows hashes, and hashes differ between processes: nothing may depend on it."""
    ran = run(3)
    command = [sys.executable, "-c", "from tests.simulation.run import run; print(run(3).trace)"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert ran.trace == again.stdout.strip()


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
    assert name_of(whole.found) == name_of(smaller.found)
    assert smaller.faults.total() < whole.faults.total()
