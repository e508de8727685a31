"""One connection without its socket: whatever the pieces in which bytes arrive, the same requests and answers."""

import tracemalloc
from io import BytesIO
from random import Random
from struct import pack

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from kio.schema.request_header.v1.header import RequestHeader as KioHeaderV1
from kio.schema.request_header.v2.header import RequestHeader as KioHeaderV2
from kio.serial import entity_writer

from tests.wire.random_messages import clipped, random_message
from wire.codec import encode
from wire.connection import ClientConnection, DecodeError, RequestHeader, ServerConnection
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.messages.metadata import MetadataRequest, MetadataResponse
from wire.messages.produce import ProduceRequest

MAX = 1 << 20
EVERY_VERSION = [(api, version) for _, api in sorted(API.items()) for version in api.versions]


def framed(body):
    return pack(">i", len(body)) + body


def in_pieces(data, chance):
    """`data` cut at random places, some of the pieces one byte, some empty."""
    while data:
        size = chance.choice((0, 1, 1, 2, 7, 100, 5000))
        yield data[:size]
        data = data[size:]


def joined(buffers):
    return b"".join(buffers)


@given(seed=st.integers(0, (1 << 64) - 1))
@settings(max_examples=10, deadline=None)
def test_a_conversation_survives_any_cutting_of_its_bytes(seed):
    note(f"seed={seed}")
    chance = Random(seed)
    server, client = ServerConnection(MAX), ClientConnection("me")
    sent, expected, answers = b"", [], {}
    for api, version in chance.sample(EVERY_VERSION, 20):
        request = random_message(api.request, version, chance)
        if isinstance(request, ProduceRequest) and request.acks == 0:
            continue
        correlation_id, buffers = client.send(api.key, version, request)
        sent += joined(buffers)
        expected.append((api.key, version, correlation_id, "me", clipped(request, version)))
        answers[correlation_id] = (random_message(api.response, version, chance), version)
    frames = [frame for piece in in_pieces(sent, chance) for frame in server.receive(piece)]
    got = [(f.header.api_key, f.header.api_version, f.header.correlation_id, f.header.client_id) for f in frames]
    assert expected == [(*header, frame.request()) for header, frame in zip(got, frames, strict=True)]
    assert len(sent) == sum(frame.size_bytes for frame in frames)
    answered = b"".join(joined(server.respond(f, answers[f.header.correlation_id][0])) for f in frames)
    received = [pair for piece in in_pieces(answered, chance) for pair in client.receive(piece)]
    assert [(number, clipped(*answer)) for number, answer in answers.items()] == received
    assert 0 == client.awaited_count


@pytest.mark.parametrize(("api", "version"), EVERY_VERSION, ids=[f"{api.name}-{v}" for api, v in EVERY_VERSION])
def test_the_header_is_flexible_with_its_request_and_keeps_the_old_client_id(api, version):
    _, buffers = ClientConnection("cli\N{LATIN SMALL LETTER E WITH ACUTE}nt").send(api.key, version, api.request())
    theirs = KioHeaderV2 if version >= api.flexible_from else KioHeaderV1
    header = BytesIO()
    values = {"request_api_key": api.key, "request_api_version": version, "correlation_id": 0}
    entity_writer(theirs)(header, theirs(**values, client_id="cli\N{LATIN SMALL LETTER E WITH ACUTE}nt"))
    body = joined(encode(api.request(), version))
    assert framed(header.getvalue() + body) == joined(buffers)


def test_a_client_may_have_no_name():
    for version in (0, 4):
        _, buffers = ClientConnection(None).send(ApiKey.HEARTBEAT, version, HeartbeatRequest())
        (frame,) = ServerConnection(MAX).receive(joined(buffers))
        assert frame.header.client_id is None


def test_a_header_may_have_tagged_fields_that_nobody_knows():
    header = pack(">hhih", ApiKey.HEARTBEAT, 4, 9, -1) + b"\x01\x07\x02ab"
    (frame,) = ServerConnection(MAX).receive(framed(header + joined(encode(HeartbeatRequest("g"), 4))))
    assert HeartbeatRequest("g") == frame.request()


def test_an_answer_has_the_header_of_its_version():
    header = RequestHeader(ApiKey.HEARTBEAT, 4, 77, None)
    assert framed(pack(">i", 77) + b"\x00" + bytes(6) + b"\x00") == joined(
        ServerConnection.respond(header, HeartbeatResponse())
    )
    header = RequestHeader(ApiKey.HEARTBEAT, 3, 77, None)
    assert framed(pack(">i", 77) + bytes(6)) == joined(ServerConnection.respond(header, HeartbeatResponse()))


@pytest.mark.parametrize("version", range(5))
def test_api_versions_is_answered_with_a_header_that_every_client_reads(version):
    response = ApiVersionsResponse(api_keys=[ApiVersion(18, 0, 4)])
    buffers = ServerConnection.respond(RequestHeader(ApiKey.API_VERSIONS, version, 77, None), response)
    assert framed(pack(">i", 77) + joined(encode(response, version))) == joined(buffers)


