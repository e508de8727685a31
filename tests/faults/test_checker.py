"""The checker names every defect that is planted into a history, and finds none in a clean one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import check, check_topics
from tests.faults.history import Creation, Final, Operation, Outcome, Poll, Send, counts

A, B, C, D = "a", "b", "c", "d"


def clean() -> dict[str, Operation]:
    """Two sends acknowledged, one unknown that was written, one unknown that was not, one refused; all read twice."""
    return {
        "first": Send("t-0", (A, B), 0.0, 1.0, Outcome.ACKNOWLEDGED, (0, 1)),
        "second": Send("t-0", (C,), 2.0, 3.0, Outcome.ACKNOWLEDGED, (2,)),
        "doubtful": Send("t-0", (D, "e"), 2.5, 9.0, Outcome.UNKNOWN),
        "vanished": Send("t-0", ("f",), 5.0, 6.0, Outcome.UNKNOWN),
        "refused": Send("t-0", ("g",), 5.0, 6.0, Outcome.REFUSED),
        "elsewhere": Send("t-1", ("h",), 0.0, 1.0, Outcome.ACKNOWLEDGED, (0,)),
        "poll": Poll("t-0", 3.5, 4.0, 1, ((1, B), (2, C)), 3),
        "final": Final("t-0", ((0, A), (1, B), (2, C), (3, D), (4, "e"))),
        "other final": Final("t-1", ((0, "h"),)),
    }


def names(history: dict[str, Operation]) -> set[str]:
    return {violation.name for violation in check(history.values())}


def test_a_clean_history_is_clean():
    assert set() == names(clean())


def test_records_below_the_log_start_may_be_gone():
    history = clean()
    history["final"] = Final("t-0", ((2, C), (3, D), (4, "e")), log_start_offset=2)
    assert set() == names(history)


def with_final(*records: tuple[int, str]) -> Callable[[dict[str, Operation]], None]:
    def plant(history: dict[str, Operation]) -> None:
        history["final"] = Final("t-0", records)

    return plant


def with_changed(name: str, **changes: object) -> Callable[[dict[str, Operation]], None]:
    def plant(history: dict[str, Operation]) -> None:
        history[name] = replace(history[name], **changes)

    return plant


DEFECTS = {
    "lost-write": with_final((0, A), (1, B)),
    "inconsistent-offset": with_final((0, A), (1, B), (2, D), (3, "e")),
    "duplicate": with_final((0, A), (1, B), (2, C), (3, D), (4, "e"), (5, A)),
    "phantom": with_final((0, A), (1, B), (2, C), (3, "never sent")),
    "misplaced": with_final((0, A), (1, B), (2, C), (3, "h")),
    "aborted-read": with_final((0, A), (1, B), (2, C), (3, "g")),
    "offset-gap": with_final((0, A), (1, B), (2, C), (4, D), (5, "e")),
    "torn-send": with_final((0, A), (1, B), (2, C), (3, D)),
    "lost-read": with_changed("poll", records=((1, B), (2, C), (3, D), (4, "e"), (5, "f")), high_watermark=6),
    "poll-skip": with_changed("poll", records=((2, C),)),
    "read-beyond-high-watermark": with_changed("poll", high_watermark=2),
    "read-before-send": with_changed("poll", began_s=-2.0, ended_s=-1.0),
    "realtime-order": with_changed("second", began_s=-2.0, ended_s=-1.0),
    "scattered-send": with_changed("first", offsets=(0, 2)),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_named(name):
    history = clean()
    DEFECTS[name](history)
    assert name in names(history)


def test_a_replica_that_lacks_what_was_acknowledged_is_named():
    history = clean()
    history["replica"] = Final("t-0", ((0, A), (1, B)), source="replica 2")
    lost = [violation for violation in check(history.values()) if violation.name == "lost-write"]
    assert ["c was acknowledged at 2, where replica 2 has nothing"] == [violation.what for violation in lost]


def test_replicas_that_differ_are_inconsistent_also_where_nothing_was_acknowledged():
    history = clean()
    history["replica"] = Final("t-0", ((0, A), (1, B), (2, C), (3, "f")), source="replica 2")
    assert "inconsistent-offset" in names(history)


def test_a_value_in_reversed_order_within_its_batch_is_torn():
    history = clean()
    history["final"] = Final("t-0", ((0, A), (1, B), (2, C), (3, "e"), (4, D)))
    assert "torn-send" in names(history)


def test_an_offset_acknowledged_twice_is_inconsistent():
    history = clean()
    history["again"] = Send("t-0", ("z",), 7.0, 8.0, Outcome.ACKNOWLEDGED, (2,))
    assert "inconsistent-offset" in names(history)


@pytest.mark.parametrize(
    ("creation", "found", "name"),
    [
        (Creation("x", Outcome.ACKNOWLEDGED, "1"), {}, "lost-topic"),
        (Creation("x", Outcome.ACKNOWLEDGED, "1"), {"x": "2"}, "changed-topic-id"),
        (Creation("x", Outcome.REFUSED), {"x": "2"}, "aborted-topic"),
    ],
)
def test_a_planted_defect_of_topics_is_named(creation, found, name):
    assert [name] == [violation.name for violation in check_topics([creation], found)]


def test_topics_that_are_as_they_were_told_are_fine():
    history = [Creation("x", Outcome.ACKNOWLEDGED, "1"), Creation("y", Outcome.UNKNOWN), Creation("z", Outcome.REFUSED)]
    assert [] == check_topics(history, {"x": "1", "y": "7"})


def test_a_run_says_how_much_it_proves():
    assert "1 records acknowledged, 1 records at the end" == counts(
        [Send("t-0", (A,), 0, 1, Outcome.ACKNOWLEDGED, (0,)), Final("t-0", ((0, A),))]
    )
