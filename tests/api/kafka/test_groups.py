"""The group APIs, byte by byte of our own codec: every advertised version does what its predecessors did."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.kafka.settings import KafkaSettings
from metadata.requests import DeleteTopicRequest
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import RealCluster, until
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.delete_groups import DeleteGroupsRequest
from wire.messages.describe_groups import DescribeGroupsRequest
from wire.messages.find_coordinator import SHARE, TRANSACTION, FindCoordinatorRequest
from wire.messages.heartbeat import HeartbeatRequest
from wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from wire.messages.list_groups import ListGroupsRequest
from wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic
from wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic
from wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from wire.schema import NO_UUID

SUBSCRIBED_TO_T = b"\0\0\0\0\0\1\0\1t\xff\xff\xff\xff"


@pytest.fixture
async def cluster(tmp_path: Path, settings: KafkaSettings) -> AsyncIterator[RealCluster]:
    groups = ["offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0"]
    made = RealCluster(tmp_path, size=1, kafka=settings, settings=groups)
    try:
        yield await made.start()
    finally:
        await made.close()


def versions(key: ApiKey) -> range:
    return API[key].versions


async def coordinator(client: RawClient) -> None:
    """Until the group's partition was read."""
    await client.ask(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest(coordinator_keys=["g"]))
    async with asyncio.timeout(30):
        while (await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", None), 7)).error_code:  # noqa: ASYNC110 - another end
            await asyncio.sleep(0.01)  # sleeps: as clients do, who are told to try again


def joining(member_id: str = "", **more) -> JoinGroupRequest:
    protocols = [JoinGroupRequestProtocol("range", SUBSCRIBED_TO_T)]
    return JoinGroupRequest("g", 10_000, 10_000, member_id, more.pop("instance", None), "consumer", protocols)


async def stable(client: RawClient, version: int = 9) -> JoinGroupResponse:
    """One member, which has everything."""
    await coordinator(client)
    joined = await client.ask(ApiKey.JOIN_GROUP, joining(), version)
    if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        joined = await client.ask(ApiKey.JOIN_GROUP, joining(joined.member_id), version)
    assert ErrorCode.NONE == joined.error_code
    await client.ask(ApiKey.SYNC_GROUP, syncing(joined), 4)
    return joined


def syncing(joined: JoinGroupResponse, data: bytes = b"all") -> SyncGroupRequest:
    return SyncGroupRequest(
        "g", joined.generation_id, joined.member_id, None, "consumer", "range",
        [SyncGroupRequestAssignment(joined.member_id, data)],
    )  # fmt: skip


async def commit(
    client: RawClient, offset: int, *, topic="t", version=9, generation=-1, member="", topic_id=None, retention_ms=-1
) -> ErrorCode:
    partitions = [OffsetCommitRequestPartition(0, offset, 5, "note")]
    topics = [OffsetCommitRequestTopic("" if topic_id else topic, topic_id or NO_UUID, partitions)]
    request = OffsetCommitRequest("g", generation, member, None, retention_ms, topics)
    answer = await client.ask(ApiKey.OFFSET_COMMIT, request, version)
    return ErrorCode(answer.topics[0].partitions[0].error_code)


@pytest.mark.parametrize("version", versions(ApiKey.FIND_COORDINATOR))
async def test_the_first_question_makes_the_topic_and_names_the_coordinator(cluster, client, version):
    many = version >= 4
    request = FindCoordinatorRequest("g", coordinator_keys=["g", "other"] if many else [])
    answer = await client.ask(ApiKey.FIND_COORDINATOR, request, version)
    found = answer.coordinators[0] if many else answer
    assert (0, 1, "127.0.0.1", cluster.nodes[0].listener.port) == (
        found.error_code, found.node_id, found.host, found.port,
    )  # fmt: skip
    topic = cluster.nodes[0].node.image.topic("__consumer_offsets")
    assert topic is not None
    assert 3 == len(topic.partitions)


@pytest.mark.parametrize(
    ("kind", "code"), [(TRANSACTION, ErrorCode.UNSUPPORTED_VERSION), (SHARE, ErrorCode.INVALID_REQUEST)]
)
async def test_coordinators_of_other_kinds_are_not_promised(client, kind, code):
    answer = await client.ask(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest(key_type=kind, coordinator_keys=["x"]))
    assert code == answer.coordinators[0].error_code


async def test_too_few_brokers_for_the_copies_that_were_asked_for(tmp_path, settings):
    made = RealCluster(tmp_path, size=1, kafka=settings, settings=["offsets.topic.replication.factor=3"])
    try:
        await made.start()
        client = await RawClient.connect(made.nodes[0].listener.port)
        answer = await client.ask(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest(coordinator_keys=["g"]))
        (found,) = answer.coordinators
        assert ErrorCode.COORDINATOR_NOT_AVAILABLE == found.error_code
        assert "replication_factor 3" in found.error_message
        assert None is made.nodes[0].node.image.topic("__consumer_offsets"), "never fewer copies"
        client.close()
    finally:
        await made.close()


@pytest.mark.parametrize("version", versions(ApiKey.JOIN_GROUP))
async def test_join(cluster, client, version):
    joined = await stable(client, version)
    assert (1, "range", joined.member_id) == (joined.generation_id, joined.protocol_name, joined.leader)
    assert [SUBSCRIBED_TO_T] == [member.metadata for member in joined.members]
    assert joined.member_id.startswith("raw-")
    assert ("consumer" if version >= 7 else None) == joined.protocol_type


@pytest.mark.parametrize("version", versions(ApiKey.SYNC_GROUP))
async def test_sync(cluster, client, version):
    joined = await stable(client)
    answer = await client.ask(ApiKey.SYNC_GROUP, syncing(joined), version)
    assert (0, b"all") == (answer.error_code, answer.assignment)


async def test_sync_names_the_protocol_from_version_5_on(cluster, client):
    joined = await stable(client)
    request = SyncGroupRequest("g", joined.generation_id, joined.member_id)
    assert ErrorCode.INCONSISTENT_GROUP_PROTOCOL == (await client.ask(ApiKey.SYNC_GROUP, request, 5)).error_code
    assert ErrorCode.NONE == (await client.ask(ApiKey.SYNC_GROUP, request, 4)).error_code


@pytest.mark.parametrize("version", versions(ApiKey.HEARTBEAT))
async def test_heartbeat(cluster, client, version):
    joined = await stable(client)
    for generation, code in ((joined.generation_id, ErrorCode.NONE), (7, ErrorCode.ILLEGAL_GENERATION)):
        request = HeartbeatRequest("g", generation, joined.member_id)
        assert code == (await client.ask(ApiKey.HEARTBEAT, request, version)).error_code


@pytest.mark.parametrize("version", versions(ApiKey.LEAVE_GROUP))
async def test_leave(cluster, client, version):
    joined = await stable(client)
    many = version >= 3
    request = LeaveGroupRequest("g", "" if many else joined.member_id, [MemberIdentity(joined.member_id)] * many)
    for code in (ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID):
        answer = await client.ask(ApiKey.LEAVE_GROUP, request, version)
        assert code == (answer.members[0].error_code if many else answer.error_code)


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_COMMIT))
async def test_commit(cluster, client, version):
    topic = await cluster.create("t")
    joined = await stable(client)
    ids = {"topic_id": topic.topic_id if version >= 10 else None, "version": version}
    who = {"member": joined.member_id, "generation": joined.generation_id}
    assert ErrorCode.NONE is await commit(client, 5, **ids, **who)
    assert ErrorCode.UNKNOWN_MEMBER_ID is await commit(client, 6, **ids, generation=1, member="nobody")
    found = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", None), 7)
    (one,) = found.topics[0].partitions
    assert ("t", 5, "note", 5 if version >= 6 else -1) == (
        found.topics[0].name, one.committed_offset, one.metadata, one.committed_leader_epoch,
    )  # fmt: skip


