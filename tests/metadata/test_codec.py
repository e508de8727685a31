"""What travels comes back as it was; what is no value of ours is refused before anyone looks at it."""

import tracemalloc
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadata import codec
from metadata.answers import AdminAnswer, Refused
from metadata.codec import MalformedMetadataError
from metadata.commands import ChangePartitions, CreateTopic, FenceBroker, PartitionAssignment, Proposal
from metadata.image import Broker, CommandId, Image, Topic
from metadata.requests import CreateTopicRequest, DeleteTopicRequest, Envelope, Heartbeat
from tests.metadata.any_value import values_of
from tests.metadata.world import World, an_id
from wire.errors import ErrorCode, RefusedError

quick = settings(max_examples=300, deadline=None)


@quick
@given(values_of(Proposal))
def test_every_proposal_survives_its_bytes(proposal):
    assert proposal == codec.decode_proposal(codec.encode_proposal(proposal))


@quick
@given(values_of(Envelope))
def test_every_request_survives_its_bytes(envelope):
    assert envelope == codec.decode_request(codec.encode_request(envelope))


@quick
@given(values_of(AdminAnswer))
def test_every_answer_survives_its_bytes(answer):
    assert answer == codec.decode_answer(codec.encode_answer(answer))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(values_of(Topic), unique_by=(lambda t: t.topic_id, lambda t: t.name.replace(".", "_")), max_size=3),
    st.lists(values_of(Broker), unique_by=lambda b: b.broker_id, max_size=3),
    st.integers(0, 2**63 - 1),
    st.none() | st.integers(1, 2**63 - 1),
)
def test_every_image_survives_its_snapshot(topics, brokers, next_producer_id, throttle):
    image = Image.of(
        "cluster",
        1,
        applied_index=7,
        topics=topics,
        brokers=brokers,
        answers={},
        next_producer_id=next_producer_id,
        replication_throttle_bytes_per_s=throttle,
    )
    assert image == codec.decode_snapshot(codec.encode_snapshot(image))


@quick
@given(st.binary(max_size=64).map(lambda tail: b"\x01" + tail) | st.binary(max_size=64))
def test_no_bytes_get_past_the_codec_as_anything_but_a_value_or_a_refusal(data):
    for decode in (codec.decode_proposal, codec.decode_answer, codec.decode_snapshot, codec.decode_request):
        with suppress(MalformedMetadataError, RefusedError):
            decode(data)


@quick
@given(values_of(Proposal), st.integers(1, 10**6), st.integers(0, 255))
def test_a_flipped_byte_gives_another_value_or_a_refusal(proposal, position, byte):
    data = bytearray(codec.encode_proposal(proposal))
    data[1 + position % (len(data) - 1)] = byte
    with suppress(MalformedMetadataError):
        again = codec.decode_proposal(bytes(data))
        assert again == codec.decode_proposal(codec.encode_proposal(again))


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_snapshot_cut_short_is_no_snapshot(cut):
    world = World(brokers=1)
    data = codec.encode_snapshot(world.image)
    assert len(data) > 60
    with pytest.raises(MalformedMetadataError):
        codec.decode_snapshot(data[:cut])
    with pytest.raises(MalformedMetadataError):
        codec.decode_snapshot(data[: len(data) - cut - 1])


def test_a_snapshot_of_another_format_says_so():
    data = bytearray(codec.encode_snapshot(Image.empty("c")))
    data[5] = 9
    with pytest.raises(MalformedMetadataError, match="another version"):
        codec.decode_snapshot(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x81\xa1\x80",  # a key that is not UTF-8
        b"\x01\x81\xa7request\x82\xa7request\xb2DeleteTopicRequest\xa4name\xa2\xff\xff",
        b"\x01\x81\xa7request\xdf\xff\xff\xff\xff",  # a map of four billion entries
        b"\x01\x81\xa7request\x82\xa7request\xb3AlterConfigsRequest\xa7changes\xdd\xff\xff\xff\xff",
        b"\x01\x81\xa7request\xc6\xff\xff\xff\xff",
    ],
)
def test_hostile_bytes_are_refused_before_they_cost_anything(data):
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as caught:
            codec.decode_request(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert ErrorCode.INVALID_REQUEST == caught.value.code


def test_nesting_without_end_is_refused_and_not_a_crash():
    with pytest.raises(RefusedError):
        codec.decode_request(b"\x01" + b"\x81\xa1x" + b"\x91" * 100_000)


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        (FenceBroker(broker_id=1, broker_epoch=2), "broker_id", -1),
        (FenceBroker(broker_id=1, broker_epoch=2), "broker_id", 2**31),
        (FenceBroker(broker_id=1, broker_epoch=2), "broker_epoch", -2),
        (FenceBroker(broker_id=1, broker_epoch=2), "broker_epoch", "2"),
        (FenceBroker(broker_id=1, broker_epoch=2), "surprise", 1),
        (ChangePartitions(cause="", changes=()), "changes", []),
    ],
)
def test_values_out_of_bounds_are_refused_by_the_decoder(command, field, value):
    plain = msgspec.to_builtins(Proposal(command=command))
    plain["command"][field] = value
    with pytest.raises(MalformedMetadataError):
        codec.decode_proposal(b"\x01" + msgspec.msgpack.encode(plain))


def test_a_newer_nodes_request_may_have_fields_that_this_one_does_not_know():
    plain = msgspec.to_builtins(Envelope(request=DeleteTopicRequest(name="t")))
    plain["request"]["surprise"] = [1, 2]
    assert DeleteTopicRequest(name="t") == codec.decode_request(b"\x01" + msgspec.msgpack.encode(plain)).request


def test_a_command_that_does_not_fit_the_log_is_refused_with_the_limit():
    replicas = tuple(range(2**30, 2**30 + 100))
    many = (PartitionAssignment(replicas=replicas, leader=-1, leader_broker_epoch=-1),) * 2000
    with pytest.raises(RefusedError, match="524288") as caught:
        codec.encode_proposal(Proposal(command=CreateTopic(topic_id=an_id(1), name="t", assignments=many, configs={})))
    assert ErrorCode.POLICY_VIOLATION == caught.value.code


def test_a_refusal_travels_with_its_code_and_message():
    refused = Refused.of(RefusedError(ErrorCode.INVALID_CONFIG, "x" * 9999), index=3)
    back = codec.decode_answer(codec.encode_answer(refused))
    assert (ErrorCode.INVALID_CONFIG, "x" * 4096) == (back.error().code, back.error().message)


def test_a_payload_is_one_union_each_way():
    command_id = CommandId(broker_id=1, broker_epoch=2, sequence=3)
    for request in (CreateTopicRequest(name="t"), Heartbeat(broker_id=1, broker_epoch=2, applied_index=3)):
        envelope = Envelope(request=request, command_id=command_id)
        assert envelope == codec.decode_request(codec.encode_request(envelope))
