"""Admin clients that we did not write, each from the making of a topic to its end."""

import warnings

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin import NewPartitions as AioNewPartitions
from aiokafka.admin import NewTopic as AioNewTopic
from aiokafka.admin.config_resource import ConfigResource as AioConfigResource
from aiokafka.admin.config_resource import ConfigResourceType as AioConfigResourceType
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.api.kafka.messages import produce
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import RealCluster, until
from tests.api.kafka.test_clients import in_thread
from wire.messages import ApiKey

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own, of how it reads its own files
    import kafka.admin

TIMEOUT = {"request_timeout": 60}


def known(cluster: RealCluster, name: str, partitions: int) -> bool:
    topics = [one.node.image.topic(name) for one in cluster.nodes]
    return all(topic is not None and partitions == len(topic.partitions) for topic in topics)


@pytest.fixture
def client_at(three):
    def connect(broker_id: int):
        return RawClient.connect(three.nodes[broker_id - 1].listener.port)

    return connect


async def test_librdkafka_administers_three_nodes(three: RealCluster, client_at):
    admin = AdminClient({"bootstrap.servers": three.bootstrap})

    async def each(futures):
        return [await in_thread(future.result, 60) for future in futures.values()]

    new = [NewTopic("t", 2, 3, config={"retention.ms": "86400000"}), NewTopic("u", -1, -1)]
    await each(await in_thread(lambda: admin.create_topics(new, **TIMEOUT)))
    await until(lambda: known(three, "t", 2) and known(three, "u", 1))
    with pytest.raises(KafkaException) as exists:
        await each(admin.create_topics([new[0]], **TIMEOUT))
    assert KafkaError.TOPIC_ALREADY_EXISTS == exists.value.args[0].code()
    await each(admin.create_partitions([NewPartitions("t", 3)], **TIMEOUT))
    await until(lambda: known(three, "t", 3))
    topic_configs = ConfigResource(ResourceType.TOPIC, "t")
    change = ConfigEntry("segment.bytes", "4096", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, "t", incremental_configs=[change])
    await each(admin.incremental_alter_configs([changed], **TIMEOUT))
    (configs,) = await each(admin.describe_configs([topic_configs], **TIMEOUT))
    assert ("86400000", False) == (configs["retention.ms"].value, configs["retention.ms"].is_default)
    assert ("4096", "1") == (configs["segment.bytes"].value, str(configs["segment.bytes"].source))
    (broker,) = await each(admin.describe_configs([ConfigResource(ResourceType.BROKER, "2")], **TIMEOUT))
    assert ("2", True) == (broker["node.id"].value, broker["node.id"].is_read_only)
    told = await in_thread(admin.describe_cluster(**TIMEOUT).result, 60)
    assert (three.cluster_id, {1, 2, 3}) == (told.cluster_id, {node.id for node in told.nodes})

    topic = three.nodes[0].node.image.topic("t")
    leader = await client_at(topic.partitions[1].leader)
    for _ in range(3):
        await leader.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v", partition=1))
    (gone,) = await each(admin.delete_records([TopicPartition("t", 1, 2)], **TIMEOUT))
    assert 2 == gone.low_watermark
    (earliest,) = await each(admin.list_offsets({TopicPartition("t", 1): OffsetSpec.earliest()}, **TIMEOUT))
    assert 2 == earliest.offset
    await each(admin.delete_topics(["t", "u"], **TIMEOUT))
    await until(lambda: all(not one.node.image.topics for one in three.nodes))


async def test_kafka_python_administers(cluster: RealCluster):
    def run() -> None:
        admin = kafka.admin.KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
        admin.create_topics([kafka.admin.NewTopic("t", 2, 1)])
        assert ["t"] == [name for name in admin.list_topics() if not name.startswith("__")]
        admin.create_partitions({"t": kafka.admin.NewPartitions(3)})
        (described,) = admin.describe_topics(["t"])
        assert 3 == len(described["partitions"])
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, "t", {"retention.ms": "86400000"})
        admin.alter_configs([resource])
        assert "86400000" in str(admin.describe_configs([resource]))
        assert admin.describe_log_dirs()
        admin.delete_topics(["t"])
        admin.close()

    await in_thread(run)
    assert cluster.nodes[0].node.image.topic("t") is None


async def test_aiokafka_administers(cluster: RealCluster):
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    await admin.create_topics([AioNewTopic("t", 2, 1)])
    await admin.create_partitions({"t": AioNewPartitions(3)})
    assert ["t"] == [name for name in await admin.list_topics() if not name.startswith("__")]
    resource = AioConfigResource(AioConfigResourceType.TOPIC, "t", {"retention.ms": "86400000"})
    await admin.alter_configs([resource])
    described = await admin.describe_configs([AioConfigResource(AioConfigResourceType.TOPIC, "t")])
    assert "86400000" in str(described)
    await admin.delete_topics(["t"])
    await admin.close()
    assert cluster.nodes[0].node.image.topic("t") is None
