"""Real nodes on simulated machines: whatever fails, and in whatever order, nothing that was acknowledged is lost.

A failure prints its seed and the command that runs it again: `python -m tests.simulation --seed N`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import Ran, run

PROJECT = Path(__file__).resolve().parents[2]
FIRST_SEED = int(os.environ.get("KRAFT_TEST_SEED", "0")) * 10_000
FAST_SEEDS = 6
LONG_SEEDS = 400


def checked(seed: int) -> Ran:
    ran = run(seed)
    if ran.found is not None:
        sys.stdout.write("\n".join([*ran.log[-300:], f"again: python -m tests.simulation --seed {seed}", ""]))
        raise AssertionError(f"seed {seed}: {ran.found}") from ran.found
    return ran


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + FAST_SEEDS))
def test_no_promise_is_broken_whatever_fails(seed: int) -> None:
    ran = checked(seed)
    assert ran.acknowledged > 100, "it was hardly ever written to: it proves nothing"


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_no_promise_is_broken_in_many_more_runs() -> None:
    for seed in range(FIRST_SEED + FAST_SEEDS, FIRST_SEED + LONG_SEEDS):
        checked(seed)


def test_one_seed_is_one_run_in_any_process() -> None:
    """The order of sets follows hashes, and hashes differ between processes: nothing may depend on it."""
    ran = run(3)
    command = [sys.executable, "-c", "from tests.simulation.run import run; print(run(3).trace)"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert ran.trace == again.stdout.strip()
