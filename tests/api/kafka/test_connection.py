"""One connection: answers in order, bounded whatever the peer does, and closed in good order."""

import asyncio
import struct
import time

import pytest

from api.kafka.settings import KafkaSettings
from tests.api.kafka.messages import batch, fetch, fetched, produce, produced, values
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import RealCluster, until
from wire.errors import ErrorCode
from wire.messages import ApiKey
from wire.messages.api_versions import ApiVersionsRequest
from wire.messages.fetch import FetchResponse
from wire.messages.metadata import MetadataRequest
from wire.messages.produce import ProduceResponse


async def test_answers_come_in_the_order_of_the_requests_also_behind_a_long_poll(cluster, client):
    topic = await cluster.create("t")
    client.send(ApiKey.FETCH, fetch(topic.topic_id, max_wait_ms=60_000))
    client.send(ApiKey.METADATA, MetadataRequest())
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"v"))
    client.send(ApiKey.API_VERSIONS, ApiVersionsRequest("test", "1"))
    assert [b"v"] == values(fetched(await client.answer())), "what came behind it was carried out, and ended the poll"
    assert [cluster.cluster_id, 0, 0] == [
        (await client.answer()).cluster_id, produced(await client.answer()).base_offset,
        (await client.answer()).error_code,
    ]  # fmt: skip


async def test_requests_of_one_read_are_answered_by_one_write(cluster, client):
    topic = await cluster.create("t")
    for number in range(20):
        client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"%d" % number))
    assert list(range(20)) == [produced(await client.answer()).base_offset for _ in range(20)]


async def test_without_acks_there_is_no_answer(cluster, client):
    topic = await cluster.create("t")
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"a", acks=0))
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"b", acks=1))
    assert 1 == produced(await client.answer()).base_offset


async def test_without_acks_an_error_closes_the_connection_after_what_was_owed(cluster, client):
    topic = await cluster.create("t")
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"a"))
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"b", partition=7, acks=0))
    assert 0 == produced(await client.answer()).base_offset
    assert b"" == await client.closed()


class TestPipelining:
    @pytest.fixture
    def settings(self):
        return KafkaSettings(pipelined_requests_max=8)

    async def test_no_more_is_handled_than_may_be_under_way_and_then_no_more_is_read(self, cluster, client):
        idle, topic = await cluster.create("idle"), await cluster.create("t")
        client.send(ApiKey.FETCH, fetch(idle.topic_id, max_wait_ms=30_000))
        for number in range(100):
            client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"%d" % number))
        (connection,) = cluster.nodes[0].listener._connections
        await until(lambda: connection._is_paused)
        assert 8 == len(connection._owed)
        assert 7 == cluster.nodes[0].node.replica(topic.topic_id, 0).log.log_end_offset
        other = await RawClient.connect(cluster.nodes[0].listener.port)
        await other.ask(ApiKey.PRODUCE, produce(idle.topic_id, b"ends the poll"))
        assert [b"ends the poll"] == values(fetched(await client.answer()))
        assert list(range(100)) == [produced(await client.answer()).base_offset for _ in range(100)]
        assert not connection._is_paused
        other.close()

    async def test_one_fetch_waits_at_a_time(self, cluster, client):
        topic = await cluster.create("t")
        for _ in range(5):
            client.send(ApiKey.FETCH, fetch(topic.topic_id, max_wait_ms=30_000))
        (connection,) = cluster.nodes[0].listener._connections
        await until(lambda: connection._owed)
        await until(lambda: (1, 4) == (len(connection._owed), len(connection._unhandled)))
        other = await RawClient.connect(cluster.nodes[0].listener.port)
        await other.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"ends the polls"))
        other.close()
        assert 5 == len([await client.answer() for _ in range(5)])


class TestSlowReader:
    @pytest.fixture
    def settings(self):
        return KafkaSettings(write_buffer_bytes=64 * 1024, write_deadline_s=3.0)

    async def test_who_does_not_take_answers_gets_no_more_of_them_and_is_closed(self, cluster, client):
        topic = await cluster.create("t")
        for _ in range(8):
            await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, bytes(900_000)))
        for _ in range(400):  # 400 x 1 MiB, if all were answered
            client.send(ApiKey.FETCH, fetch(topic.topic_id))
        (connection,) = cluster.nodes[0].listener._connections
        client.writer.transport.pause_reading()
        listener = cluster.nodes[0].listener
        await until(lambda: connection._stalled_s is not None or not listener.connections)  # a busy machine may miss it
        assert connection._held_bytes < 4 << 20
        assert connection._held_bytes == cluster.context.bytes_under_way.held_bytes
        await until(lambda: not listener.connections)
        assert 0 == cluster.context.bytes_under_way.held_bytes


class TestFullNode:
    @pytest.fixture
    def settings(self):
        return KafkaSettings(in_flight_bytes_max=1 << 20)

    async def test_while_too_much_is_held_nothing_more_is_read_and_then_all_of_it_is(self, cluster, client):
        topic = await cluster.create("t")
        cluster.context.bytes_under_way.change(1 << 20)
        for _ in range(3):
            client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"v"))
        (connection,) = cluster.nodes[0].listener._connections
        await until(lambda: connection._is_paused)
        assert 0 == cluster.nodes[0].node.replica(topic.topic_id, 0).latest_offset
        cluster.context.bytes_under_way.change(-(1 << 20))
        assert [0, 1, 2] == [produced(await client.answer()).base_offset for _ in range(3)]
        await until(lambda: not connection._is_paused)
        assert 0 == cluster.context.bytes_under_way.held_bytes


