"""Bytes from strangers, mutated from good ones: a refusal or a message, and no memory beyond what came."""

import tracemalloc
from random import Random
from struct import pack

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.wire.fuzz_targets import batches, records, stream, with_valid_crcs
from tests.wire.random_messages import random_message
from wire.connection import ClientConnection
from wire.messages import API, ApiKey
from wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from wire.record_batch import Compression, build_batch

SEEDS = st.integers(0, (1 << 64) - 1)
LENGTHS = [pack(">i", length) for length in (-1, 0, 1, 1 << 16, 1 << 20, (1 << 20) + 1, (1 << 31) - 1)]
BYTES_PER_BYTE_MAX, CONSTANT_BYTES = 50, 1 << 20
EVERY_VERSION = [(api, version) for _, api in sorted(API.items()) for version in api.versions]


def some_batches(chance: Random) -> bytes:
    made = b""
    for _ in range(chance.randrange(1, 4)):
        values = [(None, chance.randbytes(chance.randrange(60)), (), 1_000) for _ in range(chance.randrange(1, 6))]
        made += build_batch(values, compression=chance.choice(list(Compression)))
    return made


def conversation(chance: Random) -> bytes:
    """A few requests as a client would send them, Produce among them."""
    client, sent = ClientConnection("me"), b""
    for api, version in chance.sample(EVERY_VERSION, 4):
        _, buffers = client.send(api.key, version, random_message(api.request, version, chance))
        sent += b"".join(buffers)
    data = [PartitionProduceData(index=0, records=some_batches(chance))]
    produce = ProduceRequest(acks=1, topic_data=[TopicProduceData(name="t", partition_data=data)])
    return sent + b"".join(client.send(ApiKey.PRODUCE, 9, produce)[1])


def mutated(data: bytes, chance: Random) -> bytes:
    """Bits flipped, lengths replaced, pieces cut out, doubled or moved."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(changed) or 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes((chance.getrandbits(8),))
            case 1:
                changed[at : at + 4] = chance.choice(LENGTHS)
            case 2:
                del changed[at : at + chance.choice((1, 4, 50))]
            case 3:
                changed[at:at] = changed[at : at + chance.choice((1, 30, 300))]
            case _:
                changed[at : at + 8] = chance.randbytes(8)
    return bytes(changed)


def hurt(seed: int) -> None:
    chance = Random(seed)
    sent = conversation(chance)
    stream(sent, piece_bytes=chance.choice((1, 7, 700, 1 << 16)))
    stream(mutated(sent, chance), piece_bytes=chance.choice((5, 700, 1 << 16)))
    good = some_batches(chance)
    for _ in range(5):
        bad = mutated(good, chance)
        batches(bad)
        batches(with_valid_crcs(bad))
        records(bad)


@given(seed=SEEDS)
@settings(max_examples=150, deadline=None)
def test_mutated_conversations_are_read_or_refused(seed):
    note(f"seed={seed}")
    hurt(seed)


@given(data=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_is_read_or_refused(data):
    stream(data)
    stream(pack(">i", len(data)) + data)
    batches(data)
    records(data)


@pytest.mark.long
@pytest.mark.timeout(1800)
@given(seed=SEEDS)
@settings(max_examples=10_000, deadline=None)
def test_mutated_conversations_are_read_or_refused_for_longer(seed):
    note(f"seed={seed}")
    hurt(seed)


def test_mutated_conversations_take_no_more_memory_than_a_multiple_of_themselves():
    for seed in range(40):
        chance = Random(seed)
        sent = mutated(conversation(chance), chance)
        stream(sent)  # decoders are compiled before the measuring
        tracemalloc.start()
        try:
            stream(sent)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= BYTES_PER_BYTE_MAX * len(sent) + CONSTANT_BYTES, f"seed={seed}"