@pytest.mark.parametrize(("version", "code"), [(8, ErrorCode.ILLEGAL_GENERATION), (9, ErrorCode.GROUP_ID_NOT_FOUND)])
async def test_a_commit_for_a_group_that_nobody_knows(cluster, client, version, code):
    await cluster.create("t")
    await coordinator(client)
    assert code is await commit(client, 5, version=version, generation=3, member="m")


async def test_a_commit_for_what_does_not_exist(cluster, client):
    await coordinator(client)
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION is await commit(client, 5, topic="none")
    assert ErrorCode.UNKNOWN_TOPIC_ID is await commit(client, 5, topic_id=uuid.uuid4(), version=10)


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FETCH))
@pytest.mark.parametrize("asks_for_all", [False, True])
async def test_fetch(cluster, client, version, asks_for_all):
    topic = await cluster.create("t")
    await coordinator(client)
    await commit(client, 5)
    if version < 8:
        if asks_for_all and version < 2:
            pytest.skip("null topics since version 2")
        topics = None if asks_for_all else [OffsetFetchRequestTopic("t", [0, 9])]
        found = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", topics), version)
    else:
        by_id = version >= 10
        asked = [OffsetFetchRequestTopics("" if by_id else "t", topic.topic_id if by_id else NO_UUID, [0, 9])]
        groups = [OffsetFetchRequestGroup("g", None, -1, None if asks_for_all else asked)]
        answer = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest(groups=groups), version)
        (found,) = answer.groups
    assert ErrorCode.NONE == found.error_code
    (told,) = found.topics
    assert (told.topic_id == topic.topic_id) if version >= 10 else (told.name == "t")
    offsets = [(one.partition_index, one.committed_offset, one.metadata) for one in told.partitions]
    assert [(0, 5, "note")] + [(9, -1, "")] * (not asks_for_all) == offsets


