"""Whatever a peer sends gives a message or DecodeError, soon, in memory that is a small multiple of the bytes."""

import tracemalloc
from random import Random
from struct import pack

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.wire.random_messages import random_message
from wire.codec import DecodeError, EncodeError, decode, encode
from wire.decoding import ELEMENTS_MAX
from wire.encoding import varint
from wire.messages import API
from wire.messages.api_versions import ApiVersionsRequest
from wire.messages.create_partitions import CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic
from wire.messages.describe_groups import DescribeGroupsRequest
from wire.messages.fetch import FetchRequest
from wire.messages.heartbeat import HeartbeatRequest
from wire.messages.init_producer_id import InitProducerIdRequest
from wire.messages.metadata import MetadataRequest
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.schema import Array, Nested, fields_in

MESSAGES = [(api, cls) for _, api in sorted(API.items()) for cls in (api.request, api.response)]
NAMED_MESSAGES = pytest.mark.parametrize(("api", "cls"), MESSAGES, ids=[cls.__name__ for _, cls in MESSAGES])
SEEDS = st.integers(0, (1 << 64) - 1)

# What a decoded message may take for each byte received: the worst is an empty struct of two bytes with an empty list
# in it. To this comes what does not grow with them: an error, and the caches of ids and of struct formats.
BYTES_PER_BYTE_MAX = 64
CONSTANT_BYTES = 256 << 10

LENGTHS = [
    pack(">i", -1),
    pack(">i", -2),
    pack(">i", -(1 << 31)),
    pack(">i", (1 << 31) - 1),
    pack(">i", 0),
    varint((1 << 32) - 1),
    varint(1 << 31),
    b"\xff" * 9,
    b"\x80" * 9 + b"\x01",
]


def edge_versions(api):
    """The first, the last, and those around the turn to flexible ones."""
    edges = {api.versions[0], api.versions[-1], api.flexible_from - 1, api.flexible_from}
    return sorted(edges & set(api.versions))


def small_message(cls, version, seed):
    """Random, of a few hundred bytes at most."""
    note(f"{cls.__name__} v{version} seed={seed}")
    chance = Random(seed)
    while True:
        data = b"".join(encode(random_message(cls, version, chance), version))
        if len(data) < 300:
            return data


def is_decoded(cls, data, version):
    try:
        decode(cls, data, version)
    except DecodeError:
        return False
    return True


@NAMED_MESSAGES
@given(seed=SEEDS)
@settings(max_examples=2, deadline=None)
def test_a_frame_that_ends_early_is_refused_at_every_byte(api, cls, seed):
    for version in edge_versions(api):
        data = small_message(cls, version, seed + version)
        assert is_decoded(cls, data, version)
        assert [] == [size for size in range(len(data)) if is_decoded(cls, data[:size], version)]


