"""Admin over three nodes: any of them takes the request, and what is done is done everywhere."""

import pytest

from tests.api.kafka.messages import produce, produced
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import until
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from wire.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from wire.messages.elect_leaders import UNCLEAN, ElectLeadersRequest, TopicPartitions
from wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)


@pytest.fixture
async def clients(three) -> list[RawClient]:
    """One at each node."""
    return [await RawClient.connect(one.listener.port) for one in three.nodes]


def logs(three, topic, partition: int = 0):
    return [one.node.replica(topic.topic_id, partition).log for one in three.nodes]


async def test_every_node_takes_a_request_and_knows_the_topic_when_it_answers(three, clients):
    for number, client in enumerate(clients):
        asked = CreateTopicsRequest([CreatableTopic(f"t{number}", 2, 3)])
        (made,) = (await client.ask(ApiKey.CREATE_TOPICS, asked)).topics
        assert (0, 2, 3) == (made.error_code, made.num_partitions, made.replication_factor)
        assert three.nodes[number].node.image.topic(f"t{number}") is not None


async def test_deleted_records_are_gone_from_every_replica_when_it_is_answered(three, clients):
    """S12: no replica in service could bring them back."""
    topic = await three.create("t", 1, 3)
    leader = topic.partitions[0].leader
    for _ in range(5):
        answer = await clients[leader - 1].ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v"))
        assert 0 == produced(answer).error_code
    asked = DeleteRecordsRequest([DeleteRecordsTopic("t", [DeleteRecordsPartition(0, 4)])], 60_000)
    (result,) = (await clients[leader - 1].ask(ApiKey.DELETE_RECORDS, asked)).topics[0].partitions
    assert (0, 4) == (result.error_code, result.low_watermark)
    assert [4, 4, 4] == [log.log_start_offset for log in logs(three, topic)]
    elsewhere = clients[leader % 3]
    (refused,) = (await elsewhere.ask(ApiKey.DELETE_RECORDS, asked)).topics[0].partitions
    assert (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1) == (refused.error_code, refused.low_watermark)


def moved(replicas: list[int] | None, *, partition: int = 0, topic: str = "t", **options):
    one = ReassignableTopic(topic, [ReassignablePartition(partition, replicas)])
    return AlterPartitionReassignmentsRequest(topics=[one], **options)


async def outcome(client: RawClient, request, version: int = 1) -> int:
    answer = await client.ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, request, version)
    ((result,),) = [topic.partitions for topic in answer.responses]
    assert 0 == answer.error_code
    code: int = result.error_code
    return code


async def test_partitions_move_and_what_cannot_move_is_refused_by_kafkas_code(three, clients):
    topic = await three.create("t", 1, 2)
    client = clients[0]
    first, second = topic.partitions[0].replicas
    (third,) = {1, 2, 3} - {first, second}
    nothing = await client.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, ListPartitionReassignmentsRequest())
    assert [] == nothing.topics
    for version in API[ApiKey.ALTER_PARTITION_REASSIGNMENTS].versions:
        assert ErrorCode.NO_REASSIGNMENT_IN_PROGRESS == await outcome(client, moved(None), version)
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == await outcome(client, moved([]))
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == await outcome(client, moved([first, first]))
    assert ErrorCode.INVALID_REPLICA_ASSIGNMENT == await outcome(client, moved([9]))
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == await outcome(client, moved([first], topic="none"))
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == await outcome(client, moved([first], partition=4))
    fixed = moved([first], allow_replication_factor_change=False)
    assert ErrorCode.INVALID_REPLICATION_FACTOR == await outcome(client, fixed)
    node = three.nodes[0].node
    assert 0 == await outcome(client, moved([third, first], allow_replication_factor_change=False))
    await until(lambda: node.image.topics[topic.topic_id].partitions[0].replicas == (third, first))
    named = ListPartitionReassignmentsRequest(
        topics=[ListPartitionReassignmentsTopics("t", [0, 7]), ListPartitionReassignmentsTopics("none", [0])]
    )
    await until(lambda: not node.image.topics[topic.topic_id].partitions[0].is_reassigning)
    assert [] == (await client.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, named)).topics


async def test_leaders_are_elected_where_they_can_be(three, clients):
    topic = await three.create("t", 1, 3)
    client = clients[0]
    asked = [TopicPartitions("t", [0, 9]), TopicPartitions("none", [0])]
    for version in API[ApiKey.ELECT_LEADERS].versions:
        answer = await client.ask(ApiKey.ELECT_LEADERS, ElectLeadersRequest(topic_partitions=asked), version)
        codes = {
            (topic.topic, one.partition_id): one.error_code
            for topic in answer.replica_election_results
            for one in topic.partition_result
        }
        assert {
            ("none", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ("t", 0): ErrorCode.ELECTION_NOT_NEEDED,
            ("t", 9): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        } == codes
    unclean = ElectLeadersRequest(UNCLEAN, [TopicPartitions("t", [0])])
    (result,) = (await client.ask(ApiKey.ELECT_LEADERS, unclean)).replica_election_results[0].partition_result
    assert ErrorCode.ELECTION_NOT_NEEDED == result.error_code
    wrong = await client.ask(ApiKey.ELECT_LEADERS, ElectLeadersRequest(7, [TopicPartitions("t", [0])]))
    assert ErrorCode.INVALID_REQUEST == wrong.error_code
    first, second, third = topic.partitions[0].replicas
    assert 0 == await outcome(client, moved([second, first, third]))
    await until(lambda: three.nodes[0].node.image.topics[topic.topic_id].partitions[0].replicas[0] == second)
    everything = await client.ask(ApiKey.ELECT_LEADERS, ElectLeadersRequest(topic_partitions=None))
    (elected,) = everything.replica_election_results
    assert ("t", [(0, 0)]) == (elected.topic, [(one.partition_id, one.error_code) for one in elected.partition_result])
    assert second == three.nodes[0].node.image.topics[topic.topic_id].partitions[0].leader
