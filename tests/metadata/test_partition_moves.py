"""Partitions move while they are written and read (KIP-455), and nothing acknowledged is given up on the way."""

import pytest

from metadata.answers import Refused
from metadata.requests import (
    CreatePartitionsRequest,
    PartitionReassignment,
    ReassignPartitionsRequest,
    SetReplicationThrottleRequest,
    UnregisterBrokerRequest,
)
from tests.metadata.world import World, outcome
from wire.errors import ErrorCode


@pytest.fixture
def world() -> World:
    world = World(brokers=5)
    world.create("t", (1, 2, 3), min_insync_replicas="2")
    return world


def move(world: World, replicas: tuple[int, ...] | None, *, index: int = 0, **other):
    wish = PartitionReassignment(name="t", partition=index, replicas=replicas)
    return world.ask(ReassignPartitionsRequest(assignments=(wish,), **other))


def sets(world: World, index: int = 0) -> tuple[tuple[int, ...], ...]:
    state = world.partition("t", index)
    return state.replicas, state.adding_replicas, state.removing_replicas


def join(world: World, *broker_ids: int, index: int = 0):
    state = world.partition("t", index)
    return world.in_sync("t", *state.in_sync_replicas, *broker_ids, index=index)


def test_a_partition_moves_when_the_new_replica_has_caught_up(world):
    assert 1 == move(world, (2, 3, 4)).changed
    assert ((2, 3, 4, 1), (4,), (1,)) == sets(world)
    world.settle()
    assert (1, 2, 3) == world.partition("t").in_sync_replicas
    join(world, 4)
    world.settle()
    assert ((2, 3, 4), (), ()) == sets(world)
    state = world.partition("t")
    assert ((2, 3, 4), ()) == (state.in_sync_replicas, state.original_replicas)


def test_the_leader_hands_over_to_a_replica_that_stays_before_it_goes(world):
    """While the new leader takes over, the old one is still a replica in sync. When it is gone, nothing counts that it
    fetched while it was one (S3): should it come back, its log is another.
    """
    move(world, (4, 5, 3))
    join(world, 4, 5)
    steps = []
    while world.tick(after_ms=100):
        state = world.partition("t")
        steps.append((state.leader, state.leader_epoch, state.replicas))
    assert [(4, 1, (4, 5, 3, 1, 2)), (4, 2, (4, 5, 3))] == steps


def test_a_leader_that_stays_goes_on_leading(world):
    move(world, (3, 1, 4))
    join(world, 4)
    world.settle()
    state = world.partition("t")
    assert (1, 1, (3, 1, 4)) == (state.leader, state.leader_epoch, state.replicas)


def test_a_move_does_not_end_where_too_few_good_copies_would_be_left(world):
    """Brokers 2 and 3 are down: with 4 in sync there are two copies, and without 1 there would be one."""
    world.die(2, 3)
    assert (1,) == world.partition("t").in_sync_replicas
    move(world, (4, 2, 3))
    join(world, 4)
    world.settle()
    assert ((4, 2, 3, 1), (4,), (1,)) == sets(world)
    assert {1, 4} == {*world.partition("t").in_sync_replicas}
    world.start(2, incarnation=2)
    join(world, 2)
    world.settle()
    assert ((4, 2, 3), (), ()) == sets(world)
    assert {2, 4} == {*world.partition("t").in_sync_replicas}


def test_a_dead_replica_is_replaced(world):
    world.die(3)
    move(world, (1, 2, 4))
    join(world, 4)
    world.settle()
    assert ((1, 2, 4), (), ()) == sets(world)


def test_a_drain_goes_on_while_another_replica_is_down(world):
    world.die(3)
    move(world, (4, 2, 3))
    join(world, 4)
    world.settle()
    assert ((4, 2, 3), (), ()) == sets(world)
    assert {2, 4} == {*world.partition("t").in_sync_replicas}


def test_a_partition_that_grows_is_written_meanwhile(world):
    """S2: the minimum of 2 counts from the moment when there are two replicas to count on."""
    world.create("one", (1,), min_insync_replicas="2")
    wish = PartitionReassignment(name="one", partition=0, replicas=(1, 2, 3))
    world.ask(ReassignPartitionsRequest(assignments=(wish,)))
    assert 1 == world.partition("one").in_sync_replicas_needed(2)
    world.in_sync("one", 1, 2)
    world.settle()
    assert (2, 3) == world.partition("one").adding_replicas
    world.in_sync("one", 1, 2, 3)
    world.settle()
    assert (1, 2, 3) == world.partition("one").replicas
    assert 2 == world.partition("one").in_sync_replicas_needed(2)


