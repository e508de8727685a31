"""What an admin client is answered, version by version: done where it can be, Kafka's codes where it cannot."""

from uuid import uuid4

import pytest

from tests.api.kafka.messages import produce, produced
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import until
from wire.errors import ErrorCode
from wire.messages import API, ApiKey, alter_configs, incremental_alter_configs
from wire.messages.config_resources import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC
from wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from wire.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from wire.messages.describe_cluster import DescribeClusterRequest
from wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from wire.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from wire.messages.list_config_resources import ListConfigResourcesRequest
from wire.schema import NO_UUID


def versions(key: ApiKey) -> range:
    return API[key].versions


def wanted(name: str, partitions: int = 1, replicas: int = 1, **configs: str | None) -> CreatableTopic:
    return CreatableTopic(
        name,
        partitions,
        replicas,
        configs=[CreatableTopicConfig(key.replace("_", "."), value) for key, value in configs.items()],
    )


def assigned(name: str, *replicas: list[int], indexes: list[int] | None = None, **counts: int) -> CreatableTopic:
    numbers = range(len(replicas)) if indexes is None else indexes
    given = [CreatableReplicaAssignment(index, brokers) for index, brokers in zip(numbers, replicas, strict=True)]
    return CreatableTopic(name, counts.get("partitions", -1), counts.get("factor", -1), given)


# -- topics in every version -----------------------------------------------------------------------------------------


async def test_topics_are_made_grown_and_deleted_in_every_version(cluster, client):
    node = cluster.nodes[0].node
    for version in versions(ApiKey.CREATE_TOPICS):
        asked = CreateTopicsRequest([wanted(f"t{version}", 2, retention_ms="60000")])
        (made,) = (await client.ask(ApiKey.CREATE_TOPICS, asked, version)).topics
        topic = node.image.topic(f"t{version}")
        assert (f"t{version}", 0, None) == (made.name, made.error_code, made.error_message)
        if version >= 5:
            assert (2, 1) == (made.num_partitions, made.replication_factor)
            assert ("60000", 1) == next((c.value, c.config_source) for c in made.configs if c.name == "retention.ms")
        assert (topic.topic_id if version >= 7 else NO_UUID) == made.topic_id
    for version in versions(ApiKey.CREATE_PARTITIONS):
        asked = CreatePartitionsRequest([CreatePartitionsTopic("t7", 3 + version, None)], 30_000)
        (grown,) = (await client.ask(ApiKey.CREATE_PARTITIONS, asked, version)).results
        assert ("t7", 0) == (grown.name, grown.error_code)
        assert 3 + version == len(node.image.topic("t7").partitions)
    for version in versions(ApiKey.DELETE_TOPICS):
        by_name = {"topics": [DeleteTopicState(f"t{version + 1}")], "topic_names": [f"t{version + 1}"]}
        (gone,) = (
            await client.ask(ApiKey.DELETE_TOPICS, DeleteTopicsRequest(timeout_ms=30_000, **by_name), version)
        ).responses
        assert (f"t{version + 1}" if version else "", 0) == (gone.name, gone.error_code)
    assert {} == dict(node.image.topics)


async def test_what_is_only_to_be_validated_is_not_done(cluster, client):
    await cluster.create("t")
    node = cluster.nodes[0].node
    before = node.image.topics
    created = (
        await client.ask(ApiKey.CREATE_TOPICS, CreateTopicsRequest([wanted("new", 7)], validate_only=True))
    ).topics
    assert [(0, 7, NO_UUID)] == [(one.error_code, one.num_partitions, one.topic_id) for one in created]
    grow = CreatePartitionsRequest([CreatePartitionsTopic("t", 9, None)], 30_000, validate_only=True)
    assert [0] == [one.error_code for one in (await client.ask(ApiKey.CREATE_PARTITIONS, grow)).results]
    change = incremental_alter_configs.AlterableConfig("retention.ms", 0, "1")
    resource = incremental_alter_configs.AlterConfigsResource(TOPIC, "t", [change])
    alter = incremental_alter_configs.IncrementalAlterConfigsRequest([resource], validate_only=True)
    assert [0] == [one.error_code for one in (await client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, alter)).responses]
    assert before == node.image.topics


