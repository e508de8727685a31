"""AcknowledgedSurvives (S16), whatever happens to network, processes and disks: seeded schedules (fuzz_quorum.py)."""

import pytest

from tests.kraft.fuzz_quorum import run_seed

FAST_SEEDS = 60
LONG_SEEDS = 1_500
CHUNK = 20


@pytest.mark.parametrize("first_seed", range(0, FAST_SEEDS, CHUNK))
def test_no_schedule_loses_repeats_or_reorders_what_was_acknowledged(first_seed):
    for seed in range(first_seed, first_seed + CHUNK):
        run_seed(seed)


@pytest.mark.long
@pytest.mark.parametrize("first_seed", range(FAST_SEEDS, FAST_SEEDS + LONG_SEEDS, CHUNK))
def test_no_schedule_of_many_loses_repeats_or_reorders_what_was_acknowledged(first_seed):
    for seed in range(first_seed, first_seed + CHUNK):
        run_seed(seed)


def test_a_seed_is_the_same_schedule_every_time():
    first, second = run_seed(11), run_seed(11)
    assert first.acknowledged == second.acknowledged
    assert (first.now, first.history, first.leaders) == (second.now, second.history, second.leaders)


def test_the_schedules_elect_commit_and_recover():
    """A fuzzer that never commits would find nothing."""
    clusters = [run_seed(seed) for seed in range(10)]
    assert sum(len(cluster.acknowledged) for cluster in clusters) > 1_000
    assert sum(max(cluster.leaders) for cluster in clusters) > 20
    assert sum(cluster.barriers for cluster in clusters) > 100