async def test_a_deleted_topics_offsets_are_gone_with_it(cluster, client):
    old = await cluster.create("t")
    await coordinator(client)
    await commit(client, 5)
    await cluster.nodes[0].node.admin(DeleteTopicRequest(name="t"), timeout_s=30)
    new = await cluster.create("t")
    asked = [OffsetFetchRequestTopics("", one.topic_id, [0]) for one in (old, new)]
    async with asyncio.timeout(30):
        while True:
            groups = [OffsetFetchRequestGroup("g", None, -1, asked)]
            answer = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest(groups=groups), 10)
            told = [one.partitions[0] for one in answer.groups[0].topics]
            if told[1].committed_offset == -1:
                break
            await asyncio.sleep(0.01)  # sleeps: its tombstone is being written
    assert [ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.NONE] == [one.error_code for one in told]


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_GROUPS))
async def test_describe(cluster, client, version):
    joined = await stable(client)
    request = DescribeGroupsRequest(["g", "none"], include_authorized_operations=version >= 3)
    known, unknown = (await client.ask(ApiKey.DESCRIBE_GROUPS, request, version)).groups
    assert ("Stable", "consumer", "range") == (known.group_state, known.protocol_type, known.protocol_data)
    (member,) = known.members
    assert (joined.member_id, "raw", "/127.0.0.1", SUBSCRIBED_TO_T, b"all") == (
        member.member_id, member.client_id, member.client_host, member.member_metadata, member.member_assignment,
    )  # fmt: skip
    assert ("Dead", ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0) == (unknown.group_state, unknown.error_code)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_GROUPS))
async def test_list(cluster, client, version):
    await stable(client)
    (listed,) = (await client.ask(ApiKey.LIST_GROUPS, ListGroupsRequest(), version)).groups
    assert ("g", "consumer") == (listed.group_id, listed.protocol_type)
    assert ("Stable" if version >= 4 else "", "classic" if version >= 5 else "") == (
        listed.group_state, listed.group_type,
    )  # fmt: skip
    if version >= 4:
        for states, count in ((["stable"], 1), (["Empty"], 0)):
            request = ListGroupsRequest(states_filter=states)
            assert count == len((await client.ask(ApiKey.LIST_GROUPS, request, version)).groups)
    if version >= 5:
        request = ListGroupsRequest(types_filter=["consumer"])
        assert [] == (await client.ask(ApiKey.LIST_GROUPS, request, version)).groups