@pytest.mark.parametrize(
    ("topics", "codes"),
    [
        ([wanted("t")], [ErrorCode.TOPIC_ALREADY_EXISTS]),
        ([wanted("a/b")], [ErrorCode.INVALID_TOPIC_EXCEPTION]),
        ([wanted("")], [ErrorCode.INVALID_TOPIC_EXCEPTION]),
        ([wanted("__consumer_offsets")], [ErrorCode.INVALID_TOPIC_EXCEPTION]),
        ([wanted("n", 0)], [ErrorCode.INVALID_PARTITIONS]),
        ([wanted("n", -2)], [ErrorCode.INVALID_PARTITIONS]),
        ([wanted("n", 10_001)], [ErrorCode.POLICY_VIOLATION]),
        ([wanted("n", 1, 0)], [ErrorCode.INVALID_REPLICATION_FACTOR]),
        ([wanted("n", 1, 4)], [ErrorCode.INVALID_REPLICATION_FACTOR]),
        ([wanted("n", retention_ms="soon")], [ErrorCode.INVALID_CONFIG]),
        ([wanted("n", retention_ms=None)], [ErrorCode.INVALID_CONFIG]),
        ([wanted("n", no_such="1")], [ErrorCode.INVALID_CONFIG]),
        ([wanted("n"), wanted("n", 2)], [ErrorCode.INVALID_REQUEST]),
        ([assigned("n", [1], partitions=1)], [ErrorCode.INVALID_REQUEST]),
        ([assigned("n", [1], factor=1)], [ErrorCode.INVALID_REQUEST]),
        ([assigned("n", [1], [1], indexes=[0, 2])], [ErrorCode.INVALID_REPLICA_ASSIGNMENT]),
        ([assigned("n", [1], [1], indexes=[0, 0])], [ErrorCode.INVALID_REPLICA_ASSIGNMENT]),
        ([assigned("n", [1, 1])], [ErrorCode.INVALID_REPLICA_ASSIGNMENT]),
        ([assigned("n", [7])], [ErrorCode.INVALID_REPLICA_ASSIGNMENT]),
        ([wanted("t"), wanted("good", -1, -1)], [ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.NONE]),
    ],
)
async def test_topics_that_cannot_be_made_are_refused_by_kafkas_codes(cluster, client, topics, codes):
    await cluster.create("t")
    answer = await client.ask(ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics))
    assert codes == [one.error_code for one in answer.topics]
    assert all(one.error_message for one in answer.topics if one.error_code)


async def test_a_timeout_that_is_over_is_told_and_nothing_is_done(cluster, client):
    answer = await client.ask(ApiKey.CREATE_TOPICS, CreateTopicsRequest([wanted("late")], timeout_ms=0))
    assert [ErrorCode.REQUEST_TIMED_OUT] == [one.error_code for one in answer.topics]
    assert cluster.nodes[0].node.image.topic("late") is None


