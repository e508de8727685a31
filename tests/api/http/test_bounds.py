"""Nobody holds this node: deadlines for heads, bodies and readers, caps for bodies, bytes and connections."""

import asyncio
import gzip
import json
import socket
import zlib

import pytest

from tests.api.http.conftest import quick, until
from tests.api.http.raw_connection import RawConnection

TOPICS = "/v3/clusters/-/topics"
RECORDS = f"{TOPICS}/t/records"
BATCH = f"{TOPICS}/t/records:batch"


class TestDeadlines:
    @pytest.fixture
    def settings(self):
        return quick(header_deadline_s=0.2, body_deadline_s=0.2)

    @pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
    async def test_a_slow_head_is_cut_off(self, cluster, sent):
        async with RawConnection(cluster.listeners[0].port) as connection:
            await connection.send(sent)
            assert await connection.is_closed()

    async def test_drip_by_drip_does_not_help(self, cluster):
        async with RawConnection(cluster.listeners[0].port) as connection:
            closed = asyncio.create_task(connection.is_closed())
            for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
                connection.writer.write(bytes([byte]))
                await asyncio.wait([closed], timeout=0.02)
                if closed.done():
                    break
            assert await closed

    async def test_a_later_request_of_a_kept_connection_has_the_same_deadline(self, cluster):
        async with RawConnection(cluster.listeners[0].port) as connection:
            request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            for _ in range(3):
                assert 200 == (await connection.ask(request))[0]
            await connection.send(request[:10])
            assert await connection.is_closed()

    async def test_an_idle_kept_connection_is_not_cut_off_by_it(self, cluster):
        async with RawConnection(cluster.listeners[0].port) as connection:
            request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            assert 200 == (await connection.ask(request))[0]
            assert not await connection.is_closed(within_s=0.5)
            assert 200 == (await connection.ask(request))[0]

    async def test_nor_where_a_body_came_after_its_head(self, api, cluster):
        await api.topic()
        async with RawConnection(cluster.listeners[0].port) as connection:
            await connection.send_head("POST", RECORDS, "Content-Length: 2", "Content-Type: application/json")
            await until(lambda: cluster.listeners[0].connections == 2)
            assert 200 == (await connection.ask(b"{}"))[0]
            assert not await connection.is_closed(within_s=0.5)

    async def test_a_slow_body_is_told_and_cut_off(self, api, cluster):
        await api.topic()
        async with RawConnection(cluster.listeners[0].port) as connection:
            await connection.send_head("POST", RECORDS, "Content-Length: 1000", "Content-Type: application/json")
            status, body = await connection.ask(b"{")
            assert (408, 408) == (status, json.loads(body)["error_code"])
            assert await connection.is_closed()
        assert 0 == cluster.context(1).in_flight.held_bytes

    async def test_a_request_that_waits_for_records_is_no_slow_loris(self, api, cluster):
        await api.topic()
        async with RawConnection(cluster.listeners[0].port) as connection:
            path = f"{TOPICS}/t/partitions/0/records?offset=0&timeout=600"
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            assert 200 == (await connection.ask(request + request[:20]))[0], "the next head is late, not this one"
            assert await connection.is_closed()


