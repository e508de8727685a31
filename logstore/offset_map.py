"""Which offset is the last of each key, in memory that never grows: Kafka's SkimpyOffsetMap.

Owns a table of fixed size, open addressing over 24 bytes a slot: 16 of the key's hash and 8 of its offset. The keys
themselves are not kept, so two keys with one hash would count as one and the older would be lost: with 128 bits that is
once in 10^25 cleanings of five million keys, below what disks and memory do by themselves.
Refuses a new key once it is full to `LOAD_MAX`, for a fuller table searches ever longer; known keys go on.
"""

from array import array
from hashlib import blake2s
from struct import Struct
from typing import Final

SLOT_BYTES: Final = 24
LOAD_MAX: Final = 0.75
"""Kafka's 0.9 is for a language in which a probe costs nothing."""
SLOTS_MIN: Final = 8
HASH_BYTES: Final = 16
NO_OFFSET: Final = -1

_hash_of = Struct("<QQ").unpack


class OffsetMap:
    """Offsets by key. One thread at a time."""

    __slots__ = ("_first", "_keys_max", "_offsets", "_second", "_slots", "keys")

    def __init__(self, *, buffer_bytes: int, keys_max: int) -> None:
        """At most `buffer_bytes` of memory, and no more than `keys_max` keys need."""
        self._slots = max(SLOTS_MIN, min(buffer_bytes // SLOT_BYTES, int(keys_max / LOAD_MAX) + 1))
        self._keys_max = max(1, int(self._slots * LOAD_MAX))
        self.keys = 0
        self._first: array[int] = array("Q", [0]) * self._slots
        self._second: array[int] = array("Q", [0]) * self._slots
        self._offsets: array[int] = array("q", [NO_OFFSET]) * self._slots

    @property
    def size_bytes(self) -> int:
        return self._slots * SLOT_BYTES

    def put(self, key: bytes, offset: int) -> bool:
        """`key` was last seen at `offset`; False, and nothing is remembered, where it is new and the table is full."""
        first, second = _hash_of(blake2s(key, digest_size=HASH_BYTES).digest())
        slot = first % self._slots
        offsets, firsts, seconds = self._offsets, self._first, self._second
        while offsets[slot] >= 0:
            if firsts[slot] == first and seconds[slot] == second:
                offsets[slot] = offset
                return True
            slot += 1
            if slot == self._slots:
                slot = 0
        if self.keys >= self._keys_max:
            return False
        firsts[slot], seconds[slot], offsets[slot] = first, second, offset
        self.keys += 1
        return True

    def last_offset(self, key: bytes) -> int:
        """Where `key` was last seen; NO_OFFSET where it was not."""
        first, second = _hash_of(blake2s(key, digest_size=HASH_BYTES).digest())
        slot = first % self._slots
        offsets, firsts, seconds = self._offsets, self._first, self._second
        while offsets[slot] >= 0:
            if firsts[slot] == first and seconds[slot] == second:
                found: int = offsets[slot]
                return found
            slot += 1
            if slot == self._slots:
                slot = 0
        return NO_OFFSET