def test_an_api_versions_request_of_the_future_is_answered_in_version_0():
    """KIP-511: its header is a flexible one, its body may be anything, and the answer is one that version 0 reads."""
    future = pack(">hhih", ApiKey.API_VERSIONS, 9, 5, 2) + b"me" + b"\x00" + b"\xde\xad\xbe\xef"
    (frame,) = ServerConnection(MAX).receive(framed(future))
    assert not frame.has_known_version
    assert (ApiKey.API_VERSIONS, 9, 5, "me") == (
        frame.header.api_key,
        frame.header.api_version,
        frame.header.correlation_id,
        frame.header.client_id,
    )
    answer = ApiVersionsResponse(ErrorCode.UNSUPPORTED_VERSION, [ApiVersion(ApiKey.API_VERSIONS, 0, 4)])
    expected = framed(pack(">ih", 5, 35) + pack(">ihhh", 1, 18, 0, 4))
    assert expected == joined(ServerConnection.respond(frame, answer))


def test_trailing_bytes_of_a_request_are_tolerated():
    """librdkafka leaves three bytes behind a Metadata request for all topics."""
    _, buffers = ClientConnection("rdkafka").send(ApiKey.METADATA, 12, MetadataRequest(topics=None))
    whole = joined(buffers)[4:] + b"\x00\x00\x00"
    (frame,) = ServerConnection(MAX).receive(framed(whole))
    assert MetadataRequest(topics=None) == frame.request()


def test_bytes_left_over_in_an_answer_end_the_connection():
    client = ClientConnection("me")
    client.send(ApiKey.METADATA, 12, MetadataRequest())
    with pytest.raises(DecodeError, match="1 bytes too many"):
        client.receive(framed(pack(">i", 0) + b"\x00" + joined(encode(MetadataResponse(), 12)) + b"\x00"))


def test_a_produce_without_acknowledgement_waits_for_no_answer():
    client = ClientConnection("me")
    client.send(ApiKey.PRODUCE, 9, ProduceRequest(acks=0))
    correlation_id, _ = client.send(ApiKey.HEARTBEAT, 3, HeartbeatRequest())
    assert [(correlation_id, HeartbeatResponse())] == client.receive(framed(pack(">i", correlation_id) + bytes(6)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (framed(pack(">i", 1) + bytes(6)), "request 1 where 0 was next"),
        (framed(pack(">i", 0) + bytes(5)), "ends before"),
        (framed(b""), "ends before"),
        (pack(">i", -1), "-1 bytes"),
        (pack(">i", MAX + 1), "1048577 bytes"),
        (framed(pack(">i", 0) + bytes(6)) * 2, "no request"),
    ],
)
def test_an_answer_that_is_none_ends_the_connection(answer, message):
    client = ClientConnection("me", MAX)
    client.send(ApiKey.HEARTBEAT, 3, HeartbeatRequest())
    with pytest.raises(DecodeError, match=message):
        client.receive(answer)


def received_byte_by_byte(data):
    server = ServerConnection(MAX)
    return [frame for byte in data for frame in server.receive(bytes([byte]))]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pack(">i", -1), "-1 bytes"),
        (pack(">i", (1 << 31) - 1), "2147483647 bytes"),
        (pack(">i", MAX + 1), "1048577 bytes"),
        (framed(b""), "of 0 bytes"),
        (framed(b"\x00\x12\x00"), "of 3 bytes"),
        (framed(pack(">hh", 18, 4)), "ends before"),
        (framed(pack(">hhih", 18, 0, 1, 200) + b"short"), "client_id says 200 bytes where 5 are left"),
        (framed(pack(">hhih", 18, 0, 1, 2) + b"\xff\xff"), "UTF-8"),
        (framed(pack(">hhih", 999, 0, 1, -1)), "unknown API key 999"),
        (framed(pack(">hhih", -1, 0, 1, -1)), "unknown API key -1"),
        (b"GET / HTTP/1.1\r\nHost: kraft\r\n\r\n", "1195725856 bytes"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "369295618 bytes"),  # a TLS hello
    ],
)
def test_a_stranger_is_refused_as_soon_as_it_shows(data, message):
    with pytest.raises(DecodeError, match=message):
        ServerConnection(MAX).receive(data)
    with pytest.raises(DecodeError, match=message):
        received_byte_by_byte(data)


def test_a_request_of_an_unknown_version_is_seen_but_not_read():
    (frame,) = ServerConnection(MAX).receive(framed(pack(">hhih", ApiKey.HEARTBEAT, -1, 1, -1)))
    assert not frame.has_known_version
    with pytest.raises(DecodeError, match="no version -1"):
        frame.request()


def test_a_promised_length_takes_no_memory_before_its_bytes_come():
    server = ServerConnection(100 << 20)
    tracemalloc.start()
    assert [] == server.receive(pack(">i", 100 << 20))
    for _ in range(100):
        assert [] == server.receive(bytes(100))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 10_000
    assert peak < 4 * 10_000


def test_a_body_is_writable_so_that_a_leader_can_stamp_it_where_it_lies():
    _, buffers = ClientConnection("me").send(ApiKey.HEARTBEAT, 3, HeartbeatRequest("group"))
    (frame,) = ServerConnection(MAX).receive(joined(buffers))
    frame.body[2] = ord("G")
    assert HeartbeatRequest("Group") == frame.request()


def test_requests_in_one_piece_do_not_share_what_comes_after_them():
    _, first = ClientConnection("me").send(ApiKey.HEARTBEAT, 3, HeartbeatRequest("one"))
    _, second = ClientConnection("me").send(ApiKey.HEARTBEAT, 3, HeartbeatRequest("two"))
    data = joined(first) + joined(second)
    server = ServerConnection(MAX)
    (one,) = server.receive(data[:-5])
    (two,) = server.receive(data[-5:])
    assert [HeartbeatRequest("one"), HeartbeatRequest("two")] == [one.request(), two.request()]