def test_fewer_replicas_are_there_at_once_where_they_are_in_sync(world):
    move(world, (2,))
    world.settle()
    assert ((2,), (), ()) == sets(world)
    assert 2 == world.partition("t").leader


def test_another_order_only_changes_who_is_preferred(world):
    before = world.partition("t")
    move(world, (3, 2, 1))
    after = world.partition("t")
    assert ((3, 2, 1), (), ()) == sets(world)
    assert (before.leader, before.in_sync_replicas) == (after.leader, after.in_sync_replicas)


def test_where_it_is_already_there_is_nothing_to_do(world):
    before = world.image.topics
    answer = move(world, (1, 2, 3))
    assert (0, ()) == (answer.changed, answer.refusals)
    assert before is world.image.topics


def test_a_cancelled_move_leaves_everything_as_it_was(world):
    before = world.partition("t")
    move(world, (4, 5, 2))
    join(world, 4)
    assert 1 == move(world, None).changed
    after = world.partition("t")
    assert before.replicas == after.replicas
    assert ({1, 2, 3}, 1) == ({*after.in_sync_replicas}, after.leader)
    assert not after.is_reassigning
    assert () == after.original_replicas


def test_a_cancelled_move_takes_leadership_back_from_who_was_added(world):
    move(world, (4, 5, 2))
    join(world, 4, 5)
    world.tick(after_ms=100)
    assert 4 == world.partition("t").leader
    move(world, None)
    state = world.partition("t")
    assert ((1, 2, 3), 1, 2) == (state.replicas, state.leader, state.leader_epoch)


def test_another_target_replaces_the_first(world):
    move(world, (4, 2, 3))
    join(world, 4)
    move(world, (5, 2, 3))
    assert ((5, 2, 3, 1), (5,), (1,)) == sets(world)
    assert {1, 2, 3} == {*world.partition("t").in_sync_replicas}
    assert (1, 2, 3) == world.partition("t").original_replicas


def test_to_cancel_needs_a_move(world):
    assert ErrorCode.NO_REASSIGNMENT_IN_PROGRESS == outcome(move(world, None))


def test_a_move_is_not_cancelled_while_only_the_added_replica_is_there(world):
    """S3, and no partition loses the leader that it has."""
    move(world, (4, 5, 2))
    join(world, 4)
    world.die(1, 2, 3)
    assert 4 == world.partition("t").leader
    refused = move(world, None)
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == outcome(refused)
    assert "would have no leader" in refused.refusals[0].message
    assert 4 == world.partition("t").leader


def test_the_last_who_holds_what_was_acknowledged_is_not_given_up():
    """S3, L2: also where it is not there to lead, a move is not cancelled that would leave it out."""
    world = World(brokers=5)
    world.create("t", (1, 2, 3), min_insync_replicas="1")
    move(world, (4, 5, 2))
    join(world, 4)
    world.die(1, 2, 3)
    world.die(1, 2, 3, 4)
    assert (-1, (4,)) == (world.partition("t").leader, world.partition("t").eligible_leader_replicas)
    for wished in (None, (1, 3)):
        refused = move(world, wished)
        assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == outcome(refused)
        assert "only [4] hold all acknowledged records" in refused.refusals[0].message


def test_a_partition_without_a_leader_may_be_moved_and_waits_for_it(world):
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    assert 1 == move(world, (4, 5)).changed
    world.settle()
    assert -1 == world.partition("t").leader
    world.start(2, incarnation=2)
    join(world, 4, 5)
    world.settle()
    assert ((4, 5), (), ()) == sets(world)


@pytest.mark.parametrize(
    ("replicas", "advice"),
    [
        ((), "empty"),
        ((1, 1), "twice"),
        ((1, 9), "registered are [1, 2, 3, 4, 5]"),
        ((1, -1), "not registered"),
    ],
)
def test_a_wrong_target_is_refused_with_what_is_wrong(world, replicas, advice):
    refused = move(world, replicas)
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == outcome(refused)
    assert advice in refused.refusals[0].message


def test_nothing_moves_to_a_broker_that_is_down(world):
    world.die(4)
    refused = move(world, (1, 2, 4))
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == outcome(refused)
    assert "in service are [1, 2, 3, 5]" in refused.refusals[0].message
    assert 1 == move(world, (2, 3, 1)).changed, "who is there already may be down"


