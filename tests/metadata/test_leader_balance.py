"""A restarted broker does its share again after a while, and leadership does not wander for less than it is worth."""

from tests.metadata.world import World

INTERVAL_MS = 300_000


def restarted(count: int = 10, **settings) -> World:
    """Broker 1, the preferred leader of a third, was down and is in sync again."""
    world = World(brokers=3, **settings)
    world.create("t", *[tuple((start + step) % 3 + 1 for step in range(3)) for start in range(count)])
    world.die(1)
    world.start(1, incarnation=2)
    for index in range(count):
        world.in_sync("t", 1, 2, 3, index=index)
    world.settle()
    assert 0 == world.leaders("t").count(1)
    return world


def idle(world: World, ms: int) -> None:
    world.pass_time(ms, alive=(1, 2, 3))


def test_leadership_returns_to_the_preferred_replicas_at_the_interval():
    world = restarted()
    idle(world, INTERVAL_MS - 20_000)
    assert 0 == world.leaders("t").count(1)
    idle(world, 20_000)
    assert [1, 2, 3, 1, 2, 3, 1, 2, 3, 1] == world.leaders("t")


def test_it_is_left_alone_where_it_is_not_wanted():
    world = restarted(rebalances_leaders=False)
    idle(world, 2 * INTERVAL_MS)
    assert 0 == world.leaders("t").count(1)


def test_it_is_left_alone_below_the_percentage():
    world = restarted(leader_imbalance_per_broker_percentage=100)
    idle(world, 2 * INTERVAL_MS)
    assert 0 == world.leaders("t").count(1)


def test_who_is_not_in_sync_gets_nothing_back():
    world = restarted()
    world.in_sync("t", 2, 3, index=0)
    idle(world, INTERVAL_MS)
    assert [2, 2, 3, 1, 2, 3, 1, 2, 3, 1] == world.leaders("t")


def test_a_balanced_cluster_proposes_nothing_for_ever():
    world = restarted()
    idle(world, INTERVAL_MS + 1000)
    before = world.image.applied_index
    idle(world, 3 * INTERVAL_MS)
    assert before == world.image.applied_index


def test_a_new_controller_waits_for_the_interval_again():
    world = restarted()
    idle(world, INTERVAL_MS // 2)
    world.new_controller()
    idle(world, INTERVAL_MS // 2 + 10_000)
    assert 0 == world.leaders("t").count(1)
