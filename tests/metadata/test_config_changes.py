"""Settings change together or not at all, and what is set for all brokers while they run is kept like any metadata."""

import pytest

from metadata.broker_settings import CLUSTER_WIDE, dynamic_topic_defaults, throttle_bytes_per_s
from metadata.commands import AlterBrokerConfigs
from metadata.delta import Delta
from metadata.requests import (
    AlterBrokerConfigsRequest,
    AlterConfigsRequest,
    ConfigChange,
    SetReplicationThrottleRequest,
    UnregisterBrokerRequest,
)
from tests.metadata.world import World, outcome
from wire.errors import ErrorCode, RefusedError

RATE = "follower.replication.throttled.rate"


@pytest.fixture
def world() -> World:
    world = World(brokers=3)
    world.create("t", (1, 2, 3), retention_ms="5", segment_bytes="1000")
    return world


def changes(*given: tuple[str, str | None, str]) -> tuple[ConfigChange, ...]:
    return tuple(ConfigChange(name=name, value=value, operation=operation) for name, value, operation in given)


def alter(world: World, *given: tuple[str, str | None, str], **options):
    return world.ask(AlterConfigsRequest(name="t", changes=changes(*given), **options))


def alter_brokers(world: World, broker_id: int, *given: tuple[str, str | None, str], **options):
    return world.ask(AlterBrokerConfigsRequest(broker_id=broker_id, changes=changes(*given), **options))


def refused(call, *arguments, **options) -> ErrorCode:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **options)
    return caught.value.code


def test_who_replaces_all_resets_what_is_not_named(world):
    alter(world, ("retention.ms", "7", "SET"), replaces=True)
    assert {"retention.ms": "7"} == world.image.topic("t").configs
    alter(world, replaces=True)
    assert {} == world.image.topic("t").configs


def test_a_list_is_added_to_and_taken_from(world):
    name = "follower.replication.throttled.replicas"
    alter(world, (name, "0:1,0:2", "APPEND"))
    alter(world, (name, "0:2, 0:3", "APPEND"))
    assert "0:1,0:2,0:3" == world.image.topic("t").configs[name]
    alter(world, (name, "0:1,0:3", "SUBTRACT"))
    assert "0:2" == world.image.topic("t").configs[name]
    alter(world, (name, "*", "SET"))
    assert ErrorCode.INVALID_CONFIG == refused(alter, world, (name, "0", "SET"))
    assert ErrorCode.INVALID_CONFIG == refused(alter, world, (name, "0:1," * 10_000 + "0:1,x:2", "SET"))


def test_kafkas_tools_may_clear_what_nothing_here_acts_upon(world):
    before = world.image.topic("t")
    alter(world, ("preallocate", None, "DELETE"))
    alter_brokers(world, 1, ("replica.alter.log.dirs.io.max.bytes.per.second", None, "DELETE"))
    assert (before, {}) == (world.image.topic("t"), world.image.broker_configs)
    assert ErrorCode.INVALID_CONFIG == refused(alter, world, ("preallocate", "true", "SET"))


def test_a_default_of_all_brokers_outlives_a_snapshot_and_tells_of_itself(world):
    alter_brokers(world, CLUSTER_WIDE, ("log.retention.ms", "70", "SET"), ("log.segment.bytes", "4096", "SET"))
    _, delta = world.history[-1]
    assert delta.broker_configs_changed
    assert {"retention.ms": "70", "segment.bytes": "4096"} == dynamic_topic_defaults(world.image.broker_configs)
    before = world.image
    world.restore()
    assert before == world.image
    alter_brokers(world, CLUSTER_WIDE, ("log.retention.ms", None, "DELETE"))
    assert {"segment.bytes": "4096"} == dynamic_topic_defaults(world.image.broker_configs)
    assert Delta.between(before, world.image).broker_configs_changed
    alter_brokers(world, CLUSTER_WIDE, replaces=True)
    assert {} == world.image.broker_configs


def test_the_same_again_is_no_change(world):
    alter_brokers(world, CLUSTER_WIDE, ("log.retention.ms", "70", "SET"))
    steps = len(world.history)
    alter_brokers(world, CLUSTER_WIDE, ("log.retention.ms", " 070 ", "SET"))
    alter_brokers(world, CLUSTER_WIDE, ("log.retention.ms", "90", "SET"), validate_only=True)
    assert steps == len(world.history)


@pytest.mark.parametrize(
    ("broker_id", "name", "value", "code"),
    [
        (CLUSTER_WIDE, "log.retention.ms", "soon", ErrorCode.INVALID_CONFIG),
        (CLUSTER_WIDE, "min.insync.replicas", "2", ErrorCode.INVALID_REQUEST),
        (CLUSTER_WIDE, "unclean.leader.election.enable", "true", ErrorCode.INVALID_REQUEST),
        (CLUSTER_WIDE, "log.flush.interval.messages", "10", ErrorCode.INVALID_REQUEST),
        (CLUSTER_WIDE, "retention.ms", "10", ErrorCode.INVALID_REQUEST),
        (1, "log.retention.ms", "10", ErrorCode.INVALID_CONFIG),
        (1, RATE, "0", ErrorCode.INVALID_CONFIG),
        (9, RATE, "10", ErrorCode.BROKER_ID_NOT_REGISTERED),
    ],
)
def test_what_elections_hang_on_and_what_no_broker_knows_is_refused(world, broker_id, name, value, code):
    """S2, S3: no change of a default lowers what a leader has promised."""
    assert code == refused(alter_brokers, world, broker_id, (name, value, "SET"))


def test_the_strictest_throttle_holds(world):
    assert [None] * 3 == [throttle_bytes_per_s(world.image, broker_id) for broker_id in (1, 2, 3)]
    alter_brokers(world, CLUSTER_WIDE, (RATE, "1000", "SET"))
    alter_brokers(world, 2, (RATE, "3000", "SET"))
    assert [1000, 3000, 1000] == [throttle_bytes_per_s(world.image, broker_id) for broker_id in (1, 2, 3)]
    world.ask(SetReplicationThrottleRequest(bytes_per_s=2000))
    assert [1000, 2000, 1000] == [throttle_bytes_per_s(world.image, broker_id) for broker_id in (1, 2, 3)]


def test_a_broker_that_is_forgotten_takes_its_settings_along(world):
    world.start(4)
    alter_brokers(world, 4, (RATE, "1000", "SET"))
    world.die(4)
    world.ask(UnregisterBrokerRequest(broker_id=4))
    assert {} == world.image.broker_configs
    late = AlterBrokerConfigs(broker_id=4, set_configs={RATE: "1"}, deleted_configs=())
    assert ErrorCode.BROKER_ID_NOT_REGISTERED == outcome(world.propose(late))
