"""What lies in the offsets topic is what Kafka's own tools read: bytes as Kafka's schemas have them."""

import pytest

from broker.groups.offsets import CommittedOffset, TopicPartition
from broker.groups.records import (
    GroupMetadataValue,
    GroupRecord,
    MemberMetadata,
    OffsetRecord,
    group_record,
    offset_record,
    read_record,
)
from wire.codec import DecodeError

T3 = TopicPartition("topic", 3)
OFFSET_KEY = bytes.fromhex("0001 0001 67 0005 746f706963 00000003")
OFFSET_VALUE_3 = bytes.fromhex("0003 000000000000002a 00000007 0004 6e6f7465 00000000000003e8")
OFFSET_VALUE_1 = bytes.fromhex("0001 000000000000002a 0004 6e6f7465 00000000000003e8 00000000000007d0")
GROUP_KEY = bytes.fromhex("0002 0001 67")
GROUP_VALUE = bytes.fromhex(
    "0003 0008 636f6e73756d6572 00000005 0005 72616e6765 0001 6d 00000000000003e8 00000001"
    "0001 6d 0001 69 0001 63 0002 2f68 00000bb8 000007d0 00000001 53 00000001 41"
)
COMMITTED = CommittedOffset(42, 7, "note", 1000)
GROUP = GroupMetadataValue(
    "consumer", 5, "range", "m", 1000, [MemberMetadata("m", "i", "c", "/h", 3000, 2000, b"S", b"A")]
)


def test_offsets_are_written_in_version_3():
    assert (OFFSET_KEY, OFFSET_VALUE_3) == offset_record("g", T3, COMMITTED)
    assert OffsetRecord("g", T3, COMMITTED) == read_record(OFFSET_KEY, OFFSET_VALUE_3)


def test_an_expiry_of_its_own_needs_version_1():
    expiring = CommittedOffset(42, -1, "note", 1000, 2000)
    assert (OFFSET_KEY, OFFSET_VALUE_1) == offset_record("g", T3, expiring)
    assert OffsetRecord("g", T3, expiring) == read_record(OFFSET_KEY, OFFSET_VALUE_1)


def test_groups_are_written_in_version_3():
    assert (GROUP_KEY, GROUP_VALUE) == group_record("g", GROUP)
    assert GroupRecord("g", GROUP) == read_record(GROUP_KEY, GROUP_VALUE)


def test_an_empty_group_has_neither_protocol_nor_leader():
    key, value = group_record("g", GroupMetadataValue("consumer", 6, None, None, 1000))
    assert bytes.fromhex("0003 0008 636f6e73756d6572 00000006 ffff ffff 00000000000003e8 00000000") == value
    assert GroupRecord("g", GroupMetadataValue("consumer", 6, None, None, 1000)) == read_record(key, value)


def test_tombstones():
    assert (OFFSET_KEY, None) == offset_record("g", T3, None)
    assert OffsetRecord("g", T3, None) == read_record(OFFSET_KEY, None)
    assert (GROUP_KEY, None) == group_record("g", None)
    assert GroupRecord("g", None) == read_record(GROUP_KEY, None)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0000 000000000000002a 0004 6e6f7465 00000000000003e8", COMMITTED._replace(leader_epoch=-1)),
        ("0002 000000000000002a 0004 6e6f7465 00000000000003e8", COMMITTED._replace(leader_epoch=-1)),
        ("0004 000000000000002a 00000007 05 6e6f7465 00000000000003e8 00", COMMITTED),
    ],
)
def test_other_versions_of_kafka_are_read(value, found):
    assert OffsetRecord("g", T3, found) == read_record(OFFSET_KEY, bytes.fromhex(value))


def test_kinds_of_records_that_are_not_ours_are_passed_over():
    assert None is read_record(b"\0\3\0\1g", b"\0\0\0\0\0\1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b""),
        (b"", None),
        (b"\0", None),
        (b"\xff\xff", None),
        (OFFSET_KEY[:-1], None),
        (OFFSET_KEY, b""),
        (OFFSET_KEY, b"\0\5" + OFFSET_VALUE_3[2:]),
        (OFFSET_KEY, OFFSET_VALUE_3[:-1]),
        (GROUP_KEY, GROUP_VALUE[:-1]),
    ],
)
def test_what_cannot_be_read_is_refused(key, value):
    with pytest.raises(DecodeError):
        read_record(key, value)
