"""Bodies from strangers, mutated from good ones: taken, or refused with a code and a message; no error is ours."""

import gzip
import json
from random import Random
from typing import Any

import msgspec
import pytest

TOPICS = "/v3/clusters/-/topics"
RECORD = {
    "partition_id": 0,
    "key": {"type": "STRING", "data": "k"},
    "value": {"type": "JSON", "data": {"a": [1, None]}},
}
BODIES: list[tuple[str, str, Any]] = [
    ("POST", f"{TOPICS}/t/records", RECORD | {"headers": [{"name": "h", "value": "AA=="}], "timestamp": 5}),
    ("POST", f"{TOPICS}/t/records:batch", {"entries": [{"id": "a", **RECORD}, {"id": "b"}]}),
    ("POST", "/topics/t", {"records": [{"key": "k", "value": {"a": 1}}, {"value": None, "partition": 0}]}),
    ("POST", TOPICS, {"topic_name": "new", "partitions_count": 1, "configs": [{"name": "retention.ms", "value": "5"}]}),
    ("POST", f"{TOPICS}/t/configs:alter", {"data": [{"name": "retention.ms", "value": "100000"}]}),
    ("PUT", f"{TOPICS}/t/configs/retention.ms", {"value": "100000"}),
    ("PATCH", f"{TOPICS}/t", {"partitions_count": 2}),
    ("POST", "/v3/clusters/-/producers", {}),
    ("POST", "/v3/clusters/-/partitions:elect-leaders", {"partitions": [{"topic": "t", "partition_id": 0}]}),
    ("PUT", "/v3/clusters/-/replication-throttle", {"bytes_per_second": 1000}),
    ("PUT", f"{TOPICS}/t/partitions/0/reassignment", {"replicas": [1]}),
]
ODD_NUMBERS = [-1, 0, 1 << 31, 1 << 63, 1 << 70, 1.5, 1e308]
ODD: list[Any] = [None, True, *ODD_NUMBERS, "", "t", "\x00", "x" * 300, "ü\U0001f600", [], {}]
PIECES = [b"\xff", b"\\ud800", b"9" * 400, b"[" * 500, b'"', b"{}", b",", b"\x00", b"NaN", b"\r\n"]


def other_value(value: Any, chance: Random) -> Any:
    """The same shape with something odd in one place or a few."""
    if chance.random() < 0.15:
        return chance.choice(ODD)
    if isinstance(value, dict):
        changed = {key: other_value(each, chance) for key, each in value.items() if chance.random() > 0.1}
        return changed | ({chance.choice(("x", "", "id", "data")): chance.choice(ODD)} if chance.random() < 0.1 else {})
    if isinstance(value, list):
        return [other_value(each, chance) for each in value] * chance.choice((1, 1, 1, 0, 3))
    return value


def mutated(body: Any, chance: Random) -> tuple[bytes, dict[str, str]]:
    """A body and its headers."""
    headers = {"Content-Type": "application/json"}
    value = other_value(body, chance)
    if chance.random() < 0.1:
        headers["Content-Type"] = "application/x-msgpack"
        data = bytearray(msgspec.msgpack.encode(value if "1180591620717411303424" not in json.dumps(value) else None))
    else:
        data = bytearray(json.dumps(value, ensure_ascii=chance.random() < 0.5).encode())
    for _ in range(chance.choice((0, 0, 1, 3))):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.choice((0, 1, 5))] = chance.choice((*PIECES, chance.randbytes(3)))
    if chance.random() < 0.1:
        headers["Content-Encoding"] = "gzip"
        data = bytearray(gzip.compress(data))
        if chance.random() < 0.5:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data), headers


async def fuzz(api: Any, *, seed: int, count: int) -> None:
    await api.topic()
    chance = Random(seed)
    taken = 0
    for number in range(count):
        method, path, body = chance.choice(BODIES)
        data, headers = mutated(body, chance)
        answer = await api(method, path, data=data, headers=headers)
        said = f"seed={seed}, request {number}: {method} {path} {headers} {data!r}: {answer}"
        assert answer.status < 500, said
        taken += answer.status < 300
        if answer.status >= 400:
            assert answer.status == answer.body["error_code"] // 100, said
            assert 5 < len(answer.body["message"]) < 2100, said
    assert 0 < taken < count, "some are good, some are not"
    answer = await api("POST", f"{TOPICS}/t/records", json=RECORD)
    assert 200 == answer.status, "the node goes on"


async def test_what_is_refused_is_not_said_back_at_length(api):
    await api.topic()
    long = "x" * 1_000_000
    for path, body in (
        (f"{TOPICS}/t/records", {long: 1}),
        (f"{TOPICS}/t/configs:alter", {"data": [{"name": long, "value": "1"}]}),
        (TOPICS, {"topic_name": long}),
    ):
        answer = await api("POST", path, json=body)
        assert 400 == answer.status
        assert len(answer.body["message"]) < 2100


@pytest.mark.parametrize("seed", range(3))
async def test_mutated_bodies_are_taken_or_refused(api, seed):
    await fuzz(api, seed=seed, count=150)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 140))
async def test_mutated_bodies_are_taken_or_refused_for_longer(api, seed):
    await fuzz(api, seed=seed, count=1500)
