"""A node is killed while a real client is at work: nothing acknowledged is lost, nothing of an idempotent producer is
there twice, and a group goes on where it was (S1, S13)."""

import pytest

from broker.groups.host import group_hash
from tests.clients.records import numbered, values
from tests.clients.test_groups import PATIENCE_S, Member, fill, new_group
from tests.clients.test_produce import produce, read
from tests.faults.harness import Deadline, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
RECORDS = 30_000
OFFSETS = "__consumer_offsets"


@pytest.fixture
def whole_again(cluster, topics):
    """The next test has three nodes, with everything in sync."""
    yield
    cluster.restart_dead()
    for topic in topics.ask("")["data"]:
        cluster.wait_well(topic["topic_name"], topic["partitions_count"], Deadline(60))


@pytest.mark.feature("leader killed")
def test_a_producer_outlives_the_leader_and_nothing_is_lost_or_doubled(client, cluster, topics, whole_again):
    topic = topics.new()
    cluster.wait_well(topic, 1)
    produce(client, topic, numbered(range(100)), idempotent=True)  # it can, and is warm
    client.send(
        "produce", topic=topic, compression="none", acks="all", idempotent=True,
        records=numbered(range(100, RECORDS), bulk=500),
    )  # fmt: skip
    leader = cluster.leader_of(topic, 0)
    wait_until(
        lambda: topics.ask(f"/{topic}/partitions/0")["high_watermark"] > 100, "the producer is at work", timeout_s=60
    )
    leader.kill()
    placed = client.answer(timeout_s=150)
    assert [[0, offset] for offset in range(100, RECORDS)] == placed
    assert list(range(RECORDS)) == values(read(client, topic, RECORDS))


@pytest.mark.feature("coordinator killed")
def test_a_group_outlives_its_coordinator(name, client, clients, cluster, topics, whole_again):
    topic, group = topics.new(partitions=4), new_group()
    fill(client, topic, range(200))
    first = Member(clients.another(name), group, topic)
    wait_until(lambda: first.has(range(200)), "it has all of it", timeout_s=PATIENCE_S)
    first.client.call("commit")
    partitions = topics.ask(f"/{OFFSETS}")["partitions_count"]
    cluster.wait_well(OFFSETS, partitions)
    cluster.leader_of(OFFSETS, group_hash(group) % partitions).kill()
    fill(client, topic, range(200, 400))
    wait_until(lambda: first.has(range(200, 400)), "it has what is new", timeout_s=120)
    first.client.call("commit")
    first.client.call("leave")
    fill(client, topic, range(400, 500))
    second = Member(clients.another(name), group, topic)
    wait_until(lambda: second.has(range(400, 500)), "the next one has the rest", timeout_s=PATIENCE_S)
    assert list(range(400, 500)) == sorted(second.taken), "commits before and after it are kept"
