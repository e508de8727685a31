"""The life of a broker in the cluster's eyes: registration, silence, restarts, the way out, and who leads meanwhile."""

import pytest
from msgspec import structs

from metadata.answers import Done, PartitionsChanged, RegistrationAnswer
from metadata.commands import ChangePartitions, FenceBroker, PartitionChange, RegisterBroker, UnfenceBroker
from metadata.image import Endpoint
from metadata.requests import (
    ConfigChange,
    CreateTopicRequest,
    Heartbeat,
    LostReplicasRequest,
    UnregisterBrokerRequest,
)
from tests.metadata.world import CLUSTER_ID, SESSION_MS, World, an_id, outcome
from wire.errors import ErrorCode, RefusedError


@pytest.fixture
def world() -> World:
    return World(brokers=3)


def test_a_broker_serves_after_it_was_heard_and_has_caught_up():
    world = World()
    answer = world.register(1)
    assert RegistrationAnswer(index=1, broker_epoch=1) == answer
    assert [] == world.tick(after_ms=100)
    assert world.image.brokers[1].fenced
    behind = Heartbeat(broker_id=1, broker_epoch=1, applied_index=0)
    assert not world.controller.heard(world.image, behind, now_ms=world.now_ms).is_caught_up
    assert [] == world.tick(after_ms=100)
    assert world.beat(1).is_caught_up
    assert 1 == len(world.tick(after_ms=100))
    assert not world.beat(1).is_fenced


def test_a_broker_that_is_not_ready_stays_out_of_service(world):
    world.beat(2, wants_fence=True)
    world.settle()
    assert world.image.brokers[2].fenced
    world.beat(2)
    world.settle()
    assert not world.image.brokers[2].fenced


def test_a_retried_registration_gets_the_same_epoch(world):
    epoch = world.image.brokers[1].epoch
    assert epoch == world.register(1).broker_epoch
    again = RegisterBroker(
        broker_id=1,
        expected_broker_epoch=-1,
        incarnation_id=an_id(1001),
        directory_ids=(an_id(101),),
        http=Endpoint("127.0.0.1", 8001),
        peer=Endpoint("127.0.0.1", 9001),
        listeners={},
        replication_listener=None,
        rack=None,
        clean_shutdown=True,
        metadata_version_max=1,
    )
    before = world.image.brokers
    assert epoch == world.propose(again).broker_epoch
    assert before is world.image.brokers


def test_a_second_process_with_the_same_id_is_refused_while_the_first_lives(world):
    with pytest.raises(RefusedError) as caught:
        world.register(1, incarnation=2, directory=555)
    assert ErrorCode.DUPLICATE_BROKER_REGISTRATION == caught.value.code
    assert "node.id 1 is in use" in caught.value.message
    world.pass_time(SESSION_MS + 500, alive=(2, 3))
    assert isinstance(world.register(1, incarnation=2, directory=555), RegistrationAnswer)


def test_a_restart_on_the_same_directories_does_not_wait_for_the_old_session(world):
    old = world.image.brokers[1].epoch
    world.start(1, incarnation=2, clean=False)
    assert world.image.brokers[1].epoch > old
    assert not world.image.brokers[1].fenced


def test_a_broker_of_another_cluster_is_refused(world):
    world.image = World().image.of(
        "other", 1, applied_index=9, topics=(), brokers=world.image.brokers.values(), answers={}
    )
    with pytest.raises(RefusedError) as caught:
        world.register(4)
    assert ErrorCode.INCONSISTENT_CLUSTER_ID == caught.value.code
    assert repr(CLUSTER_ID) in caught.value.message


def test_a_heartbeat_under_an_old_epoch_says_register_again(world):
    late = Heartbeat(broker_id=1, broker_epoch=world.image.brokers[1].epoch, applied_index=99)
    world.start(1, incarnation=2)
    with pytest.raises(RefusedError) as caught:
        world.controller.heard(world.image, late, now_ms=world.now_ms)
    assert ErrorCode.STALE_BROKER_EPOCH == caught.value.code


def test_a_silent_broker_is_fenced_after_one_session_timeout_and_not_before(world):
    world.pass_time(SESSION_MS - 500, alive=(1, 3))
    assert not world.image.brokers[2].fenced
    world.pass_time(1500, alive=(1, 3))
    assert world.image.brokers[2].fenced
    assert not world.image.brokers[1].fenced


def test_a_new_controller_gives_everybody_one_session_timeout(world):
    world.new_controller()
    assert [] == world.tick(after_ms=SESSION_MS)
    assert 3 == len([a for a in world.tick(after_ms=1) if isinstance(a, Done)])
    assert all(broker.fenced for broker in world.image.brokers.values())


