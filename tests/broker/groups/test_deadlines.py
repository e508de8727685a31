"""Deadlines that are put off again and again: none is early, none is forgotten."""

import random

from broker.groups.deadlines import Deadlines


def test_the_earliest_comes_first_and_each_once():
    deadlines: Deadlines[str] = Deadlines()
    for key, at_ms in (("b", 20), ("a", 10), ("c", 30)):
        deadlines.set(key, at_ms)
    assert None is deadlines.pop_due(9)
    assert ["a", "b", None] == [deadlines.pop_due(25) for _ in range(3)]
    assert ["c", None] == [deadlines.pop_due(100) for _ in range(2)]


def test_one_that_is_put_off_or_brought_forward_or_dropped():
    deadlines: Deadlines[str] = Deadlines()
    for key in "abc":
        deadlines.set(key, 10)
    deadlines.set("a", 50)
    deadlines.set("b", 5)
    deadlines.clear("c")
    assert 5 == deadlines.next_ms
    assert ["b", None] == [deadlines.pop_due(49) for _ in range(2)]
    assert ["a", None] == [deadlines.pop_due(50) for _ in range(2)]


def test_a_thousand_heartbeats_leave_one_entry():
    deadlines: Deadlines[str] = Deadlines()
    for now_ms in range(1000):
        deadlines.set("a", now_ms + 10)
    assert 1 == len(deadlines._heap)


def test_any_order_of_changes_against_a_plain_dict():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown where this fails
    chance = random.Random(seed)
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    now_ms = 0
    for _ in range(5000):
        key = chance.randrange(20)
        match chance.randrange(4):
            case 0 | 1:
                model[key] = now_ms + chance.randrange(50)
                deadlines.set(key, model[key])
            case 2:
                model.pop(key, None)
                deadlines.clear(key)
            case 3:
                now_ms += chance.randrange(20)
                due = sorted(at_ms for at_ms in model.values() if at_ms <= now_ms)
                found = []
                while (popped := deadlines.pop_due(now_ms)) is not None:
                    found.append(model.pop(popped))
                assert due == found
        if model:
            assert deadlines.next_ms is not None
            assert deadlines.next_ms <= min(model.values())
