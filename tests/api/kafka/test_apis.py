"""What each API answers, version by version: Kafka's answers where all is well, Kafka's codes where it is not."""

from uuid import uuid4

import pytest

from tests.api.kafka.messages import NOW_MS, batch, fetch, fetched, produce, produced, values
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import until
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.init_producer_id import InitProducerIdRequest
from wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from wire.messages.metadata import OPERATIONS_NOT_ASKED, MetadataRequest, MetadataRequestTopic
from wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from wire.schema import NO_UUID

UNKNOWN_ID = uuid4()


# -- Produce and Fetch in every version ------------------------------------------------------------------------------


async def test_every_version_of_produce_and_fetch_does_the_same(cluster, client):
    topic = await cluster.create("t")
    for offset, version in enumerate(range(3, 14)):
        name = topic.topic_id if version >= 13 else "t"
        answer = produced(await client.ask(ApiKey.PRODUCE, produce(name, b"%d" % version, acks=-1), version))
        assert (0, offset) == (answer.error_code, answer.base_offset)
    for version in API[ApiKey.FETCH].versions:
        name = topic.topic_id if version >= 13 else "t"
        answer = await client.ask(ApiKey.FETCH, fetch(name, 2, max_bytes=1 << 20), version)
        data = fetched(answer)
        assert [b"%d" % one for one in range(5, 14)] == values(data)
        assert (11, 11) == (data.high_watermark, data.last_stable_offset)
        assert (0 if version >= 5 else -1) == data.log_start_offset


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_the_first_versions_of_produce_are_refused_in_their_own_words(cluster, client, version):
    await cluster.create("t")
    answer = produced(await client.ask(ApiKey.PRODUCE, produce("t", b"v"), version))
    assert ErrorCode.UNSUPPORTED_VERSION == answer.error_code


async def test_zstd_needs_a_version_that_knows_it(cluster, client):
    await cluster.create("t")
    records = batch(b"compressible" * 100, compression=4)
    codes = [
        produced(await client.ask(ApiKey.PRODUCE, produce("t", records=records), version)).error_code
        for version in (6, 7)
    ]
    assert [ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, 0] == codes


# -- Produce ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "version", "code"),
    [
        (produce("none", b"v"), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (produce("t", b"v", partition=1), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (produce("t", b"v", partition=-1), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (produce(UNKNOWN_ID, b"v"), 13, ErrorCode.UNKNOWN_TOPIC_ID),
        (produce("t", b"v", acks=2), 12, ErrorCode.INVALID_REQUIRED_ACKS),
        (produce("t", b"v", acks=-2), 12, ErrorCode.INVALID_REQUIRED_ACKS),
    ],
)
async def test_what_cannot_be_produced_is_refused_by_kafkas_code(cluster, client, asked, version, code):
    topic = await cluster.create("t")
    answer = produced(await client.ask(ApiKey.PRODUCE, asked, version))
    assert (code, -1) == (answer.error_code, answer.base_offset)
    assert answer.error_message
    assert 0 == cluster.nodes[0].node.replica(topic.topic_id, 0).log.log_end_offset


async def test_the_id_of_a_deleted_topic_is_not_that_of_its_successor(cluster, client):
    """S17."""
    from metadata.requests import DeleteTopicRequest  # noqa: PLC0415 - only here

    old = await cluster.create("t")
    await client.ask(ApiKey.PRODUCE, produce(old.topic_id, b"old"))
    await cluster.nodes[0].node.admin(DeleteTopicRequest(name="t"), timeout_s=30)
    new = await cluster.create("t")
    assert (
        ErrorCode.UNKNOWN_TOPIC_ID == produced(await client.ask(ApiKey.PRODUCE, produce(old.topic_id, b"v"))).error_code
    )
    assert ErrorCode.UNKNOWN_TOPIC_ID == fetched(await client.ask(ApiKey.FETCH, fetch(old.topic_id))).error_code
    assert 0 == produced(await client.ask(ApiKey.PRODUCE, produce(new.topic_id, b"new"))).base_offset


async def test_a_retry_of_an_idempotent_producer_is_written_once(cluster, client):
    """S13: the first answer again, for each of the last five batches."""
    topic = await cluster.create("t")
    given = await client.ask(ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(None))
    assert (0, 0) == (given.error_code, given.producer_epoch)

    async def send(sequence: int):
        records = batch(b"v", producer_id=given.producer_id, producer_epoch=0, base_sequence=sequence)
        return produced(await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, records=records, acks=-1)))

    assert [0, 1, 2] == [(await send(sequence)).base_offset for sequence in (0, 1, 2)]
    again = await send(1)
    assert (0, 1) == (again.error_code, again.base_offset)
    assert ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER == (await send(7)).error_code
    assert 3 == cluster.nodes[0].node.replica(topic.topic_id, 0).log.log_end_offset


