"""The view of a batch, what a producer may send, and what a leader writes into it."""

import struct

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ErrorCode, RefusedError
from wire.record_batch import (
    HEADER_BYTES,
    Compression,
    Record,
    build_batch,
    check_batches,
    iterate_batches,
    read_header,
    stamp,
    stamp_log_append_time,
)
from wire.records import RECORDS_PER_BATCH_MAX

NOW_MS = 1_700_000_000_000
MIB = 1024 * 1024
FIELDS = {  # name: (position, format)
    "base_offset": (0, ">q"),
    "batch_length": (8, ">i"),
    "magic": (16, ">b"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "record_count": (57, ">i"),
}


def plain_batch(count: int = 3, **options) -> bytearray:
    return build_batch([(None, b"value %d" % number, (), NOW_MS + number) for number in range(count)], **options)


def altered(batch: bytearray, **fields: int) -> bytearray:
    """The batch with header fields set and a CRC that fits: a liar, not a broken line."""
    changed = bytearray(batch)
    for name, value in fields.items():
        position, code = FIELDS[name]
        struct.pack_into(code, changed, position, value)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return changed


def refusal_of(buffer, *, max_batch_bytes: int = MIB) -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        check_batches(buffer, max_batch_bytes=max_batch_bytes)
    return refusal.value


def test_the_view_names_every_field_of_the_header():
    batch = read_header(
        plain_batch(base_offset=40, leader_epoch=7, producer_id=9, producer_epoch=2, base_sequence=11), 0
    )
    assert (40, 42, 43, 3) == (batch.base_offset, batch.last_offset, batch.next_offset, batch.record_count)
    assert (7, 2) == (batch.partition_leader_epoch, batch.magic)
    assert (9, 2, 11) == (batch.producer_id, batch.producer_epoch, batch.base_sequence)
    assert (NOW_MS, NOW_MS + 2) == (batch.base_timestamp, batch.max_timestamp)
    assert len(batch.buffer) == batch.size_bytes == batch.batch_length + 12
    assert batch.crc_is_valid()
    assert Compression.NONE is batch.compression
    assert "RecordBatch(40..42, 3 records" in repr(batch)


def test_a_view_copies_nothing():
    buffer = plain_batch()
    batch = read_header(buffer)
    buffer[-2] ^= 1
    assert not batch.crc_is_valid()
    assert buffer == batch.buffer


def test_records_come_back_with_offsets_keys_nulls_and_headers():
    written = [
        (None, b"plain", (), 10),
        (b"", b"", (), 10),
        (b"key", None, [("a", b"1"), ("", None), ("ключ", b"")], 5),
        (None, None, (), 1_000_000),
    ]
    assert [
        Record(100, 10, None, b"plain", ()),
        Record(101, 10, b"", b"", ()),
        Record(102, 5, b"key", None, (("a", b"1"), ("", None), ("ключ", b""))),
        Record(103, 1_000_000, None, None, ()),
    ] == read_header(build_batch(written, base_offset=100)).records()


def test_the_maximum_timestamp_is_the_latest_wherever_it_stands():
    batch = read_header(build_batch([(None, b"", (), time) for time in (50, 90, 10)]))
    assert (50, 90) == (batch.base_timestamp, batch.max_timestamp)
    assert [50, 90, 10] == [record.timestamp_ms for record in batch.records()]


def test_batches_one_after_the_other_are_found_and_a_partial_last_one_is_left():
    first, second = plain_batch(), plain_batch(5, base_offset=3)
    whole = first + second
    assert [3, 5] == [batch.record_count for batch in iterate_batches(whole)]
    for cut in range(len(first), len(whole)):
        assert [3] == [batch.record_count for batch in iterate_batches(memoryview(whole)[:cut])]
    assert [] == list(iterate_batches(whole[:60]))
    assert 3 == read_header(whole, len(first)).base_offset


def test_a_producer_may_send_several_batches():
    sizes = [batch.size_bytes for batch in check_batches(plain_batch() + plain_batch(2), max_batch_bytes=MIB)]
    assert [len(plain_batch()), len(plain_batch(2))] == sizes


def test_a_producers_batch_cut_anywhere_is_refused():
    whole = plain_batch()
    for cut in range(1, len(whole)):
        assert ErrorCode.CORRUPT_MESSAGE == refusal_of(whole[:cut]).code, cut
    assert ErrorCode.CORRUPT_MESSAGE == refusal_of(whole + b"\0").code
    assert ErrorCode.INVALID_RECORD == refusal_of(b"").code


def test_one_flipped_bit_anywhere_that_the_crc_covers_is_noticed():
    whole = plain_batch()
    for position in range(17, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        assert ErrorCode.CORRUPT_MESSAGE == refusal_of(broken).code, position


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"batch_length": 48}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": 0}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": -1}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": -(2**31)}, ErrorCode.CORRUPT_MESSAGE),
        ({"batch_length": 2**31 - 1}, ErrorCode.CORRUPT_MESSAGE),
        ({"magic": 0}, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ({"magic": 1}, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ({"magic": 3}, ErrorCode.CORRUPT_MESSAGE),
        ({"magic": -1}, ErrorCode.CORRUPT_MESSAGE),
        ({"record_count": 0}, ErrorCode.INVALID_RECORD),
        ({"record_count": -1, "last_offset_delta": -2}, ErrorCode.INVALID_RECORD),
        ({"record_count": 2}, ErrorCode.INVALID_RECORD),
        ({"last_offset_delta": 3}, ErrorCode.INVALID_RECORD),
        ({"record_count": 2**31 - 1, "last_offset_delta": 2**31 - 2}, ErrorCode.INVALID_RECORD),
        ({"attributes": 5}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x20}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x10}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x08}, ErrorCode.INVALID_TIMESTAMP),
        ({"producer_id": 5}, ErrorCode.INVALID_RECORD),
        ({"producer_id": 5, "producer_epoch": 1}, ErrorCode.INVALID_RECORD),
        ({"producer_id": 5, "base_sequence": 1}, ErrorCode.INVALID_RECORD),
        ({"producer_id": 5, "producer_epoch": 1, "base_sequence": -2}, ErrorCode.INVALID_RECORD),
        ({"producer_id": -2, "producer_epoch": 1, "base_sequence": 1}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x10, "producer_id": 5, "producer_epoch": 0, "base_sequence": 0}, ErrorCode.INVALID_RECORD),
        ({"attributes": 0x20, "producer_id": 5, "producer_epoch": 0, "base_sequence": 0}, ErrorCode.INVALID_RECORD),
    ],
)
def test_a_header_that_lies_is_refused_although_its_crc_fits(fields, code):
    assert code == refusal_of(altered(plain_batch(), **fields)).code


