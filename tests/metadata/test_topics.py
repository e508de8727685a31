"""What a user who creates, grows, configures and deletes topics gets, and what is refused with which advice."""

import pytest

from metadata.answers import Done, Refused, TopicCreated
from metadata.circumstances import TopicPolicy
from metadata.commands import CreatePartitions, CreateTopic, DeleteTopic, PartitionAssignment
from metadata.requests import (
    AlterConfigsRequest,
    ConfigChange,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteTopicRequest,
)
from tests.metadata.world import SESSION_MS, World, an_id
from wire.errors import ErrorCode, RefusedError


@pytest.fixture
def world() -> World:
    return World(brokers=3)


def refusal(world: World, request) -> RefusedError:
    before = world.image
    with pytest.raises(RefusedError) as caught:
        world.ask(request)
    assert before is world.image
    return caught.value


def test_a_new_topic_has_leaders_on_every_broker(world):
    answer = world.ask(CreateTopicRequest(name="access", partitions_count=6))
    assert isinstance(answer, TopicCreated)
    assert ("access", 6, 1) == (answer.name, answer.partitions_count, answer.replication_factor)
    assert answer.topic_id == world.image.topic("access").topic_id
    assert [1, 1, 2, 2, 3, 3] == sorted(world.leaders("access"))


def test_an_answer_says_at_which_index_it_was_applied(world):
    answer = world.ask(CreateTopicRequest(name="access"))
    assert world.image.applied_index == answer.index


def test_counts_left_out_or_minus_one_take_the_defaults(world):
    assert 1 == world.ask(CreateTopicRequest(name="a")).partitions_count
    assert 1 == world.ask(CreateTopicRequest(name="b", partitions_count=-1, replication_factor=-1)).partitions_count


def test_a_topic_that_exists_is_not_created_again(world):
    world.ask(CreateTopicRequest(name="access"))
    assert ErrorCode.TOPIC_ALREADY_EXISTS == refusal(world, CreateTopicRequest(name="access")).code


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("", "is empty"),
        (".", "more than dots"),
        ("..", "more than dots"),
        ("a/b", "other characters"),
        ("%2e%2e", "other characters"),
        ("a b", "other characters"),
        ("a\n", "other characters"),
        ("prüfung", "other characters"),
        ("٣", "other characters"),
        ("x" * 250, "has 250 characters: at most 249"),
        ("__cluster_metadata", "reserved"),
        ("__consumer_offsets", "internal"),
        ("__transaction_state", "internal"),
    ],
)
def test_a_name_that_could_escape_or_confuse_is_refused(world, name, advice):
    refused = refusal(world, CreateTopicRequest(name=name))
    assert ErrorCode.INVALID_TOPIC_EXCEPTION == refused.code
    assert advice in refused.message


def test_a_name_of_249_characters_is_accepted(world):
    assert isinstance(world.ask(CreateTopicRequest(name="x" * 249)), TopicCreated)


@pytest.mark.parametrize(("first", "second"), [("a.b", "a_b"), ("a_b", "a.b"), ("a.b_c", "a_b.c")])
def test_names_that_metrics_could_not_tell_apart_are_refused(world, first, second):
    world.ask(CreateTopicRequest(name=first))
    refused = refusal(world, CreateTopicRequest(name=second))
    assert ErrorCode.INVALID_TOPIC_EXCEPTION == refused.code
    assert repr(first) in refused.message
    world.ask(DeleteTopicRequest(name=first))
    assert isinstance(world.ask(CreateTopicRequest(name=second)), TopicCreated)


def test_two_colliding_creations_decided_at_once_do_not_both_happen(world):
    requests = [CreateTopicRequest(name="a.b"), CreateTopicRequest(name="a_b"), CreateTopicRequest(name="a.b")]
    decided = [
        world.controller.decide(world.image, request, command_id=None, new_id=world.new_id(), now_ms=world.now_ms)
        for request in requests
    ]
    first, second, third = (world.propose(proposal) for proposal in decided)
    assert isinstance(first, TopicCreated)
    assert ErrorCode.INVALID_TOPIC_EXCEPTION == second.code
    assert ErrorCode.TOPIC_ALREADY_EXISTS == third.code


def test_nodes_create_their_own_internal_topics(world):
    assert isinstance(world.ask(CreateTopicRequest(name="__consumer_offsets", internal=True)), TopicCreated)
    assert "delete" in refusal(world, DeleteTopicRequest(name="__consumer_offsets")).message
    grow = CreatePartitionsRequest(name="__consumer_offsets", partitions_count=2)
    assert ErrorCode.INVALID_TOPIC_EXCEPTION == refusal(world, grow).code


@pytest.mark.parametrize("count", [0, -2, 10_001, 2**31 - 1])
def test_partition_counts_out_of_bounds_are_refused_with_the_bound(world, count):
    refused = refusal(world, CreateTopicRequest(name="t", partitions_count=count))
    assert ErrorCode.INVALID_PARTITIONS == refused.code
    assert "from 1 to 10000" in refused.message


