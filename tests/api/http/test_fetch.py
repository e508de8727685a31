"""Records come back as they were sent: by offset, by time, in every form, with honest bounds and a patient poll."""

import asyncio
import base64
import gzip
import time

import msgspec
import pytest

from tests.api.http.conftest import quick, until
from wire.record_batch import build_batch, iterate_batches

PATH = "/v3/clusters/-/topics/t/partitions/0/records"
BATCHES = {"Content-Type": "application/vnd.kafka.recordbatch"}


async def send(api, *values: bytes | None, key: bytes | None = None, timestamp: int = 1000) -> None:
    """One batch of these values."""
    batch = build_batch([(key, value, (), timestamp + n) for n, value in enumerate(values)])
    answer = await api("POST", PATH, data=bytes(batch), headers=BATCHES)
    assert 200 == answer.status, answer


async def test_a_fetch_says_where_it_stands(api):
    await api.topic()
    await send(api, b"a", b"b", b"c")
    answer = await api.fetch(query="offset=1")
    assert 200 == answer.status
    assert [1, 2] == [record["offset"] for record in answer.body["records"]]
    assert (3, 3, 0) == tuple(answer.body[name] for name in ("next_offset", "high_watermark", "log_start_offset"))
    assert ("3", "true") == (answer.headers["Stream-Next-Offset"], answer.headers["Stream-Up-To-Date"])
    first = answer.body["records"][0]
    assert {
        "partition_id": 0,
        "offset": 1,
        "timestamp": 1001,
        "timestamp_type": "CREATE_TIME",
        "headers": [],
        "key": None,
        "value": {"type": "STRING", "data": "b"},
    } == first


async def test_what_is_no_text_comes_as_base64(api):
    await api.topic()
    await send(api, b"text \xc3\xbc", b"\xff\x00", b"", None, key=b"\xfe")
    records = (await api.fetch()).body["records"]
    assert [
        {"type": "STRING", "data": "text ü"},
        {"type": "BINARY", "data": "/wA="},
        {"type": "STRING", "data": ""},
        None,
    ] == [record["value"] for record in records]
    assert {"type": "BINARY", "data": "/g=="} == records[0]["key"]


async def test_the_form_can_be_chosen(api):
    await api.topic()
    await send(api, b'{"a": [1, 1.50]}', b"7")
    for query, first in (
        ("format=json", {"type": "JSON", "data": {"a": [1, 1.5]}}),
        ("format=string", {"type": "STRING", "data": '{"a": [1, 1.50]}'}),
        ("format=binary", {"type": "BINARY", "data": base64.b64encode(b'{"a": [1, 1.50]}').decode()}),
    ):
        answer = await api.fetch(query=f"offset=0&{query}")
        assert first == answer.body["records"][0]["value"], query


@pytest.mark.parametrize(
    ("value", "query"), [(b"no json", "json"), (b"\xff", "string"), (b'"\xff"', "json"), (b"[" * 100_000, "json")]
)
async def test_a_value_that_has_not_the_wanted_form_is_refused_by_its_offset(api, value, query):
    await api.topic()
    await send(api, b'"good"', value)
    answer = await api.fetch(query=f"offset=0&format={query}")
    assert (422, 42207) == (answer.status, answer.body["error_code"])
    assert "offset 1" in answer.body["message"]
    assert "format=" in answer.body["message"]


async def test_headers_come_back(api):
    await api.topic()
    batch = build_batch([(None, b"v", [("a", b"\0"), ("b", None)], 0)])
    await api("POST", PATH, data=bytes(batch), headers=BATCHES)
    assert [{"name": "a", "value": "AA=="}, {"name": "b", "value": None}] == (await api.fetch()).body["records"][0][
        "headers"
    ]


