"""What every test that waits relies on: several waits end by one deadline, and "well" means that somebody leads."""

from typing import Any

import pytest

from tests.faults.harness import Cluster, Deadline


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    return now_s


def test_several_waits_share_one_deadline(monkeypatch: pytest.MonkeyPatch):
    now_s = clock(monkeypatch)
    within = Deadline(30.0, began_s=0.0)
    now_s[0] = 20.0
    within.wait_until(lambda: True, "the first")
    asked: list[float] = []

    def never() -> bool:
        now_s[0] += 1
        asked.append(now_s[0])
        return False

    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(AssertionError, match=r"after 10.0 s still not: the second \(within 30 s for all\)"):
        within.wait_until(never, "the second")
    assert 31.0 == asked[-1]


def test_what_comes_true_after_the_deadline_came_too_late(monkeypatch: pytest.MonkeyPatch):
    now_s = clock(monkeypatch)

    def slowly() -> bool:
        now_s[0] = 45.0
        return True

    with pytest.raises(AssertionError, match=r"later than 30 s, after 45.0 s: it is written"):
        Deadline(30.0, began_s=0.0).wait_until(slowly, "it is written")


class Asked:
    """A node that is ready, and answers for every partition with these replicas."""

    def __init__(self, *replicas: tuple[bool, bool]) -> None:
        self.answer = {"data": [{"is_leader": leads, "is_in_sync": in_sync} for leads, in_sync in replicas]}

    def is_ready(self) -> bool:
        return True

    def ask(self, _: str) -> dict[str, Any]:
        return self.answer


LED = ((True, True), (False, True), (False, True))


@pytest.mark.parametrize(
    ("replicas", "is_well"),
    [
        (LED, True),
        (((False, True), (False, True), (False, True)), False),
        (((True, True), (False, True), (False, False)), False),
        ((), False),
    ],
    ids=["led", "nobody leads", "one behind", "nobody knows it"],
)
def test_a_cluster_is_well_where_in_every_nodes_eyes_somebody_leads_and_all_are_in_sync(replicas, is_well):
    cluster = Cluster.__new__(Cluster)
    cluster.nodes = {1: Asked(*LED), 2: Asked(*replicas)}
    assert is_well == cluster.is_well("t", 2)