def test_the_largest_topic_fits_one_command(world):
    answer = world.ask(CreateTopicRequest(name="t", partitions_count=10_000))
    assert 10_000 == answer.partitions_count


def test_a_topic_gets_as_many_replicas_as_asked_for_on_different_brokers(world):
    answer = world.ask(CreateTopicRequest(name="t", partitions_count=6, replication_factor=3))
    assert 3 == answer.replication_factor
    for state in world.image.topic("t").partitions:
        assert {1, 2, 3} == {*state.replicas}
        assert state.replicas == state.in_sync_replicas
        assert state.replicas[0] == state.leader
    assert [2, 2, 2] == [world.leaders("t").count(broker_id) for broker_id in (1, 2, 3)]


def test_the_clusters_own_replication_factor_holds_where_none_is_asked_for():
    world = World(brokers=3, policy=TopicPolicy(default_replication_factor=2))
    assert 2 == world.ask(CreateTopicRequest(name="t")).replication_factor
    assert 2 == world.ask(CreateTopicRequest(name="u", replication_factor=-1)).replication_factor
    assert 1 == world.ask(CreateTopicRequest(name="v", replication_factor=1)).replication_factor


def test_a_topic_is_created_while_a_broker_is_down_and_has_all_its_replicas(world):
    world.pass_time(SESSION_MS + 500, alive=(1, 3))
    world.ask(CreateTopicRequest(name="t", partitions_count=4, replication_factor=3))
    for partition in world.image.topic("t").partitions:
        assert 2 == partition.replicas[-1], "whoever is down comes last"
        assert {1, 3} == set(partition.in_sync_replicas)
        assert partition.leader == partition.replicas[0]


def test_more_replicas_than_brokers_are_refused_with_who_is_there(world):
    refused = refusal(world, CreateTopicRequest(name="t", replication_factor=4))
    assert ErrorCode.INVALID_REPLICATION_FACTOR == refused.code
    assert "number of brokers, 3 ([1, 2, 3])" in refused.message
    assert (
        ErrorCode.INVALID_REPLICATION_FACTOR == refusal(world, CreateTopicRequest(name="t", replication_factor=0)).code
    )


def test_own_assignments_are_followed(world):
    world.ask(CreateTopicRequest(name="t", replicas_assignments=((3,), (3,), (1,))))
    assert [3, 3, 1] == world.leaders("t")


