"""Records sent are records stored: every form of body, every kind of key, the right partition, an honest answer."""

import base64
import json

import msgspec
import pytest

from broker.errors import OutcomeUnknownError
from metadata.requests import CreateTopicRequest
from tests.api.http.conftest import quick, waits_for_leaders
from wire.errors import ErrorCode, RefusedError
from wire.partitioner import partition_for_key
from wire.record_batch import build_batch

RECORDS = "/v3/clusters/-/topics/t/records"
BATCH = "/v3/clusters/-/topics/t/records:batch"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_a_record_gets_a_receipt_that_says_where_it_is(api):
    await api.topic(partitions=4)
    record = {
        "partition_id": 3,
        "headers": [{"name": "a", "value": b64(b"\0\1")}, {"name": "a", "value": None}],
        "key": {"type": "BINARY", "data": b64(b"\xff\xfe")},
        "value": {"type": "JSON", "data": {"x": [1, 2.5, "ü"]}},
        "timestamp": 1_700_000_000_123,
    }
    answer = await api("POST", RECORDS, json=record)
    assert 200 == answer.status
    assert {
        "error_code": 200,
        "cluster_id": "fake-cluster",
        "topic_name": "t",
        "partition_id": 3,
        "offset": 0,
        "timestamp": 1_700_000_000_123,
        "key": {"type": "BINARY", "size": 2},
        "value": {"type": "JSON", "size": len(json.dumps({"x": [1, 2.5, "ü"]}))},
    } == answer.body
    (stored,) = api.cluster.records("t", 3)
    assert b"\xff\xfe" == stored.key
    assert {"x": [1, 2.5, "ü"]} == json.loads(stored.value)
    assert (("a", b"\0\1"), ("a", None)) == stored.headers
    assert 1_700_000_000_123 == stored.timestamp_ms


async def test_a_json_value_is_stored_byte_for_byte(api):
    await api.topic()
    text = b'{"b" : 1.0,\n "a":1e2, "a": "\\u00fc"}'
    body = b'{"value":{"type":"JSON","data":' + text + b"}}"
    assert 200 == (await api("POST", RECORDS, data=body, headers={"Content-Type": "application/json"})).status
    assert text == api.cluster.records("t")[0].value


@pytest.mark.parametrize("kind", ["BINARY", "STRING", "JSON"])
async def test_null_data_is_a_null_value_whatever_its_type(api, kind):
    await api.topic()
    body = {"key": {"type": "STRING", "data": "k"}, "value": {"type": kind, "data": None}}
    answer = await api("POST", RECORDS, json=body)
    assert 200 == answer.status
    assert api.cluster.records("t")[0].value is None


async def test_a_time_may_be_written_for_people(api):
    await api.topic()
    for text in ("2023-11-14T22:13:20.123Z", "2023-11-14T23:13:20.123+01:00"):
        answer = await api("POST", RECORDS, json={"value": {"type": "STRING", "data": "x"}, "timestamp": text})
        assert 1_700_000_000_123 == answer.body["timestamp"]


async def test_under_log_append_time_the_receipt_carries_the_brokers_time(api):
    await api.topic(message_timestamp_type="LogAppendTime")
    answer = await api("POST", RECORDS, json={"value": {"type": "STRING", "data": "x"}, "timestamp": 5})
    assert 1_800_000_000_000 == answer.body["timestamp"]
    fetched = await api.fetch()
    assert "LOG_APPEND_TIME" == fetched.body["records"][0]["timestamp_type"]
    assert 1_800_000_000_000 == fetched.body["records"][0]["timestamp"]


async def test_a_key_goes_where_every_kafka_client_sends_it(api):
    await api.topic(partitions=7)
    for number in range(40):
        key = f"key-{number}"
        answer = await api("POST", RECORDS, json={"key": {"type": "STRING", "data": key}})
        assert partition_for_key(key.encode(), 7) == answer.body["partition_id"]


