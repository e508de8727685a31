"""A produce that may be sent twice is stored once (S13), over every form of body and through any node."""

import asyncio
import json

import msgspec
import pytest

from broker.errors import OutcomeUnknownError
from tests.api.http.conftest import Api, quick, waits_for_leaders
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch

TOPIC = "/v3/clusters/-/topics/t"
RECORDS = f"{TOPIC}/records"
PARTITION = f"{TOPIC}/partitions/0/records"
RECORD_BATCH = "application/vnd.kafka.recordbatch"
LOST = OutcomeUnknownError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "leads no more")


def producer(seq: object, *, producer_id: object = 7, epoch: object = 0) -> dict[str, str]:
    return {"Producer-Id": str(producer_id), "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


def v3(text: str) -> dict[str, object]:
    return {"partition_id": 0, "value": {"type": "STRING", "data": text}}


BODIES = {
    "one v3 record": (RECORDS, "application/json", json.dumps(v3("a")), 1),
    "one v3 record into a partition": (PARTITION, "application/json", "{}", 1),
    "a batch of entries": (
        f"{RECORDS}:batch",
        "application/json",
        json.dumps({"entries": [{"id": str(i), **v3("a")} for i in range(3)]}),
        3,
    ),
    "v2 records": (
        "/topics/t",
        "application/vnd.kafka.json.v2+json",
        '{"records":[{"value":1,"partition":0},{"value":2,"partition":0}]}',
        2,
    ),
    "v2 records into a partition": ("/topics/t/partitions/0", "application/json", '{"records":[{"value":1}]}', 1),
    "raw bytes": (PARTITION, "application/octet-stream", b"\0\1", 1),
    "raw bytes into a topic": (f"{RECORDS}?partition_id=0", "application/octet-stream", b"\0\1", 1),
    "lines": (PARTITION, "application/x-ndjson", "1\n2\n3\n", 3),
    "msgpack": (PARTITION, "application/msgpack", msgspec.msgpack.encode({"records": [{"value": b"x"}] * 2}), 2),
}


def offsets_of(body: dict) -> list[int]:
    if "successes" in body:
        return [entry["offset"] for entry in body["successes"]]
    if "offsets" in body:
        return [entry["offset"] for entry in body["offsets"]]
    return [body["offset"]]


def says_duplicate(body: dict) -> bool:
    places = body.get("successes", [body])
    said = {place.get("duplicate", False) for place in places}
    assert 1 == len(said)
    return said.pop()


@pytest.fixture
async def led_by_two(two_nodes: Api) -> Api:
    """Topic t; requests go to node 1, partition 0 is led by node 2."""
    assignment = [{"partition_id": 0, "broker_ids": [2]}]
    body = {"topic_name": "t", "replicas_assignments": assignment}
    assert 201 == (await two_nodes("POST", "/v3/clusters/-/topics", json=body)).status
    return two_nodes


@pytest.mark.parametrize("form", BODIES)
async def test_what_is_sent_twice_is_stored_once_and_answered_with_the_same_offsets(led_by_two, form):
    """Here by a node that is not the leader, too: the ids travel in the batch."""
    api = led_by_two
    path, media_type, body, count = BODIES[form]
    for node in (1, 2):
        headers = {"Content-Type": media_type, **producer(0, producer_id=node)}
        first = await api("POST", path, data=body, headers=headers, node=node)
        assert first.status in (200, 207), first.body
        again = await api("POST", path, data=body, headers=headers, node=3 - node)
        assert first.status == again.status
        assert offsets_of(first.body) == offsets_of(again.body)
        assert (False, True) == (says_duplicate(first.body), says_duplicate(again.body))
        assert node * count == len(api.cluster.records("t"))
        following = await api("POST", path, data=body, headers={**headers, **producer(count, producer_id=1 + node)})
        assert 409 == following.status, "another producer has not sent what comes before it"


async def test_a_batch_carries_its_producer_itself(led_by_two):
    api = led_by_two
    headers = {"Content-Type": RECORD_BATCH}
    batch = bytes(build_batch([(None, b"x", (), 7)] * 2, producer_id=7, producer_epoch=0, base_sequence=0))
    first = await api("POST", PARTITION, data=batch, headers=headers)
    again = await api("POST", PARTITION, data=batch, headers=headers)
    assert (200, 0, 1, None) == (
        first.status,
        *(first.body.get(n) for n in ("base_offset", "last_offset", "duplicate")),
    )
    assert (200, 0, 1, True) == (
        again.status,
        *(again.body.get(n) for n in ("base_offset", "last_offset", "duplicate")),
    )
    two = await api("POST", PARTITION, data=batch * 2, headers=headers)
    assert (400, "not_written") == (two.status, two.body["outcome"])
    both = await api("POST", PARTITION, data=batch, headers={**headers, **producer(0)})
    assert (400, True) == (both.status, "Producer-Seq" in both.body["message"])


async def test_a_gap_a_fenced_epoch_and_an_older_duplicate_have_their_own_codes(led_by_two):
    api = led_by_two

    async def send(seq: int, epoch: int = 0) -> tuple[int, object, object]:
        answer = await api("POST", RECORDS, json=v3("a"), headers=producer(seq, epoch=epoch))
        return answer.status, answer.body["error_code"], answer.body.get("outcome")

    for seq in range(8):
        assert (200, 200, None) == await send(seq)
    assert (409, 40901, "not_written") == await send(9)
    assert (409, 40902, "written") == await send(0), "older than the last five batches"
    assert (200, 200, None) == await send(0, epoch=1)
    assert (403, 40302, "not_written") == await send(8)
    assert 9 == len(api.cluster.records("t"))


async def test_an_expected_offset_is_looked_at_after_the_duplicate(led_by_two):
    api = led_by_two
    path = f"{RECORDS}?expected_offset=0"
    first = await api("POST", path, json=v3("a"), headers=producer(0))
    again = await api("POST", path, json=v3("a"), headers=producer(0))
    assert (200, 0, 200, 0) == (first.status, first.body["offset"], again.status, again.body["offset"])
    other = await api("POST", path, json=v3("b"), headers=producer(1))
    assert (412, "not_written") == (other.status, other.body["outcome"])


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Producer-Id": "7"}, "Producer-Epoch, Producer-Seq"),
        ({"Producer-Seq": "0", "Producer-Epoch": "0"}, "Producer-Id"),
        (producer(-1), "Producer-Seq must be an integer from 0"),
        (producer(2**31), "Producer-Seq must be an integer from 0 to 2147483647"),
        (producer(0, epoch=32768), "Producer-Epoch must be an integer from 0 to 32767"),
        (producer(0, producer_id=2**63), "Producer-Id must be"),
        (producer("1.0"), "Producer-Seq must be"),
        (producer("9" * 5000), "Producer-Seq must be"),
        (producer(""), "Producer-Seq must be"),
    ],
)
async def test_what_is_wrong_with_the_headers_is_named(api, headers, word):
    await api.topic()
    answer = await api("POST", RECORDS, json=v3("a"), headers=headers)
    assert (400, 40002, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert word in answer.body["message"]
    assert [] == api.cluster.records("t")


async def test_a_header_that_is_given_twice_is_refused(api):
    await api.topic()
    headers = [*producer(0).items(), ("Producer-Seq", "1")]
    answer = await api("POST", RECORDS, json=v3("a"), headers=headers)
    assert (400, True) == (answer.status, "given 2 times" in answer.body["message"])


@pytest.mark.parametrize(
    ("path", "media_type", "body", "word"),
    [
        (RECORDS, "application/json", '{"value":null}', "must name its partition"),
        (RECORDS, "application/json", '{"key":{"type":"STRING","data":"k"}}', "must name its partition"),
        (RECORDS, "application/octet-stream", "x", "must name its partition"),
        ("/topics/t", "application/json", '{"records":[{"value":1}]}', "must name its partition"),
        ("/topics/t", "application/json", '{"records":[{"partition":0},{"partition":1}]}', "the same partition"),
        ("/topics/t", "application/json", '{"records":[{"partition":0},{"value":1}]}', "the same partition"),
        (f"{RECORDS}:batch", "application/json", '{"entries":[{"id":"a"}]}', "must name its partition"),
        (PARTITION, "application/json", "{}{}", "one batch"),
        (PARTITION, "application/x-ndjson", '"%s"\n' % ("x" * 3000) * 4, "above max.message.bytes"),
    ],
)
async def test_a_request_of_several_partitions_or_batches_has_no_sequence(api, path, media_type, body, word):
    await api.topic(partitions=2, max_message_bytes="10000")
    answer = await api("POST", path, data=body, headers={"Content-Type": media_type, **producer(0)})
    assert (400, 40002, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"]), (
        answer.body
    )
    assert word in answer.body["message"]
    assert [] == api.cluster.records("t") + api.cluster.records("t", 1)


async def test_a_chunked_body_is_one_document(api):
    await api.topic()

    async def chunks(*pieces: bytes):
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    document = json.dumps(v3("a")).encode()
    headers = {"Content-Type": "application/json", **producer(0)}
    answer = await api("POST", RECORDS, data=chunks(document[:5], document[5:]), headers=headers)
    assert (200, 0) == (answer.status, answer.body["offset"])
    answer = await api("POST", RECORDS, data=chunks(document, document), headers=headers)
    assert (400, "not_written") == (answer.status, answer.body["outcome"])
    assert 1 == len(api.cluster.records("t"))


async def test_a_partition_that_is_not_there_and_a_record_that_is_too_large(api):
    await api.topic(max_message_bytes="1000")
    answer = await api("POST", f"{TOPIC}/partitions/9/records", json={}, headers=producer(0))
    assert (404, 40402, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    answer = await api("POST", RECORDS, json=v3("x" * 2000), headers=producer(0))
    assert (413, "not_written") == (answer.status, answer.body["outcome"])


# -- a proxying node may send it again after doubt --------------------------------------------------------------------


@waits_for_leaders
async def test_a_leader_that_was_lost_in_the_middle_is_asked_again_and_nothing_is_stored_twice(led_by_two):
    api = led_by_two
    api.cluster.nodes[1].append_failures = [LOST, LOST]
    answer = await api("POST", RECORDS, json=v3("a"), headers=producer(0))
    assert (200, 0, True) == (answer.status, answer.body["offset"], answer.body["duplicate"])
    assert 1 == len(api.cluster.records("t"))
    api.cluster.nodes[1].append_failures = [LOST]
    answer = await api("POST", RECORDS, json=v3("b"), headers=producer(1), node=2)
    assert (200, 1) == (answer.status, answer.body["offset"]), "also where the leader itself was asked"
    assert [b"a", b"b"] == [record.value for record in api.cluster.records("t")]


async def test_a_plain_produce_is_never_sent_again_after_doubt(led_by_two):
    api = led_by_two
    api.cluster.nodes[1].append_failures = [LOST]
    answer = await api("POST", RECORDS, json=v3("a"))
    assert (503, 50003, "unknown") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    assert 1 == len(api.cluster.records("t"))


@waits_for_leaders
async def test_log_append_time_does_not_hinder_the_second_try(api):
    """It is stamped into the bytes, and no producer may send it."""
    await api.topic(message_timestamp_type="LogAppendTime")
    api.cluster.nodes[0].append_failures = [LOST]
    assert 200 == (await api("POST", RECORDS, json=v3("a"), headers=producer(0))).status
    assert 1 == len(api.cluster.records("t"))


class TestDoubt:
    @pytest.fixture
    def settings(self):
        return quick(leader_wait_s=0.1)

    @pytest.mark.parametrize("code", [ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.NOT_LEADER_OR_FOLLOWER])
    async def test_what_was_in_doubt_once_stays_so(self, led_by_two, code):
        """S15: the second try is refused, but the first is in the log."""
        api = led_by_two
        leader = api.cluster.nodes[1]
        leader.append_failures = [LOST]
        leader.replica_failures = [None, *[RefusedError(code, "not now")] * 50]
        answer = await api("POST", RECORDS, json=v3("a"), headers=producer(0))
        assert (503, "unknown") == (answer.status, answer.body["outcome"])
        assert 1 == len(api.cluster.records("t"))
