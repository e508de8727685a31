"""Thousands of crashes, cuts and lost messages, and nothing that was acknowledged is ever lost (S1-S9, S11, S12, S14).

The real leader and follower cores and the real metadata rules run in a model cluster, with every promise checked at
every step. That a run finds nothing says something because the same runs find each of the bugs in `model_mutants`.
"""

import os
import sys
import time

import pytest

from tests.broker.replication.model_checkers import ViolationError
from tests.broker.replication.model_mutants import MUTANTS, Mutant
from tests.broker.replication.model_run import run

FIRST_SEED = int(os.environ.get("KRAFT_TEST_SEED", "0")) * 10_000
FAST_SEEDS = 10
LONG_SEEDS = 300


def show(line: str) -> None:
    """For whoever asks pytest for the output (-rP)."""
    sys.stdout.write(line + "\n")


def explore(seeds: range) -> None:
    show(f"seeds {seeds.start} to {seeds.stop - 1}")
    events = acknowledged = elections = faults = 0
    started_s = time.perf_counter()
    for seed in seeds:
        try:
            ran = run(seed)
        except AssertionError as broken:
            raise AssertionError(f"run({seed}) of model_run: {broken}") from broken
        events += ran.events
        acknowledged += ran.acknowledged
        elections += ran.elections
        faults += ran.faults
        assert ran.acknowledged > 50, f"run({seed}) was hardly ever written to: it proves nothing"
    events_per_s = events / (time.perf_counter() - started_s)
    show(
        f"{events:,} events, {events_per_s:,.0f}/s; {acknowledged:,} acknowledged; {elections} elections; "
        f"{faults} faults"
    )
    assert elections > len(seeds)


def test_no_promise_is_broken_whatever_fails() -> None:
    explore(range(FIRST_SEED, FIRST_SEED + FAST_SEEDS))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_promise_is_broken_in_many_more_runs() -> None:
    explore(range(FIRST_SEED, FIRST_SEED + LONG_SEEDS))


def find(mutant: Mutant) -> None:
    started_s = time.perf_counter()
    for seed in mutant.seeds:
        try:
            with mutant.breaks() as cores:
                run(seed, cores)
        except AssertionError as found:  # a promise, or an assertion of the code itself
            by = found.name if isinstance(found, ViolationError) else "an assertion"
            show(f"{mutant.name}: found by {by} at seed {seed} in {time.perf_counter() - started_s:.1f} s: {found}")
            return
    pytest.fail(f"{mutant.name} survived {len(mutant.seeds)} seeds: the checkers do not see this bug")


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.is_quick], ids=lambda one: one.name)
def test_a_bug_is_found(mutant: Mutant) -> None:
    find(mutant)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if not mutant.is_quick], ids=lambda one: one.name)
def test_a_well_hidden_bug_is_found(mutant: Mutant) -> None:
    find(mutant)


def test_one_seed_is_one_run() -> None:
    assert run(7) == run(7)
