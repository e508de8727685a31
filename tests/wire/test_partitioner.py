"""Every client must find a key where every other client put it."""

import aiokafka.partitioner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.partitioner import murmur2, partition_for_key

KAFKA_VECTORS = [  # org.apache.kafka.common.utils.UtilsTest
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS)
def test_hashes_are_those_of_kafkas_own_tests(key, signed):
    assert signed % 2**32 == murmur2(key)


@given(st.binary(max_size=200), st.integers(1, 10_000))
def test_a_key_lands_where_another_clients_partitioner_puts_it(key, partitions):
    assert aiokafka.partitioner.murmur2(key) == murmur2(key)
    everywhere = list(range(partitions))
    assert aiokafka.partitioner.DefaultPartitioner()(key, everywhere, everywhere) == partition_for_key(key, partitions)


def test_the_empty_key_is_a_key():
    assert 275646681 == murmur2(b"")
    assert 0 <= partition_for_key(b"", 3) < 3