class TestCaps:
    @pytest.fixture
    def settings(self):
        return quick(body_bytes_max=100_000, in_flight_bytes_max=250_000, connections_per_address_max=4)

    async def test_a_body_above_the_cap_is_refused_before_it_is_read(self, api, cluster):
        await api.topic()
        async with RawConnection(cluster.listeners[0].port) as connection:
            await connection.send_head("POST", BATCH, "Content-Length: 100000000000")
            head = await connection.read_head()
            assert 413 == head.status
            body = json.loads(await connection.read_body(head))
            assert (413, "not_written") == (body["error_code"], body["outcome"])
            assert "100000 bytes" in body["message"]

    async def test_a_chunked_body_above_the_cap_is_refused_when_it_passes_it(self, api):
        await api.topic()

        async def pieces():
            for _ in range(20):
                yield b"x" * 10_000

        answer = await api("POST", BATCH, data=pieces())
        assert (413, 413) == (answer.status, answer.body["error_code"])

    @pytest.mark.parametrize("path", [BATCH, "/topics/t", TOPICS, RECORDS])
    async def test_a_bomb_is_refused_while_it_inflates(self, api, path):
        await api.topic()
        bomb = gzip.compress(b" " * 200_000_000, 6)
        assert len(bomb) > 100_000
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        for data in (bomb[:90_000], gzip.compress(b" " * 1_000_000), gzip.compress(bomb)):
            answer = await api("POST", path, data=data, headers=headers)
            assert answer.status in (400, 413), answer
        answer = await api("POST", path, data=gzip.compress(b" " * 1_000_000), headers=headers)
        assert (413, 413) == (answer.status, answer.body["error_code"])

    @pytest.mark.parametrize(
        "data",
        [b"no gzip", gzip.compress(b"{}", mtime=0)[:-5], gzip.compress(b"{}", mtime=0) + b"garbage"],
        ids=["no gzip", "cut short", "garbage after it"],
    )
    async def test_broken_gzip_is_a_bad_request(self, api, data):
        await api.topic()
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        answer = await api("POST", RECORDS, data=data, headers=headers)
        assert (400, 40002) == (answer.status, answer.body["error_code"])
        assert "gzip" in answer.body["message"]

    async def test_good_gzip_is_good(self, api):
        await api.topic()
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        members = gzip.compress(b'{"value":') + gzip.compress(b'{"type":"STRING","data":"x"}}')
        for data in (members, zlib.compress(b'{"value":{"type":"STRING","data":"x"}}')):
            assert 200 == (await api("POST", RECORDS, data=data, headers=headers)).status
        assert 415 == (await api("POST", RECORDS, data=b"{}", headers={"Content-Encoding": "br"})).status

    async def test_bytes_in_flight_have_a_bound_and_are_given_back(self, api, cluster):
        await api.topic()
        async with (
            RawConnection(cluster.listeners[0].port) as first,
            RawConnection(cluster.listeners[0].port) as second,
        ):
            for connection in (first, second):
                await connection.send_head("POST", BATCH, "Content-Length: 100000")
                await connection.send(b" " * 90_000)
            await until(lambda: cluster.context(1).in_flight.held_bytes == 180_000)
            body = json.dumps({"entries": [{"id": "a", "value": {"type": "STRING", "data": "x" * 90_000}}]})
            answer = await api("POST", BATCH, data=body.encode())
            assert (429, 42901, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
            assert "1" == answer.headers["Retry-After"]
        await until(lambda: cluster.context(1).in_flight.held_bytes == 0)
        assert 207 == (await api("POST", BATCH, data=body.encode())).status
        assert 0 == cluster.context(1).in_flight.held_bytes

    async def test_one_address_has_a_bound_of_connections(self, cluster):
        port = cluster.listeners[0].port
        opened = [RawConnection(port) for _ in range(4)]
        for connection in opened:
            await connection.__aenter__()
        await until(lambda: cluster.listeners[0].connections == 4)
        async with RawConnection(port) as fifth:
            head = await fifth.read_head()
            assert (429, 42901) == (head.status, json.loads(await fifth.read_body(head))["error_code"])
            assert await fifth.is_closed()
        await opened[0].__aexit__()
        await until(lambda: cluster.listeners[0].connections == 3)
        async with RawConnection(port) as again:
            assert 200 == (await again.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0]
        for connection in opened[1:]:
            await connection.__aexit__()


class TestSlowReader:
    @pytest.fixture
    def settings(self):
        return quick(response_deadline_s=0.2, header_deadline_s=60.0)

    async def test_who_does_not_read_the_answer_is_cut_off(self, api, cluster):
        await api.topic()
        octets = {"Content-Type": "application/octet-stream"}
        assert 200 == (await api("POST", RECORDS, data=b"x" * 900_000, headers=octets)).status
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", cluster.listeners[0].port))
            request = f"GET {TOPICS}/t/partitions/0/records?offset=0 HTTP/1.1\r\nHost: x\r\n\r\n"
            sock.sendall(request.encode() * 20)
            await until(lambda: cluster.context(1).in_flight.held_bytes > 0)
            await until(lambda: cluster.listeners[0].connections == 1)  # the test's own pooled client holds it
        assert 0 == cluster.context(1).in_flight.held_bytes


async def test_a_client_that_goes_away_is_no_error_of_this_node(cluster, api, caplog):
    """Somebody who stops a download fills nobody's log with traces."""
    await api.topic()
    for _ in range(8):
        data = b'"' + b"x" * 900_000 + b'"\n'
        sent = await api(
            "POST", f"{RECORDS}?partition_id=0", data=data, headers={"Content-Type": "application/x-ndjson"}
        )
        assert 200 == sent.status, sent
    with caplog.at_level("INFO"):
        async with RawConnection(cluster.listeners[0].port) as connection:
            path = f"{TOPICS}/t/partitions/0/records?offset=0&max_bytes=8000000"
            await connection.send_head("GET", path)
            await connection.reader.readexactly(1000)
            connection.writer.transport.abort()
        await until(lambda: not cluster.context(1).in_flight.held_bytes)
        await until(lambda: cluster.listeners[0].connections == 1)  # the test's own pooled client holds it
    assert [] == [record.getMessage() for record in caplog.records]
