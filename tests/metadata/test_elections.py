"""Who leads when brokers come and go, with three replicas: nothing acknowledged is left behind (S3, S10, L2)."""

import itertools

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


def test_if_the_last_leader_lost_its_disk_too_an_operator_chooses():
    """S10, L2: broker 3 stopped uncleanly with counted records unsynced; the last leader, that had them, is wiped."""
    world = three_replicas(flush_messages="1000")
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    assert 3 == world.partition("t").last_known_leader
    world.start(2, incarnation=2, clean=False)
    assert (-1, (), (3,)) == state(world)
    world.start(3, incarnation=2, clean=False, directory=900)
    assert (-1, (), ()) == state(world)


def test_a_partition_created_while_nobody_was_there_is_empty_and_led_by_whoever_comes():
    world = three_replicas(flush_messages="1000")
    topic = world.image.topic("t")
    never_led = structs.replace(topic.partitions[0], leader=-1, leader_broker_epoch=-1, last_known_leader=-1)
    uncleanly = {
        b: structs.replace(broker, fenced=True, clean_shutdown=False) for b, broker in world.image.brokers.items()
    }
    after = next_state(topic.topic_id, 0, never_led, uncleanly, TopicRules.of(topic, {}))
    assert (-1, (), (1, 2, 3)) == (after.leader, after.in_sync_replicas, after.eligible_leader_replicas)


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


def lost(world: World, broker_id: int) -> LostReplicasRequest:
    return LostReplicasRequest(
        broker_id=broker_id,
        broker_epoch=world.image.brokers[broker_id].epoch,
        loss="DAMAGED",
        replicas=((world.image.topic("t").topic_id, 0),),
    )


def test_a_damaged_replica_leads_no_more():
    """S18."""
    world = three_replicas()
    world.ask(lost(world, 1))
    assert (2, (2, 3), ()) == state(world)


def test_s3_nothing_that_a_replica_fetched_before_it_was_lost_counts_for_it():
    """What it asked for as the one that it was names an epoch that is over, in sync or not."""
    world = three_replicas()
    world.ask(lost(world, 3))
    assert (1, (1, 2), ()) == state(world)
    assert 1 == world.partition("t").leader_epoch
    world.ask(lost(world, 3))
    assert (1, (1, 2), ()) == state(world)
    assert 2 == world.partition("t").leader_epoch


def test_a_stopping_leader_hands_over_before_it_is_gone():
    world = three_replicas()
    world.beat(1, wants_shutdown=True)
    world.settle()
    assert (2, (2, 3), ()) == state(world)
    assert world.image.brokers[1].fenced


def test_a_stopping_follower_leaves_where_others_are_in_sync():
    """So that nobody waits for it with acks=all."""
    world = three_replicas()
    world.beat(3, wants_shutdown=True)
    world.tick()
    assert (1, (1, 2), ()) == state(world)


def test_a_stopping_leader_goes_on_leading_what_only_it_holds_until_it_is_gone():
    """RF 1 does not hold a stop up, and is read and written up to it."""
    world = World(brokers=2)
    world.create("t", (1,), (2,))
    world.beat(1, wants_shutdown=True)
    world.tick()
    assert world.image.brokers[1].in_controlled_shutdown
    assert [1, 2] == world.leaders("t")
    world.settle()
    assert world.beat(1, wants_shutdown=True).should_shut_down
    assert (-1, (), (1,)) == state(world)
    world.start(1, incarnation=2)
    assert 1 == world.partition("t").leader


def test_a_stopping_leader_whose_followers_are_behind_keeps_the_partition():
    world = three_replicas()
    world.in_sync("t", 1)
    world.beat(1, wants_shutdown=True)
    world.tick()
    assert (1, (1,), (2, 3)) == state(world)
    world.settle()
    assert (2, (2,), (1, 3)) == state(world)
    assert world.beat(1, wants_shutdown=True).should_shut_down


def test_a_whole_cluster_stops_in_order_and_comes_back_without_an_operator():
    world = three_replicas()
    for broker_id in (1, 2, 3):
        world.beat(broker_id, wants_shutdown=True)
    world.settle()
    assert all(world.beat(broker_id, wants_shutdown=True).should_shut_down for broker_id in (1, 2, 3))
    world.new_controller()
    for broker_id in (1, 2, 3):
        world.start(broker_id, incarnation=2)
    assert -1 != world.partition("t").leader
    assert world.image.leader_of(world.image.topic("t"), 0) is not None


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("relaxed", [False, True])
def test_all_brokers_killed_at_once_come_back_without_an_operator(order, minimum, relaxed):
    """S10: kill -9 of everything at RF 3, in whichever order they return."""
    world = three_replicas(min_in_sync=minimum, **({"flush_messages": "1000"} if relaxed else {}))
    world.new_controller()
    for broker_id in order:
        world.start(broker_id, incarnation=2, clean=False)
    topic = world.image.topic("t")
    leader = world.image.leader_of(topic, 0)
    assert leader is not None
    assert leader.epoch == world.image.brokers[leader.broker_id].epoch
    for broker_id in {1, 2, 3} - {*world.partition("t").in_sync_replicas}:
        world.in_sync("t", *world.partition("t").in_sync_replicas, broker_id)
    assert {1, 2, 3} == {*world.partition("t").in_sync_replicas}


def test_a_leader_restarted_faster_than_its_session_leads_in_a_new_epoch_only():
    """S10: it never appends in the epoch of its earlier life, and it is no candidate before it has been taken out."""
    world = three_replicas()
    before = world.partition("t")
    world.register(1, incarnation=2, clean=False)
    assert world.image.leader_of(world.image.topic("t"), 0) is None
    world.beat(1)
    world.settle()
    after = world.partition("t")
    assert (2, before.leader_epoch + 1, (2, 3)) == (after.leader, after.leader_epoch, after.in_sync_replicas)
    assert world.image.brokers[1].in_service


def test_a_wiped_follower_counts_for_nothing_until_it_has_caught_up():
    """S1: its id is the same, its disk is not."""
    world = three_replicas()
    world.in_sync("t", 1)
    assert (1, (1,), (2, 3)) == state(world)
    world.die(2)
    world.start(2, incarnation=2, directory=900)
    assert (1, (1,), (3,)) == state(world)
    world.die(1, 3)
    assert -1 == world.partition("t").leader
    world.start(1, incarnation=2, clean=False)
    assert 1 == world.partition("t").leader


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
