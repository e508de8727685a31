"""Who leads when brokers come and go, with three replicas: nothing acknowledged is left behind (S3, S10, L2)."""

import pytest
from msgspec import structs

from metadata.commands import ChangePartitions, PartitionChange
from metadata.elections import TopicRules, next_state
from metadata.requests import AlterConfigsRequest, ConfigChange, CreateTopicRequest, LostReplicasRequest
from tests.metadata.world import World, outcome
from wire.errors import ErrorCode


def three_replicas(*, min_in_sync: int = 2, **configs: str) -> World:
    world = World(brokers=3)
    settings = {"min.insync.replicas": str(min_in_sync)} | {k.replace("_", "."): v for k, v in configs.items()}
    changes = tuple(ConfigChange(name=name, value=value) for name, value in settings.items())
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1, 2, 3),), configs=changes))
    return world


def state(world: World) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    partition = world.partition("t")
    return partition.leader, partition.in_sync_replicas, partition.eligible_leader_replicas


def change(world: World, **fields) -> PartitionChange:
    partition = world.partition("t")
    as_it_is = {
        "topic_id": world.image.topic("t").topic_id,
        "partition": 0,
        "expected_partition_epoch": partition.partition_epoch,
        "expected_leader_epoch": partition.leader_epoch,
        "leader": partition.leader,
        "leader_broker_epoch": partition.leader_broker_epoch,
        "in_sync_replicas": partition.in_sync_replicas,
        "eligible_leader_replicas": partition.eligible_leader_replicas,
        "last_known_leader": partition.last_known_leader,
    }
    return PartitionChange(**(as_it_is | fields))


def propose(world: World, **fields):
    return world.propose(ChangePartitions(cause="test", changes=(change(world, **fields),)))


def joins(world: World, broker_id: int):
    """The leader asks for a follower that has caught up."""
    return world.in_sync("t", *world.partition("t").in_sync_replicas, broker_id)


def test_a_dead_leader_is_replaced_by_the_next_in_sync_replica():
    world = three_replicas()
    world.die(1)
    assert (2, (2, 3), ()) == state(world)
    assert 1 == world.partition("t").leader_epoch


def test_a_dead_follower_changes_no_leader_epoch():
    world = three_replicas()
    world.die(3)
    assert (1, (1, 2), ()) == state(world)
    assert 0 == world.partition("t").leader_epoch


def test_who_leaves_below_the_minimum_stays_eligible():
    """The high watermark can't move while too few are in sync, so the one that left has all of it."""
    world = three_replicas()
    world.die(1)
    world.die(1, 2)
    assert (3, (3,), (2,)) == state(world)
    world.die(1, 2, 3)
    assert (-1, (), (2, 3)) == state(world)
    world.start(2, incarnation=2, clean=False)
    assert (2, (2,), (3,)) == state(world)


def test_who_left_above_the_minimum_may_not_lead():
    """L2: broker 1 left while two were in sync and may lack what they acknowledged."""
    world = three_replicas()
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.start(1, incarnation=2)
    assert (-1, (), (2, 3)) == state(world)
    world.start(3, incarnation=2)
    assert 3 == world.partition("t").leader


def test_enough_in_sync_replicas_end_eligibility():
    world = three_replicas()
    world.die(3)
    world.die(2, 3)
    assert (1, (1,), (2,)) == state(world)
    world.start(2, incarnation=2)
    assert ErrorCode.NONE == outcome(joins(world, 2))
    assert (1, (1, 2), ()) == state(world)


def test_lowering_the_minimum_ends_eligibility_at_once():
    """S3: from that entry on the high watermark moves without the eligible ones."""
    world = three_replicas()
    world.die(3)
    world.die(2, 3)
    lower = (ConfigChange(name="min.insync.replicas", value="1"),)
    world.ask(AlterConfigsRequest(name="t", changes=lower))
    assert (1, (1,), ()) == state(world)


def test_an_unclean_stop_with_relaxed_flushing_costs_the_eligibility():
    """S10: its counted records may be gone."""
    world = three_replicas(flush_messages="1000")
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    assert (-1, (), (2, 3)) == state(world)
    world.start(2, incarnation=2, clean=False)
    assert (-1, (), (3,)) == state(world)
    world.start(3, incarnation=2, clean=False)
    assert 3 == world.partition("t").leader


def test_if_all_stopped_uncleanly_the_last_leader_is_the_only_candidate():
    """KIP-966; the last leader returned first, and lost its eligibility while another one had it."""
    world = three_replicas(flush_messages="1000")
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.start(3, incarnation=2, clean=False)
    assert (-1, (), (2,)) == state(world)
    world.start(2, incarnation=2, clean=False)
    assert (3, (3,), ()) == state(world)