def test_a_broker_whose_silence_began_before_a_new_controller_is_given_only_the_rest_of_its_session(world):
    world.new_controller(heard_ms={2: world.now_ms - 1000})
    world.pass_time(SESSION_MS - 1000, alive=(1, 3))
    assert not world.image.brokers[2].fenced
    world.pass_time(500, alive=(1, 3))
    assert world.image.brokers[2].fenced


def test_a_broker_that_led_the_quorum_before_and_lives_goes_on_with_its_first_heartbeat(world):
    world.new_controller(heard_ms={2: world.now_ms - SESSION_MS})
    world.beat(2)
    world.pass_time(SESSION_MS, alive=(1, 2, 3))
    assert not any(broker.fenced for broker in world.image.brokers.values())


def test_a_new_controller_places_only_on_brokers_that_it_has_heard(world):
    world.new_controller()
    world.beat(2)
    world.ask(CreateTopicRequest(name="t", partitions_count=4))
    assert [2, 2, 2, 2] == world.leaders("t")


def test_a_fenced_or_silent_broker_gets_no_new_partitions(world):
    world.pass_time(SESSION_MS + 500, alive=(1, 3))
    world.ask(CreateTopicRequest(name="t", partitions_count=4))
    assert [1, 1, 3, 3] == sorted(world.leaders("t"))


def test_a_restart_ends_every_leadership_at_once_and_begins_it_in_a_new_epoch(world):
    """S10: between its registration and the election nobody leads; then it leads in a higher leader epoch."""
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,), (2,))))
    old = world.partition("t")
    world.register(1, incarnation=2, clean=False)
    assert [-1, 2] == world.leaders("t")
    world.beat(1)
    world.settle()
    assert [1, 2] == world.leaders("t")
    new = world.partition("t")
    assert new.leader_epoch > old.leader_epoch
    assert new.leader_broker_epoch == world.image.brokers[1].epoch


def test_neither_a_fenced_nor_a_restarted_broker_leads_whatever_the_partition_says(world):
    """S10: readers of the image need not wait for the election that takes the leadership away."""
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),)))
    topic, broker = world.image.topic("t"), world.image.brokers[1]
    for changes in ({"fenced": True}, {"epoch": broker.epoch + 1}):
        image = structs.replace(world.image, brokers={1: structs.replace(broker, **changes)})
        assert image.leader_of(topic, 0) is None
    assert broker == world.image.leader_of(topic, 0)


def test_a_heartbeat_of_the_last_life_does_not_speak_for_this_one(world):
    ahead = Heartbeat(broker_id=1, broker_epoch=world.image.brokers[1].epoch, applied_index=10**6)
    world.controller.heard(world.image, ahead, now_ms=world.now_ms)
    world.register(1, incarnation=2)
    world.settle()
    assert world.image.brokers[1].fenced


def test_all_nodes_killed_at_once_recover_without_an_operator(world):
    """S10 at RF 1: after kill -9 of everything, every partition gets its leader back."""
    world.ask(CreateTopicRequest(name="t", partitions_count=6))
    before = world.leaders("t")
    world.new_controller()
    for broker_id in (1, 2, 3):
        world.start(broker_id, incarnation=2, clean=False)
    assert before == world.leaders("t")


def test_an_unclean_stop_with_relaxed_flushing_keeps_the_only_candidate():
    world = World(brokers=1)
    relaxed = (ConfigChange(name="flush.messages", value="1000"),)
    world.ask(CreateTopicRequest(name="t", configs=relaxed))
    world.start(1, incarnation=2, clean=False)
    assert [1] == world.leaders("t")


def test_a_broker_that_lost_its_only_directory_leads_nothing_that_it_held(world):
    """L2: with its data gone a partition has no leader until an operator chooses; an empty log is not served."""
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,), (2,))))
    world.pass_time(SESSION_MS + 500, alive=(2, 3))
    world.start(1, incarnation=2, directory=555)
    assert not world.image.brokers[1].fenced
    assert [-1, 2] == world.leaders("t")
    assert () == world.partition("t").eligible_leader_replicas


def test_where_the_topic_says_so_an_empty_log_is_served_rather_than_none(world):
    unclean = (ConfigChange(name="unclean.leader.election.enable", value="true"),)
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),), configs=unclean))
    world.pass_time(SESSION_MS + 500, alive=(2, 3))
    world.start(1, incarnation=2, directory=555)
    assert [1] == world.leaders("t")


def test_a_broker_that_lost_one_of_two_directories_says_what_lay_there_before_it_serves(world):
    world.start(4, directories=(41, 42))
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((4,), (4,))))
    world.register(4, incarnation=2, directories=(41, 43))
    assert (an_id(42),) == world.image.brokers[4].lost_directory_ids
    world.beat(4)
    world.settle()
    assert world.image.brokers[4].fenced
    lost = LostReplicasRequest(
        broker_id=4,
        broker_epoch=world.image.brokers[4].epoch,
        loss="MISSING",
        replicas=((world.image.topic("t").topic_id, 1), (an_id(77), 0)),
    )
    assert isinstance(world.ask(lost), PartitionsChanged)
    world.beat(4, reported_lost_replicas=True)
    world.settle()
    assert [4, -1] == world.leaders("t")
    assert () == world.image.brokers[4].lost_directory_ids