async def test_max_records_cuts_inside_a_batch_and_the_next_fetch_goes_on(api):
    await api.topic()
    for number in range(3):
        await send(api, *(f"{number}{i}".encode() for i in range(5)))
    seen, offset = [], 0
    while True:
        answer = await api.fetch(query=f"offset={offset}&max_records=4")
        if not answer.body["records"]:
            break
        assert len(answer.body["records"]) <= 4
        seen += [record["value"]["data"] for record in answer.body["records"]]
        offset = answer.body["next_offset"]
    assert [f"{number}{i}" for number in range(3) for i in range(5)] == seen


async def test_a_record_larger_than_max_bytes_still_comes(api):
    await api.topic()
    await send(api, b"x" * 10_000)
    answer = await api.fetch(query="offset=0&max_bytes=1")
    assert 1 == len(answer.body["records"])


@pytest.mark.parametrize(
    ("query", "offsets"),
    [
        ("offset=earliest", [0, 1, 2]),
        ("offset=latest", []),
        ("", [0, 1, 2]),
        ("timestamp=1001", [1, 2]),
        ("timestamp=9999", []),
    ],
)
async def test_one_can_begin_at_either_end_or_at_a_time(api, query, offsets):
    await api.topic()
    await send(api, b"a", b"b", b"c")
    answer = await api.fetch(query=query)
    assert offsets == [record["offset"] for record in answer.body["records"]]
    assert 3 == answer.body["next_offset"]


async def test_without_bytes_only_where_the_log_stands_is_told(api):
    await api.topic()
    await send(api, b"a", b"b", b"c")
    answer = await api.fetch(query="offset=1&max_bytes=0")
    assert ([], 1, 3) == tuple(answer.body[name] for name in ("records", "next_offset", "high_watermark"))
    assert "false" == answer.headers["Stream-Up-To-Date"]
    assert 416 == (await api.fetch(query="offset=9&max_bytes=0")).status


async def test_an_offset_out_of_range_is_told_both_bounds(api, cluster):
    await api.topic()
    await send(api, b"a", b"b", b"c")
    cluster.log("t").log_start_offset = 1
    for offset in (0, 4, 2**63 - 1):
        answer = await api.fetch(query=f"offset={offset}")
        assert (416, 41601) == (answer.status, answer.body["error_code"])
        assert (1, 3) == (answer.body["earliest_offset"], answer.body["latest_offset"])
        assert "1" in answer.body["message"]
        assert "3" in answer.body["message"]
    assert [] == (await api.fetch(query="offset=3")).body["records"], "the end is no error"


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("offset=-1", "offset"),
        ("offset=1.5", "offset"),
        ("offset=9999999999999999999999", "offset"),
        ("offset=9223372036854775808", "offset"),
        ("offset=0&timestamp=0", "timestamp"),
        ("max_bytes=-1", "max_bytes"),
        ("max_bytes=many", "max_bytes"),
        ("max_records=0", "max_records"),
        ("timeout=60001", "timeout"),
        ("format=avro", "format"),
        ("offsett=1", "offsett"),
        ("min_bytes=%F0%9F%98%80", "min_bytes"),
        ("offset=%D9%A1", "offset"),
    ],
)
async def test_a_wrong_parameter_is_named(api, query, word):
    await api.topic()
    answer = await api.fetch(query=query)
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert word in answer.body["message"]


async def test_a_long_poll_ends_when_a_record_comes(api):
    await api.topic()
    waiting = asyncio.create_task(api.fetch(query="offset=0&timeout=20000"))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await send(api, b"here")
    answer = await asyncio.wait_for(waiting, 30)
    assert ["here"] == [record["value"]["data"] for record in answer.body["records"]]


async def test_a_long_poll_ends_at_its_timeout_with_nothing(api):
    await api.topic()
    begun = time.monotonic()
    answer = await api.fetch(query="offset=0&timeout=50")
    assert (200, []) == (answer.status, answer.body["records"])
    assert 0.04 <= time.monotonic() - begun < 30


async def test_min_bytes_wait_for_more(api):
    await api.topic()
    await send(api, b"small")
    answer = await api.fetch(query="offset=0&min_bytes=5000&timeout=20")
    assert 1 == len(answer.body["records"]), "at the timeout what is there is given"


