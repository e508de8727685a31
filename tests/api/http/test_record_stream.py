"""Many records in one request: receipts flow while it is open, in order; a lone record keeps its real status."""

import json

import msgspec
import pytest

from api.http.document_stream import DocumentStream
from api.http.errors import ApiError
from tests.api.http.conftest import quick, until
from tests.api.http.raw_connection import RawConnection

RECORDS = "/v3/clusters/-/topics/t/records"
JSON = {"Content-Type": "application/json"}


def document(text: str) -> bytes:
    return json.dumps({"value": {"type": "STRING", "data": text}}).encode()


async def chunked(*pieces: bytes):
    for piece in pieces:
        yield piece


async def test_concatenated_documents_get_a_receipt_each_in_order(api):
    await api.topic()
    for separator in (b"", b"\n", b" \r\n\t"):
        body = separator.join(document(f"v{i}") for i in range(20))
        answer = await api("POST", RECORDS, data=body, headers=JSON)
        assert 200 == answer.status
        offsets = [receipt["offset"] for receipt in answer.body]
        assert list(range(offsets[0], offsets[0] + 20)) == offsets
    assert 1 == len({len(batch) for batch in api.cluster.log("t").batches}), "each body became one batch"


async def test_receipts_flow_while_the_request_is_still_open(api, cluster):
    await api.topic()
    async with RawConnection(cluster.listeners[0].port) as connection:
        await connection.send_head("POST", RECORDS, "Transfer-Encoding: chunked", "Content-Type: application/json")
        for number in range(3):
            await connection.send_chunk(document(f"v{number}"))
            if number == 0:
                assert 200 == (await connection.read_head()).status
            receipt = json.loads(await connection.read_chunk())
            assert number == receipt["offset"]
        await connection.send_chunk(b"")
        assert b"" == await connection.read_chunk()


