"""What lies in `__consumer_offsets`: Kafka's own keys and values, so that tools which read that topic read ours too.

Owns the encoding. A key and a value begin with their version (int16), then the fields as in a message of that version.
Keys: 0, 1 an offset (group, topic, partition); 2 a group. Values are written as Kafka 4 writes them: offsets in version
3 (1 where the commit brought its own expiry), groups in version 3; versions up to 4 are read. A value of None is a
tombstone. Source: OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue of Kafka's coordinator.
Refuses (DecodeError) bytes that are none of these; other keys (Kafka's newer kinds of groups) are no error.
"""

import struct
from typing import Annotated, ClassVar, Final, NamedTuple, TypeVar

from broker.groups.effects import LogRecord
from broker.groups.offsets import CommittedOffset, TopicPartition
from wire import codec
from wire.codec import DecodeError
from wire.schema import NEVER, Int32, Int64, Message, Versions, between, empty, since

OFFSET_KEY_VERSION: Final = 1
GROUP_KEY_VERSION: Final = 2
OFFSET_VALUE_VERSION: Final = 3
OFFSET_VALUE_VERSION_WITH_EXPIRY: Final = 1
GROUP_VALUE_VERSION: Final = 3

_VERSION: Final = struct.Struct(">h")


class OffsetCommitKey(Message, frozen=True):
    wire_versions: ClassVar = Versions(0, 1, flexible_from=NEVER)

    group: str = ""
    topic: str = ""
    partition: Int32 = 0


class OffsetCommitValue(Message, frozen=True):
    wire_versions: ClassVar = Versions(0, 4, flexible_from=4)

    offset: Int64 = 0
    leader_epoch: Annotated[Int32, since(3)] = -1
    metadata: str = ""
    commit_timestamp: Int64 = 0
    expire_timestamp: Annotated[Int64, between(1, 1)] = -1


class GroupMetadataKey(Message, frozen=True):
    wire_versions: ClassVar = Versions(2, 2, flexible_from=NEVER)

    group: str = ""


class MemberMetadata(Message, frozen=True):
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(3)] = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout: Annotated[Int32, since(1)] = -1
    session_timeout: Int32 = 0
    subscription: bytes = b""
    assignment: bytes = b""


class GroupMetadataValue(Message, frozen=True):
    """The group after its last completed rebalance; `protocol` and `leader` are null where it is empty."""

    wire_versions: ClassVar = Versions(0, 4, flexible_from=4)

    protocol_type: str = ""
    generation: Int32 = 0
    protocol: str | None = None
    leader: str | None = None
    current_state_timestamp: Annotated[Int64, since(2)] = -1
    members: list[MemberMetadata] = empty()


class OffsetRecord(NamedTuple):
    """`committed` None: deleted."""

    group_id: str
    partition: TopicPartition
    committed: CommittedOffset | None


class GroupRecord(NamedTuple):
    """`value` None: deleted."""

    group_id: str
    value: GroupMetadataValue | None


def offset_record(group_id: str, partition: TopicPartition, committed: CommittedOffset | None) -> LogRecord:
    """What says that a group's offset is `committed`, or, with None, that it has none any more."""
    key = _encoded(OffsetCommitKey(group_id, partition.topic, partition.partition), OFFSET_KEY_VERSION)
    if committed is None:
        return LogRecord(key, None)
    expires_at_ms = committed.expire_timestamp_ms
    value = OffsetCommitValue(
        committed.offset,
        committed.leader_epoch,
        committed.metadata,
        committed.commit_timestamp_ms,
        -1 if expires_at_ms is None else expires_at_ms,
    )
    version = OFFSET_VALUE_VERSION if expires_at_ms is None else OFFSET_VALUE_VERSION_WITH_EXPIRY
    return LogRecord(key, _encoded(value, version))


def group_record(group_id: str, value: GroupMetadataValue | None) -> LogRecord:
    """What says that a group is as in `value`, or, with None, that there is none any more."""
    key = _encoded(GroupMetadataKey(group_id), GROUP_KEY_VERSION)
    return LogRecord(key, None if value is None else _encoded(value, GROUP_VALUE_VERSION))


def read_record(key: bytes | None, value: bytes | None) -> OffsetRecord | GroupRecord | None:
    """What one record of the topic says; None for kinds that are not ours. DecodeError for what cannot be read."""
    if key is None:
        raise DecodeError("a record of the offsets topic has no key")
    version = _version(key)
    if version <= OFFSET_KEY_VERSION:
        name = _decoded(OffsetCommitKey, key)
        committed = None if value is None else _committed(_decoded(OffsetCommitValue, value))
        return OffsetRecord(name.group, TopicPartition(name.topic, name.partition), committed)
    if version == GROUP_KEY_VERSION:
        group = _decoded(GroupMetadataKey, key).group
        return GroupRecord(group, None if value is None else _decoded(GroupMetadataValue, value))
    return None


def _committed(value: OffsetCommitValue) -> CommittedOffset:
    return CommittedOffset(
        offset=value.offset,
        leader_epoch=value.leader_epoch,
        metadata=value.metadata,
        commit_timestamp_ms=value.commit_timestamp,
        expire_timestamp_ms=None if value.expire_timestamp < 0 else value.expire_timestamp,
    )


def _encoded(message: Message, version: int) -> bytes:
    return b"".join([_VERSION.pack(version), *codec.encode(message, version)])


_MessageType = TypeVar("_MessageType", bound=Message)


def _decoded(cls: type[_MessageType], data: bytes) -> _MessageType:
    return codec.decode(cls, memoryview(data)[_VERSION.size :], _version(data))


def _version(data: bytes) -> int:
    if len(data) < _VERSION.size:
        raise DecodeError(f"a record of the offsets topic has {len(data)} bytes where its version should be")
    version: int = _VERSION.unpack_from(data)[0]
    if version < 0:
        raise DecodeError(f"version {version} of a record of the offsets topic is none")
    return version
