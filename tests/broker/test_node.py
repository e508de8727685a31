"""One process: what it holds survives its end, and it never acts in the name of an earlier life."""

import shutil
import uuid
from pathlib import Path

import pytest

from broker.config import load_config
from broker.errors import OutcomeUnknownError
from broker.meta_properties import read_meta_properties
from broker.node import Node
from logstore.storage import PosixStorage
from metadata import codec
from metadata.answers import Done, Refused
from metadata.requests import (
    AlterConfigsRequest,
    ConfigChange,
    CreateTopicRequest,
    DeleteTopicRequest,
    Envelope,
    Heartbeat,
)
from tests.broker.nodes import Cluster, create, leading, ready, send, until, values
from wire.errors import ErrorCode, RefusedError


@pytest.fixture
def alone(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, 1)


async def test_acknowledged_records_and_topics_are_there_after_a_restart(alone: Cluster) -> None:
    async with alone.running() as node:
        topic_id = await create(await ready(node), "pay")
        assert 0 == await send(await leading(node, topic_id), b"a")
        epoch = (await leading(node, topic_id)).leader_epoch
    async with alone.running() as node:
        replica = await leading(await ready(node), topic_id)
        assert [b"a"] == await values(replica)
        assert replica.leader_epoch > epoch, "S10: a new life leads in a new epoch"
        assert 1 == await send(replica, b"b")


async def test_s10_a_broker_leads_nothing_before_this_life_is_registered(alone: Cluster) -> None:
    async with alone.running() as node:
        topic_id = await create(await ready(node), "pay")
    async with alone.running() as node:
        with pytest.raises(RefusedError) as refused:
            node.replica(topic_id, 0)
        assert ErrorCode.LEADER_NOT_AVAILABLE == refused.value.code
        assert "not registered yet" in node.readiness()


async def test_s17_a_topic_that_is_created_again_begins_empty(alone: Cluster) -> None:
    async with alone.running() as node:
        old = await create(await ready(node), "pay")
        await send(await leading(node, old), b"old")
        await node.admin(DeleteTopicRequest(name="pay"), timeout_s=10)
        new = await create(node, "pay")
        assert [] == await values(await leading(node, new))
        with pytest.raises(RefusedError) as refused:
            node.replica(old, 0)
        assert ErrorCode.UNKNOWN_TOPIC_ID == refused.value.code