def test_each_partition_of_a_request_is_answered_for_itself(world):
    world.create("u", (1, 2), (1, 2))
    wishes = (
        PartitionReassignment(name="u", partition=0, replicas=(1, 3)),
        PartitionReassignment(name="u", partition=1, replicas=None),
        PartitionReassignment(name="u", partition=2, replicas=(1, 3)),
        PartitionReassignment(name="nowhere", partition=0, replicas=(1, 3)),
        PartitionReassignment(topic_id=world.new_id(), partition=0, replicas=(1, 3)),
        PartitionReassignment(name="t", topic_id=world.image.topic("u").topic_id, partition=0, replicas=(1, 3)),
        PartitionReassignment(name="u", partition=0, replicas=(1, 4)),
    )
    answer = world.ask(ReassignPartitionsRequest(assignments=wishes))
    assert 1 == answer.changed
    assert [
        ("u", 1, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        ("u", 2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("nowhere", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (None, 0, ErrorCode.UNKNOWN_TOPIC_ID),
        ("t", 0, ErrorCode.INCONSISTENT_TOPIC_ID),
        ("u", 0, ErrorCode.INVALID_REQUEST),
    ] == [(r.name, r.partition, r.code) for r in answer.refusals]
    assert (3,) == world.partition("u").adding_replicas


def test_a_retry_of_a_move_is_told_the_same_refusals(world):
    command_id = world.command_id(1, 0)
    wishes = (
        PartitionReassignment(name="t", partition=0, replicas=(1, 2, 4)),
        PartitionReassignment(name="t", partition=7, replicas=(1, 2, 4)),
    )
    request = ReassignPartitionsRequest(assignments=wishes)
    first = world.ask(request, command_id=command_id)
    assert (1, 1) == (first.changed, len(first.refusals))
    assert first == world.ask(request, command_id=command_id)


def test_validate_only_moves_nothing(world):
    before = world.image.topics
    assert 1 == move(world, (1, 2, 4), validate_only=True).changed
    assert before is world.image.topics


def test_the_throttle_comes_with_the_move_and_is_changed_by_itself(world):
    move(world, (1, 2, 4), throttle_bytes_per_s=1000)
    assert 1000 == world.image.replication_throttle_bytes_per_s
    assert world.history[-1][1].replication_throttle_changed
    move(world, (1, 2, 5))
    assert 1000 == world.image.replication_throttle_bytes_per_s
    world.ask(SetReplicationThrottleRequest(bytes_per_s=None))
    assert world.image.replication_throttle_bytes_per_s is None


def test_a_move_goes_on_under_a_new_controller_and_another_leader(world):
    move(world, (4, 5, 2))
    world.new_controller()
    for broker_id in (1, 2, 3, 4, 5):
        world.beat(broker_id)
    world.die(1)
    assert 2 == world.partition("t").leader
    join(world, 4, 5)
    world.settle()
    assert ((4, 5, 2), (), ()) == sets(world)


def test_the_leader_of_an_arriving_move_may_stop_right_then(world):
    """In a controlled shutdown and on the way out at once: it is led by one of the target, in one go."""
    move(world, (4, 5, 2))
    world.beat(1, wants_shutdown=True)
    join(world, 4, 5)
    world.settle()
    assert ((4, 5, 2), (), ()) == sets(world)
    assert 4 == world.partition("t").leader
    assert world.beat(1, wants_shutdown=True).should_shut_down


def test_new_partitions_have_the_factor_that_the_topic_is_moving_to(world):
    move(world, (2, 4))
    world.ask(CreatePartitionsRequest(name="t", partitions_count=2))
    assert 2 == len(world.partition("t", 1).replicas)


def test_a_broker_is_forgotten_only_after_it_was_drained(world):
    world.die(3)
    refused = world.ask(UnregisterBrokerRequest(broker_id=3))
    assert isinstance(refused, Refused)
    assert "kraft partition move" in refused.message
    move(world, (1, 2, 4))
    join(world, 4)
    world.settle()
    assert not isinstance(world.ask(UnregisterBrokerRequest(broker_id=3)), Refused)


def test_a_broker_that_is_being_added_is_not_forgotten(world):
    move(world, (1, 2, 4))
    world.die(4)
    assert isinstance(world.ask(UnregisterBrokerRequest(broker_id=4)), Refused)