@pytest.mark.parametrize(
    ("assignments", "code", "advice"),
    [
        ((), ErrorCode.INVALID_PARTITIONS, "from 1 to"),
        (((),), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "empty"),
        (((1, 1),), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "twice"),
        (((9,),), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "registered are [1, 2, 3]"),
        (((-1,),), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not registered"),
        (((1,), (1, 2)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "as many"),
    ],
)
def test_wrong_assignments_are_refused_with_what_is_wrong(world, assignments, code, advice):
    refused = refusal(world, CreateTopicRequest(name="t", replicas_assignments=assignments))
    assert code == refused.code
    assert advice in refused.message


def test_assignments_that_contradict_the_counts_are_refused(world):
    contradiction = CreateTopicRequest(name="t", partitions_count=3, replicas_assignments=((1,),))
    assert "partitions_count 3 contradicts" in refusal(world, contradiction).message
    agreeing = CreateTopicRequest(name="t", partitions_count=1, replicas_assignments=((1,),))
    assert isinstance(world.ask(agreeing), TopicCreated)


def test_validate_only_says_what_would_be_and_creates_nothing(world):
    answer = world.ask(CreateTopicRequest(name="t", partitions_count=4, validate_only=True))
    assert 4 == answer.partitions_count
    assert world.image.topic("t") is None


def test_configs_are_checked_and_kept_as_canonical_text(world):
    configs = (
        ConfigChange(name="retention.ms", value=" 007 "),
        ConfigChange(name="cleanup.policy", value=" delete "),
    )
    world.ask(CreateTopicRequest(name="t", configs=configs))
    assert {"retention.ms": "7", "cleanup.policy": "delete"} == world.image.topic("t").configs
    bad = CreateTopicRequest(name="u", configs=(ConfigChange(name="retention.ms", value="a week"),))
    assert ErrorCode.INVALID_CONFIG == refusal(world, bad).code


def test_partitions_can_be_added_but_never_taken_away(world):
    world.ask(CreateTopicRequest(name="t", partitions_count=2))
    before = world.image.topic("t").partitions
    assert isinstance(world.ask(CreatePartitionsRequest(name="t", partitions_count=6)), Done)
    assert before == world.image.topic("t").partitions[:2]
    assert [1, 1, 2, 2, 3, 3] == sorted(world.leaders("t"))
    for count in (6, 3):
        refused = refusal(world, CreatePartitionsRequest(name="t", partitions_count=count))
        assert ErrorCode.INVALID_PARTITIONS == refused.code
        assert "only be added" in refused.message


def test_added_partitions_follow_own_assignments(world):
    world.ask(CreateTopicRequest(name="t"))
    few = CreatePartitionsRequest(name="t", partitions_count=3, replicas_assignments=((2,),))
    assert "one for each of the 2 new" in refusal(world, few).message
    world.ask(CreatePartitionsRequest(name="t", partitions_count=3, replicas_assignments=((2,), (3,))))
    assert [2, 3] == world.leaders("t")[1:]


def test_two_growths_decided_at_once_do_not_both_happen(world):
    world.ask(CreateTopicRequest(name="t"))
    topic_id = world.image.topic("t").topic_id
    added = (PartitionAssignment(replicas=(1,), leader=1, leader_broker_epoch=world.image.brokers[1].epoch),)
    growth = CreatePartitions(topic_id=topic_id, expected_partitions_count=1, assignments=added)
    assert isinstance(world.propose(growth), Done)
    late = world.propose(growth)
    assert ErrorCode.INVALID_PARTITIONS == late.code
    assert 2 == len(world.image.topic("t").partitions)


def test_a_deleted_topic_is_gone_by_name_and_id(world):
    world.ask(CreateTopicRequest(name="t"))
    topic_id = world.image.topic("t").topic_id
    assert isinstance(world.ask(DeleteTopicRequest(topic_id=topic_id)), Done)
    assert world.image.topic("t") is None
    assert world.image.partition(topic_id, 0) is None
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == refusal(world, DeleteTopicRequest(name="t")).code
    assert ErrorCode.UNKNOWN_TOPIC_ID == refusal(world, DeleteTopicRequest(topic_id=topic_id)).code


def test_a_topic_created_again_is_another_topic(world):
    """S17: an entry about the old id can't touch the new topic of that name."""
    world.ask(CreateTopicRequest(name="t"))
    old = world.image.topic("t").topic_id
    world.ask(DeleteTopicRequest(name="t"))
    world.ask(CreateTopicRequest(name="t"))
    assert ErrorCode.UNKNOWN_TOPIC_ID == world.propose(DeleteTopic(topic_id=old)).code
    assert world.image.topic("t").topic_id != old
    contradiction = DeleteTopicRequest(name="u", topic_id=world.image.topic("t").topic_id)
    assert ErrorCode.INCONSISTENT_TOPIC_ID == refusal(world, contradiction).code


def test_configs_change_one_by_one_and_all_or_none(world):
    world.ask(CreateTopicRequest(name="t", configs=(ConfigChange(name="retention.ms", value="5"),)))
    world.ask(AlterConfigsRequest(name="t", changes=(ConfigChange(name="segment.ms", value="9"),)))
    assert {"retention.ms": "5", "segment.ms": "9"} == world.image.topic("t").configs
    mixed = (ConfigChange(name="retention.ms", operation="DELETE"), ConfigChange(name="segment.ms", value="x"))
    assert "segment.ms" in refusal(world, AlterConfigsRequest(name="t", changes=mixed)).message
    world.ask(AlterConfigsRequest(name="t", changes=mixed[:1]))
    assert {"segment.ms": "9"} == world.image.topic("t").configs


def test_a_change_that_changes_nothing_is_not_logged(world):
    world.ask(CreateTopicRequest(name="t", configs=(ConfigChange(name="retention.ms", value="5"),)))
    before = world.image
    same = AlterConfigsRequest(name="t", changes=(ConfigChange(name="retention.ms", value="5"),))
    assert Done(index=before.applied_index) == world.ask(same)
    assert before is world.image


def test_a_config_named_twice_or_unknown_is_refused(world):
    world.ask(CreateTopicRequest(name="t"))
    twice = (ConfigChange(name="retention.ms", value="5"), ConfigChange(name="retention.ms", operation="DELETE"))
    assert "named twice" in refusal(world, AlterConfigsRequest(name="t", changes=twice)).message
    unknown = (ConfigChange(name="retention.mss", operation="DELETE"),)
    assert "did you mean 'retention.ms'?" in refusal(world, AlterConfigsRequest(name="t", changes=unknown)).message


def test_without_a_broker_in_service_the_caller_is_told_to_try_again():
    refused = refusal(World(), CreateTopicRequest(name="t"))
    assert ErrorCode.BROKER_NOT_AVAILABLE == refused.code
    assert "try again" in refused.message


def test_an_entry_with_a_replica_that_nobody_knows_is_refused(world):
    stray = (PartitionAssignment(replicas=(7,), leader=7, leader_broker_epoch=1),)
    answer = world.propose(CreateTopic(topic_id=an_id(5), name="t", assignments=stray, configs={}))
    assert isinstance(answer, Refused)
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == answer.code
