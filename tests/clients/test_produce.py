"""What a real client writes is there, once, in order and byte for byte."""

import pytest

from tests.clients.features import ACKS, CODECS
from tests.clients.records import contents, large, numbered, odd, values
from tests.faults.harness import wait_until

pytestmark = pytest.mark.long


def produce(client, topic, records, *, compression="none", acks="all", idempotent=False):
    return client.call(
        "produce", topic=topic, compression=compression, acks=acks, idempotent=idempotent, records=records
    )


def same(client, sent, found):
    """What was read is what was written, as far as this client has a way to say it."""
    whole = {"times": client.sets_time, "headers": client.reads_headers}
    assert contents(sent, **whole) == contents(found, **whole)


def read(client, topic, count, *, partition=0, offset=0):
    return client.call("read", topic=topic, partition=partition, offset=offset, count=count)


@pytest.mark.feature("compression {codec}")
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_arrives_and_takes_less_room(client, topics, codec):
    topic = topics.new()
    sent = numbered(range(500), bulk=200)
    placed = produce(client, topic, sent, compression=codec)
    same(client, sent, read(client, topic, 500))
    assert [[0, offset] for offset in range(500)] == placed
    size_bytes = topics.ask(f"/{topic}/partitions/0")["size_bytes"]
    assert (size_bytes < 40_000) is (codec != "none"), f"{size_bytes} bytes were written with {codec}"


@pytest.mark.feature("acks {acks}")
@pytest.mark.parametrize("acks", ACKS)
def test_every_kind_of_acknowledgement(client, topics, acks):
    topic = topics.new(partitions=2)
    sent = [numbered(range(100), partition=partition) for partition in (0, 1)]
    placed = produce(client, topic, sent[0] + sent[1], acks=acks)
    if acks != "0":
        assert [[partition, offset] for partition in (0, 1) for offset in range(100)] == placed
    for partition in (0, 1):
        wait_until(
            lambda partition=partition: [0, 100] == client.call("ends", topic=topic, partition=partition),
            "all of it is written",
        )
        same(client, sent[partition], read(client, topic, 100, partition=partition))


@pytest.mark.feature("idempotent")
def test_an_idempotent_producer_is_taken_as_one(client, topics):
    topic = topics.new(partitions=2)
    for part in range(3):
        records = numbered(range(100 * part, 100 * part + 100), partition=part % 2)
        produce(client, topic, records, idempotent=True)
    assert [*range(100), *range(200, 300)] == values(read(client, topic, 200))
    assert [*range(100, 200)] == values(read(client, topic, 100, partition=1))


@pytest.mark.feature("odd records")
def test_headers_nulls_empty_values_and_times_arrive(client, topics):
    topic = topics.new()
    sent = odd()
    try:
        produce(client, topic, sent)
    except pytest.skip.Exception:  # without a null header it may be able to
        sent = odd(null_headers=False)
        produce(client, topic, sent)
    same(client, sent, read(client, topic, len(sent)))
    assert contents(sent) == contents(topics.read(topic, len(sent)))


@pytest.mark.feature("large")
def test_a_value_of_one_megabyte_arrives(client, topics):
    topic = topics.new()
    sent = large(seed=5)
    produce(client, topic, sent)
    same(client, sent, read(client, topic, len(sent)))
