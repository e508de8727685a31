"""What a real client's administration asks for is what is done, and what it is told is so."""

import uuid

import pytest

from tests.clients.conversation import ClientError
from tests.clients.records import numbered
from tests.clients.test_groups import PATIENCE_S, Member, new_group
from tests.clients.test_produce import produce
from tests.faults.harness import wait_until

pytestmark = pytest.mark.long


@pytest.mark.feature("topics")
def test_topics_are_created_listed_described_and_deleted(client, topics):
    name = f"made-{uuid.uuid4().hex[:8]}"
    wish = {"topic": name, "partitions": 3, "replication_factor": 2}
    client.call("create_topic", **wish, config={"retention.ms": "3600000"})
    wait_until(lambda: name in client.call("list_topics"), "it is listed")
    described = client.call("describe_topic", topic=name)
    assert [0, 1, 2] == [partition for partition, *_ in described]
    assert {2} == {len(replicas) for _, _, replicas, _ in described}
    assert all(leader in replicas for _, leader, replicas, _ in described)
    settings = topics.ask(f"/{name}/configs")["data"]
    assert "3600000" == {one["name"]: one["value"] for one in settings}["retention.ms"]
    with pytest.raises(ClientError):
        client.call("create_topic", **wish, config={})
    client.call("delete_topic", topic=name)
    wait_until(lambda: name not in client.call("list_topics"), "it is gone")


@pytest.mark.feature("partitions")
def test_a_topic_gets_more_partitions(client, topics):
    topic = topics.new()
    client.call("add_partitions", topic=topic, partitions=3)
    wait_until(lambda: 3 == topics.ask(f"/{topic}")["partitions_count"], "every node has heard of it")
    with pytest.raises(ClientError):
        client.call("add_partitions", topic=topic, partitions=2)


@pytest.mark.feature("configs")
def test_settings_are_shown_and_changed(client, topics):
    topic = topics.new(retention_ms="1000000")
    assert "1000000" == client.call("describe_config", topic=topic)["retention.ms"]
    client.call("alter_config", topic=topic, config={"retention.ms": "2000000"})
    wait_until(
        lambda: "2000000" == client.call("describe_config", topic=topic)["retention.ms"], "the new value is shown"
    )
    with pytest.raises(ClientError):
        client.call("alter_config", topic=topic, config={"retention.ms": "soon"})


@pytest.mark.feature("groups")
def test_groups_are_listed_described_and_deleted(name, client, clients, topics):
    topic, group = topics.new(), new_group()
    produce(client, topic, numbered(range(10)))
    member = Member(clients.another(name), group, topic)
    wait_until(lambda: member.has(range(10)), "the member reads", timeout_s=PATIENCE_S)
    member.client.call("commit")
    assert group in client.call("list_groups")
    assert {"state": "Stable", "members": 1} == client.call("describe_group", group=group)
    member.client.call("leave")
    wait_until(lambda: client.call("describe_group", group=group)["state"] == "Empty", "nobody is left")
    client.call("delete_group", group=group)
    assert group not in client.call("list_groups")


@pytest.mark.feature("delete records")
def test_records_are_deleted_up_to_an_offset(client, topics):
    topic = topics.new()
    produce(client, topic, numbered(range(100)))
    client.call("delete_records", topic=topic, partition=0, before=40)
    wait_until(lambda: [40, 100] == client.call("ends", topic=topic, partition=0), "the beginning has moved")


@pytest.mark.feature("cluster")
def test_the_cluster_is_described(client, cluster):
    assert sorted(cluster.nodes) == client.call("describe_cluster")