# -- InitProducerId --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(6))
async def test_every_idempotent_producer_has_an_id_of_its_own(client, version):
    given = [await client.ask(ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(None), version) for _ in range(3)]
    assert [(0, 0)] * 3 == [(one.error_code, one.producer_epoch) for one in given]
    assert 3 == len({one.producer_id for one in given})


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (InitProducerIdRequest("transaction"), ErrorCode.UNSUPPORTED_VERSION),
        (InitProducerIdRequest(""), ErrorCode.INVALID_REQUEST),
        (InitProducerIdRequest(None, producer_id=7), ErrorCode.INVALID_REQUEST),
        (InitProducerIdRequest(None, producer_epoch=7), ErrorCode.INVALID_REQUEST),
    ],
)
async def test_transactions_and_half_an_identity_are_refused(client, asked, code):
    answer = await client.ask(ApiKey.INIT_PRODUCER_ID, asked)
    assert (code, -1, -1) == (answer.error_code, answer.producer_id, answer.producer_epoch)


# -- Fetch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "version", "code"),
    [
        (fetch("none"), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (fetch("t", partition=1), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (fetch("t", partition=-1), 12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (fetch(UNKNOWN_ID), 13, ErrorCode.UNKNOWN_TOPIC_ID),
        (fetch("t", 7), 12, ErrorCode.OFFSET_OUT_OF_RANGE),
        (fetch("t", -1), 12, ErrorCode.OFFSET_OUT_OF_RANGE),
        (fetch("t", current_leader_epoch=99), 12, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ],
)
async def test_what_cannot_be_fetched_is_refused_at_once_by_kafkas_code(cluster, client, asked, version, code):
    await cluster.create("t")
    answer = fetched(await client.ask(ApiKey.FETCH, asked, version))
    assert (code, b"", -1) == (answer.error_code, bytes(answer.records), answer.high_watermark)


async def test_who_reads_committed_gets_a_list_of_aborted_transactions_who_does_not_gets_none(cluster, client):
    topic = await cluster.create("t")
    for level, expected in ((0, None), (1, [])):
        answer = fetched(await client.ask(ApiKey.FETCH, fetch(topic.topic_id, isolation_level=level)))
        assert expected == answer.aborted_transactions


async def test_a_fetch_waits_for_min_bytes_until_its_deadline(cluster, client):
    topic = await cluster.create("t")
    await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v", acks=-1))
    answer = await client.ask(ApiKey.FETCH, fetch(topic.topic_id, min_bytes=1 << 20, max_wait_ms=50))
    assert [b"v"] == values(fetched(answer))


async def test_a_fetch_session_is_told_only_what_is_new(cluster, client):
    """KIP-227 over the wire: full, incremental, new data, forgotten, ended."""
    topic = await cluster.create("t", 3)
    everything = fetch(topic.topic_id, session_epoch=0)
    first = await client.ask(ApiKey.FETCH, everything)
    assert first.session_id
    other = await RawClient.connect(cluster.nodes[0].listener.port)

    async def incremental(epoch: int, **options):
        asked = fetch(topic.topic_id, session_id=first.session_id, session_epoch=epoch, **options)
        return await client.ask(ApiKey.FETCH, asked if options.pop("all", False) else _without_topics(asked))

    nothing = await incremental(1)
    assert (0, first.session_id, []) == (nothing.error_code, nothing.session_id, nothing.responses)
    await other.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v", acks=-1))
    assert [b"v"] == values(fetched(await incremental(2, max_wait_ms=30_000)))
    wrong = await incremental(7)
    assert ErrorCode.INVALID_FETCH_SESSION_EPOCH == wrong.error_code
    ended = await client.ask(ApiKey.FETCH, fetch(topic.topic_id, session_id=first.session_id, session_epoch=-1))
    assert (0, 0) == (ended.error_code, ended.session_id)
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == (await incremental(3)).error_code


def _without_topics(asked):
    from msgspec.structs import replace  # noqa: PLC0415 - only here

    return replace(asked, topics=[])


# -- ListOffsets -----------------------------------------------------------------------------------------------------


def list_offsets(timestamp: int, *, name: str = "t", partition: int = 0, epoch: int = -1, replica_id: int = -1):
    asked = ListOffsetsPartition(partition, epoch, timestamp)
    return ListOffsetsRequest(replica_id, 0, [ListOffsetsTopic(name, [asked])])


def listed(answer):
    return answer.topics[0].partitions[0]


@pytest.mark.parametrize("version", API[ApiKey.LIST_OFFSETS].versions)
async def test_offsets_by_time_and_of_both_ends_in_every_version(cluster, client, version):
    topic = await cluster.create("t")
    for number in range(4):
        await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"%d" % number, acks=-1))

    async def ask(timestamp: int):
        found = listed(await client.ask(ApiKey.LIST_OFFSETS, list_offsets(timestamp), version))
        return found.error_code, found.offset, found.timestamp

    assert (0, 4, -1) == await ask(-1)
    assert (0, 0, -1) == await ask(-2)
    assert (0, 0, NOW_MS) == await ask(NOW_MS)
    assert (0, 0, NOW_MS) == await ask(0)
    assert (0, -1, -1) == await ask(NOW_MS + 1)
    unsupported = (ErrorCode.UNSUPPORTED_VERSION, -1, -1)
    assert ((0, 0, NOW_MS) if version >= 7 else unsupported) == await ask(-3)
    assert ((0, 0, -1) if version >= 8 else unsupported) == await ask(-4)
    assert ((0, -1, -1) if version >= 9 else unsupported) == await ask(-5)
    assert ((0, -1, -1) if version >= 11 else unsupported) == await ask(-6)
    assert unsupported == await ask(-7)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (list_offsets(-1, name="none"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (list_offsets(-1, partition=1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (list_offsets(-1, epoch=99), ErrorCode.UNKNOWN_LEADER_EPOCH),
    ],
)
async def test_offsets_of_what_is_not_there(cluster, client, asked, code):
    await cluster.create("t")
    assert code == listed(await client.ask(ApiKey.LIST_OFFSETS, asked)).error_code


async def test_offsets_of_an_empty_partition_and_of_one_asked_for_twice(cluster, client):
    await cluster.create("t")
    empty = listed(await client.ask(ApiKey.LIST_OFFSETS, list_offsets(-3)))
    assert (0, -1, -1) == (empty.error_code, empty.offset, empty.timestamp)
    twice = [ListOffsetsPartition(0, -1, -1), ListOffsetsPartition(0, -1, -1)]
    answer = await client.ask(ApiKey.LIST_OFFSETS, ListOffsetsRequest(-1, 0, [ListOffsetsTopic("t", twice)]))
    assert [0, ErrorCode.INVALID_REQUEST] == [one.error_code for one in answer.topics[0].partitions]


# -- OffsetForLeaderEpoch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", API[ApiKey.OFFSET_FOR_LEADER_EPOCH].versions)
async def test_where_an_epoch_ended(cluster, client, version):
    topic = await cluster.create("t")
    await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v", acks=-1))
    epoch = cluster.nodes[0].node.replica(topic.topic_id, 0).leader_epoch

    async def ask(leader_epoch: int, current: int = -1, name: str = "t"):
        asked = OffsetForLeaderTopic(name, [OffsetForLeaderPartition(0, current, leader_epoch)])
        answer = await client.ask(ApiKey.OFFSET_FOR_LEADER_EPOCH, OffsetForLeaderEpochRequest(-1, [asked]), version)
        one = answer.topics[0].partitions[0]
        return one.error_code, one.leader_epoch, one.end_offset

    assert (0, epoch, 1) == await ask(epoch)
    assert (0, epoch, 1) == await ask(epoch, epoch)
    assert (0, -1, -1) == await ask(epoch + 1)
    assert (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1) == await ask(epoch, epoch + 1)
    assert (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1) == await ask(epoch, name="none")


# -- Metadata --------------------------------------------------------------------------------------------------------


def about(*names: str, **options) -> MetadataRequest:
    return MetadataRequest([MetadataRequestTopic(name=name) for name in names], **options)


@pytest.mark.parametrize("version", API[ApiKey.METADATA].versions)
async def test_metadata_in_every_version(cluster, client, version):
    topic = await cluster.create("t", 2)
    await cluster.create("other")
    answer = await client.ask(ApiKey.METADATA, about("t", "none", "t"), version)
    (broker,) = answer.brokers
    assert (1, "127.0.0.1", cluster.nodes[0].listener.port) == (broker.node_id, broker.host, broker.port)
    found, none = answer.topics
    assert (0, "t", 2) == (found.error_code, found.name, len(found.partitions))
    assert (topic.topic_id if version >= 10 else NO_UUID) == found.topic_id
    assert (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "none", []) == (none.error_code, none.name, none.partitions)
    partition = found.partitions[1]
    assert (0, 1, 1, [1], [1], []) == (
        partition.error_code, partition.partition_index, partition.leader_id, partition.replica_nodes,
        partition.isr_nodes, partition.offline_replicas,
    )  # fmt: skip
    if version >= 1:
        assert 1 == answer.controller_id
    if version >= 2:
        assert cluster.cluster_id == answer.cluster_id
    every = await client.ask(ApiKey.METADATA, MetadataRequest(None if version else []), version)
    assert {"t", "other"} == {one.name for one in every.topics}
    if version:
        assert [] == (await client.ask(ApiKey.METADATA, about(), version)).topics


async def test_topics_by_id_and_what_is_wrong_with_a_name(cluster, client):
    topic = await cluster.create("t")
    ids = [MetadataRequestTopic(topic.topic_id, None), MetadataRequestTopic(UNKNOWN_ID, None)]
    found, unknown = (await client.ask(ApiKey.METADATA, MetadataRequest(ids))).topics
    assert (0, "t") == (found.error_code, found.name)
    assert (ErrorCode.UNKNOWN_TOPIC_ID, None, UNKNOWN_ID) == (unknown.error_code, unknown.name, unknown.topic_id)
    answer = await client.ask(ApiKey.METADATA, about("a b", "..", "x" * 250, ""))
    assert [ErrorCode.INVALID_TOPIC_EXCEPTION] * 4 == [one.error_code for one in answer.topics]


async def test_without_an_authorizer_everything_is_authorized(cluster, client):
    await cluster.create("t")
    asked = about("t", include_topic_authorized_operations=True, include_cluster_authorized_operations=True)
    answer = await client.ask(ApiKey.METADATA, asked, 9)
    assert (8096, 3576) == (answer.cluster_authorized_operations, answer.topics[0].topic_authorized_operations)
    answer = await client.ask(ApiKey.METADATA, about("t"), 9)
    assert OPERATIONS_NOT_ASKED == answer.topics[0].topic_authorized_operations


async def test_each_listener_tells_its_own_endpoints(cluster):
    clients = await RawClient.connect(cluster.nodes[0].clients.port)
    answer = await clients.ask(ApiKey.METADATA, MetadataRequest())
    assert [cluster.nodes[0].clients.port] == [broker.port for broker in answer.brokers]


# -- more than one broker --------------------------------------------------------------------------------------------


async def test_who_does_not_lead_says_who_does_and_where(three):
    """KIP-951."""
    topic = await three.create("t", replicas=3)
    leader = three.leader(topic)
    other = next(one for one in three.nodes if one is not leader)
    client = await RawClient.connect(other.clients.port)
    epoch = leader.node.replica(topic.topic_id, 0).leader_epoch
    for answer, one in (
        await _both(client, ApiKey.PRODUCE, produce(topic.topic_id, b"v"), produced),
        await _both(client, ApiKey.FETCH, fetch(topic.topic_id), fetched),
    ):
        assert ErrorCode.NOT_LEADER_OR_FOLLOWER == one.error_code
        assert (leader.node.broker_id, epoch) == (one.current_leader.leader_id, one.current_leader.leader_epoch)
        (endpoint,) = answer.node_endpoints
        assert (leader.node.broker_id, leader.clients.port) == (endpoint.node_id, endpoint.port)


async def _both(client, key, request, only):
    answer = await client.ask(key, request)
    return answer, only(answer)


async def test_an_old_epoch_is_fenced_and_offline_replicas_are_told(three):
    """S7, after a broker has handed over and stopped."""
    topic = await three.create("t", replicas=3)
    leader = three.leader(topic)
    epoch = leader.node.replica(topic.topic_id, 0).leader_epoch
    assert epoch == 0
    survivors = [one for one in three.nodes if one is not leader]
    await leader.node.hand_over()
    await leader.stop()
    await until(lambda: all(_leader_of(one, topic) not in (-1, leader.node.broker_id) for one in survivors))
    new = next(one for one in survivors if one.node.broker_id == _leader_of(survivors[0], topic))
    await until(lambda: new.node.replica(topic.topic_id, 0).is_leader)
    client = await RawClient.connect(new.listener.port)
    one = fetched(await client.ask(ApiKey.FETCH, fetch(topic.topic_id, current_leader_epoch=epoch)))
    assert ErrorCode.FENCED_LEADER_EPOCH == one.error_code
    assert new.node.broker_id == one.current_leader.leader_id
    asked = list_offsets(-1, epoch=epoch)
    assert ErrorCode.FENCED_LEADER_EPOCH == listed(await client.ask(ApiKey.LIST_OFFSETS, asked)).error_code
    told = (await client.ask(ApiKey.METADATA, about("t"))).topics[0].partitions[0]
    assert [leader.node.broker_id] == told.offline_replicas
    assert new.node.broker_id == told.leader_id


def _leader_of(real, topic) -> int:
    state = real.node.image.partition(topic.topic_id, 0)
    return -1 if state is None or real.node.image.leader_of(topic_now(real, topic), 0) is None else state.leader


def topic_now(real, topic):
    return real.node.image.topics[topic.topic_id]