def test_an_old_message_shorter_than_a_header_is_called_by_its_format():
    message = bytes(8) + struct.pack(">i", 14) + bytes(4) + b"\x01" + bytes(9)
    refusal = refusal_of(message)
    assert ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT == refusal.code
    assert "send record batches of format 2" in refusal.message


def test_a_batch_above_the_limit_is_refused_and_one_at_the_limit_is_not():
    batch = plain_batch()
    assert 1 == len(check_batches(batch, max_batch_bytes=len(batch)))
    refusal = refusal_of(batch, max_batch_bytes=len(batch) - 1)
    assert ErrorCode.MESSAGE_TOO_LARGE == refusal.code
    assert f"max.message.bytes={len(batch) - 1}" in refusal.message


@pytest.mark.parametrize("producer", [(0, 0, 0), (5, 2, 7), (2**63 - 1, 2**15 - 1, 2**31 - 1)])
def test_an_idempotent_batch_passes(producer):
    producer_id, epoch, sequence = producer
    batch = plain_batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    (view,) = check_batches(batch, max_batch_bytes=MIB)
    assert producer == (view.producer_id, view.producer_epoch, view.base_sequence)


@pytest.mark.parametrize(
    ("base_sequence", "last_sequence"), [(0, 2), (2**31 - 3, 2**31 - 1), (2**31 - 2, 0), (2**31 - 1, 1)]
)
def test_sequences_begin_anew_after_the_greatest(base_sequence, last_sequence):
    batch = plain_batch(3, producer_id=5, producer_epoch=0, base_sequence=base_sequence)
    assert last_sequence == check_batches(batch, max_batch_bytes=MIB)[0].last_sequence


def test_a_batch_without_a_producer_has_no_sequence():
    assert -1 == read_header(plain_batch()).last_sequence


@pytest.mark.parametrize("fields", [{"base_sequence": 0}, {"producer_epoch": 0, "base_sequence": 0}])
def test_clients_that_leave_zeros_beside_a_missing_producer_id_are_served(fields):
    """Sarama does; Kafka takes such batches too."""
    assert 1 == len(check_batches(altered(plain_batch(), **fields), max_batch_bytes=MIB))


def test_control_batches_can_be_viewed_for_the_broker_writes_them():
    batch = read_header(altered(plain_batch(), attributes=0x30))
    assert (True, True, False) == (batch.is_control, batch.is_transactional, batch.is_log_append_time)


@given(st.integers(0, 2**62), st.integers(0, 2**31 - 1))
def test_stamping_moves_the_batch_and_leaves_its_crc_valid(base_offset, leader_epoch):
    buffer = b"\xee" * 5 + plain_batch()
    stamp(memoryview(buffer := bytearray(buffer)), 5, base_offset=base_offset, leader_epoch=leader_epoch)
    batch = read_header(buffer, 5)
    assert (base_offset, leader_epoch) == (batch.base_offset, batch.partition_leader_epoch)
    assert batch.crc_is_valid()
    assert [base_offset, base_offset + 1, base_offset + 2] == [record.offset for record in batch.records()]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_log_append_time_is_every_records_time(compression):
    buffer = bytearray(b"\xee" * 3) + plain_batch(100, compression=compression)
    stamp_log_append_time(buffer, 3, timestamp_ms=NOW_MS + 5_000)
    batch = read_header(buffer, 3)
    assert batch.crc_is_valid()
    assert (True, compression) == (batch.is_log_append_time, batch.compression)
    assert {NOW_MS + 5_000} == {record.timestamp_ms for record in batch.records()}


def test_a_batch_that_compression_makes_larger_is_sent_plain():
    batch = read_header(build_batch([(None, b"x", (), 1)], compression=Compression.GZIP))
    assert Compression.NONE is batch.compression


def test_timestamps_and_header_names_that_cannot_be_written_are_refused():
    for timestamp_ms in (2**63, -(2**63)):
        with pytest.raises(RefusedError, match="milliseconds") as refusal:
            build_batch([(None, b"", (), timestamp_ms)])
        assert ErrorCode.INVALID_TIMESTAMP == refusal.value.code
    with pytest.raises(RefusedError, match="header name"):
        build_batch([(None, b"", [("\ud800", b"")], 1)])


def test_more_records_than_may_be_read_back_are_refused_at_the_door():
    count = RECORDS_PER_BATCH_MAX + 1
    liar = altered(plain_batch(), record_count=count, last_offset_delta=count - 1)
    assert f"more than {RECORDS_PER_BATCH_MAX}" in refusal_of(liar).message
    with pytest.raises(RefusedError):
        read_header(liar).records()


def test_the_header_is_61_bytes():
    assert HEADER_BYTES == len(build_batch([(None, None, (), 1)])) - 7
