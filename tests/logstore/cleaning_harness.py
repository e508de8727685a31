"""Keyed records in and out of a log, and its cleanings, by hand."""

from logstore.cleaner import cleanable, complete, plan_cleaning, take_in
from logstore.cleaning import Cleaning
from logstore.log_config import LogConfig
from logstore.partition_log import PartitionLog
from logstore.segment_swap import CleanedSegment
from wire.record_batch import build_batch, check_batches, iterate_batches

COMPACT = LogConfig(cleanup_policy="compact", segment_bytes=700, index_interval_bytes=100, segment_ms=10**9)


def append_keyed(log: PartitionLog, records, *, timestamp_ms: int = 1000, epoch: int = 1, **options):
    """`records`: (key, value) pairs, each a batch together."""
    buffer = build_batch(
        [(key, value, (), timestamp_ms + index) for index, (key, value) in enumerate(records)], **options
    )
    return log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=epoch, now_ms=0)


def commit(owner, log: PartitionLog) -> None:
    """Everything is durable, committed and checkpointed."""
    owner.settle()
    log.advance_high_watermark(log.log_end_offset)
    owner.directory.checkpoint()
    owner.settle()


def begin(log: PartitionLog, *, now_ms: int = 0, drops_tombstones: bool = True, buffer_bytes: int = 1 << 16):
    """A cleaning of all that can be cleaned; None where nothing can."""
    found = cleanable(log, now_ms, drops_tombstones=drops_tombstones)
    if found is None:
        return None
    plan = plan_cleaning(found, now_ms, drops_tombstones=drops_tombstones)
    return Cleaning(log.disk.storage, plan, buffer_bytes=buffer_bytes)


def clean(log: PartitionLog, **options) -> Cleaning | None:
    """One whole cleaning of what can be cleaned, due or not."""
    cleaning = begin(log, **options)
    if cleaning is None:
        return None
    while (done := cleaning.step()) is not None:
        if isinstance(done, CleanedSegment):
            assert take_in(log, cleaning.plan, done)
    complete(log, cleaning)
    return cleaning


def read_batches(log: PartitionLog, start: int | None = None, *, max_bytes: int = 400):
    offset = log.log_start_offset if start is None else start
    found = []
    while offset < log.log_end_offset:
        got = log.read(offset, max_bytes=max_bytes, upper_offset=log.log_end_offset)
        assert got.next_offset > offset, f"a reader is stuck at {offset}"
        found += list(iterate_batches(got.data))
        offset = got.next_offset
    return found


def read_keyed(log: PartitionLog, start: int | None = None, **options):
    """(offset, key, value) of every record from `start` on."""
    first = log.log_start_offset if start is None else start
    return [
        (record.offset, record.key, record.value)
        for batch in read_batches(log, start, **options)
        for record in batch.records()
        if record.offset >= first
    ]


def as_map(records) -> dict:
    """What a consumer that keeps the last value of each key ends with."""
    found: dict = {}
    for _, key, value in records:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found
