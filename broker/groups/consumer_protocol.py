"""What consumers of a classic group say to each other through their coordinator: what they read, what is whose.

Pure. Owns the encoding of both halves of Kafka's protocol type `consumer`: a member's subscription (its topics, and
what it still owns, KIP-429), which travels in its JoinGroup, and its assignment, which travels in the leader's
SyncGroup. Refuses (DecodeError) bytes that are neither. Versions up to 3 are read, for other clients write those, and
1 is written: the lowest that carries owned partitions.
"""

import struct
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, NamedTuple

from broker.groups.offsets import TopicPartition
from wire import codec
from wire.codec import DecodeError
from wire.schema import NEVER, Int32, Message, Versions, empty, since

WRITTEN_VERSION: Final = 1
READ_VERSION_MAX: Final = 3
NO_GENERATION: Final = -1
_VERSION: Final = struct.Struct(">h")


class _TopicPartitions(Message, frozen=True):
    topic: str = ""
    partitions: list[Int32] = empty()


class _Subscription(Message, frozen=True):
    wire_versions: ClassVar = Versions(0, READ_VERSION_MAX, flexible_from=NEVER)

    topics: list[str] = empty()
    user_data: bytes | None = None
    owned_partitions: Annotated[list[_TopicPartitions], since(1)] = empty()
    generation_id: Annotated[Int32, since(2)] = NO_GENERATION
    rack_id: Annotated[str | None, since(3)] = None


class _Assignment(Message, frozen=True):
    wire_versions: ClassVar = Versions(0, READ_VERSION_MAX, flexible_from=NEVER)

    assigned_partitions: list[_TopicPartitions] = empty()
    user_data: bytes | None = None


class Subscription(NamedTuple):
    """What one member reads, and what it says that it owns since which generation (-1: not said)."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation_id: int = NO_GENERATION


def encode_subscription(topics: Iterable[str]) -> bytes:
    """Of a member that gives up what it owned before it joins again."""
    return _encoded(_Subscription(list(topics)))


def decode_subscription(data: bytes) -> Subscription:
    """DecodeError where it is none."""
    version, rest = _versioned(data)
    said = codec.decode(_Subscription, rest, version)
    return Subscription(tuple(said.topics), tuple(_flat(said.owned_partitions)), said.generation_id)


def encode_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        by_topic.setdefault(topic, []).append(partition)
    return _encoded(_Assignment([_TopicPartitions(*item) for item in by_topic.items()]))


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """No bytes at all are no partitions. DecodeError where it is no assignment."""
    if not data:
        return ()
    version, rest = _versioned(data)
    return tuple(_flat(codec.decode(_Assignment, rest, version).assigned_partitions))


def _flat(topics: Iterable[_TopicPartitions]) -> Iterable[TopicPartition]:
    return (TopicPartition(one.topic, partition) for one in topics for partition in one.partitions)


def _encoded(message: Message) -> bytes:
    return b"".join([_VERSION.pack(WRITTEN_VERSION), *codec.encode(message, WRITTEN_VERSION)])


def _versioned(data: bytes) -> tuple[int, memoryview]:
    """The version (what is newer begins as version 3 does), and what follows it."""
    if len(data) < _VERSION.size:
        raise DecodeError(f"{len(data)} bytes are too few for what a consumer says")
    version: int = _VERSION.unpack_from(data)[0]
    if version < 0:
        raise DecodeError(f"version {version} of the consumer protocol is none")
    return min(version, READ_VERSION_MAX), memoryview(data)[_VERSION.size :]
