"""Clusters that end with their test, seeds that are printed, logs that are shown when a test fails."""

import os
import random
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Cluster

Form = Callable[..., Cluster]
CLUSTERS = pytest.StashKey[list[Cluster]]()


@pytest.fixture
def form(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Form]:
    """`form(nodes, *settings, directory=...)`: a running cluster, killed when the test is over."""
    clusters = request.node.stash[CLUSTERS] = []

    def make(nodes: int, *settings: str, directory: Path | None = None) -> Cluster:
        cluster = Cluster(directory or tmp_path / f"cluster-{len(clusters)}", nodes, settings)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with the last words of every node; the whole logs stay in the test's folder."""
    report = yield
    if report.failed:
        report.sections += [("nodes' logs", cluster.logs()) for cluster in item.stash.get(CLUSTERS, [])]
    return report


@pytest.fixture
def chance() -> random.Random:
    """Seeded by KRAFT_TEST_SEED where it is given; the seed is printed, so that pytest shows it with a failure."""
    seed = int(os.environ.get("KRAFT_TEST_SEED") or random.randrange(2**32))
    print(f"KRAFT_TEST_SEED={seed}")  # noqa: T201 - shown by pytest with the failure
    return random.Random(seed)