async def test_a_draining_node_answers_its_long_polls(api, cluster):
    await api.topic()
    waiting = asyncio.create_task(api.fetch(query="offset=0&timeout=60000"))
    await until(lambda: cluster.context(1)._polls)
    await cluster.listeners[0].drain(5.0)
    answer = await asyncio.wait_for(waiting, 30)
    assert (200, []) == (answer.status, answer.body["records"])


async def test_msgpack_brings_bytes_as_bytes(api):
    await api.topic()
    await send(api, b"\xff", None, key=b"k")
    answer = await api.fetch(headers={"Accept": "application/msgpack"})
    body = msgspec.msgpack.decode(answer.body)
    assert "application/msgpack" == answer.headers["Content-Type"]
    assert [(b"k", b"\xff"), (b"k", None)] == [(record["key"], record["value"]) for record in body["records"]]
    assert (2, 2, 0) == (body["next_offset"], body["high_watermark"], body["log_start_offset"])


async def test_ndjson_brings_a_record_a_line(api):
    await api.topic()
    await send(api, b"a", b"b")
    answer = await api.fetch(headers={"Accept": "application/x-ndjson"})
    assert ["a", "b"] == [record["value"]["data"] for record in answer.body]
    assert "2" == answer.headers["Stream-Next-Offset"]


async def test_batches_come_as_they_lie_in_the_log(api):
    await api.topic()
    await send(api, b"a", b"b")
    await send(api, b"c")
    answer = await api.fetch(query="offset=1", headers={"Accept": "application/vnd.kafka.recordbatch"})
    assert [(0, 2), (2, 1)] == [(batch.base_offset, batch.record_count) for batch in iterate_batches(answer.body)]
    assert ("1", "3") == (answer.headers["Stream-Start-Offset"], answer.headers["Stream-Next-Offset"])


async def test_what_this_route_does_not_write_is_not_acceptable(api):
    await api.topic()
    assert 406 == (await api.fetch(headers={"Accept": "image/png"})).status
    for accept in ("*/*", "text/html, application/xhtml+xml, */*;q=0.8", "application/json; charset=utf-8"):
        assert 200 == (await api.fetch(headers={"Accept": accept})).status


async def test_large_answers_are_compressed_for_those_who_ask(api, cluster):
    await api.topic()
    await send(api, *(b"again and again" for _ in range(20_000)))
    for accept, coding in (("gzip", "gzip"), ("identity", None), ("gzip;q=0", None), ("br, gzip;q=0.5", "gzip")):
        url = cluster.url(PATH + "?offset=0")
        async with cluster.client.get(url, headers={"Accept-Encoding": accept}) as response:
            assert coding == response.headers.get("Content-Encoding")
            assert 20_000 == len((await response.json())["records"])
    assert b"x" == gzip.decompress(gzip.compress(b"x"))


class TestBounds:
    @pytest.fixture
    def settings(self):
        return quick(in_flight_bytes_max=100_000)

    async def test_answers_count_as_bytes_in_flight(self, api, cluster):
        await api.topic()
        await send(api, b"x" * 90_000)
        answer = await api.fetch()
        assert (429, 42901) == (answer.status, answer.body["error_code"])
        assert "1" == answer.headers["Retry-After"]
        assert 0 == cluster.context(1).in_flight.held_bytes


