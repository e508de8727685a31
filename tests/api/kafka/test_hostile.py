"""Bytes that are no request: the connection ends, the node goes on, and nothing is taken at its word."""

import asyncio
import random
import struct

import pytest

from tests.api.kafka.messages import batch, fetch, produce, produced
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import until
from wire.connection import ClientConnection
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.api_versions import ApiVersionsRequest
from wire.messages.metadata import MetadataRequest

SEED = 7_031


def header(key: int, version: int, *, flexible: bool = False) -> bytes:
    return struct.pack(">hhih", key, version, 1, -1) + (b"\0" if flexible else b"")


def framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


NO_REQUESTS = {
    "a negative length": struct.pack(">i", -1),
    "the greatest length": struct.pack(">i", 2**31 - 1) + b"x",
    "a length beyond the limit": struct.pack(">i", 16 * 2**20 + 1),
    "an empty frame": framed(b""),
    "half a header": framed(b"\0\0\0"),
    "a key that nobody knows": framed(header(999, 0)),
    "a key that is for other brokers": framed(header(4, 0)),
    "a negative key": framed(header(-1, 0)),
    "a version that nobody knows": framed(header(ApiKey.METADATA, 99, flexible=True)),
    "a negative version": framed(header(ApiKey.METADATA, -1)),
    "a client id that is longer than the frame": framed(struct.pack(">hhih", 3, 1, 1, 32_000)),
    "a client id that is no text": framed(struct.pack(">hhih", 3, 1, 1, 2) + b"\xff\xfe" + struct.pack(">i", -1)),
    "an array longer than the frame": framed(header(ApiKey.METADATA, 1) + struct.pack(">i", 2**31 - 1)),
    "an array of a negative count": framed(header(ApiKey.METADATA, 1) + struct.pack(">i", -2)),
    "a request cut short": framed(header(ApiKey.FETCH, 4) + b"\0\0"),
    "a varint without end": framed(header(ApiKey.METADATA, 12, flexible=True) + b"\xff" * 12),
    "records longer than the frame": framed(
        header(ApiKey.PRODUCE, 3)
        + struct.pack(">hhiih", -1, 1, 1000, 1, 1) + b"t" + struct.pack(">iii", 1, 0, 2**31 - 1)
    ),
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_REQUESTS)
async def test_what_is_no_request_ends_its_connection_and_nothing_else(cluster, client, name):
    other = await RawClient.connect(cluster.nodes[0].listener.port)
    client.writer.write(NO_REQUESTS[name])
    assert b"" == await client.closed()
    assert 0 == (await other.ask(ApiKey.API_VERSIONS, ApiVersionsRequest("test", "1"))).error_code
    assert cluster.nodes[0].node.failure is None
    other.close()
    await until(lambda: not cluster.nodes[0].listener.connections)
    assert 0 == cluster.context.bytes_under_way.held_bytes


async def test_it_is_logged_once(cluster, capsys):
    for _ in range(5):
        client = await RawClient.connect(cluster.nodes[0].listener.port)
        client.writer.write(framed(header(999, 0)))
        await client.closed()
        client.close()
    assert 1 == capsys.readouterr().out.count("what came is no request")


async def test_an_unknown_version_of_api_versions_is_told_which_there_are_in_version_0(cluster, client):
    """KIP-511; the connection goes on."""
    client.writer.write(framed(header(ApiKey.API_VERSIONS, 99, flexible=True) + b"\x05any\x051.0\0"))
    size, correlation_id, code, count, key, first, last = struct.unpack(">iihihhh", await client.reader.readexactly(20))
    assert (16, 1, ErrorCode.UNSUPPORTED_VERSION, 1) == (size, correlation_id, code, count)
    assert (ApiKey.API_VERSIONS, 0, 4) == (key, first, last)
    assert 0 == (await client.ask(ApiKey.API_VERSIONS, ApiVersionsRequest("test", "1"))).error_code


@pytest.mark.parametrize("version", range(5))
async def test_what_is_told_to_be_served_is_served(client, version):
    answer = await client.ask(ApiKey.API_VERSIONS, ApiVersionsRequest("test", "1"), version)
    told = {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}
    expected = {0: (0, 13), 1: (4, 17), 2: (1, 11), 3: (0, 13), 18: (0, 4), 22: (0, 5), 23: (2, 4)}
    assert expected.items() <= told.items()
    assert told.keys() <= API.keys()