@pytest.mark.parametrize("settings", [quick(first_receipt_wait_s=5.0)], ids=[""])
@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_one_chunked_document_has_a_real_status(api, pieces):
    await api.topic()
    for body, status in ((document("x") + b"\n", 200), (b'{"value": 5}', 400), (b'{"value"', 400), (b"", 400)):
        size = max(1, -(-len(body) // pieces))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        answer = await api("POST", RECORDS, data=chunked(*parts), headers=JSON)
        assert status == answer.status, (body, answer)


async def test_a_record_of_more_than_half_a_mebibyte_is_a_record(api):
    await api.topic()
    large = "x" * 900_000
    answer = await api("POST", RECORDS, data=chunked(document(large), document("y"), document(large)), headers=JSON)
    assert [0, 1, 2] == [receipt["offset"] for receipt in answer.body]
    assert [900_000, 1, 900_000] == [len(record.value) for record in api.cluster.records("t")]


async def test_a_bad_record_of_a_stream_fails_alone(api):
    await api.topic(max_message_bytes="2000")
    documents = [
        document("a"),
        b'{"value": 7}',
        document("b"),
        b'{"partition_id": 9}',
        document("c" * 3000),
        document("d"),
    ]
    for data in (b"".join(documents), chunked(*documents)):
        before = len(api.cluster.records("t")) if api.cluster.logs else 0
        answer = await api("POST", RECORDS, data=data, headers=JSON)
        assert 200 == answer.status
        assert [200, 40002, 200, 40402, 413, 200] == [receipt["error_code"] for receipt in answer.body]
        assert {"not_written"} == {r["outcome"] for r in answer.body if r["error_code"] != 200}
        assert [b"a", b"b", b"d"] == [record.value for record in api.cluster.records("t")[before:]]


async def test_what_came_before_garbage_is_written_and_the_garbage_ends_the_stream(api, cluster):
    await api.topic()
    answer = await api("POST", RECORDS, data=chunked(document("a"), document("b"), b"garbage"), headers=JSON)
    assert [200, 200, 40002] == [receipt["error_code"] for receipt in answer.body]
    assert [b"a", b"b"] == [record.value for record in api.cluster.records("t")]
    answer = await api("POST", RECORDS, data=document("a") + b"garbage", headers=JSON)
    assert 400 == answer.status, "a whole body is refused whole"
    assert 2 == len(api.cluster.records("t"))


class TestIdle:
    @pytest.fixture
    def settings(self):
        return quick(stream_idle_s=0.1)

    async def test_a_stream_that_sends_nothing_is_ended(self, api, cluster):
        await api.topic()
        async with RawConnection(cluster.listeners[0].port) as connection:
            await connection.send_head("POST", RECORDS, "Transfer-Encoding: chunked", "Content-Type: application/json")
            await connection.send_chunk(document("x"))
            assert 200 == (await connection.read_head()).status
            assert 200 == json.loads(await connection.read_chunk())["error_code"]
            assert 408 == json.loads(await connection.read_chunk())["error_code"]
            assert b"" == await connection.read_chunk()
            assert await connection.is_closed()


class TestDocumentBound:
    @pytest.fixture
    def settings(self):
        return quick(body_bytes_max=10_000)

    async def test_a_stream_has_no_bound_but_each_of_its_documents_has(self, api):
        await api.topic()
        many = [document("x" * 5000) for _ in range(20)]
        answer = await api("POST", RECORDS, data=chunked(*many), headers=JSON)
        assert 20 == len(answer.body)
        answer = await api("POST", RECORDS, data=chunked(document("x"), document("y" * 20_000)), headers=JSON)
        assert [200, 413] == [receipt["error_code"] for receipt in answer.body]
        answer = await api("POST", RECORDS, data=chunked(document("y" * 20_000)), headers=JSON)
        assert (413, 413) == (answer.status, answer.body["error_code"])


class TestDocumentStream:
    """The scanner by itself."""

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
    def test_finds_the_same_documents_however_they_are_cut(self, size):
        documents = [
            b"{}",
            b'{"a":"}{\\"]["}',
            b'{"a":{"b":[{"c":"\\\\"},[]]}}',
            b'{ "\\\\\\"" : 1 }',
            '{"ü":"✓"}'.encode(),
        ]
        whole = b" \n\x1e".join(documents) + b"\n"
        stream = DocumentStream(document_bytes_max=1000)
        found = [found for at in range(0, len(whole), size) for found in stream.feed(whole[at : at + size])]
        stream.finish()
        assert documents == found
        assert [msgspec.json.decode(document) for document in found]

    @pytest.mark.parametrize("garbage", [b"[1]", b'"text"', b"1", b"x", b"}", b"]", b",{}"])
    def test_refuses_what_is_no_object(self, garbage):
        with pytest.raises(ApiError, match="object"):
            DocumentStream(document_bytes_max=1000).feed(garbage)

    def test_tells_of_garbage_after_the_documents_before_it(self):
        stream = DocumentStream(document_bytes_max=1000)
        assert [b"{}"] == stream.feed(b"{} x")
        with pytest.raises(ApiError):
            stream.feed(b"{}")

    def test_refuses_an_end_inside_a_document_and_a_document_above_the_bound(self):
        stream = DocumentStream(document_bytes_max=100)
        assert [] == stream.feed(b'{"a":')
        with pytest.raises(ApiError, match="ends inside"):
            stream.finish()
        with pytest.raises(ApiError, match="100 bytes"):
            stream.feed(b'"' + b"x" * 100)

    def test_looks_at_no_byte_twice(self):
        """A document of 4 MiB in pieces of 1 KiB; a scanner that began anew each time would look at 8 GiB."""
        stream = DocumentStream(document_bytes_max=8 * 1024 * 1024)
        pieces = [b'{"a":"', *[b"\\n{" * 341 + b"x" for _ in range(4096)], b'"}']
        found = [found for piece in pieces for found in stream.feed(piece)]
        assert [b"".join(pieces)] == found


async def test_a_client_that_goes_away_leaves_nothing_behind(api, cluster):
    await api.topic()
    connection = RawConnection(cluster.listeners[0].port)
    async with connection:
        await connection.send_head("POST", RECORDS, "Transfer-Encoding: chunked", "Content-Type: application/json")
        await connection.send_chunk(document("x"))
        assert 200 == (await connection.read_head()).status
    await until(lambda: cluster.listeners[0].connections == 1)  # the test's own pooled client holds it
    assert 0 == cluster.context(1).in_flight.held_bytes