@pytest.mark.parametrize("version", versions(ApiKey.DELETE_GROUPS))
async def test_delete(cluster, client, version):
    await cluster.create("t")
    joined = await stable(client)
    request = DeleteGroupsRequest(["g", "none"])

    async def delete() -> list[int]:
        return [one.error_code for one in (await client.ask(ApiKey.DELETE_GROUPS, request, version)).results]

    assert [ErrorCode.NON_EMPTY_GROUP, ErrorCode.GROUP_ID_NOT_FOUND] == await delete()
    await client.ask(ApiKey.LEAVE_GROUP, LeaveGroupRequest("g", members=[MemberIdentity(joined.member_id)]))
    assert [ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND] == await delete()
    assert [] == (await client.ask(ApiKey.LIST_GROUPS, ListGroupsRequest())).groups


async def test_offset_delete(cluster, client):
    await cluster.create("t")
    await cluster.create("u")
    joined = await stable(client)
    for topic in "tu":
        await commit(client, 5, topic=topic, member=joined.member_id, generation=1)
    one = [OffsetDeleteRequestPartition(0)]
    request = OffsetDeleteRequest("g", [OffsetDeleteRequestTopic(topic, one) for topic in ("t", "u", "none")])
    answer = await client.ask(ApiKey.OFFSET_DELETE, request)
    assert [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] == [
        topic.partitions[0].error_code for topic in answer.topics
    ]
    found = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", None), 7)
    assert ["t"] == [topic.name for topic in found.topics]


async def test_members_on_one_connection_each_and_one_that_hangs_up(cluster, client):
    """Its place is not kept for the rebalance timeout when its connection is gone."""
    joined = await stable(client, 3)
    other = await RawClient.connect(cluster.nodes[0].listener.port)
    other.send(ApiKey.JOIN_GROUP, joining(), 3)
    async with asyncio.timeout(30):
        while True:
            request = HeartbeatRequest("g", joined.generation_id, joined.member_id)
            if (await client.ask(ApiKey.HEARTBEAT, request)).error_code == ErrorCode.REBALANCE_IN_PROGRESS:
                break
            await asyncio.sleep(0.01)  # sleeps: the other's request is on its way
    other.close()
    again = await client.ask(ApiKey.JOIN_GROUP, joining(joined.member_id), 3)
    assert 2 == again.generation_id
    assert 1 <= len(again.members) <= 2  # the end of a connection may be seen later than the next join


async def test_a_coordinator_that_begins_anew_knows_its_groups_from_the_log(tmp_path, settings):
    made = RealCluster(tmp_path, size=1, kafka=settings, settings=["offsets.topic.num.partitions=3"])
    try:
        await made.start()
        client = await RawClient.connect(made.nodes[0].listener.port)
        await made.create("t")
        joined = await stable(client)
        await commit(client, 5, member=joined.member_id, generation=1)
        client.close()
        node = made.nodes[0].node
        shard = node.groups.shard("g")
        shard.resign()
        client = await RawClient.connect(made.nodes[0].listener.port)
        async with asyncio.timeout(30):
            request = HeartbeatRequest("g", joined.generation_id, joined.member_id)
            told = []
            while not told or told[-1]:
                told.append((await client.ask(ApiKey.HEARTBEAT, request)).error_code)
                await asyncio.sleep(0.001)  # sleeps: as clients do, who are told to try again
        assert told[:-1], "while it reads, it does not answer from memory"
        assert set(told[:-1]) <= {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR}
        found = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", None), 7)
        assert 5 == found.topics[0].partitions[0].committed_offset
        client.close()
    finally:
        await made.close()


async def test_a_node_that_stops_keeps_nobody_waiting(cluster, client):
    """A join may wait for minutes; the end of its coordinator does not."""
    await stable(client, 3)
    other = await RawClient.connect(cluster.nodes[0].listener.port)
    other.send(ApiKey.JOIN_GROUP, joining(), 3)
    groups = cluster.nodes[0].node.groups
    await until(lambda: groups.shard("g").core.groups["g"].members.joining_count)
    await cluster.nodes[0].node.hand_over()
    assert ErrorCode.NOT_COORDINATOR == (await other.answer()).error_code
    answer = await client.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", None), 7)
    assert ErrorCode.NOT_COORDINATOR == answer.error_code
    other.close()