@NAMED_MESSAGES
@given(seed=SEEDS)
@settings(max_examples=1, deadline=None)
def test_a_hostile_length_anywhere_takes_no_memory(api, cls, seed):
    for version in edge_versions(api):
        data = small_message(cls, version, seed + version)
        is_decoded(cls, data, version)  # compiled before the measuring
        tracemalloc.start()
        try:
            for position in range(Random(seed).randrange(5), len(data), max(1, len(data) // 15)):
                for length in LENGTHS:
                    is_decoded(cls, data[:position] + length + data[position + len(length) :], version)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= BYTES_PER_BYTE_MAX * len(data) + CONSTANT_BYTES


@NAMED_MESSAGES
@given(seed=SEEDS)
@settings(max_examples=2, deadline=None)
def test_damage_makes_another_message_or_an_error(api, cls, seed):
    for version in edge_versions(api):
        chance = Random(seed)
        data = bytearray(small_message(cls, version, seed))
        for _ in range(min(20, len(data))):
            data[chance.randrange(len(data))] = chance.getrandbits(8)
            is_decoded(cls, data, version)


@pytest.mark.long
@NAMED_MESSAGES
@given(seed=SEEDS, noise=st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_damage_and_noise_over_many_messages(api, cls, seed, noise):
    for version in api.versions:
        data = bytearray(small_message(cls, version, seed + version))
        for position, byte in enumerate(noise[: len(data)]):
            data[position * 7 % len(data)] = byte
            is_decoded(cls, data, version)
        is_decoded(cls, noise, version)


def filled(cls, version, count):
    """Messages each of whose arrays, at the top or one below, has `count` elements that are as small as they can be."""
    for field in fields_in(cls, version):
        if not isinstance(field.kind, Array):
            continue
        element = field.kind.element
        if not isinstance(element, Nested):
            yield cls(**{field.name: [smallest(element)] * count})
            continue
        yield cls(**{field.name: [element.message()] * count})
        for inner in filled(element.message, version, count):
            yield cls(**{field.name: [inner]})


def smallest(kind):
    return {"Text": "", "Fixed": 100}[type(kind).__name__]


@NAMED_MESSAGES
def test_a_frame_full_of_empty_elements_takes_a_small_multiple_of_itself(api, cls):
    for version in {api.versions[0], api.versions[-1]}:
        for message in filled(cls, version, 400):
            data = b"".join(encode(message, version))
            decode(cls, encode_small(cls, version), version)
            tracemalloc.start()
            decoded = decode(cls, data, version)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak <= BYTES_PER_BYTE_MAX * len(data) + 2048, (version, peak / len(data))
            del decoded


def encode_small(cls, version):
    return b"".join(encode(cls(), version))


def test_a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_made():
    with pytest.raises(DecodeError, match="groups says 40000000 elements where 100 bytes are left"):
        decode(DescribeGroupsRequest, pack(">i", 40_000_000) + bytes(100), 0)
    with pytest.raises(DecodeError, match="topics says 2147483646 elements where 100 bytes are left"):
        decode(CreatePartitionsRequest, varint((1 << 31) - 1) + bytes(100), 2)


def test_more_elements_than_any_request_has_are_refused():
    data = varint(ELEMENTS_MAX + 2) + b"\x01" * (ELEMENTS_MAX + 1) + b"\x00\x00"
    with pytest.raises(DecodeError, match="more than 250000 elements"):
        decode(DescribeGroupsRequest, data, 5)


def test_the_bound_on_elements_is_on_all_arrays_together():
    half = CreatePartitionsTopic("t", 1, [CreatePartitionsAssignment()] * (ELEMENTS_MAX // 2))
    data = b"".join(encode(CreatePartitionsRequest([half, half]), 2))
    with pytest.raises(DecodeError, match="more than 250000 elements"):
        decode(CreatePartitionsRequest, data, 2)


def tagged(count, *fields):
    """A section of tagged fields."""
    return varint(count) + b"".join(varint(tag) + varint(len(value)) + value for tag, value in fields)


def heartbeat(section):
    return b"\x02g\x00\x00\x00\x07\x02m\x00" + section


def test_unknown_tagged_fields_are_skipped():
    section = tagged(3, (5, b""), (200, b"x" * 300), (4_000_000_000, b"y"))
    expected = HeartbeatRequest("g", 7, "m", None)
    assert expected == decode(HeartbeatRequest, heartbeat(section), 4, exact=True)


def test_tagged_fields_within_tagged_fields_are_bytes_to_skip():
    section = b"\x00"
    for _ in range(5_000):
        section = tagged(1, (9, section))
    assert HeartbeatRequest("g", 7, "m", None) == decode(HeartbeatRequest, heartbeat(section), 4, exact=True)


@pytest.mark.parametrize(
    "section",
    [
        varint((1 << 32) - 1),  # so many, and none there
        varint(ELEMENTS_MAX + 1) + b"\x00\x00" * (ELEMENTS_MAX + 1),
        tagged(1)[:1],
        b"\x01\x05\xff\xff\xff\xff\x0f",  # of 4 GiB
        b"\x01\x05\x03ab",  # longer than what is left
        b"\x01\x80\x80\x80\x80\x80\x01\x00",  # a tag of six bytes
    ],
)
def test_tagged_fields_that_lie_are_refused(section):
    with pytest.raises(DecodeError):
        decode(HeartbeatRequest, heartbeat(section), 4)


def test_a_known_tagged_field_ends_where_its_size_says():
    whole = b"".join(encode(FetchRequest(cluster_id="abc"), 12))
    assert "abc" == decode(FetchRequest, whole, 12).cluster_id
    at = whole.index(b"\x04abc") - 1
    for size in (3, 5):
        with pytest.raises(DecodeError):
            decode(FetchRequest, whole[:at] + varint(size) + whole[at + 1 :] + bytes(5), 12)


def test_a_tagged_field_sent_twice_counts_once():
    whole = b"".join(encode(FetchRequest(cluster_id="abc"), 12))
    at = whole.rindex(b"\x01\x00\x04\x04abc")
    twice = whole[:at] + tagged(2, (0, b"\x04abc"), (0, b"\x04xyz"))
    assert "xyz" == decode(FetchRequest, twice, 12, exact=True).cluster_id


@pytest.mark.parametrize("version", [2, 0])
@pytest.mark.parametrize("octets", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_a_string_that_is_no_utf8_is_refused(version, octets):
    length = varint(len(octets) + 1) if version == 2 else pack(">h", len(octets))
    with pytest.raises(DecodeError, match="UTF-8"):
        decode(InitProducerIdRequest, length + octets + bytes(20), version)


def test_null_where_there_must_be_a_value_is_refused():
    with pytest.raises(DecodeError, match="client_software_name"):
        decode(ApiVersionsRequest, b"\x00\x01\x00", 3)
    with pytest.raises(DecodeError, match="topics"):
        decode(MetadataRequest, pack(">i", -1), 0)
    assert decode(MetadataRequest, pack(">i", -1), 1).topics is None
    with pytest.raises(DecodeError, match="topics"):
        decode(MetadataRequest, pack(">i", -2), 1)


@pytest.mark.parametrize("version", [-1, 14, 1 << 15])
def test_a_version_that_there_is_not_is_refused(version):
    with pytest.raises(DecodeError, match=f"ProduceRequest has no version {version}"):
        decode(ProduceRequest, bytes(100), version)


def test_trailing_bytes_are_tolerated_unless_an_exact_message_is_wanted():
    data = b"".join(encode(MetadataRequest(topics=None), 9))
    assert MetadataRequest(topics=None) == decode(MetadataRequest, data + b"\x00\x00\x00", 9)
    with pytest.raises(DecodeError, match="3 bytes too many"):
        decode(MetadataRequest, data + b"\x00\x00\x00", 9, exact=True)


def test_records_are_views_into_the_frame():
    batch = bytes(range(256)) * 64
    message = ProduceRequest(
        acks=-1, topic_data=[TopicProduceData("t", partition_data=[PartitionProduceData(3, batch)])]
    )
    frame = bytearray(b"".join(encode(message, 9)))
    (topic,) = decode(ProduceRequest, frame, 9).topic_data
    records = topic.partition_data[0].records
    assert isinstance(records, memoryview)
    assert records == batch
    frame[frame.index(batch)] = 77
    assert 77 == records[0]


def test_records_are_among_the_buffers_as_they_are():
    batch = b"x" * 10_000
    message = ProduceRequest(topic_data=[TopicProduceData("t", partition_data=[PartitionProduceData(0, batch)])])
    assert any(buffer is batch for buffer in encode(message, 9))


def test_what_does_not_fit_names_the_message():
    with pytest.raises(EncodeError, match="HeartbeatRequest v4"):
        encode(HeartbeatRequest(generation_id=1 << 31), 4)
    with pytest.raises(EncodeError, match="HeartbeatRequest v4"):
        encode(HeartbeatRequest(group_id=None), 4)
    with pytest.raises(EncodeError, match="has no version 5"):
        encode(HeartbeatRequest(), 5)
