"""Any node takes any request: it comes to the leader once, or the caller is told that nobody knows (S15)."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from api.http.settings import HttpSettings
from broker.errors import OutcomeUnknownError
from tests.api.http.conftest import Api, quick, waits_for_leaders
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch, iterate_batches

RECORDS = "/v3/clusters/-/topics/t/records"
CONSUME = "/v3/clusters/-/topics/t/partitions/-/records:consume"


@pytest.fixture
async def led_by_two(two_nodes: Api) -> Api:
    """Topic t with two partitions; requests go to node 1. Partition `there` is led by node 2."""
    await two_nodes.topic(partitions=2)
    two_nodes.there = two_nodes.cluster.led_by("t", 2)
    two_nodes.here = two_nodes.cluster.led_by("t", 1)
    return two_nodes


async def test_a_record_for_another_nodes_partition_is_written_there(led_by_two):
    api = led_by_two
    record = {"partition_id": api.there, "key": {"type": "STRING", "data": "k"}, "timestamp": 5}
    answer = await api("POST", RECORDS, json=record)
    assert (200, api.there, 0, 5) == (answer.status, *(answer.body[n] for n in ("partition_id", "offset", "timestamp")))
    assert ("2", api.cluster.url("", node=2)) == (answer.headers["X-Leader-Id"], answer.headers["X-Leader-Url"])
    assert [b"k"] == [stored.key for stored in api.cluster.records("t", api.there)]
    assert 1 == (await api("POST", RECORDS, json=record)).body["offset"]


async def test_one_request_reaches_partitions_of_both_nodes(led_by_two):
    api = led_by_two
    entries = [{"id": str(i), "partition_id": i % 2, "value": {"type": "STRING", "data": str(i)}} for i in range(100)]
    answer = await api("POST", "/v3/clusters/-/topics/t/records:batch", json={"entries": entries})
    assert (207, []) == (answer.status, answer.body["failures"])
    assert [(i % 2, i // 2) for i in range(100)] == [(s["partition_id"], s["offset"]) for s in answer.body["successes"]]
    for partition in range(2):
        expected = [str(i).encode() for i in range(partition, 100, 2)]
        assert expected == [record.value for record in api.cluster.records("t", partition)]


async def test_both_nodes_answer_the_same(led_by_two):
    api = led_by_two
    for value in ("a", "b"):
        await api("POST", RECORDS, json={"partition_id": api.there, "value": {"type": "STRING", "data": value}})
    partition = f"/v3/clusters/-/topics/t/partitions/{api.there}"
    for path in (
        f"{partition}/records?offset=1",
        f"{partition}/records?timestamp=0",
        f"{partition}/records?offset=earliest&max_records=1",
        f"{partition}/offset?timestamp=0",
        f"/topics/t/partitions/{api.there}/offsets",
    ):
        first, second = await api("GET", path), await api("GET", path, node=2)
        assert (200, 200) == (first.status, second.status), path
        assert first.body == second.body, path
        assert ("2", "2") == (first.headers["X-Leader-Id"], second.headers["X-Leader-Id"]), path
    answer = await api("GET", f"{partition}/records?offset=99")
    assert (416, 41601, 0, 2) == (
        answer.status,
        *(answer.body[name] for name in ("error_code", "earliest_offset", "latest_offset")),
    )


async def test_batches_pass_through_both_ways(led_by_two):
    api = led_by_two
    path = f"/v3/clusters/-/topics/t/partitions/{api.there}/records"
    kind = "application/vnd.kafka.recordbatch"
    batch = build_batch([(None, b"x" * 100_000, (), 7)] * 3)
    answer = await api("POST", path, data=bytes(batch), headers={"Content-Type": kind})
    assert (200, 0, 2) == (answer.status, answer.body["base_offset"], answer.body["last_offset"])
    answer = await api("GET", path + "?offset=0", headers={"Accept": kind})
    assert [3] == [found.record_count for found in iterate_batches(answer.body)]


async def test_a_long_poll_waits_at_the_leader(led_by_two):
    api = led_by_two
    waiting = asyncio.create_task(api.fetch(partition=api.there, query="offset=0&timeout=20000"))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await api("POST", RECORDS, json={"partition_id": api.there}, node=2)
    answer = await asyncio.wait_for(waiting, 30)
    assert 1 == len(answer.body["records"])


async def test_a_description_knows_the_offsets_of_every_leader(led_by_two):
    api = led_by_two
    await api("POST", RECORDS, json={"partition_id": api.there})
    await api("POST", RECORDS, json={"partition_id": api.here})
    listed = (await api("GET", "/v3/clusters/-/topics/t/partitions")).body["data"]
    assert [1, 1] == [partition["high_watermark"] for partition in listed]
    await api.cluster.listeners[1].stop()
    listed = (await api("GET", "/v3/clusters/-/topics/t/partitions")).body["data"]
    assert {api.there: None, api.here: 1} == {p["partition_id"]: p["high_watermark"] for p in listed}


async def test_who_would_rather_go_there_is_sent_there(led_by_two):
    api = led_by_two
    path = f"/v3/clusters/-/topics/t/partitions/{api.there}/records?offset=0&redirect=1&max_records=5"
    answer = await api("GET", path)
    assert 307 == answer.status
    assert api.cluster.url(path.replace("&redirect=1", ""), node=2) == answer.headers["Location"]
    assert 200 == (await api("GET", path, node=2)).status, "the leader itself answers"
    answer = await api("POST", RECORDS + "?redirect=1", json={"partition_id": api.there})
    assert (307, "2") == (answer.status, answer.headers["X-Leader-Id"])
    assert [] == api.cluster.records("t", api.there)
    assert 200 == (await api("POST", RECORDS + "?redirect=1", json={"partition_id": api.here})).status
    for method, path in (
        ("GET", f"/v3/clusters/-/topics/t/partitions/{api.there}/offset"),
        ("POST", f"/topics/t/partitions/{api.there}"),
    ):
        assert 307 == (await api(method, path + "?redirect=true")).status


# -- S15: a produce reaches the leader at most once --------------------------------------------------------------------


async def test_a_refusal_of_the_leader_is_passed_on(led_by_two):
    api = led_by_two
    leader = api.cluster.nodes[1]
    leader.append_failures = [
        RefusedError(ErrorCode.NOT_ENOUGH_REPLICAS, "too few replicas"),
        OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "who knows"),
        AssertionError("a bug"),
    ]
    outcomes = []
    for _ in range(3):
        answer = await api("POST", RECORDS, json={"partition_id": api.there})
        outcomes.append((answer.status, answer.body["error_code"], answer.body["outcome"]))
    assert [(503, 50003, "not_written"), (503, 50003, "unknown"), (500, 500, "unknown")] == outcomes
    conflict = await api("POST", RECORDS + "?expected_offset=7", json={"partition_id": api.there})
    assert (412, 1) == (conflict.status, conflict.body["log_end_offset"]), "what was in doubt had been written"


async def test_a_leader_that_cannot_be_reached_got_nothing(led_by_two):
    api = led_by_two
    await api.cluster.listeners[1].stop()
    answer = await api("POST", RECORDS, json={"partition_id": api.there})
    assert (503, 50003, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert "1" == answer.headers["Retry-After"]
    assert 503 == (await api.fetch(partition=api.there)).status


async def test_a_connection_that_breaks_after_the_records_left_is_unknown_and_not_tried_again(led_by_two):
    api = led_by_two
    heard = []

    async def swallow(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    port = api.cluster.listeners[1].port
    await api.cluster.listeners[1].stop()
    server = await asyncio.start_server(swallow, "127.0.0.1", port)
    async with server:
        answer = await api("POST", RECORDS, json={"partition_id": api.there})
    assert (503, 50003, "unknown") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert 1 == len(heard)


async def test_a_leader_that_answers_nothing_is_unknown_at_the_timeout(led_by_two, monkeypatch):
    api = led_by_two
    monkeypatch.setattr("api.http.forwarding.GRACE_S", 0.05)

    async def silent(reader, writer):
        await reader.read()
        writer.close()

    port = api.cluster.listeners[1].port
    await api.cluster.listeners[1].stop()
    server = await asyncio.start_server(silent, "127.0.0.1", port)
    async with server:
        answer = await api("POST", RECORDS + "?timeout=50", json={"partition_id": api.there})
    assert (503, "unknown") == (answer.status, answer.body["outcome"])


async def test_a_node_that_does_not_lead_passes_nothing_on_twice(led_by_two):
    api = led_by_two
    headers = {"Kraft-Forwarded": "2", "Content-Type": "application/vnd.kafka.recordbatch"}
    path = f"/v3/clusters/-/topics/t/partitions/{api.there}/records"
    batch = bytes(build_batch([(None, b"x", (), 7)]))
    answer = await api("POST", path, data=batch, headers=headers)
    assert (503, True, "not_written") == (answer.status, answer.body["stale_route"], answer.body["outcome"])
    assert [] == api.cluster.records("t", api.there)


@waits_for_leaders
async def test_a_leader_that_learns_of_it_a_moment_later_is_asked_again(led_by_two):
    api = led_by_two
    leader = api.cluster.nodes[1]
    leader.replica_failures = [RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "not yet")] * 3
    assert 200 == (await api("POST", RECORDS, json={"partition_id": api.there})).status
    leader.replica_failures = [RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "not yet")] * 3
    assert 200 == (await api.fetch(partition=api.there)).status
    assert 1 == len(api.cluster.records("t", api.there))


async def test_records_for_a_topic_of_the_same_name_but_another_id_are_not_taken(led_by_two):
    """S17: the topic was deleted and made again between two nodes."""
    api = led_by_two
    headers = {
        "Kraft-Forwarded": "1",
        "Kraft-Topic-Id": "AAAAAAAAAAAAAAAAAAAAAA",
        "Content-Type": "application/vnd.kafka.recordbatch",
    }
    path = f"/v3/clusters/-/topics/t/partitions/{api.there}/records"
    batch = bytes(build_batch([(None, b"x", (), 7)]))
    answer = await api("POST", path, data=batch, headers=headers, node=2)
    assert (503, "not_written") == (answer.status, answer.body["outcome"])
    assert [] == api.cluster.records("t", api.there)


async def test_the_way_to_others_is_made_only_when_needed(api):
    await api.topic()
    await api("POST", RECORDS, json={})
    assert api.cluster.context(1).forwarder._session is None


class TestSmallBody:
    @pytest.fixture
    def settings(self) -> HttpSettings:
        return quick(body_bytes_max=20_000)

    async def test_what_one_node_took_the_leader_takes_too(self, led_by_two):
        """The same records are larger as batches than as lines of NDJSON."""
        api = led_by_two
        headers = {"Content-Type": "application/x-ndjson"}
        path = f"{RECORDS}?partition_id={api.there}"
        answer = await api("POST", path, data=b"1\n" * 9000, headers=headers)
        assert 200 == answer.status, answer.body
        assert 9000 == len(api.cluster.records("t", api.there))
        assert msgspec.json.encode(answer.body)


# -- L1: everything is answered by its own timeout ---------------------------------------------------------------------


@pytest.fixture
async def silent_leader(led_by_two: Api) -> AsyncIterator[Api]:
    """Node 2 takes connections and says nothing, as a paused process does."""
    writers = []

    async def silent(reader, writer):
        writers.append(writer)
        await reader.read(-1)
        writer.close()

    port = led_by_two.cluster.listeners[1].port
    await led_by_two.cluster.listeners[1].stop()
    async with await asyncio.start_server(silent, "127.0.0.1", port):
        yield led_by_two
    await led_by_two.cluster.context(1).forwarder.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


class TestSlowLeader:
    @pytest.fixture
    def settings(self) -> HttpSettings:
        return quick(fetch_timeout_s=0.4)

    @pytest.mark.parametrize("timeout_ms", [0, 300])
    async def test_a_fetch_is_answered_by_its_timeout(self, silent_leader, timeout_ms):
        api = silent_leader
        loop = asyncio.get_running_loop()
        offsets = [{"partition_id": api.there, "offset": 0}]
        for asked in (
            api.fetch(partition=api.there, query=f"offset=0&timeout={timeout_ms}"),
            api("GET", f"/topics/t/partitions/{api.there}/records?offset=0&timeout={timeout_ms}"),
            api("POST", f"{CONSUME}?timeout={timeout_ms}", json={"offsets": offsets}),
            api("GET", f"/v3/clusters/-/topics/t/partitions/{api.there}/offset"),
        ):
            began_s = loop.time()
            answer = await asked
            assert loop.time() - began_s < timeout_ms / 1000 + 10
            assert (503, 50003) == (answer.status, answer.body["error_code"])
            assert "broker 2 did not answer within" in answer.body["message"]


class TestSlowLink:
    @pytest.fixture
    def settings(self) -> HttpSettings:
        return quick(fetch_timeout_s=2.0)

    async def test_an_answer_that_has_begun_may_take_longer_than_the_timeout(self, led_by_two):
        """A large fetch over a slow link makes progress instead of failing for ever."""
        api = led_by_two
        batch = bytes(build_batch([(None, b"x", (), 7)]))
        pieces = [batch[start : start + 10] for start in range(0, len(batch), 10)]

        closed = asyncio.Event()

        async def slow(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            numbers = {"Stream-Start-Offset": 0, "Stream-Next-Offset": 1, "High-Watermark": 1}
            numbers |= {"Log-Start-Offset": 0, "Log-End-Offset": 1, "Content-Length": len(batch)}
            head = "".join(f"{name}: {number}\r\n" for name, number in numbers.items())
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(3.0 / len(pieces))  # sleeps: the slow link
            writer.close()
            await writer.wait_closed()
            closed.set()

        port = api.cluster.listeners[1].port
        await api.cluster.listeners[1].stop()
        async with await asyncio.start_server(slow, "127.0.0.1", port):
            answer = await api.fetch(partition=api.there)
            await closed.wait()
        assert (200, 1) == (answer.status, len(answer.body["records"]))


async def test_who_refuses_a_connection_is_named_without_a_librarys_words(led_by_two):
    api = led_by_two
    port = api.cluster.listeners[1].port
    await api.cluster.listeners[1].stop()
    for answer in (
        await api("POST", RECORDS, json={"partition_id": api.there}),
        await api.fetch(partition=api.there),
    ):
        assert f"broker 2 at 127.0.0.1:{port} refused the connection" == answer.body["message"]