def test_a_clean_restart_does_not_hide_an_unclean_one_just_before():
    world = three_replicas(flush_messages="1000")
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.register(2, incarnation=2, clean=False)
    world.start(2, incarnation=3, clean=True)
    assert (-1, (), (3,)) == state(world)


def test_a_leader_of_an_earlier_life_is_elected_anew_even_if_it_was_never_taken_out():
    """S10, should ever a broker be in service again before its old leaderships were taken from it."""
    world = three_replicas()
    topic = world.image.topic("t")
    brokers = {b: structs.replace(broker, epoch=broker.epoch + 50) for b, broker in world.image.brokers.items()}
    again = next_state(topic.topic_id, 0, topic.partitions[0], brokers, TopicRules.of(topic, {}))
    assert (1, brokers[1].epoch) == (again.leader, again.leader_broker_epoch)


def test_a_clean_stop_with_relaxed_flushing_costs_nothing():
    world = three_replicas(flush_messages="1000")
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.start(2, incarnation=2, clean=True)
    assert 2 == world.partition("t").leader


def test_a_damaged_replica_leads_no_more():
    """S18."""
    world = three_replicas()
    lost = LostReplicasRequest(
        broker_id=1,
        broker_epoch=world.image.brokers[1].epoch,
        loss="DAMAGED",
        replicas=((world.image.topic("t").topic_id, 0),),
    )
    world.ask(lost)
    assert (2, (2, 3), ()) == state(world)


def test_a_stopping_leader_hands_over_before_it_is_gone():
    world = three_replicas()
    world.beat(1, wants_shutdown=True)
    world.settle()
    assert (2, (2, 3), ()) == state(world)
    assert world.image.brokers[1].fenced


def test_nobody_unclean_leads_unless_the_topic_says_so():
    for allowed, leader in (("false", -1), ("true", 1)):
        world = three_replicas(min_in_sync=1, unclean_leader_election_enable=allowed)
        world.die(1)
        world.die(1, 2)
        world.die(1, 2, 3)
        world.start(1, incarnation=2)
        assert leader == world.partition("t").leader


def test_a_topic_that_comes_to_allow_it_gets_its_unclean_leader():
    world = three_replicas(min_in_sync=1)
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.start(1, incarnation=2)
    allow = (ConfigChange(name="unclean.leader.election.enable", value="true"),)
    world.ask(AlterConfigsRequest(name="t", changes=allow))
    world.settle()
    assert (1, (1,), ()) == state(world)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"expected_partition_epoch": 7}, ErrorCode.INVALID_UPDATE_VERSION),
        ({"expected_leader_epoch": 7}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"partition": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"in_sync_replicas": (1, 1, 2)}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": (1, 4)}, ErrorCode.INVALID_REQUEST),
        ({"eligible_leader_replicas": (2,)}, ErrorCode.INVALID_REQUEST),
        ({"in_sync_replicas": (2, 3)}, ErrorCode.INVALID_REQUEST),
        ({"leader_broker_epoch": 99}, ErrorCode.STALE_BROKER_EPOCH),
        ({"leader": 7}, ErrorCode.STALE_BROKER_EPOCH),
        ({"last_known_leader": 7}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_change_that_does_not_fit_the_partition_is_refused(fields, code):
    world = three_replicas()
    before = world.image.topics
    assert code == outcome(propose(world, **fields))
    assert before is world.image.topics


def test_a_replica_joins_only_in_its_current_life():
    """S9, KIP-903: the leader saw it catch up, then it was restarted with less."""
    world = three_replicas()
    world.die(3)
    world.start(3, incarnation=2)
    seen = world.image.brokers[3].epoch
    world.start(3, incarnation=3)
    late = propose(world, in_sync_replicas=(1, 2, 3), joining_broker_epochs=((3, seen),))
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(late)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(propose(world, in_sync_replicas=(1, 2, 3)))
    assert ErrorCode.NONE == outcome(joins(world, 3))


def test_nobody_becomes_eligible_or_leader_out_of_nothing():
    world = three_replicas()
    world.die(1)
    world.start(1, incarnation=2)
    epoch = world.image.brokers[1].epoch
    out_of_nothing = {"leader": 1, "leader_broker_epoch": epoch, "in_sync_replicas": (1,)}
    answer = propose(world, **out_of_nothing, joining_broker_epochs=((1, epoch),))
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(answer)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(propose(world, eligible_leader_replicas=(1,)))


def test_of_many_changes_only_the_stale_ones_are_left_out():
    world = three_replicas()
    good = change(world, in_sync_replicas=(1, 2))
    answer = world.propose(ChangePartitions(cause="test", changes=(good, good)))
    assert (1, 1) == (answer.changed, len(answer.refusals))
    assert ErrorCode.INVALID_UPDATE_VERSION == answer.refusals[0].code