async def test_trailing_bytes_are_ignored(cluster, client):
    """librdkafka leaves three on a request for all topics."""
    wire = ClientConnection("x")
    _, buffers = wire.send(ApiKey.METADATA, 9, MetadataRequest(topics=None))
    frame = b"".join(bytes(one) for one in buffers)[4:] + b"\0\0\0"
    client.writer.write(framed(frame))
    ((_, answer),) = wire.receive(await client.reader.read(1 << 16))
    assert cluster.cluster_id == answer.cluster_id


async def test_mutated_requests_never_break_the_node(cluster):
    """Random damage to real requests: an answer or a closed connection, and the memory is given back."""
    print(f"seed {SEED}")  # noqa: T201 - shown where this fails
    chance = random.Random(SEED)
    topic = await cluster.create("t")
    wire = ClientConnection("fuzz")
    requests = [
        wire.send(ApiKey.PRODUCE, 13, produce(topic.topic_id, b"v")),
        wire.send(ApiKey.PRODUCE, 3, produce("t", b"v")),
        wire.send(ApiKey.FETCH, 17, fetch(topic.topic_id)),
        wire.send(ApiKey.FETCH, 4, fetch("t")),
        wire.send(ApiKey.METADATA, 12, MetadataRequest()),
        *(wire.send(key, API[key].versions.stop - 1, API[key].request()) for key in (2, 18, 22, 23)),
    ]
    frames = [b"".join(bytes(buffer) for buffer in buffers) for _, buffers in requests]

    async def attack() -> None:
        frame = bytearray(chance.choice(frames))
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
        if chance.random() < 0.2:
            del frame[chance.randrange(len(frame)) :]
        client = await RawClient.connect(cluster.nodes[0].listener.port)
        client.writer.write(bytes(frame))
        client.writer.write_eof()
        await client.closed()
        client.close()

    for _ in range(30):
        await asyncio.gather(*(attack() for _ in range(10)))
    assert cluster.nodes[0].node.failure is None
    await until(lambda: not cluster.nodes[0].listener.connections)
    assert 0 == cluster.context.bytes_under_way.held_bytes


def changed(records: bytes, at: int, layout: str, value: int) -> bytes:
    copy = bytearray(records)
    struct.pack_into(layout, copy, at, value)
    return bytes(copy)


GOOD = batch(b"v", b"w")
BAD_BATCHES = {
    "nothing": (None, ErrorCode.INVALID_RECORD),
    "no bytes": (b"", ErrorCode.INVALID_RECORD),
    "half a batch": (GOOD[:40], ErrorCode.CORRUPT_MESSAGE),
    "a batch without its end": (GOOD[:-1], ErrorCode.CORRUPT_MESSAGE),
    "more than a batch": (GOOD + b"x", ErrorCode.INVALID_RECORD),
    "two batches": (GOOD + GOOD, ErrorCode.INVALID_RECORD),
    "another CRC": (changed(GOOD, 17, ">I", 7), ErrorCode.CORRUPT_MESSAGE),
    "a changed record": (GOOD[:-1] + b"\7", ErrorCode.CORRUPT_MESSAGE),
    "a negative length": (changed(GOOD, 8, ">i", -1), ErrorCode.CORRUPT_MESSAGE),
    "a length beyond everything": (changed(GOOD, 8, ">i", 2**31 - 1), ErrorCode.CORRUPT_MESSAGE),
    "the old format": (changed(GOOD, 16, ">b", 1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
    "a format of the future": (changed(GOOD, 16, ">b", 3), ErrorCode.CORRUPT_MESSAGE),
    "too large": (batch(bytes(2 << 20)), ErrorCode.MESSAGE_TOO_LARGE),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
async def test_a_batch_that_is_none_is_refused_and_nothing_written(cluster, client, name):
    records, code = BAD_BATCHES[name]
    topic = await cluster.create("t")
    answer = produced(await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, records=records)))
    assert (code, -1) == (answer.error_code, answer.base_offset), answer
    assert 0 == cluster.nodes[0].node.replica(topic.topic_id, 0).log.log_end_offset
    assert 0 == produced(await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v"))).base_offset
