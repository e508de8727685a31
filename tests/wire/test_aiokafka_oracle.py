"""Two implementations of one format: what one writes the other reads; without compression the bytes agree."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from wire.record_batch import Compression, build_batch, check_batches

SOME_BYTES = st.one_of(
    st.none(), st.binary(max_size=80), st.integers(60, 70).map(bytes), st.integers(8180, 8200).map(bytes)
)
HEADERS = st.lists(st.tuples(st.text(max_size=70), st.one_of(st.none(), st.binary(max_size=70))), max_size=3)
TIMESTAMPS = st.one_of(st.integers(0, 2**44), st.integers(1_700_000_000_000, 1_700_000_009_000))
RECORDS = st.lists(
    st.tuples(SOME_BYTES, SOME_BYTES, st.one_of(st.just([]), HEADERS), TIMESTAMPS), min_size=1, max_size=80
)


def theirs(records, compression, *, producer_id=-1, producer_epoch=-1, base_sequence=-1) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        2, int(compression), 0, producer_id, producer_epoch, base_sequence, batch_size=1 << 30
    )
    for offset, (key, value, headers, timestamp_ms) in enumerate(records):
        builder.append(offset, timestamp_ms, key, value, list(headers))
    return builder.build()


def read_by_them(batch):
    return [(record.key, record.value, record.headers, record.timestamp) for record in DefaultRecordBatch(batch)]


def read_by_us(batch):
    (view,) = check_batches(batch, max_batch_bytes=1 << 30)
    return [(record.key, record.value, list(record.headers), record.timestamp_ms) for record in view.records()]


@given(RECORDS)
def test_an_uncompressed_batch_has_the_same_bytes(records):
    assert theirs(records, Compression.NONE) == build_batch(records)


@given(st.integers(0, 2**40), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1))
def test_a_producers_identity_lies_where_they_put_it(producer_id, producer_epoch, base_sequence):
    identity = {"producer_id": producer_id, "producer_epoch": producer_epoch, "base_sequence": base_sequence}
    records = [(None, b"v", [], 5)]
    assert theirs(records, Compression.NONE, **identity) == build_batch(records, **identity)


@pytest.mark.parametrize("compression", Compression)
@given(records=RECORDS)
def test_each_reads_what_the_other_wrote(compression, records):
    assert records == read_by_us(theirs(records, compression))
    assert records == read_by_them(build_batch(records, compression=compression))
    assert records == read_by_us(build_batch(records, compression=compression))


def test_more_records_than_two_varint_bytes_can_count():
    records = [(None, b"%d" % number, [], 1_700_000_000_000 + number // 3) for number in range(20_000)]
    assert theirs(records, Compression.NONE) == build_batch(records)
    assert records == read_by_us(build_batch(records, compression=Compression.ZSTD))


def test_fields_of_several_mebibytes():
    big = bytes(range(256)) * 20_000
    records = [(big, None, [], 1), (None, big, [], 2), (b"k", b"v", [("h", big)], 3)]
    assert theirs(records, Compression.NONE) == build_batch(records)
    assert records == read_by_us(build_batch(records))
