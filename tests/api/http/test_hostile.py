"""Whatever is sent, the answer is 4xx with a code and a message, and nothing of it is written or kept."""

import json

import pytest

from api.http.json_guard import explain
from tests.api.http.conftest import until
from tests.api.http.raw_connection import RawConnection

TOPICS = "/v3/clusters/-/topics"
RECORDS = f"{TOPICS}/t/records"
BATCH = f"{TOPICS}/t/records:batch"
CONSUME = f"{TOPICS}/t/partitions/-/records:consume"

DEEP = 100_000
LONG = 5000
BAD_JSON = {
    "nothing": b"",
    "half": b'{"value": {"type": "STR',
    "deep arrays": b"[" * DEEP,
    "deep arrays in a value": b'{"value":{"type":"JSON","data":' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "deep objects": b'{"value":' * DEEP,
    "a number of 5,000 digits": b'{"partition_id":' + b"9" * 5000 + b"}",
    "a value of 5,000 digits": b'{"value":{"type":"JSON","data":' + b"9" * 5000 + b"}}",
    "5,000 digits deep in a value": b'{"value":{"type":"JSON","data":{"a":["x",-' + b"1" * 5000 + b".5]}}}",
    "invalid UTF-8": b'{"value":{"type":"STRING","data":"\xff\xfe"}}',
    "invalid UTF-8 in raw JSON": b'{"value":{"type":"JSON","data":"\xff\xfe"}}',
    "invalid UTF-8 in a name": b'{"\xff": 1}',
    "half a surrogate pair": b'{"value":{"type":"STRING","data":"\\ud800"}}',
    "NaN": b'{"timestamp": NaN}',
    "NaN in a value": b'{"value":{"type":"JSON","data":NaN}}',
    "Infinity": b'{"timestamp": -Infinity}',
    "a comma too many": b'{"partition_id": 1,}',
    "single quotes": b"{'partition_id': 1}",
    "a comment": b'{"partition_id": 1} // one',
    "an array": b"[]",
    "a string": b'"text"',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL": b"\0",
    "a control character": b'{"value":{"type":"STRING","data":"\n"}}',
    "bad base64": b'{"value":{"type":"BINARY","data":"no base64!"}}',
    "an unknown type": b'{"value":{"type":"AVRO","data":"x"}}',
    "no type": b'{"value":{"data":"x"}}',
    "a wrong type": b'{"value":{"type":"STRING","data":5}}',
    "a negative partition": b'{"partition_id": -1}',
    "a fraction": b'{"partition_id": 0.5}',
    "a truth value": b'{"partition_id": true}',
    "a time before time": b'{"timestamp": -5}',
    "a time beyond 64 bits": b'{"timestamp": 9223372036854775808}',
    "a time that is none": b'{"timestamp": "yesterday"}',
    "a header without name": b'{"headers": [{"value": "AA=="}]}',
    "headers as an object": b'{"headers": {"a": "AA=="}}',
    "an unknown field": b'{"valeu": {"type": "STRING", "data": "x"}}',
}


ANY_VALUE = {"bad base64", "an unknown type", "no type", "a wrong type"}


@pytest.mark.parametrize("name", BAD_JSON)
@pytest.mark.parametrize("path", [RECORDS, BATCH, CONSUME, TOPICS, "/topics/t", f"{TOPICS}/t/configs:alter"])
async def test_bad_json_is_told_what_is_wrong(api, name, path):
    await api.topic()
    body = BAD_JSON[name]
    if path == CONSUME and not body:
        return  # no body asks to consume from the end
    answer = await api("POST", path, data=body, headers={"Content-Type": "application/json"})
    assert 400 == answer.status, answer
    assert 40002 == answer.body["error_code"]
    assert 10 < len(answer.body["message"]) < 500
    assert not api.cluster.logs


