"""Who shall hold what: even, with as little to copy as that allows, and never two replicas on one broker."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.reassignment_plan import Placed, PlanError, moved_away, spread_over

NO_RACKS: dict[int, str | None] = {}


def topic(*replicas, name="pay"):
    return [Placed(name, index, each, each) for index, each in enumerate(replicas)]


def after(partitions, moves):
    changed = {(move.topic, move.partition): move.replicas for move in moves}
    return [changed.get((placed.topic, placed.partition), placed.replicas) for placed in partitions]


def test_three_partitions_move_to_three_brokers_and_each_leads_one():
    partitions = topic((1, 2, 3), (2, 3, 1), (3, 1, 2))
    moves = spread_over(partitions, [2, 3, 4], racks=NO_RACKS)
    assert [(2, 3, 4), (3, 4, 2), (4, 2, 3)] == sorted(after(partitions, moves))
    assert [(4,), (4,), (4,)] == [move.copied for move in moves]


def test_what_lies_well_is_left_alone():
    partitions = topic((1, 3, 2), (2, 3, 1), (3, 1, 2))
    assert [] == spread_over(partitions, [1, 2, 3], racks=NO_RACKS)


def test_a_new_broker_gets_its_share_and_no_more():
    partitions = topic(*[(1 + i % 3, 1 + (i + 1) % 3, 1 + (i + 2) % 3) for i in range(12)])
    moves = spread_over(partitions, [1, 2, 3, 4], racks=NO_RACKS)
    assert 9 == sum(len(move.copied) for move in moves)
    assert {1: 9, 2: 9, 3: 9, 4: 9} == Counter(replica for replicas in after(partitions, moves) for replica in replicas)
    assert {1: 3, 2: 3, 3: 3, 4: 3} == Counter(replicas[0] for replicas in after(partitions, moves))


def test_many_topics_of_one_partition_are_spread_too():
    partitions = [placed for i in range(8) for placed in topic((1, 2), name=f"t{i}")]
    moves = spread_over(partitions, [1, 2, 3, 4], racks=NO_RACKS)
    assert {1: 4, 2: 4, 3: 4, 4: 4} == Counter(replica for replicas in after(partitions, moves) for replica in replicas)
    assert {1: 2, 2: 2, 3: 2, 4: 2} == Counter(replicas[0] for replicas in after(partitions, moves))


def test_a_smaller_factor_keeps_who_is_in_sync():
    partitions = [Placed("pay", 0, (1, 2, 3), (3,))]
    (move,) = spread_over(partitions, [1, 2, 3], replication_factor=1, racks=NO_RACKS)
    assert ((3,), ()) == (move.replicas, move.copied)


def test_replicas_go_to_different_racks_where_there_are_some():
    racks = {1: "a", 2: "a", 3: "b", 4: "b"}
    partitions = topic((1,), (1,), (1,), (1,))
    moves = spread_over(partitions, [1, 2, 3, 4], replication_factor=2, racks=racks)
    assert all(2 == len({racks[replica] for replica in replicas}) for replicas in after(partitions, moves))


def test_too_few_brokers_are_told_with_the_numbers():
    with pytest.raises(PlanError, match="3 replicas of pay need 3 brokers, and there are 2"):
        spread_over(topic((1, 2, 3)), [2, 3], racks=NO_RACKS)
    with pytest.raises(PlanError, match="3 replicas of pay need 3 brokers, and there are 2"):
        moved_away(topic((1, 2, 3)), {3}, [1, 2, 3], racks=NO_RACKS, everything=topic((1, 2, 3)))


def test_a_broker_that_leaves_is_replaced_by_whoever_holds_least_and_nothing_else_moves():
    partitions = topic((4, 1), (1, 4), (2, 3))
    moves = moved_away(partitions, {4}, [1, 2, 3, 4], racks=NO_RACKS, everything=partitions)
    assert {0, 1} == {move.partition for move in moves}
    assert all(4 not in move.replicas and 1 == len(move.copied) for move in moves)
    assert {2, 3} == {move.copied[0] for move in moves}


BROKERS = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True)


@st.composite
def clusters(draw):
    partitions = []
    for name in ("a", "b", "c"):
        count, factor = draw(st.integers(1, 12)), draw(st.integers(1, 3))
        for index in range(count):
            replicas = draw(st.permutations(range(1, 7)))[:factor]
            partitions.append(Placed(name, index, tuple(replicas), tuple(replicas[: draw(st.integers(1, factor))])))
    return partitions


@given(clusters(), st.lists(st.integers(1, 9), min_size=3, max_size=6, unique=True))
def test_any_cluster_is_spread_evenly_over_any_brokers(partitions, brokers):
    moves = spread_over(partitions, brokers, racks=NO_RACKS)
    placed = after(partitions, moves)
    for before, replicas in zip(partitions, placed, strict=True):
        assert len(before.replicas) == len(replicas) == len(set(replicas))
        assert set(replicas) <= set(brokers)
    for name in ("a", "b", "c"):
        mine = [replicas for before, replicas in zip(partitions, placed, strict=True) if before.topic == name]
        held = Counter(dict.fromkeys(brokers, 0)) + Counter(replica for replicas in mine for replica in replicas)
        counts = [held[broker] for broker in brokers]
        assert max(counts) - min(counts) <= 1
    again = [before._replace(replicas=replicas) for before, replicas in zip(partitions, placed, strict=True)]
    assert [] == [move for move in spread_over(again, brokers, racks=NO_RACKS) if move.copied]


@given(clusters(), st.sets(st.integers(1, 6), min_size=1, max_size=3))
def test_any_broker_can_leave_where_enough_are_left(partitions, leaving):
    brokers = list(range(1, 10))
    moves = moved_away(partitions, leaving, brokers, racks=NO_RACKS, everything=partitions)
    for before, replicas in zip(partitions, after(partitions, moves), strict=True):
        assert not leaving & set(replicas)
        assert len(before.replicas) == len(set(replicas))
        assert set(before.replicas) - leaving <= set(replicas)