class TestDeadlines:
    @pytest.fixture
    def settings(self):
        return KafkaSettings(frame_deadline_s=1.5, idle_s=2.0)

    async def test_a_frame_that_trickles_in_is_cut_off(self, cluster, client):
        """One byte now and then holds a connection no longer than any other unfinished frame."""
        frame = struct.pack(">i", 1000) + bytes(1000)
        began_s = time.monotonic()
        reading = asyncio.ensure_future(client.closed())
        for position in range(len(frame)):
            client.writer.write(frame[position : position + 1])
            done, _ = await asyncio.wait({reading}, timeout=0.2)
            if done:
                break
        assert b"" == await reading
        assert 1.0 < time.monotonic() - began_s < 20

    async def test_an_idle_connection_is_closed_and_one_that_waits_is_not(self, cluster, client):
        topic = await cluster.create("t")
        waiting = await RawClient.connect(cluster.nodes[0].listener.port)
        answer = await waiting.ask(ApiKey.FETCH, fetch(topic.topic_id, max_wait_ms=5000))
        assert b"" == fetched(answer).records
        assert b"" == await client.closed()
        waiting.close()


class TestCaps:
    @pytest.fixture
    def settings(self):
        return KafkaSettings(connections_per_address_max=3)

    async def test_beyond_the_cap_a_connection_is_closed_and_its_place_is_free_again_after_another(self, cluster):
        port = cluster.nodes[0].listener.port
        kept = [await RawClient.connect(port) for _ in range(3)]
        await until(lambda: cluster.context.connections.total == 3)
        beyond = await RawClient.connect(port)
        assert b"" == await beyond.closed()
        beyond.close()
        kept.pop().close()
        await until(lambda: cluster.context.connections.total == 2)
        kept.append(await RawClient.connect(port))
        assert 0 == (await kept[-1].ask(ApiKey.API_VERSIONS, ApiVersionsRequest("test", "1"))).error_code
        for one in kept:
            one.close()
        await until(lambda: not cluster.context.connections.total)


async def test_a_stopping_listener_answers_whoever_waits_and_closes(cluster, client):
    topic = await cluster.create("t")
    client.send(ApiKey.FETCH, fetch(topic.topic_id, max_wait_ms=60_000))
    (connection,) = cluster.nodes[0].listener._connections
    await until(lambda: connection._owed)
    idle = await RawClient.connect(cluster.nodes[0].listener.port)
    await until(lambda: cluster.nodes[0].listener.connections == 2)
    await cluster.nodes[0].listener.drain(20)
    assert isinstance(await client.answer(), FetchResponse)
    assert (b"", b"") == (await client.closed(), await idle.closed())
    assert 0 == cluster.nodes[0].listener.connections
    idle.close()


async def test_a_connection_that_goes_away_leaves_nothing_behind(three: RealCluster):
    """Long polls and writes that wait for their followers end with their connection."""
    topic = await three.create("t", replicas=3)
    leader = three.leader(topic)
    client = await RawClient.connect(leader.listener.port)
    client.send(ApiKey.FETCH, fetch(topic.topic_id, max_wait_ms=60_000))
    await until(lambda: leader.context.fetches._waiting)
    before = set(leader.context.fetches._waiting)
    client.send(ApiKey.PRODUCE, produce(topic.topic_id, b"v", acks=-1))
    client.close()
    await until(lambda: not any(c.address and c._owed and not c._transport for c in leader.listener._connections))
    await until(lambda: before.isdisjoint(leader.context.fetches._waiting) or not leader.listener.connections)


async def test_before_the_broker_is_registered_a_connection_waits(tmp_path):
    """Whoever is early is not told that there is no such topic."""
    made = RealCluster(tmp_path, size=1, kafka=KafkaSettings(), settings=[])
    try:
        await made.start()
        real = made.nodes[0]
        await until(lambda: real.context.is_serving)
        real.context.is_serving = False
        early = await RawClient.connect(real.listener.port)
        early.send(ApiKey.METADATA, MetadataRequest())
        await until(lambda: any(one._is_paused for one in real.listener._connections))
        with pytest.raises(TimeoutError):
            await early.answer(timeout_s=0.2)
        real.context.serve()
        assert made.cluster_id == (await early.answer()).cluster_id
        early.close()
    finally:
        await made.close()


async def test_a_large_batch_is_written_as_it_came(cluster, client):
    topic = await cluster.create("t", max_message_bytes=str(8 << 20))
    records = batch(bytes(range(256)) * 16_000, b"x")
    answer = await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, records=records))
    assert isinstance(answer, ProduceResponse)
    assert ErrorCode.NONE == produced(answer).error_code
    data = fetched(await client.ask(ApiKey.FETCH, fetch(topic.topic_id, max_bytes=1, max_wait_ms=30_000)))
    assert records[16:] == bytes(data.records)[16:]