def test_a_second_crash_does_not_make_a_lost_directory_forgotten(world):
    world.start(4, directories=(41, 42))
    world.register(4, incarnation=2, directories=(41,))
    world.register(4, incarnation=3, directories=(41,))
    assert (an_id(42),) == world.image.brokers[4].lost_directory_ids


def test_damage_at_one_replica_leaves_what_is_intact_in_service(world):
    """S18."""
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),)))
    damaged = LostReplicasRequest(
        broker_id=1,
        broker_epoch=world.image.brokers[1].epoch,
        loss="DAMAGED",
        replicas=((world.image.topic("t").topic_id, 0),),
    )
    assert isinstance(world.ask(damaged), Done)
    assert [1] == world.leaders("t")


def test_a_stopping_broker_hands_over_and_is_then_told_to_stop(world):
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,), (2,))))
    assert not world.beat(1, wants_shutdown=True).should_shut_down
    world.settle()
    assert [-1, 2] == world.leaders("t")
    assert world.image.brokers[1].fenced
    assert world.beat(1, wants_shutdown=True).should_shut_down
    world.settle()
    assert world.image.brokers[1].fenced
    world.start(1, incarnation=2)
    assert [1, 2] == world.leaders("t")


def test_a_fenced_broker_may_stop_at_once(world):
    world.register(3, incarnation=2)
    assert world.beat(3, wants_shutdown=True).should_shut_down


def test_late_commands_of_a_deposed_controller_are_refused(world):
    """Each was right when it was decided; by the time that it is applied its broker has restarted."""
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),)))
    epoch = world.image.brokers[1].epoch
    state = world.partition("t")
    late = [
        FenceBroker(broker_id=1, broker_epoch=epoch),
        UnfenceBroker(broker_id=1, broker_epoch=epoch),
        ChangePartitions(
            cause="late",
            changes=(
                PartitionChange(
                    topic_id=world.image.topic("t").topic_id,
                    partition=0,
                    expected_partition_epoch=state.partition_epoch,
                    expected_leader_epoch=state.leader_epoch,
                    leader=1,
                    leader_broker_epoch=epoch,
                    in_sync_replicas=(1,),
                    eligible_leader_replicas=(),
                    last_known_leader=1,
                ),
            ),
        ),
    ]
    world.start(1, incarnation=2)
    for command in late:
        before = world.image
        assert ErrorCode.NONE != outcome(world.propose(command))
        assert (before.topics, before.brokers) == (world.image.topics, world.image.brokers)


def test_a_registration_decided_before_another_one_is_refused(world):
    world.pass_time(SESSION_MS + 500, alive=(2, 3))
    decided = []
    original, world.propose = world.propose, lambda proposal: decided.append(proposal) or Done(index=0)
    world.register(1, incarnation=2)
    world.register(1, incarnation=3)
    world.propose = original
    first, second = decided
    assert isinstance(world.propose(first), RegistrationAnswer)
    assert ErrorCode.STALE_BROKER_EPOCH == world.propose(second).code


def test_a_broker_is_not_unfenced_while_it_still_counts_as_in_sync(world):
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),)))
    world.register(1, incarnation=2)
    answer = world.propose(UnfenceBroker(broker_id=1, broker_epoch=world.image.brokers[1].epoch))
    assert ErrorCode.INELIGIBLE_REPLICA == answer.code


def test_only_a_stopped_and_empty_broker_can_be_forgotten(world):
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((1,),)))
    assert "in service" in world.ask(UnregisterBrokerRequest(broker_id=2)).message
    world.pass_time(SESSION_MS + 500, alive=(3,))
    assert "'t'" in world.ask(UnregisterBrokerRequest(broker_id=1)).message
    assert isinstance(world.ask(UnregisterBrokerRequest(broker_id=2)), Done)
    assert {1, 3} == set(world.image.brokers)
    assert 2 not in world.image.answers
    with pytest.raises(RefusedError):
        world.ask(UnregisterBrokerRequest(broker_id=2))


def test_a_proposal_on_its_way_is_not_made_again_at_once(world):
    world.now_ms += SESSION_MS + 1
    first = world.controller.tick(world.image, world.now_ms)
    assert first
    assert [] == world.controller.tick(world.image, world.now_ms + 100)
    assert first == world.controller.tick(world.image, world.now_ms + 1100)


def test_a_broker_that_said_goodbye_may_come_back_on_another_disk_at_once(world):
    for _ in range(3):
        world.beat(1, wants_shutdown=True)
        world.settle()
    assert world.beat(1, wants_shutdown=True).should_shut_down
    world.register(1, incarnation=2, directory=555)
    assert world.image.brokers[1].fenced
