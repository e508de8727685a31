"""A leader that moves or dies costs the writer time, not the write; what nobody can take over is told soon."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.errors import OutcomeUnknownError
from metadata.requests import Heartbeat
from tests.api.http.conftest import Api, quick
from wire.errors import ErrorCode, RefusedError

RECORDS = "/v3/clusters/-/topics/t/partitions/0/records"
IDEMPOTENT = {"Producer-Id": "7", "Producer-Epoch": "0", "Producer-Seq": "0"}


@pytest.fixture
def settings():
    return quick(leader_wait_s=0.05, former_leader_wait_s=0.1)


@pytest.fixture
async def api(cluster) -> Api:
    """Three nodes; partition 0 of t lies on brokers 1 and 2, led by 1."""
    for _ in range(2):
        await cluster.add_node()
    made = Api(cluster)
    await made.replicated("t", [[1, 2]])
    return made


def values(api: Api) -> list[bytes | None]:
    return [record.value for record in api.cluster.records("t")]


async def waits(api: Api, node: int, **options: object) -> asyncio.Task:
    """A write that is not answered while nothing changes."""
    options.setdefault("data", b"a")
    headers = {"Content-Type": "application/octet-stream", **options.pop("headers", {})}
    writing = asyncio.create_task(api("POST", RECORDS, node=node, headers=headers, **options))
    await asyncio.wait([writing], timeout=0.4)
    assert not writing.done(), writing.result()
    return writing


async def test_a_write_for_a_dead_leader_is_answered_by_the_next_one(api):
    """Until the controller fences the dead one, nobody can say that it is not just slow to accept."""
    await api.cluster.listeners[0].stop()
    writing = await waits(api, 3)
    api.cluster.fence(1)
    answer = await asyncio.wait_for(writing, 10)
    assert (200, "2", 0) == (answer.status, answer.headers["X-Leader-Id"], answer.body["offset"])
    assert [b"a"] == values(api)


async def test_a_write_while_a_leader_is_elected_waits_for_it(api, monkeypatch):
    monkeypatch.setattr(type(api.cluster.image), "leader_of", lambda *_: None)
    writing = await waits(api, 3)
    monkeypatch.undo()
    assert 200 == (await asyncio.wait_for(writing, 10)).status


async def test_a_write_waits_no_longer_than_its_own_timeout(api):
    await api.cluster.listeners[0].stop()
    began_s = asyncio.get_running_loop().time()
    answer = await api("POST", f"{RECORDS}?timeout=300", node=3, json={})
    assert (503, 50003, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert 0.05 < asyncio.get_running_loop().time() - began_s < 30
    assert "1" == answer.headers["Retry-After"]


async def test_what_nobody_can_take_over_is_told_soon(api):
    await api.replicated("alone", [[1]])
    await api.cluster.listeners[0].stop()
    path = "/v3/clusters/-/topics/alone/partitions/0/records?timeout=60000"
    answer = await asyncio.wait_for(api("POST", path, node=3, json={}), 10)
    assert (503, "not_written") == (answer.status, answer.body["outcome"])
    api.cluster.fence(1)
    api.cluster.fence(2)
    answer = await asyncio.wait_for(api("POST", f"{RECORDS}?timeout=60000", node=3, json={}), 10)
    assert (503, "not_written") == (answer.status, answer.body["outcome"]), "the other replica is gone, too"


async def test_a_write_at_a_broker_that_stops_goes_to_its_successor(api):
    """It takes no more writes; its successor is asked as soon as there is one."""
    held = RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "broker 1 hands t-0 over: nothing was written")
    api.cluster.nodes[0].append_failures = [held] * 999
    asked_here, asked_elsewhere = await asyncio.gather(waits(api, 1), waits(api, 3, data=b"b"))
    broker = api.cluster.image.brokers[1]
    api.cluster.hear(Heartbeat(broker_id=1, broker_epoch=broker.epoch, applied_index=10**6, wants_shutdown=True))
    assert 2 == api.cluster.leader_of("t", 0)
    for writing in (asked_here, asked_elsewhere):
        answer = await asyncio.wait_for(writing, 10)
        assert (200, "2") == (answer.status, answer.headers["X-Leader-Id"])
    assert [b"a", b"b"] == sorted(values(api))


async def test_a_listener_that_closes_waits_for_nobody(api):
    await api.cluster.listeners[0].stop()
    api.cluster.context(3).is_draining = True
    answer = await asyncio.wait_for(api("POST", f"{RECORDS}?timeout=60000", node=3, json={}), 10)
    assert (503, "not_written") == (answer.status, answer.body["outcome"])


@pytest.fixture
async def paused_leader(api: Api) -> AsyncIterator[Api]:
    """Broker 1 takes connections and what is sent on them, and says nothing."""
    writers = []

    async def silent(reader, writer):
        writers.append(writer)
        await reader.read(-1)
        writer.close()

    port = api.cluster.listeners[0].port
    await api.cluster.listeners[0].stop()
    async with await asyncio.start_server(silent, "127.0.0.1", port):
        yield api
        await api.cluster.context(3).forwarder.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_an_idempotent_write_is_taken_from_a_paused_leader_when_it_leads_no_longer(paused_leader):
    api = paused_leader
    writing = await waits(api, 3, headers=IDEMPOTENT)
    api.cluster.fence(1)
    answer = await asyncio.wait_for(writing, 10)
    assert (200, "2", 0) == (answer.status, answer.headers["X-Leader-Id"], answer.body["offset"])
    assert [b"a"] == values(api)


async def test_a_plain_write_at_a_paused_leader_is_unknown_when_it_leads_no_longer(paused_leader):
    """It may have reached a follower before; its caller need not wait for its whole timeout to hear that."""
    api = paused_leader
    writing = await waits(api, 3)
    api.cluster.fence(1)
    answer = await asyncio.wait_for(writing, 10)
    assert (503, 50003, "unknown") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert [] == values(api), "it was not sent to another"


@pytest.mark.parametrize("node", [1, 3])
async def test_too_few_replicas_is_told_at_once(api, node):
    """Nobody knows when they come back; the caller does not wait for it here."""
    refused = RefusedError(ErrorCode.NOT_ENOUGH_REPLICAS, "has 1 in-sync replica, too few")
    api.cluster.nodes[0].append_failures = [refused]
    answer = await asyncio.wait_for(api("POST", f"{RECORDS}?timeout=60000", node=node, json={}), 10)
    assert (503, 50003, "not_written", "1") == (
        answer.status, answer.body["error_code"], answer.body["outcome"], answer.headers["Retry-After"],
    )  # fmt: skip
    assert [] == values(api)
    unknown = OutcomeUnknownError(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, "written, but too few have it")
    api.cluster.nodes[0].append_failures = [unknown]
    answer = await api("POST", RECORDS, node=node, json={})
    assert (503, 50003, "unknown") == (answer.status, answer.body["error_code"], answer.body["outcome"])


@pytest.mark.parametrize("node", [1, 2, 3])
async def test_an_idempotent_write_survives_the_death_of_its_leader_in_the_middle(api, node):
    """S13: whoever took it asks again; what the first leader had passed on is not written twice."""
    lost = OutcomeUnknownError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "leads no more")
    api.cluster.nodes[0].append_failures = [lost]
    api.cluster.nodes[0].replica_failures = [
        None,
        *[RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "not any more")] * 99,
    ]
    headers = {"Content-Type": "application/octet-stream", **IDEMPOTENT}
    writing = asyncio.create_task(api("POST", RECORDS, node=node, data=b"a", headers=headers))
    await asyncio.wait([writing], timeout=0.3)
    assert not writing.done()
    api.cluster.fence(1)
    answer = await asyncio.wait_for(writing, 10)
    assert (200, 0, True) == (answer.status, answer.body["offset"], answer.body["duplicate"])
    assert [b"a"] == values(api)


@pytest.mark.parametrize("node", [1, 3])
async def test_the_latest_offset_is_not_told_before_the_new_leader_knows_it(api, node):
    """KIP-207: its high watermark may be below what was readable before; it would lead a reader back."""
    assert 200 == (await api("POST", RECORDS, json={})).status
    log = api.cluster.log("t")
    log.led_since = 2
    partition = "/v3/clusters/-/topics/t/partitions/0"
    for path in (
        f"{partition}/offset",
        f"{partition}/offset?timestamp=9999999999999",
        f"{partition}/records?offset=latest",
    ):
        answer = await api("GET", path, node=node)
        assert (503, 50003) == (answer.status, answer.body["error_code"]), answer.body
    assert (await api("GET", partition, node=node)).body["high_watermark"] is None
    assert 200 == (await api("GET", f"{partition}/records?offset=0", node=node)).status, "what it knows it tells"


class TestMoment:
    @pytest.fixture
    def settings(self):
        return quick(leader_wait_s=10.0, fetch_timeout_s=10.0)

    @pytest.mark.parametrize("node", [1, 3])
    async def test_the_moment_until_it_knows_is_waited_out(self, api, node):
        assert 200 == (await api("POST", RECORDS, json={})).status
        log = api.cluster.log("t")
        log.led_since = 2
        asked = asyncio.create_task(api("GET", "/v3/clusters/-/topics/t/partitions/0/offset", node=node))
        await asyncio.wait([asked], timeout=0.1)
        assert not asked.done()
        log.led_since = 1
        answer = await asyncio.wait_for(asked, 10)
        assert (200, 1) == (answer.status, answer.body["latest_offset"])