async def test_unkeyed_records_of_a_request_stay_together_and_the_next_request_moves_on(api):
    await api.topic(partitions=3)
    seen = []
    for _ in range(6):
        entries = [{"id": str(i), "value": {"type": "STRING", "data": "x"}} for i in range(10)]
        answer = await api("POST", BATCH, json={"entries": entries})
        (partition,) = {success["partition_id"] for success in answer.body["successes"]}
        seen.append(partition)
    assert [0, 1, 2, 0, 1, 2] == seen


async def test_a_batch_of_ten_thousand_is_written_and_answered_in_order(api):
    await api.topic()
    entries = [{"id": f"e{i}", "value": {"type": "STRING", "data": f"v{i}"}} for i in range(10_000)]
    answer = await api("POST", BATCH, json={"entries": entries})
    assert 207 == answer.status
    assert [] == answer.body["failures"]
    assert [(f"e{i}", i) for i in range(10_000)] == [(s["id"], s["offset"]) for s in answer.body["successes"]]
    assert [f"v{i}".encode() for i in range(10_000)] == [record.value for record in api.cluster.records("t")]


async def test_one_entry_too_many_an_empty_batch_and_a_double_id_are_refused_whole(api):
    await api.topic()
    entry = {"value": {"type": "STRING", "data": "x"}}
    for entries, word in (
        ([{"id": str(i), **entry} for i in range(10_001)], "10001"),
        ([], "empty"),
        ([{"id": "same", **entry}, {"id": "other", **entry}, {"id": "same", **entry}], "same"),
    ):
        answer = await api("POST", BATCH, json={"entries": entries})
        assert 422 == answer.status
        assert 42208 == answer.body["error_code"]
        assert word in answer.body["message"]
        assert "not_written" == answer.body["outcome"]
    assert [] == api.cluster.records("t")


async def test_entries_fail_alone(api):
    await api.topic(partitions=2, max_message_bytes="2000")
    entries = [
        {"id": "good", "partition_id": 0, "value": {"type": "STRING", "data": "x"}},
        {"id": "nowhere", "partition_id": 9, "value": {"type": "STRING", "data": "x"}},
        {"id": "large", "partition_id": 0, "value": {"type": "STRING", "data": "y" * 3000}},
        {"id": "too", "partition_id": 1, "value": {"type": "STRING", "data": "z"}},
    ]
    answer = await api("POST", BATCH, json={"entries": entries})
    assert 207 == answer.status
    assert ["good", "too"] == [success["id"] for success in answer.body["successes"]]
    assert [("nowhere", 40402), ("large", 413)] == [(f["id"], f["error_code"]) for f in answer.body["failures"]]
    assert {"not_written"} == {failure["outcome"] for failure in answer.body["failures"]}
    assert [b"x"] == [record.value for record in api.cluster.records("t", 0)]


async def test_many_records_are_cut_into_batches_that_the_topic_takes(api):
    await api.topic(max_message_bytes="5000")
    entries = [{"id": str(i), "value": {"type": "STRING", "data": f"{i:03}" + "x" * 997}} for i in range(100)]
    answer = await api("POST", BATCH, json={"entries": entries})
    assert list(range(100)) == [success["offset"] for success in answer.body["successes"]]
    assert all(len(batch) <= 5000 for batch in api.cluster.log("t").batches)
    assert 20 <= len(api.cluster.log("t").batches) <= 34


async def test_a_topic_says_how_its_batches_are_compressed(api):
    await api.topic(compression_type="zstd")
    entries = [{"id": str(i), "value": {"type": "STRING", "data": "again and again " * 10}} for i in range(100)]
    assert 207 == (await api("POST", BATCH, json={"entries": entries})).status
    assert len(api.cluster.log("t").batches[0]) < 2000
    assert 100 == len(api.cluster.records("t"))


async def test_a_record_above_the_topics_limit_is_too_large(api):
    await api.topic(max_message_bytes="1000")
    answer = await api("POST", RECORDS, json={"value": {"type": "STRING", "data": "x" * 2000}})
    assert (413, 413) == (answer.status, answer.body["error_code"])
    assert "max.message.bytes" in answer.body["message"]
    assert "not_written" == answer.body["outcome"]


