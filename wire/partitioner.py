"""Where a keyed record goes: the rule of Kafka's default partitioner, so that every client agrees on a key's home.

Owns murmur2 (seed 0x9747b28c) and the mapping of a key to a partition. Keys only: where unkeyed records go is the
producer's matter. Source: org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner.
"""

import struct
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 of `data` as an unsigned 32-bit integer."""
    length = len(data)
    value = _SEED ^ (length & _MASK)
    whole = length & ~3
    for word in struct.unpack_from(f"<{whole >> 2}I", data):
        mixed = (word * _MULTIPLIER) & _MASK
        mixed = ((mixed ^ (mixed >> 24)) * _MULTIPLIER) & _MASK
        value = ((value * _MULTIPLIER) & _MASK) ^ mixed
    rest = length - whole
    if rest:
        value = ((value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER) & _MASK
    value = ((value ^ (value >> 13)) * _MULTIPLIER) & _MASK
    return value ^ (value >> 15)


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition (0 <= p < `partitions`) of a key: `(murmur2(key) & 0x7fffffff) % partitions`."""
    assert partitions > 0, partitions
    return (murmur2(key) & 0x7FFFFFFF) % partitions
