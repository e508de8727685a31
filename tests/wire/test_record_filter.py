"""What compaction does to a batch: records go, the others stay as they were; nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.compression import Compression
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import HEADER_BYTES, RecordBatch, build_batch, read_header, rebuilt
from wire.record_filter import (
    delete_horizon_ms,
    empty_batch,
    filtered_batch,
    has_null_key,
    record_spans,
    uncompressed_records,
)

BYTES = st.one_of(st.none(), st.binary(max_size=80), st.sampled_from([b"x" * 64, b"x" * 9000, b"x" * 20_000]))
HEADERS = st.lists(st.tuples(st.text(max_size=3), BYTES), max_size=2)
RECORDS = st.lists(st.tuples(BYTES, BYTES, HEADERS, st.integers(-(2**40), 2**40)), min_size=1, max_size=90)


def view(buffer) -> RecordBatch:
    batch = read_header(bytes(buffer))
    assert batch is not None
    assert batch.crc_is_valid()
    return batch


@given(records=RECORDS, seed=st.randoms(use_true_random=False), horizon_ms=st.one_of(st.none(), st.integers(0, 2**45)))
def test_the_records_that_stay_are_as_they_were(records, seed, horizon_ms):
    compression = seed.choice(list(Compression))
    made = build_batch(
        records, compression=compression, producer_id=9, producer_epoch=3, base_sequence=5, base_offset=70
    )
    batch = view(made)
    data = uncompressed_records(batch)
    spans = record_spans(batch, data)
    whole = batch.records()
    assert [(record.offset, record.key, record.value is None) for record in whole] == [
        (70 + span.offset_delta, span.key, span.is_tombstone) for span in spans
    ]
    assert has_null_key(batch) == any(record.key is None for record in whole)
    kept = [index for index in range(len(whole)) if seed.random() < 0.5] or [0]
    found = view(filtered_batch(batch, data, [spans[index] for index in kept], horizon_ms=horizon_ms))
    assert [whole[index] for index in kept] == found.records()
    assert horizon_ms == delete_horizon_ms(found)
    assert (70, batch.last_offset, 9, 3, 5) == (
        found.base_offset, found.last_offset, found.producer_id, found.producer_epoch, found.base_sequence,
    )  # fmt: skip
    assert max(whole[index].timestamp_ms for index in kept) == found.max_timestamp
    empty = view(empty_batch(found))
    assert [] == empty.records()
    assert (HEADER_BYTES, batch.last_offset, batch.last_sequence) == (
        empty.size_bytes, empty.last_offset, empty.last_sequence,
    )  # fmt: skip


@given(payload=st.binary(max_size=60), count=st.integers(-1, 5))
def test_bytes_that_are_no_records_are_refused(payload, count):
    batch = view(build_batch([(b"k", b"v", (), 1)] * 5))
    made = rebuilt(batch, payload, attributes=0, base_timestamp=0, max_timestamp=0, record_count=count)
    odd = view(made)
    code, spans = ErrorCode.NONE, []
    try:
        spans = record_spans(odd, uncompressed_records(odd))
    except RefusedError as refused:
        code = refused.code
    assert code in {ErrorCode.NONE, ErrorCode.INVALID_RECORD}
    if code is ErrorCode.NONE:
        assert count == len(spans)
        assert payload == b"".join(payload[span.start : span.end] for span in spans)


def test_a_batch_that_ends_inside_a_record_is_refused():
    batch = view(build_batch([(b"key", b"value", (), 1)]))
    data = uncompressed_records(batch)
    for size_bytes in range(len(data)):
        with pytest.raises(RefusedError):
            record_spans(batch, data[:size_bytes])