async def test_octets_are_one_record_without_base64(api):
    await api.topic(partitions=2)
    headers = {"Content-Type": "application/octet-stream"}
    answer = await api("POST", RECORDS + "?key=k%C3%BC", data=b"\0\xff raw", headers=headers)
    partition = partition_for_key("kü".encode(), 2)
    assert (200, partition) == (answer.status, answer.body["partition_id"])
    (record,) = api.cluster.records("t", partition)
    assert ("kü".encode(), b"\0\xff raw") == (record.key, record.value)


async def test_every_line_of_ndjson_is_a_record(api):
    await api.topic()
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api("POST", RECORDS, data=b'{"a": 1}\n\n"text"\n[1,2]\n', headers=headers)
    assert [0, 1, 2] == [offset["offset"] for offset in answer.body["offsets"]]
    assert [b'{"a": 1}', b'"text"', b"[1,2]"] == [record.value for record in api.cluster.records("t")]


async def test_msgpack_carries_bytes_as_bytes(api):
    await api.topic(partitions=2)
    records = [
        {"key": b"\xff", "value": b"\0\1", "headers": [{"name": "h", "value": b"v"}], "partition_id": 1},
        {"value": "text", "timestamp": 7, "partition": 1},
        {"partition_id": 1},
    ]
    body = msgspec.msgpack.encode({"records": records})
    answer = await api("POST", RECORDS, data=body, headers={"Content-Type": "application/msgpack"})
    assert [(1, 0), (1, 1), (1, 2)] == [(o["partition"], o["offset"]) for o in answer.body["offsets"]]
    first, second, third = api.cluster.records("t", 1)
    assert (b"\xff", b"\0\1", (("h", b"v"),)) == (first.key, first.value, first.headers)
    assert (b"text", 7) == (second.value, second.timestamp_ms)
    assert (None, None) == (third.key, third.value)


async def test_record_batches_pass_through_as_they_are(api):
    await api.topic(partitions=2)
    batch = build_batch([(b"k", b"v1", (), 5), (None, b"v2", [("h", b"x")], 6)])
    path = "/v3/clusters/-/topics/t/partitions/1/records"
    headers = {"Content-Type": "application/vnd.kafka.recordbatch"}
    answer = await api("POST", path, data=bytes(batch) * 2, headers=headers)
    assert 200 == answer.status, answer
    assert (0, 3, 4) == tuple(answer.body[name] for name in ("base_offset", "last_offset", "record_count"))
    assert [b"v1", b"v2"] * 2 == [record.value for record in api.cluster.records("t", 1)]
    answer = await api("POST", path, data=bytes(batch)[:-1], headers=headers)
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert 400 == (await api("POST", RECORDS, data=bytes(batch), headers=headers)).status
    assert 200 == (await api("POST", RECORDS + "?partition_id=1", data=bytes(batch), headers=headers)).status


async def test_a_partition_of_the_path_and_of_the_record_must_agree(api):
    await api.topic(partitions=2)
    path = "/v3/clusters/-/topics/t/partitions/1/records"
    assert 200 == (await api("POST", path, json={"partition_id": 1})).status
    assert 1 == (await api("POST", path, json={})).body["partition_id"]
    answer = await api("POST", path, json={"partition_id": 0})
    assert 400 == answer.status
    assert "partition_id" in answer.body["message"]


