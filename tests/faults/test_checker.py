"""The checker names every defect that is planted into a history, and finds none in a clean one."""

import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import check, check_topics
from tests.faults.history import Creation, Final, Operation, Outcome, Poll, Send, counts, load, save

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
    assert [] == check(history.values(), deleted_to=2)
    assert {"lost-beginning"} == {violation.name for violation in check(history.values(), deleted_to=1)}


def test_a_log_that_lost_everything_does_not_pass_for_one_that_was_deleted():
    history = clean()
    history["final"] = Final("t-0", (), log_start_offset=5)
    assert "lost-beginning" in names(history)


def test_a_partition_that_nobody_read_at_the_end_proves_nothing():
    history = clean()
    history["final"] = Final("t-0", history["final"].records, source="replica 2")
    assert {"never-read"} == names(history)


@pytest.mark.parametrize(("asked_offset", "name"), [(2, "nonmonotonic-poll"), (4, "poll-skip")])
def test_a_reader_that_does_not_go_on_where_it_was_is_named(asked_offset, name):
    history = clean()
    history["reader"] = Poll("t-0", 4.5, 5.0, 0, ((0, A), (1, B), (2, C)), 3, "reader")
    history["reader again"] = Poll("t-0", 5.5, 6.0, 3, (), 3, "reader")
    assert set() == names(history)
    history["reader again"] = Poll("t-0", 5.5, 6.0, asked_offset, (), 3, "reader")
    assert {name} == names(history)


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
    "nonmonotonic-poll": with_changed("poll", asked_offset=2),
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
    lost = [violation for violation in check(history.values()) if violation.name == "acked-not-on-replica"]
    assert ["c was acknowledged at 2, where replica 2 has nothing"] == [violation.what for violation in lost]


def test_replicas_that_differ_are_inconsistent_also_where_nothing_was_acknowledged():
    history = clean()
    history["replica"] = Final("t-0", ((0, A), (1, B), (2, C), (3, "f")), source="replica 2")
    assert "inconsistent-offset" in names(history)


def test_replicas_that_differ_are_named_also_when_no_reader_saw_either():
    history = clean()
    whole = history["final"]
    history["one"] = replace(whole, source="replica 1", epochs=((0, 1), (3, 2)))
    history["two"] = replace(whole, source="replica 2", epochs=((0, 1), (3, 3)))
    assert {"replica-divergence"} == names(history)
    history["two"] = replace(whole, source="replica 2", records=whole.records[:-1], epochs=((0, 1), (3, 2)))
    assert {"replica-divergence", "torn-send"} == names(history)


def test_an_epoch_that_falls_along_a_log_is_named():
    history = clean()
    history["replica"] = replace(history["final"], source="replica 1", epochs=((0, 2), (3, 1)))
    assert {"epoch-regression"} == names(history)


def test_a_replica_of_which_something_could_not_be_read_is_named():
    history = clean()
    history["replica"] = replace(history["final"], source="replica 1", damage="the batch at offset 3 is broken")
    assert {"damaged-replica"} == names(history)


def test_where_the_cluster_was_not_whole_only_what_no_replica_has_is_lost():
    history = clean()
    whole = history.pop("final")
    history["behind"] = Final("t-0", ((0, A), (1, "g")), source="replica 1", is_settled=False)
    history["whole"] = replace(whole, source="replica 2", is_settled=False)
    assert set() == names(history)
    history["whole"] = replace(history["whole"], records=whole.records[:2])
    assert {"lost-write", "lost-read"} == names(history)


def test_where_the_cluster_was_not_whole_epochs_do_not_fall_either():
    history = clean()
    history["final"] = replace(history["final"], source="replica 1", epochs=((0, 2), (3, 1)), is_settled=False)
    assert {"epoch-regression"} == names(history)


def test_a_history_is_kept_as_lines_and_judged_again(tmp_path):
    unsettled = Final("t-0", ((0, A),), source="replica 1", damage="rotten", is_settled=False)
    history = [*clean().values(), unsettled, Creation("x", Outcome.ACKNOWLEDGED, "1")]
    save(history, tmp_path / "history.jsonl")
    assert history == list(load(tmp_path / "history.jsonl"))


def long_history(operations: int, partitions: int = 6) -> list[Operation]:
    """Clean: three of five are sends of one to three records, the others polls of up to 20; read from four places."""
    chance = random.Random(1)
    history: list[Operation] = []
    logs: list[list[tuple[int, str]]] = [[] for _ in range(partitions)]
    for number in range(operations):
        partition = chance.randrange(partitions)
        log, now_s = logs[partition], number / 1000
        name = f"t-{partition}"
        if number % 5 < 3:
            values = tuple(f"{number}/{index}" for index in range(chance.randint(1, 3)))
            offsets = tuple(range(len(log), len(log) + len(values)))
            log += zip(offsets, values, strict=True)
            history.append(Send(name, values, now_s, now_s + 0.0005, Outcome.ACKNOWLEDGED, offsets))
        else:
            at = chance.randint(max(0, len(log) - 20), len(log))
            history.append(Poll(name, now_s, now_s + 0.0005, at, tuple(log[at : at + 20]), len(log)))
    for source in ("leader", "replica 1", "replica 2", "replica 3"):
        history += [Final(f"t-{partition}", tuple(log), source=source) for partition, log in enumerate(logs)]
    return history


@pytest.mark.parametrize("operations", [2_000, pytest.param(500_000, marks=pytest.mark.long)])
def test_half_a_million_operations_are_judged_while_you_wait(operations):
    """In processor seconds of this process: whatever else the machine does is not the checker's."""
    history = long_history(operations)
    began_s = time.process_time()
    assert [] == check(history)
    took_s = time.process_time() - began_s
    print(f"{len(history)} operations in {took_s:.1f} s")  # noqa: T201 - the figure of the run
    assert took_s < 15


@pytest.mark.parametrize("seed", range(20))
def test_one_record_changed_anywhere_in_a_long_history_is_found(seed):
    """The shortcut for reads that agree never hides one that does not."""
    chance = random.Random(seed)
    history = long_history(2_000)
    readers = [index for index, one in enumerate(history) if isinstance(one, Poll | Final) and one.records]
    at = chance.choice(readers)
    records = list(history[at].records)
    which = chance.randrange(len(records))
    records[which] = (records[which][0], "never sent")
    history[at] = replace(history[at], records=tuple(records))
    assert {"inconsistent-offset", "phantom"} <= {violation.name for violation in check(history)}


def test_a_value_in_reversed_order_within_its_batch_is_torn():
    history = clean()
    history["final"] = Final("t-0", ((0, A), (1, B), (2, C), (3, "e"), (4, D)))
    assert "torn-send" in names(history)


def test_what_was_acknowledged_without_an_offset_has_to_be_somewhere():
    history = clean()
    history["first"] = replace(history["first"], offsets=())
    assert set() == names(history)
    history["vanished"] = replace(history["vanished"], outcome=Outcome.ACKNOWLEDGED)
    assert {"lost-write"} == names(history)


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
