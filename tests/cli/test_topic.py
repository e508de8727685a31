"""Topics from the command line: what a person reads, what a script parses, and the exit codes that both act on."""

import json


def test_a_topic_is_created_listed_described_and_deleted(kraft, cluster):
    assert (0, "Created topic access.\n") == kraft("topic", "create", "access", "-p", "6")[:2]
    assert 6 == len(cluster.topics["access"])
    assert ["TOPIC", "access"] == [line.split()[0] for line in kraft("topic", "list").out.splitlines()]
    assert "access\n" == kraft("topic", "list", "-q").out
    lines = kraft("topic", "describe", "access").out.splitlines()
    assert lines[0].startswith(
        "Topic: access\tTopicId: AAAAAAAAAAAAAAAAAAAAAA\tPartitionCount: 6\tReplicationFactor: 1\t"
    )
    assert "\tTopic: access\tPartition: 5\tLeader: 1\tReplicas: 1\tIsr: 1\tElr: -" == lines[6]
    assert (0, "Deleted topic access.\n") == kraft("topic", "delete", "access")[:2]
    assert {} == cluster.topics


def test_scripts_get_json_without_links(kraft, cluster):
    created = json.loads(kraft("topic", "create", "a", "-p", "2", "--format", "json").out)
    assert [{"topic_name": "a", "partitions_count": 2}] == [
        {key: topic[key] for key in ("topic_name", "partitions_count")} for topic in created
    ]
    assert "metadata" not in created[0]
    assert "partitions" not in created[0]
    assert ["a"] == [topic["topic_name"] for topic in json.loads(kraft("--format", "json", "topic", "list").out)]
    lines = kraft("topic", "describe", "--format", "ndjson").out.splitlines()
    assert {"retention.ms": "1"} == json.loads(lines[0])["configs"]


def test_what_exists_is_a_conflict_unless_that_was_foreseen(kraft, cluster):
    cluster.add_topic("a", 1)
    ended = kraft("topic", "create", "a")
    assert (4, "kraft: topic a exists already\n") == (ended.code, ended.err)
    assert 0 == kraft("topic", "create", "a", "--if-not-exists").code


def test_what_the_cluster_refuses_is_told_in_its_words(kraft):
    ended = kraft("topic", "create", "a", "-r", "3")
    assert (1, "kraft: replication_factor must be 1: replication comes later\n") == (ended.code, ended.err)


def test_what_is_not_there_ends_with_3(kraft):
    ended = kraft("topic", "describe", "nothing")
    assert 3 == ended.code
    assert "topic 'nothing' does not exist" in ended.err
    assert 3 == kraft("topic", "delete", "nothing").code
    assert 0 == kraft("topic", "delete", "nothing", "--if-exists").code


def test_a_name_with_anything_in_it_stays_one_segment_of_the_path(kraft, cluster):
    kraft("topic", "describe", "../../x y")
    assert ("GET", "/v3/clusters/-/topics/..%2F..%2Fx%20y") == cluster.requests[-1]


def test_partitions_are_added_up_to_a_number_or_by_one(kraft, cluster):
    cluster.add_topic("a", 2)
    assert "Topic a has 6 partitions now.\n" == kraft("topic", "add-partitions", "a", "-p", "6").out
    assert "Topic a has 8 partitions now.\n" == kraft("topic", "add-partitions", "a", "-n", "2").out
    assert 2 == kraft("topic", "add-partitions", "a").code


def test_settings_are_shown_and_changed(kraft, cluster):
    cluster.add_topic("a", 1)
    assert ["SETTING", "VALUE", "SOURCE"] == kraft("topic", "config", "a").out.split()[:3]
    assert (
        "Changed 2 settings of topic a.\n"
        == kraft("topic", "config", "a", "-c", "retention.ms=5", "-d", "flush.ms").out
    )
    assert 2 == kraft("topic", "config", "a", "-c", "retention.ms").code


def test_a_create_that_may_have_happened_says_so(kraft, cluster):
    unknown = {"error_code": 50003, "message": "no answer from the controller", "outcome": "unknown"}
    cluster.rules.append(lambda method, _: (503, unknown) if method == "POST" else None)
    ended = kraft("topic", "create", "a")
    assert 5 == ended.code
    assert "may have been created" in ended.err
    assert 1 == len(cluster.requests)
