"""The v2 routes speak as the REST proxies do that people know."""

import base64

import msgspec
import pytest

from wire.errors import ErrorCode, RefusedError
from wire.partitioner import partition_for_key

JSON_V2 = {"Content-Type": "application/vnd.kafka.json.v2+json"}
BINARY_V2 = {"Content-Type": "application/vnd.kafka.binary.v2+json"}


async def test_json_values_are_stored_as_their_text_and_come_back_as_json(api):
    await api.topic()
    body = b'{"records":[{"key": "k", "value": {"a": 1.0}}, {"value": "text"}, {"value": null}, {"value": 12}, {}]}'
    answer = await api("POST", "/topics/t", data=body, headers=JSON_V2)
    assert 200 == answer.status
    assert {
        "offsets": [
            {"partition": 0, "offset": n, "error_code": None, "error": None, "outcome": None} for n in range(5)
        ],
        "key_schema_id": None,
        "value_schema_id": None,
    } == answer.body
    stored = [(record.key, record.value) for record in api.cluster.records("t")]
    assert [(b'"k"', b'{"a": 1.0}'), (None, b'"text"'), (None, None), (None, b"12"), (None, None)] == stored
    fetched = await api("GET", "/topics/t/partitions/0/records?offset=0")
    assert {"topic": "t", "key": "k", "value": {"a": 1.0}, "partition": 0, "offset": 0} == fetched.body[0]
    assert [{"a": 1.0}, "text", None, 12, None] == [record["value"] for record in fetched.body]
    assert "application/vnd.kafka.json.v2+json" == fetched.headers["Content-Type"]


async def test_binary_values_are_base64(api):
    await api.topic()
    value = base64.b64encode(b"\xff\0").decode()
    answer = await api(
        "POST", "/topics/t", data=msgspec.json.encode({"records": [{"value": value}]}), headers=BINARY_V2
    )
    assert 200 == answer.status
    assert b"\xff\0" == api.cluster.records("t")[0].value
    path = "/topics/t/partitions/0/records?offset=0&timeout=1000&max_bytes=100000"
    fetched = await api("GET", path, headers={"Accept": "application/vnd.kafka.binary.v2+json"})
    assert value == fetched.body[0]["value"]
    refused = await api("GET", path)
    assert (422, 42207) == (refused.status, refused.body["error_code"])
    assert "binary.v2" in refused.body["message"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x-www-form-urlencoded",
     "application/vnd.kafka.v2+json", "application/vnd.kafka.json.v2+json; charset=utf-8"],
)  # fmt: skip
async def test_plain_json_is_accepted(api, content_type):
    await api.topic()
    headers = {"Content-Type": content_type}
    answer = await api("POST", "/topics/t", data=b'{"records":[{"value":1}]}', headers=headers)
    assert (200, b"1") == (answer.status, api.cluster.records("t")[0].value)


async def test_formats_that_need_a_registry_are_refused_with_what_is_there(api):
    await api.topic()
    headers = {"Content-Type": "application/vnd.kafka.avro.v2+json"}
    answer = await api("POST", "/topics/t", data=b"{}", headers=headers)
    assert (415, 415) == (answer.status, answer.body["error_code"])
    assert "application/vnd.kafka.json.v2+json" in answer.body["message"]


async def test_records_go_where_they_say_or_where_their_key_says(api):
    await api.topic(partitions=5)
    body = {"records": [{"value": 1, "partition": 3}, {"key": "a", "value": 2}, {"value": 3}, {"value": 4}]}
    answer = await api("POST", "/topics/t", json=body, headers=JSON_V2)
    first, second, third, fourth = [offset["partition"] for offset in answer.body["offsets"]]
    assert (3, partition_for_key(b'"a"', 5)) == (first, second)
    assert third == fourth


async def test_a_partition_in_the_path(api):
    await api.topic(partitions=2)
    answer = await api(
        "POST", "/topics/t/partitions/1", json={"records": [{"value": 1}, {"value": 2}]}, headers=JSON_V2
    )
    assert [(1, 0), (1, 1)] == [(o["partition"], o["offset"]) for o in answer.body["offsets"]]
    offsets = await api("GET", "/topics/t/partitions/1/offsets")
    assert {"beginning_offset": 0, "end_offset": 2} == offsets.body
    conflicting = {"records": [{"value": 1, "partition": 0}]}
    assert 400 == (await api("POST", "/topics/t/partitions/1", json=conflicting, headers=JSON_V2)).status


async def test_msgpack_without_base64(api):
    await api.topic()
    headers = {"Content-Type": "application/msgpack"}
    body = msgspec.msgpack.encode({"records": [{"key": b"\xff", "value": "text"}]})
    assert 200 == (await api("POST", "/topics/t", data=body, headers=headers)).status
    path = "/topics/t/partitions/0/records?offset=0"
    fetched = await api("GET", path, headers={"Accept": "application/msgpack"})
    assert [(b"\xff", b"text")] == [(r["key"], r["value"]) for r in msgspec.msgpack.decode(fetched.body)]


async def test_some_failed_is_200_with_each_failure_all_failed_is_the_first_ones_status(api, cluster):
    await api.topic(partitions=2)
    body = {"records": [{"value": 1, "partition": 0}, {"value": 2, "partition": 9}]}
    answer = await api("POST", "/topics/t", json=body, headers=JSON_V2)
    assert 200 == answer.status
    good, bad = answer.body["offsets"]
    assert (0, None) == (good["offset"], good["error_code"])
    assert (None, 40402, "not_written") == (bad["offset"], bad["error_code"], bad["outcome"])
    answer = await api("POST", "/topics/t", json={"records": [{"value": 2, "partition": 9}]}, headers=JSON_V2)
    assert (404, 40402) == (answer.status, answer.body["error_code"])
    cluster.nodes[0].append_failures = [RefusedError(ErrorCode.NOT_ENOUGH_REPLICAS, "too few")] * 2
    body = {"records": [{"value": 1, "partition": 0}, {"value": 2, "partition": 1}]}
    answer = await api("POST", "/topics/t", json=body, headers=JSON_V2)
    assert (503, 50003) == (answer.status, answer.body["error_code"])


async def test_topics_partitions_and_brokers_are_listed(api):
    await api.topic("b", partitions=2)
    await api.topic("a", retention_ms="5")
    assert ["a", "b"] == (await api("GET", "/topics")).body
    topic = (await api("GET", "/topics/b")).body
    assert ("b", [0, 1]) == (topic["name"], [partition["partition"] for partition in topic["partitions"]])
    assert {"broker": 1, "leader": True, "in_sync": True} == topic["partitions"][0]["replicas"][0]
    assert {"retention.ms": "5"} == (await api("GET", "/topics/a")).body["configs"]
    assert topic["partitions"] == (await api("GET", "/topics/b/partitions")).body
    assert topic["partitions"][1] == (await api("GET", "/topics/b/partitions/1")).body
    assert {"brokers": [1]} == (await api("GET", "/brokers")).body


async def test_unknown_topics_and_partitions_have_their_codes(api):
    await api.topic()
    for method, path, code in (
        ("GET", "/topics/none", 40401),
        ("POST", "/topics/none", 40401),
        ("GET", "/topics/t/partitions/1", 40402),
        ("POST", "/topics/t/partitions/1", 40402),
        ("GET", "/topics/t/partitions/1/records", 40402),
        ("GET", "/topics/t/partitions/1/offsets", 40402),
    ):
        answer = await api(method, path)
        assert (404, code) == (answer.status, answer.body["error_code"]), path
