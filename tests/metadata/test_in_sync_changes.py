"""A leader changes who is in sync: from the state that it saw, for brokers as it saw them, or not at all (S3, S9)."""

import pytest

from metadata.requests import AlterConfigsRequest, ConfigChange
from tests.metadata.world import World, outcome
from wire.errors import ErrorCode, RefusedError


@pytest.fixture
def world() -> World:
    world = World(brokers=4)
    world.create("t", (1, 2, 3), (1, 2, 3), min_insync_replicas="2")
    return world


def state(world: World) -> tuple[tuple[int, ...], tuple[int, ...]]:
    partition = world.partition("t")
    return partition.in_sync_replicas, partition.eligible_leader_replicas


def test_a_slow_follower_leaves_and_comes_back(world):
    before = world.partition("t")
    answer = world.in_sync("t", 1, 2)
    assert (1, ()) == (answer.changed, answer.refusals)
    assert ((1, 2), ()) == state(world)
    world.in_sync("t", 3, 1, 2)
    assert ((1, 2, 3), ()) == state(world)
    after = world.partition("t")
    assert (before.leader_epoch, before.partition_epoch + 2) == (after.leader_epoch, after.partition_epoch)


def test_who_leaves_below_the_minimum_stays_eligible_and_who_left_above_does_not(world):
    """S3: broker 3 left while two were enough, so it may lack what they went on to acknowledge."""
    world.in_sync("t", 1, 2)
    world.in_sync("t", 1)
    assert ((1,), (2,)) == state(world)
    world.die(1)
    assert 2 == world.partition("t").leader


def test_who_leaves_at_once_below_the_minimum_stays_eligible(world):
    world.in_sync("t", 1)
    assert ((1,), (2, 3)) == state(world)


def test_while_somebody_is_eligible_no_default_of_a_broker_lets_the_watermark_move(world):
    """S3: the controller's minimum is 2; the leader's broker may have been given another default."""
    world.in_sync("t", 1)
    assert 1 < world.partition("t").in_sync_replicas_needed(1)
    world.in_sync("t", 1, 3)
    assert 2 == world.partition("t").in_sync_replicas_needed(2)
    assert 1 == world.partition("t").in_sync_replicas_needed(1)


def test_a_change_decided_under_another_minimum_is_not_applied(world):
    """S3: it would make broker 2 eligible while broker 1 alone may acknowledge."""
    late = []
    original, world.propose = world.propose, late.append
    world.in_sync("t", 1)
    world.propose = original
    world.ask(AlterConfigsRequest(name="t", changes=(ConfigChange(name="min.insync.replicas", value="1"),)))
    assert ErrorCode.INVALID_UPDATE_VERSION == outcome(world.propose(late[0]))
    assert ((1, 2, 3), ()) == state(world)


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"partition_epoch": 7}, ErrorCode.INVALID_UPDATE_VERSION),
        ({"leader_epoch": 7}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"partition": 2}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"in_sync_replicas": ()}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": ((2, 2), (3, 3))}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": ((1, 1), (1, 1))}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": ((1, 1), (4, 7))}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": ((1, 1), (9, 9))}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_wish_that_does_not_fit_is_refused(world, other, code):
    before = world.image.topics
    assert code == outcome(world.alter(1, world.in_sync_change("t", (1, 2), **other)))
    assert before is world.image.topics


def test_the_topic_of_an_old_id_is_unknown(world):
    """S17."""
    wish = world.in_sync_change("t", (1, 2), topic_id=world.new_id())
    assert ErrorCode.UNKNOWN_TOPIC_ID == outcome(world.alter(1, wish))


def test_only_the_leader_in_its_present_life_is_heard(world):
    wish = world.in_sync_change("t", (1, 2))
    assert ErrorCode.INVALID_REQUEST == outcome(world.alter(2, wish))
    old = world.epoch(1)
    world.start(1, incarnation=2)
    with pytest.raises(RefusedError) as caught:
        world.alter(1, wish, epoch=old)
    assert ErrorCode.STALE_BROKER_EPOCH == caught.value.code
    assert ErrorCode.FENCED_LEADER_EPOCH == outcome(world.alter(1, wish))


def test_a_joiner_that_restarted_after_the_leader_saw_it_is_refused(world):
    """S9, KIP-903: it was caught up in a life that is over."""
    world.in_sync("t", 1, 2)
    wish = world.in_sync_change("t", (1, 2, 3))
    world.start(3, incarnation=2)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(world.alter(1, wish))
    assert ErrorCode.NONE == outcome(world.in_sync("t", 1, 2, 3))


def test_a_joiner_that_restarts_while_the_change_is_on_its_way_is_refused(world):
    """S9: decided by the controller, overtaken by a registration in the log."""
    world.in_sync("t", 1, 2)
    late = []
    original, world.propose = world.propose, late.append
    world.in_sync("t", 1, 2, 3)
    world.propose = original
    world.start(3, incarnation=2)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(world.propose(late[0]))


def test_nobody_joins_who_is_fenced_or_about_to_stop(world):
    world.in_sync("t", 1, 2)
    world.beat(3, wants_shutdown=True)
    world.tick()
    assert world.image.brokers[3].in_controlled_shutdown
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(world.in_sync("t", 1, 2, 3))
    world.settle()
    assert world.image.brokers[3].fenced
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(world.in_sync("t", 1, 2, 3))


def test_each_partition_is_answered_for_itself(world):
    good = world.in_sync_change("t", (1, 2))
    stale = world.in_sync_change("t", (1, 2), index=1, partition_epoch=9)
    answer = world.alter(1, good, stale)
    assert 1 == answer.changed
    assert [(1, ErrorCode.INVALID_UPDATE_VERSION)] == [(r.partition, r.code) for r in answer.refusals]
    assert (1, 2) == world.partition("t").in_sync_replicas
    assert (1, 2, 3) == world.partition("t", 1).in_sync_replicas


def test_a_repeated_wish_changes_nothing_more(world):
    wish = world.in_sync_change("t", (1, 2))
    world.alter(1, wish)
    before = world.image.topics
    assert ErrorCode.INVALID_UPDATE_VERSION == outcome(world.alter(1, wish))
    assert before is world.image.topics
