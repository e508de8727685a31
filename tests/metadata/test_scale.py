"""A controller of thousands of partitions decides in moments: the bounds are ten times what a common machine takes, so
only a cost of another order fails here. Processor time, whatever else the machine does.
"""

import time

from metadata import codec
from metadata.apply import apply
from metadata.requests import CreateTopicRequest
from tests.metadata.world import SESSION_MS, World

PARTITIONS = 2000


def world_of(topics: int) -> World:
    world = World(brokers=3)
    for number in range(topics):
        count = PARTITIONS // topics
        world.ask(CreateTopicRequest(name=f"t{number}", partitions_count=count, replication_factor=3))
        world.controller.tick(world.image, world.now_ms)
        world.history.clear()
    return world


def test_a_dead_leader_of_two_thousand_partitions_is_replaced_in_one_tick():
    world = world_of(topics=20)
    world.now_ms += SESSION_MS // 2
    world.beat(2)
    world.beat(3)
    world.now_ms += SESSION_MS // 2 + 1
    began_s = time.process_time()
    proposals = world.controller.tick(world.image, world.now_ms)
    entries = [codec.encode_proposal(proposal) for proposal in proposals]
    image = world.image
    for entry in entries:
        image = apply(image, image.applied_index + 1, codec.decode_proposal(entry)).image
    assert time.process_time() - began_s < 1.0
    states = [state for topic in image.topics.values() for state in topic.partitions]
    assert PARTITIONS == len(states)
    assert {2, 3} == {state.leader for state in states}
    assert {(2, 3)} == {tuple(sorted(state.in_sync_replicas)) for state in states}


def test_a_thousand_topics_are_created_one_by_one():
    began_s = time.process_time()
    world = world_of(topics=1000)
    assert time.process_time() - began_s < 5.0
    assert 1000 == len(world.image.topics)