@pytest.mark.parametrize("name", BAD_JSON)
@pytest.mark.parametrize("shape", [b'{"entries":[{"id":"a"},%b]}', b'{"records":[{},%b]}', b"%b%b"])
async def test_a_bad_record_among_good_ones_writes_nothing(api, name, shape):
    await api.topic()
    body = BAD_JSON[name]
    if b"records" in shape and name in ANY_VALUE:
        return  # in v2 a value is any JSON
    if name.startswith("deep"):
        body = body[: 2 * DEEP]
    if shape == b"%b%b":
        body = body + body
        path = RECORDS
    else:
        body = shape % body
        path = BATCH if b"entries" in shape else "/topics/t"
    answer = await api("POST", path, data=body, headers={"Content-Type": "application/json"})
    if path == RECORDS and 200 == answer.status:  # a row of objects: each has its own answer
        assert {400} == {receipt["error_code"] // 100 for receipt in answer.body}
    else:
        assert (400, 40002) == (answer.status, answer.body["error_code"]), answer
    assert not api.cluster.logs


async def test_what_is_strange_but_valid_is_taken(api):
    await api.topic()
    for text in (b'{"a":1,"a":2}', b'"' + b"7" * 5000 + b'"', b"1e400", b"-0.0", b'"\\u0000"', '"\U0001f600"'.encode()):
        body = b'{"value":{"type":"JSON","data":' + text + b"}}"
        answer = await api("POST", RECORDS, data=body, headers={"Content-Type": "application/json"})
        assert 200 == answer.status, answer
        assert text == api.cluster.records("t")[-1].value
    stored = await api.cluster.client.get(api.cluster.url(f"{TOPICS}/t/partitions/0/records?format=json"))
    assert 200 == stored.status
    json.loads(await stored.read(), parse_float=str)


BAD_MSGPACK = [
    b"",
    b"\xc1",
    b"\x93\x01",
    b"\x81\xa7records\x05",
    b"\x91" * DEEP,
    b"\x81\xa7records\x91\x81\xa3key\x93\x01\x02\x03",
    b"\x81\xa7records\x91\x81\xa3key\xa1\xff",
]


@pytest.mark.parametrize("body", BAD_MSGPACK)
async def test_bad_msgpack_is_told_what_is_wrong(api, body):
    await api.topic()
    for path in (RECORDS, "/topics/t"):
        answer = await api("POST", path, data=body, headers={"Content-Type": "application/msgpack"})
        assert (400, 40002) == (answer.status, answer.body["error_code"]), answer


def test_a_wrong_type_is_explained_to_a_person():
    assert "entries[3].key.data must be a string or null, not an integer" == explain(
        "Expected `str | null`, got `int` - at `$.entries[3].key.data`"
    )
    assert "value.type must be BINARY, JSON or STRING, not 'AVRO'" == explain(
        "Invalid value 'AVRO' - at `$.value.type`"
    )
    assert "entries[0].id is missing: it is required" == explain(
        "Object missing required field `id` - at `$.entries[0]`"
    )


# -- names and paths ---------------------------------------------------------------------------------------------------


BAD_NAMES = [
    *("..", ".", "%2e%2e", "%2E%2e", "%252e", "a%2Fb", "a%00b", "a%20b", "~"),
    *("x" * 250, "%ff", "%C3%BC", "%F0%9F%98%80"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", TOPICS + "/{}"),
        ("DELETE", TOPICS + "/{}"),
        ("POST", TOPICS + "/{}/records"),
        ("GET", TOPICS + "/{}/partitions/0/records"),
        ("GET", TOPICS + "/{}/configs"),
        ("POST", "/topics/{}"),
    ],
)
async def test_names_that_no_topic_can_have_lead_nowhere(api, cluster, method, path, name):
    async with RawConnection(cluster.listeners[0].port) as connection:
        status, body = await connection.ask(
            f"{method} {path.format(name)} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode("latin1")
        )
    assert 400 <= status < 500, body
    assert 400 <= int(str(json.loads(body)["error_code"])[:3]) < 500
    assert json.loads(body)["message"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{TOPICS}/none", 40401),
        (f"{TOPICS}/none/partitions/0/records", 40401),
        (f"{TOPICS}/t/partitions/1/records", 40402),
        (f"{TOPICS}/t/partitions/99999999999999999999/records", 40402),
        (f"{TOPICS}/t/partitions/-1", 40402),
        (f"{TOPICS}/t/partitions/{'9' * 5000}", 40002),
        (f"{TOPICS}/t/partitions/x/offset", 40002),
        (f"{TOPICS}/t/partitions/-/records", 40002),
        (f"{TOPICS}/t/partitions/1_0", 40002),
        (f"{TOPICS}/t/partitions/%D9%A1", 40002),
        (f"{TOPICS}/a/b", 404),
        ("/v3/clusters/-/brokers/7", 404),
        ("/v3/clusters/-/brokers/x", 40002),
        ("/v3/clusters/" + "x" * 5000, 404),
        ("/", 404),
        ("//", 404),
        ("/nowhere", 404),
        ("/v3/clusters/-/topics/", 404),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
async def test_what_is_not_there_has_its_code(api, cluster, path, code):
    await api.topic()
    async with RawConnection(cluster.listeners[0].port) as connection:
        status, body = await connection.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert code == json.loads(body)["error_code"], body
    assert status == code if code < 1000 else status == code // 100


async def test_a_wrong_method_is_told_the_right_ones(api):
    await api.topic()
    for method, path, allowed in (
        ("PUT", RECORDS, "POST"),
        ("DELETE", "/v3/clusters", "GET"),
        ("POST", f"{TOPICS}/t", "DELETE, GET, PATCH"),
    ):
        answer = await api(method, path)
        assert (405, 405, allowed) == (answer.status, answer.body["error_code"], answer.headers["Allow"])
        assert allowed in answer.body["message"]


BAD_TYPES = [
    *("text/plain", "application/xml", "multipart/form-data; boundary=x", "application/vnd.kafka.avro.v2+json"),
    *("ü", "x" * LONG),
]


@pytest.mark.parametrize("kind", BAD_TYPES)
async def test_a_content_type_that_is_not_known_is_told_those_that_are(api, kind):
    await api.topic()
    answer = await api("POST", RECORDS, data=b"{}", headers={"Content-Type": kind})
    assert (415, 415) == (answer.status, answer.body["error_code"])
    assert "application/json" in answer.body["message"]


# -- HTTP itself -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_in_json(cluster, request_bytes):
    async with RawConnection(cluster.listeners[0].port) as connection:
        status, body = await connection.ask(request_bytes)
        assert (400, 40002) == (status, json.loads(body)["error_code"]), body
        assert await connection.is_closed()
    await until(lambda: cluster.listeners[0].connections == 0)


async def test_an_expectation_that_cannot_be_met_is_told_in_json(cluster):
    async with RawConnection(cluster.listeners[0].port) as connection:
        status, body = await connection.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n")
    assert (417, 417) == (status, json.loads(body)["error_code"])


async def test_an_upgrade_is_not_offered(cluster):
    async with RawConnection(cluster.listeners[0].port) as connection:
        upgrade = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert 200 == (await connection.ask(upgrade))[0]


@pytest.mark.parametrize("chunk", [b"zz\r\nab\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n", b"5\r\nabcdefgh\r\n"])
async def test_broken_chunks_write_nothing(api, cluster, chunk):
    await api.topic()
    async with RawConnection(cluster.listeners[0].port) as connection:
        await connection.send_head("POST", RECORDS, "Transfer-Encoding: chunked", "Content-Type: application/json")
        status, _ = await connection.ask(chunk)
        assert 400 == status
    assert not cluster.logs


async def test_a_body_that_stops_short_writes_nothing(api, cluster):
    await api.topic()
    async with RawConnection(cluster.listeners[0].port) as connection:
        await connection.send_head("POST", RECORDS, "Content-Length: 100", "Content-Type: application/json")
        await connection.send(b'{"value":{"type":"STRING","data":"x"}}')
        connection.writer.write_eof()
        assert await connection.is_closed()
    await until(lambda: cluster.context(1).in_flight.held_bytes == 0)
    assert not cluster.logs
