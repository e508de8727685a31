"""What an operator reads at night: what is wrong, of which partitions, and what to do about it."""

from broker.health import Health, health_of
from metadata.requests import ConfigChange, CreateTopicRequest
from tests.metadata.world import SESSION_MS, World


def cluster(**configs: str) -> World:
    world = World(brokers=3)
    settings = {"min.insync.replicas": "2"} | {k.replace("_", "."): v for k, v in configs.items()}
    changes = tuple(ConfigChange(name=name, value=value) for name, value in settings.items())
    world.ask(CreateTopicRequest(name="pay", replicas_assignments=((1, 2, 3), (2, 3, 1)), configs=changes))
    return world


def health(world: World, **facts) -> Health:
    return health_of(world.image, **{"leader_id": 1, "disk_reasons": [], **facts})


def die(world: World, *dead: int) -> None:
    world.pass_time(SESSION_MS + 1000, alive=tuple({1, 2, 3} - {*dead}))
    world.settle()


def test_a_cluster_in_which_all_is_well_has_nothing_to_say():
    found = health(cluster())
    assert found.healthy
    assert not any((found.reasons, found.leaderless, found.under_replicated, found.offline_replicas))
    assert not any((found.fenced_brokers, found.under_min_in_sync, found.at_min_in_sync, found.reassigning))


def test_a_dead_broker_is_named_with_what_waits_for_it():
    world = cluster()
    die(world, 3)
    found = health(world)
    assert [
        "brokers [3] are fenced: start them",
        "2 partitions (pay-0, pay-1) are under-replicated",
    ] == found.reasons
    assert [("pay", 0, 3), ("pay", 1, 3)] == found.offline_replicas
    assert found.under_replicated == found.at_min_in_sync
    assert [] == found.leaderless == found.under_min_in_sync


def test_a_replica_that_is_back_and_behind_is_said_to_catch_up():
    world = cluster()
    die(world, 3)
    world.start(3, incarnation=2)
    assert ["2 partitions (pay-0, pay-1) are under-replicated: brokers [3] are catching up"] == health(world).reasons


def test_too_few_in_sync_replicas_for_acks_all_are_told():
    world = cluster()
    die(world, 3)
    die(world, 2, 3)
    found = health(world)
    assert [("pay", 0), ("pay", 1)] == found.under_min_in_sync
    assert (
        "2 partitions (pay-0, pay-1) have fewer in-sync replicas than min.insync.replicas: writes with acks=all are "
        "refused there until more have caught up"
    ) in found.reasons


def test_the_broker_wide_minimum_counts_where_the_topic_has_none():
    world = World(brokers=3)
    world.ask(CreateTopicRequest(name="pay", replicas_assignments=((1, 2, 3),)))
    die(world, 2, 3)
    assert [] == health(world).under_min_in_sync
    assert [("pay", 0)] == health(world, broker_defaults={"min.insync.replicas": "2"}).under_min_in_sync


def test_a_partition_without_a_leader_names_the_brokers_that_could_lead_it():
    """Broker 1 left while two were in sync, so to start it alone would not help (S3)."""
    world = cluster()
    die(world, 1)
    die(world, 1, 2)
    die(world, 1, 2, 3)
    found = health(world)
    assert (
        "2 partitions (pay-0, pay-1) have no leader: waiting for any of the brokers [2, 3], start them"
    ) in found.reasons
    assert [("pay", 0), ("pay", 1)] == found.leaderless


def test_a_partition_that_lost_its_last_replica_waits_for_an_operator():
    """L2."""
    world = World(brokers=1)
    world.ask(CreateTopicRequest(name="pay"))
    world.pass_time(SESSION_MS + 1000, alive=())
    world.start(1, incarnation=2, directory=900)
    reasons = health(world).reasons
    assert "1 partition (pay-0) has no leader" == reasons[0]
    assert "kraft partition transfer-leader pay-0 --unclean" in reasons[1]


def test_many_partitions_are_counted_and_a_few_of_them_named():
    world = World(brokers=2)
    world.ask(CreateTopicRequest(name="pay", partitions_count=9, replication_factor=2))
    world.pass_time(SESSION_MS + 1000, alive=(1,))
    assert "9 partitions (pay-0, pay-1, pay-2, pay-3, pay-4, ...) are under-replicated" in health(world).reasons


def test_a_drained_broker_that_stopped_may_be_forgotten():
    world = World(brokers=2)
    world.ask(CreateTopicRequest(name="pay", replicas_assignments=((1,),)))
    world.pass_time(SESSION_MS + 1000, alive=(1,))
    advice = "brokers [2] are fenced and hold nothing: start them, or unregister those that are gone"
    assert [advice] == health(world).reasons


def test_a_quorum_without_a_leader_and_a_lost_disk_are_told():
    found = health(cluster(), leader_id=None, disk_reasons=["/data is offline"])
    assert ["the metadata quorum has no leader: start more of its voters", "/data is offline"] == found.reasons
    assert not found.healthy