async def test_a_topic_deleted_while_its_broker_was_down_leaves_no_folder(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    async with cluster.running(1) as one, cluster.running(2) as two:
        await ready(one)
        await ready(two)
        async with cluster.running(3) as three:
            await ready(three)
            topic_id = await create(one, "pay", 3)
            await until(lambda: topic_id in three.image.topics)
            await until(lambda: any(three.replica(topic_id, p).is_leader for p in held_by(three, topic_id)))
            folders = set((cluster.directory(3) / "data").glob("pay-*"))
            assert folders
        await one.admin(DeleteTopicRequest(name="pay"), timeout_s=10)
        async with cluster.running(3) as three:
            await ready(three)
            await until(lambda: not any(folder.exists() for folder in folders))


def held_by(node: Node, topic_id: uuid.UUID) -> list[int]:
    partitions = node.image.topics[topic_id].partitions
    return [index for index, partition in enumerate(partitions) if node.broker_id in partition.replicas]


async def test_any_node_takes_an_admin_call_and_answers_when_it_has_applied_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    async with cluster.running(1) as one, cluster.running(2) as two, cluster.running(3) as three:
        for node in (one, two, three):
            await ready(node)
        for node in (one, two, three):
            await create(node, f"by-{node.broker_id}", 3)
            assert node.image.topic(f"by-{node.broker_id}") is not None
        with pytest.raises(RefusedError) as refused:
            await two.admin(CreateTopicRequest(name="by-1"), timeout_s=10)
        assert ErrorCode.TOPIC_ALREADY_EXISTS == refused.value.code
        topic = three.image.topic("by-3")
        assert topic is not None
        assert {1, 2, 3} == {partition.leader for partition in topic.partitions}, "partitions are spread over brokers"


async def test_topic_settings_reach_the_logs_that_are_open(alone: Cluster) -> None:
    async with alone.running() as node:
        topic_id = await create(await ready(node), "pay")
        replica = await leading(node, topic_id)
        change = AlterConfigsRequest(name="pay", changes=(ConfigChange(name="max.message.bytes", value="200"),))
        assert isinstance(await node.admin(change, timeout_s=10), Done)
        with pytest.raises(RefusedError) as refused:
            await send(replica, b"x" * 300)
        assert ErrorCode.MESSAGE_TOO_LARGE == refused.value.code


async def test_s3_a_partition_whose_directory_was_lost_is_not_served_as_empty(alone: Cluster) -> None:
    two_disks = f"log.dirs={alone.folder / 'disk-a'},{alone.folder / 'disk-b'}"
    async with alone.running(1, two_disks) as node:
        await ready(node)
        kept, lost = await create(node, "kept"), await create(node, "lost")
        for topic_id in (kept, lost):
            await send(await leading(node, topic_id), b"a")
    shutil.rmtree(next(alone.folder.glob("disk-*/lost-0.*")).parent)
    async with alone.running(1, two_disks) as node:
        await ready(node)
        assert [b"a"] == await values(await leading(node, kept))
        assert not node.replica(lost, 0).is_leader
        assert [("lost", 0)] == node.health().leaderless


async def test_a_node_that_never_started_can_be_stopped(alone: Cluster) -> None:
    config, _ = load_config(None, {}, [f"node.directory={alone.directory(1)}"])
    identity = read_meta_properties(alone.directory(1))
    assert identity is not None
    await Node(config, identity, None).stop()


async def test_s10_after_a_disk_error_a_restart_serves_what_is_there(
    alone: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    async with alone.running() as node:
        topic_id = await create(await ready(node), "pay")
        replica = await leading(node, topic_id)
        await send(replica, b"a")
        with monkeypatch.context() as patch:
            patch.setattr(PosixStorage, "pwrite", staticmethod(fail))
            with pytest.raises(OutcomeUnknownError):
                await send(replica, b"b")
        with pytest.raises(RefusedError, match="is offline") as refused:
            node.replica(topic_id, 0)
        assert ErrorCode.KAFKA_STORAGE_ERROR == refused.value.code
        assert any("is offline" in reason for reason in node.health().reasons)
        assert "every log directory is offline" in node.readiness()
    async with alone.running() as node:
        assert b"a" == (await values(await leading(await ready(node), topic_id)))[0]


async def test_l2_what_lost_its_last_directory_waits_for_the_operator_who_is_told_so(alone: Cluster) -> None:
    async with alone.running() as node:
        topic_id = await create(await ready(node), "pay")
        await send(await leading(node, topic_id), b"a")
    aside = alone.directory(1) / "aside"
    (alone.directory(1) / "data").rename(aside)
    async with alone.running() as node:
        await ready(node)
        assert [("pay", 0)] == node.health().leaderless
        assert any("unclean.leader.election.enable" in reason for reason in node.health().reasons)
    shutil.rmtree(alone.directory(1) / "data")
    aside.rename(alone.directory(1) / "data")
    async with alone.running() as node:
        await ready(node)
        choice = ConfigChange(name="unclean.leader.election.enable", value="true")
        await node.admin(AlterConfigsRequest(name="pay", changes=(choice,)), timeout_s=10)
        assert [b"a"] == await values(await leading(node, topic_id))


async def test_nobody_else_registers_for_a_broker(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    async with cluster.running(1) as one, cluster.running(2) as two:
        await ready(one)
        await ready(two)
        leader, other = (one, two) if one.quorum.is_leader else (two, one)
        lie = Heartbeat(broker_id=leader.broker_id, broker_epoch=leader.broker_epoch or 0, applied_index=0)
        payload = codec.encode_request(Envelope(request=lie))
        answer = codec.decode_answer(await other.quorum.request(leader.broker_id, payload, timeout_s=5))
        assert isinstance(answer, Refused)
        assert "speaks for itself" in answer.message