class TestConsume:
    """Many partitions in one pull."""

    PATH = "/v3/clusters/-/topics/t/partitions/-/records:consume"

    async def fill(self, api) -> None:
        await api.topic(partitions=3)
        for partition in range(3):
            for number in range(4):
                record = {"partition_id": partition, "value": {"type": "STRING", "data": f"{partition}.{number}"}}
                assert 200 == (await api("POST", "/v3/clusters/-/topics/t/records", json=record)).status

    async def test_from_the_beginning_and_from_positions(self, api):
        await self.fill(api)
        answer = await api("POST", self.PATH, json={"from_beginning": True})
        assert 200 == answer.status
        found = {
            data["partition_id"]: [record["value"]["data"] for record in data["records"]]
            for data in answer.body["partition_data_list"]
        }
        assert {p: [f"{p}.{n}" for n in range(4)] for p in range(3)} == found
        assert [4, 4, 4] == [data["next_offset"] for data in answer.body["partition_data_list"]]
        offsets = [{"partition_id": 2, "offset": 3}, {"partition_id": 0, "offset": 4}]
        answer = await api("POST", self.PATH, json={"offsets": offsets})
        assert [(2, 1), (0, 0)] == [
            (data["partition_id"], len(data["records"])) for data in answer.body["partition_data_list"]
        ]

    async def test_nothing_said_means_from_now_on(self, api):
        await self.fill(api)
        answer = await api("POST", self.PATH)
        assert [(4, [])] * 3 == [(d["next_offset"], d["records"]) for d in answer.body["partition_data_list"]]

    async def test_nothing_is_skipped_and_nobody_starves_under_max_poll_records(self, api):
        await self.fill(api)
        positions = dict.fromkeys(range(3), 0)
        seen = []
        for _ in range(12):
            offsets = [{"partition_id": p, "offset": o} for p, o in positions.items()]
            answer = await api("POST", self.PATH, json={"offsets": offsets, "max_poll_records": 1})
            for data in answer.body["partition_data_list"]:
                positions[data["partition_id"]] = data["next_offset"]
                seen += [record["value"]["data"] for record in data["records"]]
        assert {f"{p}.{n}" for p in range(3) for n in range(4)} == set(seen)
        assert 12 == len(seen)
        assert {"0", "1", "2"} == {value[0] for value in seen[:3]}

    async def test_it_waits_for_the_first_record_of_any_partition(self, api):
        await self.fill(api)
        waiting = asyncio.create_task(api("POST", self.PATH + "?timeout=20000", json={}))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        await api("POST", "/v3/clusters/-/topics/t/records", json={"partition_id": 1})
        answer = await asyncio.wait_for(waiting, 30)
        assert [0, 1, 0] == [len(data["records"]) for data in answer.body["partition_data_list"]]

    async def test_bytes_have_a_bound_and_the_rest_comes_with_the_next_pull(self, api):
        await api.topic(partitions=40)
        octets = {"Content-Type": "application/octet-stream"}
        for partition in range(40):
            path = f"/v3/clusters/-/topics/t/partitions/{partition}/records"
            assert 200 == (await api("POST", path, data=b"x" * 10_000, headers=octets)).status
        positions, pulls = dict.fromkeys(range(40), 0), 0
        while min(positions.values()) == 0:
            offsets = [{"partition_id": p, "offset": o} for p, o in positions.items()]
            answer = await api("POST", self.PATH, json={"offsets": offsets, "fetch_max_bytes": 50_000})
            data = answer.body["partition_data_list"]
            assert 40 == len(data)
            assert 1 <= sum(len(item["records"]) for item in data) <= 20
            positions = {item["partition_id"]: item["next_offset"] for item in data}
            pulls += 1
        assert pulls <= 10

    @pytest.mark.parametrize(
        ("body", "status", "word"),
        [
            ({"offsets": [{"partition_id": 9, "offset": 0}]}, 404, "partition"),
            ({"offsets": [{"partition_id": 0, "offset": 99}]}, 416, "99"),
            ({"offsets": [{"partition_id": 0, "offset": -1}]}, 400, "offset"),
            ({"offsets": [{"partition_id": 0, "offset": 0}] * 2}, 400, "twice"),
            ({"offsets": [{"partition_id": 0, "offset": 0}], "from_beginning": True}, 400, "from_beginning"),
            ({"max_poll_records": 0}, 400, "max_poll_records"),
            ({"offset": []}, 400, "offset"),
        ],
    )
    async def test_a_wrong_wish_is_named(self, api, body, status, word):
        await self.fill(api)
        answer = await api("POST", self.PATH, json=body)
        assert status == answer.status, answer
        assert word in answer.body["message"]
