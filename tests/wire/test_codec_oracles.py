"""Random messages of every version: the bytes are those of two other implementations, and each reads the other's."""

from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.wire.oracles import KafkaPython, Kio
from tests.wire.random_messages import clipped, random_message
from wire.codec import decode, encode
from wire.messages import API

ORACLES = {oracle.name: oracle for oracle in (Kio(), KafkaPython())}
MESSAGES = [(api, cls) for _, api in sorted(API.items()) for cls in (api.request, api.response)]
SEEDS = st.integers(0, (1 << 64) - 1)


def agree(oracle, cls, version, seed):
    note(f"{cls.__name__} v{version} seed={seed}")
    message = random_message(cls, version, Random(seed), plain=oracle.name == "kio")
    expected = clipped(message, version)
    theirs = oracle.encode(message, version)
    assert theirs == b"".join(encode(message, version))
    assert expected == decode(cls, theirs, version, exact=True)
    assert expected == oracle.decode(cls, theirs, version)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize(("api", "cls"), MESSAGES, ids=[cls.__name__ for _, cls in MESSAGES])
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_every_version_is_what_others_write_and_read(oracle, api, cls, seed):
    for version in api.versions:
        if ORACLES[oracle].has(api, version):
            agree(ORACLES[oracle], cls, version, seed + version)


@pytest.mark.long
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize(("api", "cls"), MESSAGES, ids=[cls.__name__ for _, cls in MESSAGES])
@given(seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_every_version_over_many_messages(oracle, api, cls, seed):
    for version in api.versions:
        if ORACLES[oracle].has(api, version):
            agree(ORACLES[oracle], cls, version, seed + version)
