"""The random walks are worth something: with a rule of the coordinator taken away, they find that it is missing."""

from collections.abc import Callable

import pytest

from broker.groups import coordinator, fencing, group
from broker.groups.effects import Now
from tests.broker.groups.test_group_walks import walk
from wire.errors import ErrorCode

SEEDS = 100


def without_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    def present_member(of, member_id, instance_id, _):
        member, refusal = fencing.known_member(of, member_id, instance_id)
        return member, refusal if member is None else ErrorCode.NONE

    monkeypatch.setattr(fencing, "present_member", present_member)
    monkeypatch.setattr(group, "present_member", present_member)


def without_fencing_of_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    def known_member(of, member_id, instance_id):
        if instance_id is None:
            return of.members.get(member_id), ErrorCode.UNKNOWN_MEMBER_ID
        return of.members.of_instance(instance_id), ErrorCode.UNKNOWN_MEMBER_ID

    monkeypatch.setattr(fencing, "known_member", known_member)
    monkeypatch.setattr(group, "known_member", known_member)


def with_commits_of_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "commit_refusal", lambda *_: ErrorCode.NONE)


def with_answers_before_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    store = group.Group._store

    def early(self, assignments, committed, failed):
        store(self, assignments, committed, failed)
        committed(Now(0, 0))

    monkeypatch.setattr(group.Group, "_store", early)


def without_an_end_of_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group.Group, "rebalance_due", lambda *_: None)


def without_an_end_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group.Group, "session_due", lambda *_: None)


@pytest.mark.parametrize(
    "defect",
    [
        without_generations,
        without_fencing_of_instances,
        with_commits_of_anybody,
        with_answers_before_the_log,
        without_an_end_of_joining,
        without_an_end_of_sessions,
    ],
)
def test_a_planted_defect_is_found(monkeypatch, defect: Callable[[pytest.MonkeyPatch], None]):
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        all(walk(seed) for seed in range(SEEDS))
