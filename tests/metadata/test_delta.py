"""A reader that looks only where the delta points sees the whole difference."""

from metadata.delta import NOTHING, Delta
from metadata.requests import (
    AlterConfigsRequest,
    ConfigChange,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteTopicRequest,
)
from tests.metadata.world import World


def test_each_kind_of_change_is_named_by_its_place():
    world = World(brokers=2)
    start = world.image
    world.ask(CreateTopicRequest(name="t", partitions_count=2))
    topic_id = world.image.topic("t").topic_id
    assert Delta(created_topics=frozenset({topic_id}), changed_partitions={topic_id: {0, 1}}) == world.history[-1][1]
    world.ask(CreatePartitionsRequest(name="t", partitions_count=3))
    assert [(topic_id, 2)] == list(world.history[-1][1].partitions())
    world.ask(AlterConfigsRequest(name="t", changes=(ConfigChange(name="retention.ms", value="1"),)))
    assert Delta(changed_configs=frozenset({topic_id})) == world.history[-1][1]
    last = world.image.topic("t")
    world.ask(DeleteTopicRequest(name="t"))
    assert Delta(deleted_topics={topic_id: last}) == world.history[-1][1]
    assert NOTHING == Delta.between(start, world.image)


def test_a_topic_that_came_and_went_unseen_is_not_mentioned():
    world = World(brokers=1)
    seen = len(world.history)
    world.ask(CreateTopicRequest(name="t"))
    world.ask(DeleteTopicRequest(name="t"))
    merged = Delta()
    for _, delta in world.history[seen:]:
        merged = merged.merge(delta)
    assert merged.is_empty


def test_a_topic_that_was_seen_and_came_again_is_both_deleted_and_created():
    world = World(brokers=1)
    world.ask(CreateTopicRequest(name="t"))
    old = world.image.topic("t")
    seen = len(world.history)
    world.ask(DeleteTopicRequest(name="t"))
    world.ask(CreateTopicRequest(name="t"))
    merged = world.history[seen][1].merge(world.history[seen + 1][1])
    assert {old.topic_id: old} == merged.deleted_topics
    assert {world.image.topic("t").topic_id} == merged.created_topics


def test_a_restart_of_a_leader_names_the_broker():
    world = World(brokers=1)
    world.register(1, incarnation=2)
    assert Delta(changed_brokers=frozenset({1})) == world.history[-1][1]