async def test_topics_are_deleted_by_id_and_what_names_none_is_refused(cluster, client):
    """S17: the id of a deleted topic is not that of its successor."""
    topic = await cluster.create("t")
    unknown = uuid4()
    await cluster.create("u")
    states = [
        DeleteTopicState(topic_id=topic.topic_id),
        DeleteTopicState(topic_id=unknown),
        DeleteTopicState("none"),
        DeleteTopicState("u", topic.topic_id),
        DeleteTopicState(),
        DeleteTopicState("__consumer_offsets"),
    ]
    answer = await client.ask(ApiKey.DELETE_TOPICS, DeleteTopicsRequest(states, timeout_ms=30_000))
    assert [
        ("t", topic.topic_id, ErrorCode.NONE),
        (None, unknown, ErrorCode.UNKNOWN_TOPIC_ID),
        ("none", NO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ] == [(one.name, one.topic_id, one.error_code) for one in answer.responses[:3]]
    assert [ErrorCode.INVALID_REQUEST] * 2 == [one.error_code for one in answer.responses[3:5]]
    assert answer.responses[5].error_code
    twice = DeleteTopicsRequest([DeleteTopicState("u"), DeleteTopicState("u")], timeout_ms=30_000)
    assert [ErrorCode.INVALID_REQUEST] == [
        one.error_code for one in (await client.ask(ApiKey.DELETE_TOPICS, twice)).responses
    ]
    assert cluster.nodes[0].node.image.topic("u") is not None


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (CreatePartitionsTopic("t", 2, None), ErrorCode.INVALID_PARTITIONS),
        (CreatePartitionsTopic("t", 1, None), ErrorCode.INVALID_PARTITIONS),
        (CreatePartitionsTopic("none", 3, None), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (CreatePartitionsTopic("t", 3, []), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (CreatePartitionsTopic("t", 3, [CreatePartitionsAssignment([9])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (CreatePartitionsTopic("t", 3, [CreatePartitionsAssignment([1])]), ErrorCode.NONE),
    ],
)
async def test_partitions_are_added_where_they_can_be(cluster, client, topic, code):
    await cluster.create("t", 2)
    answer = await client.ask(ApiKey.CREATE_PARTITIONS, CreatePartitionsRequest([topic], 30_000))
    assert [code] == [one.error_code for one in answer.results]


# -- settings --------------------------------------------------------------------------------------------------------


async def described(client, kind: int, name: str, *keys: str, version: int = 4, **options):
    resource = DescribeConfigsResource(kind, name, list(keys) or None)
    answer = await client.ask(ApiKey.DESCRIBE_CONFIGS, DescribeConfigsRequest([resource], **options), version)
    (result,) = answer.results
    return result


async def altered(client, kind: int, name: str, *changes: tuple[str, int, str | None]) -> int:
    configs = [incremental_alter_configs.AlterableConfig(*change) for change in changes]
    resource = incremental_alter_configs.AlterConfigsResource(kind, name, configs)
    asked = incremental_alter_configs.IncrementalAlterConfigsRequest([resource])
    (result,) = (await client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, asked)).responses
    assert bool(result.error_code) == bool(result.error_message)
    code: int = result.error_code
    return code


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CONFIGS))
async def test_a_setting_is_told_with_all_that_it_could_be(cluster, client, version):
    await cluster.create("t", retention_ms="5")
    result = await described(
        client, TOPIC, "t", "retention.ms", version=version, include_synonyms=True, include_documentation=version >= 3
    )
    (entry,) = result.configs
    assert ("5", 1, False, False) == (entry.value, entry.config_source, entry.read_only, entry.is_sensitive)
    assert [("retention.ms", "5", 1), ("log.retention.ms", "604800000", 5)] == [
        (one.name, one.value, one.source) for one in entry.synonyms
    ]
    assert (5 if version >= 3 else 0) == entry.config_type
    assert version < 3 or "older" in entry.documentation


async def test_a_default_that_is_set_for_all_brokers_holds_at_once_and_goes_again(cluster, client):
    topic = await cluster.create("t")
    log = cluster.nodes[0].node.replica(topic.topic_id, 0).log
    assert 0 == await altered(client, BROKER, "", ("log.retention.ms", 0, "7"))
    await until(lambda: log.config.retention_ms == 7)
    (entry,) = (await described(client, TOPIC, "t", "retention.ms", include_synonyms=True)).configs
    assert ("7", 3) == (entry.value, entry.config_source)
    (entry,) = (await described(client, BROKER, "1", "log.retention.ms")).configs
    assert ("7", 3, False) == (entry.value, entry.config_source, entry.read_only)
    assert ["log.retention.ms"] == [one.name for one in (await described(client, BROKER, "")).configs]
    (made,) = (await client.ask(ApiKey.CREATE_TOPICS, CreateTopicsRequest([wanted("u")]))).topics
    assert ("7", 3) == next((one.value, one.config_source) for one in made.configs if one.name == "retention.ms")
    assert 0 == await altered(client, BROKER, "", ("log.retention.ms", 1, None))
    await until(lambda: log.config.retention_ms == 604_800_000)
    assert [] == (await described(client, BROKER, "")).configs


async def test_a_brokers_own_configuration_is_told_by_itself_only(cluster, client):
    found = {one.name: one for one in (await described(client, BROKER, "1")).configs}
    assert ("1", 4, True) == (found["node.id"].value, found["node.id"].config_source, found["node.id"].read_only)
    assert ("false", 5, 1) == tuple(
        getattr(found["auto.create.topics.enable"], key) for key in ("value", "config_source", "config_type")
    )
    assert ErrorCode.INVALID_REQUEST == (await described(client, BROKER, "2")).error_code
    assert ErrorCode.INVALID_REQUEST == (await described(client, BROKER, "x")).error_code


async def test_other_kinds_of_settings_are_told_as_far_as_there_are_any(cluster, client):
    assert ["root"] == [one.name for one in (await described(client, BROKER_LOGGER, "1")).configs]
    assert [] == (await described(client, GROUP, "g")).configs
    assert [] == (await described(client, CLIENT_METRICS, "m")).configs
    assert ErrorCode.INVALID_REQUEST == (await described(client, 99, "x")).error_code
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == (await described(client, TOPIC, "none")).error_code
    assert ErrorCode.INVALID_TOPIC_EXCEPTION == (await described(client, TOPIC, "a/b")).error_code


@pytest.mark.parametrize(
    ("resource", "change", "code"),
    [
        ((TOPIC, "t"), ("retention.ms", 0, "9"), ErrorCode.NONE),
        ((TOPIC, "t"), ("retention.ms", 1, None), ErrorCode.NONE),
        ((TOPIC, "t"), ("cleanup.policy", 2, "delete"), ErrorCode.NONE),
        ((TOPIC, "t"), ("cleanup.policy", 3, "delete"), ErrorCode.INVALID_CONFIG),
        ((TOPIC, "t"), ("retention.ms", 2, "9"), ErrorCode.INVALID_CONFIG),
        ((TOPIC, "t"), ("retention.ms", 0, None), ErrorCode.INVALID_REQUEST),
        ((TOPIC, "t"), ("retention.ms", 7, "9"), ErrorCode.INVALID_REQUEST),
        ((TOPIC, "t"), ("retention.ms", 0, "never"), ErrorCode.INVALID_CONFIG),
        ((TOPIC, "t"), ("no.such", 0, "9"), ErrorCode.INVALID_CONFIG),
        ((TOPIC, "t"), ("preallocate", 1, None), ErrorCode.NONE),
        ((TOPIC, ""), ("retention.ms", 0, "9"), ErrorCode.INVALID_REQUEST),
        ((TOPIC, "none"), ("retention.ms", 0, "9"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ((BROKER, "1"), ("follower.replication.throttled.rate", 0, "1000"), ErrorCode.NONE),
        ((BROKER, "1"), ("log.retention.ms", 0, "1000"), ErrorCode.INVALID_CONFIG),
        ((BROKER, "1"), ("node.id", 0, "7"), ErrorCode.INVALID_REQUEST),
        ((BROKER, ""), ("min.insync.replicas", 0, "2"), ErrorCode.INVALID_REQUEST),
        ((BROKER, "7"), ("follower.replication.throttled.rate", 0, "1000"), ErrorCode.BROKER_ID_NOT_REGISTERED),
        ((BROKER_LOGGER, "1"), ("root", 0, "DEBUG"), ErrorCode.INVALID_REQUEST),
    ],
)
async def test_a_setting_is_changed_or_refused_by_kafkas_code(cluster, client, resource, change, code):
    await cluster.create("t")
    assert code == await altered(client, *resource, change)


async def test_settings_of_one_resource_change_together_or_not_at_all(cluster, client):
    await cluster.create("t")
    changes = (("retention.ms", 0, "9"), ("segment.bytes", 0, "tiny"))
    assert ErrorCode.INVALID_CONFIG == await altered(client, TOPIC, "t", *changes)
    twice = (("retention.ms", 0, "9"), ("retention.ms", 0, "8"))
    assert ErrorCode.INVALID_REQUEST == await altered(client, TOPIC, "t", *twice)
    assert {} == dict(cluster.nodes[0].node.image.topic("t").configs)


@pytest.mark.parametrize("version", versions(ApiKey.ALTER_CONFIGS))
async def test_who_replaces_all_settings_resets_what_is_not_named(cluster, client, version):
    await cluster.create("t", retention_ms="5", segment_bytes="1000000")
    configs = [alter_configs.AlterableConfig("retention.ms", "6")]
    resource = alter_configs.AlterConfigsResource(TOPIC, "t", configs)
    asked = alter_configs.AlterConfigsRequest([resource])
    (result,) = (await client.ask(ApiKey.ALTER_CONFIGS, asked, version)).responses
    assert (0, TOPIC, "t") == (result.error_code, result.resource_type, result.resource_name)
    assert {"retention.ms": "6"} == dict(cluster.nodes[0].node.image.topic("t").configs)


async def test_what_has_settings_is_listed_by_kind(cluster, client):
    await cluster.create("t")
    assert [] == (await client.ask(ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest(), 0)).config_resources
    everything = await client.ask(ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest(), 1)
    assert [(TOPIC, "t"), (BROKER, "1"), (BROKER_LOGGER, "1")] == [
        (one.resource_type, one.resource_name) for one in everything.config_resources
    ]
    wrong = await client.ask(ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest([99]), 1)
    assert ErrorCode.UNSUPPORTED_VERSION == wrong.error_code


# -- the cluster, its partitions and its disks -----------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CLUSTER))
async def test_the_cluster_is_told_by_the_listener_that_was_asked(cluster, version):
    through = await RawClient.connect(cluster.nodes[0].clients.port)
    asked = DescribeClusterRequest(include_cluster_authorized_operations=True)
    told = await through.ask(ApiKey.DESCRIBE_CLUSTER, asked, version)
    assert (cluster.cluster_id, 1) == (told.cluster_id, told.controller_id)
    assert [(1, cluster.nodes[0].clients.port)] == [(one.broker_id, one.port) for one in told.brokers]
    assert told.cluster_authorized_operations > 0
    if version:
        for kind, code in ((2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)):
            refused = await through.ask(ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest(endpoint_type=kind), version)
            assert code == refused.error_code


async def test_partitions_are_told_page_by_page_and_each_once(cluster, client):
    for name, count in (("a", 3), ("b", 2), ("c", 1)):
        await cluster.create(name, count)
    told, cursor = [], None
    while True:
        asked = DescribeTopicPartitionsRequest(response_partition_limit=2, cursor=cursor)
        page = await client.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, asked)
        told += [(topic.name, one.partition_index) for topic in page.topics for one in topic.partitions]
        assert all([] == one.eligible_leader_replicas for topic in page.topics for one in topic.partitions)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)] == told
    names = DescribeTopicPartitionsRequest([TopicRequest("none"), TopicRequest("a/b"), TopicRequest("c")])
    assert [
        ("a/b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("c", ErrorCode.NONE),
        ("none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ] == [(one.name, one.error_code) for one in (await client.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, names)).topics]
    gone = DescribeTopicPartitionsRequest(cursor=Cursor("bb", 7))
    assert ["c"] == [one.name for one in (await client.ask(ApiKey.DESCRIBE_TOPIC_PARTITIONS, gone)).topics]


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_LOG_DIRS))
async def test_log_directories_tell_what_lies_in_them(cluster, client, version):
    await cluster.create("t", 2)
    await cluster.create("u")
    assert 0 == produced(await client.ask(ApiKey.PRODUCE, produce("t", b"v" * 1000, partition=1), 9)).error_code
    (everything,) = (await client.ask(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(None), version)).results
    sizes = {
        (topic.name, one.partition_index): one.partition_size for topic in everything.topics for one in topic.partitions
    }
    assert {("t", 0): 0, ("u", 0): 0} == {key: size for key, size in sizes.items() if key != ("t", 1)}
    assert sizes["t", 1] > 1000
    assert (version >= 4) == (0 < everything.usable_bytes <= everything.total_bytes)
    asked = DescribeLogDirsRequest([DescribableLogDirTopic("t", [0]), DescribableLogDirTopic("none", [0])])
    (some,) = (await client.ask(ApiKey.DESCRIBE_LOG_DIRS, asked, version)).results
    assert [("t", [0])] == [(topic.name, [one.partition_index for one in topic.partitions]) for topic in some.topics]


# -- records ---------------------------------------------------------------------------------------------------------


async def deleted(client, topic: str, offset: int, partition: int = 0, *, version: int = 2, timeout_ms: int = 30_000):
    asked = DeleteRecordsTopic(topic, [DeleteRecordsPartition(partition, offset)])
    answer = await client.ask(ApiKey.DELETE_RECORDS, DeleteRecordsRequest([asked], timeout_ms), version)
    (result,) = answer.topics[0].partitions
    return result.error_code, result.low_watermark


async def test_records_are_deleted_up_to_an_offset_in_every_version(cluster, client):
    topic = await cluster.create("t")
    for value in range(6):
        await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"%d" % value))
    for version in versions(ApiKey.DELETE_RECORDS):
        assert (0, version + 1) == await deleted(client, "t", version + 1, version=version)
    assert (0, 3) == await deleted(client, "t", 1)  # what is gone is gone
    assert (ErrorCode.OFFSET_OUT_OF_RANGE, -1) == await deleted(client, "t", 7)
    assert (ErrorCode.OFFSET_OUT_OF_RANGE, -1) == await deleted(client, "t", -2)
    assert (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1) == await deleted(client, "none", 0)
    assert (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1) == await deleted(client, "t", 0, partition=5)
    assert (0, 6) == await deleted(client, "t", -1)
    assert 6 == cluster.nodes[0].node.replica(topic.topic_id, 0).log.log_start_offset
