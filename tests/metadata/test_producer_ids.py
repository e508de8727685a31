"""No two producers ever get the same id, whoever hands it out (KIP-730)."""

from metadata.answers import ProducerIdsAllocated
from metadata.requests import AllocateProducerIdsRequest
from tests.metadata.world import World
from wire.errors import ErrorCode


def allocate(world: World, broker_id: int, **other):
    request = AllocateProducerIdsRequest(broker_id=broker_id, broker_epoch=world.epoch(broker_id))
    return world.ask(request, **other)


def test_blocks_never_overlap():
    world = World(brokers=2)
    blocks = [allocate(world, broker_id) for broker_id in (1, 2, 2, 1)]
    assert [0, 1000, 2000, 3000] == [block.first_producer_id for block in blocks]
    assert all(isinstance(block, ProducerIdsAllocated) and 1000 == block.count for block in blocks)
    assert 4000 == world.image.next_producer_id


def test_a_retry_gets_the_block_of_the_first_try():
    world = World(brokers=1)
    first = allocate(world, 1, command_id=world.command_id(1, 0))
    assert first == allocate(world, 1, command_id=world.command_id(1, 0))
    assert 1000 == world.image.next_producer_id


def test_an_earlier_life_of_a_broker_gets_nothing():
    world = World(brokers=1)
    old = world.epoch(1)
    world.start(1, incarnation=2)
    answer = world.ask(AllocateProducerIdsRequest(broker_id=1, broker_epoch=old))
    assert ErrorCode.STALE_BROKER_EPOCH == answer.code
    assert ErrorCode.BROKER_ID_NOT_REGISTERED == world.ask(AllocateProducerIdsRequest(broker_id=7, broker_epoch=1)).code


def test_ids_go_on_after_a_snapshot():
    world = World(brokers=1)
    allocate(world, 1)
    world.restore()
    assert 1000 == allocate(world, 1).first_producer_id