async def test_a_conditional_append_is_refused_with_the_offset_that_it_met(api):
    await api.topic()
    assert 200 == (await api("POST", RECORDS + "?expected_offset=0", json={})).status
    answer = await api("POST", RECORDS + "?expected_offset=0", json={})
    assert (412, 41201, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert 1 == answer.body["log_end_offset"]
    assert 200 == (await api("POST", RECORDS + "?expected_offset=1", json={})).status


async def test_a_conditional_append_means_one_partition(api):
    await api.topic(partitions=2)
    entries = [{"id": str(i), "partition_id": i} for i in range(2)]
    answer = await api("POST", BATCH + "?expected_offset=0", json={"entries": entries})
    assert 400 == answer.status
    assert "expected_offset" in answer.body["message"]


@pytest.mark.parametrize("header", ["Producer-Id", "Producer-Epoch", "Producer-Seq"])
async def test_what_is_not_supported_yet_is_refused_and_not_ignored(api, header):
    await api.topic()
    answer = await api("POST", RECORDS, json={}, headers={header: "1"})
    assert 400 == answer.status
    assert header in answer.body["message"]


@pytest.mark.parametrize("acks", ["all", "-1", "0", "1"])
async def test_acks_are_a_query_parameter(api, acks):
    await api.topic()
    assert 200 == (await api("POST", f"{RECORDS}?acks={acks}&timeout=1000", json={})).status


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("acks=2", "acks"),
        ("timeout=0", "timeout"),
        ("timeout=x", "timeout"),
        ("wait=1", "wait"),
        ("acks=1&acks=1", "acks"),
    ],
)
async def test_a_wrong_parameter_is_named(api, query, word):
    await api.topic()
    answer = await api("POST", f"{RECORDS}?{query}", json={})
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert word in answer.body["message"]


# -- S15: what is answered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "status", "code", "outcome"),
    [
        (RefusedError(ErrorCode.NOT_ENOUGH_REPLICAS, "too few"), 503, 50003, "not_written"),
        (RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, "disk full"), 507, 50003, "not_written"),
        (OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "who knows"), 503, 50003, "unknown"),
    ],
)
async def test_a_failed_produce_says_whether_anything_was_written(api, cluster, failure, status, code, outcome):
    await api.topic()
    cluster.nodes[0].append_failures.append(failure)
    answer = await api("POST", RECORDS, json={})
    assert (status, code, outcome) == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert "1" == answer.headers["Retry-After"]
    cluster.nodes[0].append_failures.append(failure)
    answer = await api("POST", BATCH, json={"entries": [{"id": "a", "partition_id": 0}]})
    assert (status, outcome) == (answer.status, answer.body["outcome"])


async def test_in_a_batch_every_entry_carries_its_own_outcome(api, cluster):
    await api.topic(partitions=2)
    cluster.nodes[0].append_failures.append(OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "who knows"))
    entries = [{"id": "a", "partition_id": 0}, {"id": "b", "partition_id": 1}]
    answer = await api("POST", BATCH, json={"entries": entries})
    assert 207 == answer.status
    assert ["b"] == [success["id"] for success in answer.body["successes"]]
    assert [("a", 50003, "unknown")] == [(f["id"], f["error_code"], f["outcome"]) for f in answer.body["failures"]]


@waits_for_leaders
async def test_a_leader_that_is_just_being_made_known_is_waited_for(api, cluster):
    await api.topic()
    cluster.nodes[0].replica_failures += [RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "not yet")] * 3
    assert 200 == (await api("POST", RECORDS, json={})).status


async def test_no_leader_is_worth_a_retry(api, cluster):
    await api.topic()
    cluster.nodes[0].replica_failures += [RefusedError(ErrorCode.LEADER_NOT_AVAILABLE, "none")] * 1000
    answer = await api("POST", RECORDS, json={})
    assert (503, 50003, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert "1" == answer.headers["Retry-After"]


class TestBounds:
    @pytest.fixture
    def settings(self):
        return quick(batch_records_max=10)

    async def test_a_request_has_a_bound_of_records(self, api):
        await api.topic()
        headers = {"Content-Type": "application/x-ndjson"}
        assert 200 == (await api("POST", RECORDS, data=b"1\n" * 10, headers=headers)).status
        assert 422 == (await api("POST", RECORDS, data=b"1\n" * 11, headers=headers)).status


@pytest.mark.parametrize("path", ["/v3/clusters/-/topics/{}/records", "/topics/{}"])
async def test_the_clusters_own_topics_are_not_for_clients_to_write(api, path):
    """A record there is what a coordinator believes of its groups."""
    await api.cluster.nodes[0].admin(CreateTopicRequest(name="__consumer_offsets", internal=True), timeout_s=10)
    answer = await api("POST", path.format("__consumer_offsets"), json={"records": [{"value": "x"}]})
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert [] == api.cluster.records("__consumer_offsets")
