"""One cleaning of one log: of the records with the same key the last one stays (`cleanup.policy=compact`).

Runs in the cleaner's thread, a step at a time, over segments that nobody writes any more; it touches the storage and
nothing of ours, and gives back `CleanedSegment`s, which the owner's loop puts in place (`logstore/cleaner.py`). First
the keys of the dirty part go into an `OffsetMap`, as far as it has room; then all segments up to there are copied
without the records that the map supersedes, several small ones into one. Sources: Kafka's Cleaner, KIP-58, KIP-534.
Refuses what it cannot read: a batch whose CRC is wrong (`DamagedSegmentError`), records that do not decompress or parse
(RefusedError): the log stays as it is. Invariants:
- no offset moves: a batch that stays keeps its range of offsets, its epoch and its sequences;
- oldest segments first, so at any crash a key's older records are gone before its tombstone is;
- a tombstone goes only in a later cleaning than the one that made it the first of its key (`first_dirty_offset`), and
  only `delete.retention.ms` after that one: whoever reads from the beginning has so long to learn of the deletion;
- the last five batches of a producer stay, empty if need be, so its retries are known from the log alone (S13); so does
  the last batch of what is cleaned, so the log ends where it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from logstore.batch_walk import OFFSET_SPAN, BrokenBatchError, scan_batches
from logstore.cleaned_file import CleanedFile
from logstore.damage import Gap, next_intact
from logstore.disk import storage_refusal
from logstore.offset_map import OffsetMap
from logstore.segment_swap import CleanedSegment
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import RecordBatch
from wire.record_filter import (
    RecordSpan,
    delete_horizon_ms,
    empty_batch,
    filtered_batch,
    record_spans,
    uncompressed_records,
)
from wire.records import TIMESTAMP_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from logstore.log_config import LogConfig
    from logstore.segment import Segment
    from logstore.storage import Bytes, Storage

STEP_BYTES: Final = 512 << 10
"""Read and written by one step: so much passes between two looks at the throttle."""
REST_BYTES: Final = 32 << 10
"""Worked on without a rest: the owner's loop, which shares the interpreter, gets its turn then."""
HORIZON_MAX_MS: Final = 1 << 53
"""`delete.retention.ms` may be anything; this is the year 287396."""


class SegmentFile(NamedTuple):
    """A segment as it was when the cleaning was planned."""

    path: str
    base_offset: int
    next_offset: int
    size_bytes: int


class CleaningPlan(NamedTuple):
    """What is to be cleaned: all segments from the log's first one to the last that may be cleaned."""

    folder: str
    segments: tuple[Segment, ...]
    files: tuple[SegmentFile, ...]
    first_dirty_offset: int
    config: LogConfig
    now_ms: int
    drops_tombstones: bool
    batch_ends_kept: frozenset[int]
    """Last offsets of the batches by which producers are remembered."""
    reserved_bytes: int
    generation: int

    @property
    def end_offset(self) -> int:
        return self.files[-1].next_offset


class DamagedSegmentError(Exception):
    """Bytes below the high watermark are no intact batch (S18)."""

    def __init__(self, segment: Segment, gap: Gap, reason: str) -> None:
        super().__init__(f"offsets {gap.offset} to {gap.next_offset - 1}: {reason}")
        self.segment = segment
        self.gap = gap


class Worked(NamedTuple):
    """What one step read and wrote."""

    size_bytes: int


class CleaningTotals:
    """What a cleaning has done so far."""

    __slots__ = ("keyless_records", "read_bytes", "removed_records", "written_bytes")

    def __init__(self) -> None:
        self.read_bytes = self.written_bytes = self.removed_records = self.keyless_records = 0


class Cleaning:
    """Call `step` until it answers None, never two at a time; `discard` where it is given up before."""

    def __init__(
        self,
        storage: Storage,
        plan: CleaningPlan,
        *,
        buffer_bytes: int,
        rest: Callable[[], object] = lambda: None,
    ) -> None:
        """`buffer_bytes`: of the offset map. `rest` is called every few KiB, in the thread that runs the step."""
        self.plan = plan
        self.totals = CleaningTotals()
        self.end_offset = plan.first_dirty_offset
        """Up to there the log is clean when the last step has been taken in."""
        self.first_horizon_ms: int | None = None
        """When the first of the tombstones that stay may go."""
        self._storage = storage
        self._rest = rest
        self._map = OffsetMap(buffer_bytes=buffer_bytes, keys_max=plan.end_offset - plan.first_dirty_offset)
        self._file: CleanedFile | None = None
        self._unrested_bytes = self._step_bytes = 0
        self._steps = self._run()

    def step(self) -> Worked | CleanedSegment | None:
        """A piece of the work, in any thread: bytes, or a segment to be put in place before the next step; None: done.

        DamagedSegmentError, RefusedError, OSError: nothing more will come.
        """
        try:
            return next(self._steps, None)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Not while a step runs: the unfinished files go."""
        self._steps.close()
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _run(self) -> Generator[Worked | CleanedSegment, None, None]:
        yield from self._learn_keys()
        for first, count in _groups(self.plan, self.end_offset):
            yield from self._clean(first, count)
        self._storage.fsync_directory(self.plan.folder)

    # ---- reading

    def _batches(self, index: int) -> Iterator[RecordBatch]:
        """Every batch of a segment, its CRC and offset checked."""
        file = self.plan.files[index]
        handle = self._storage.open_read_only(file.path)

        def read_at(size_bytes: int, position: int) -> bytes:
            try:
                return self._storage.pread(handle, size_bytes, position)
            except OSError as error:
                raise RefusedError(ErrorCode.CORRUPT_MESSAGE, f"the disk cannot read {file.path}: {error}") from error

        offset = file.base_offset
        try:
            for _, batch in scan_batches(
                read_at,
                0,
                file.size_bytes,
                file.base_offset,
                end_offset=file.next_offset,
                may_have_holes=self.plan.segments[index].may_have_holes,
            ):
                yield batch
                offset = batch.next_offset
                self._worked(batch.size_bytes)
                self.totals.read_bytes += batch.size_bytes
        except BrokenBatchError as broken:
            position = broken.position
            found = next_intact(read_at, position, file.size_bytes, offset)
            end_position, next_offset = found or (file.size_bytes, file.next_offset)
            gap = Gap(file.base_offset, position, end_position, offset, max(next_offset, offset))
            raise DamagedSegmentError(self.plan.segments[index], gap, broken.reason) from broken
        finally:
            self._storage.close(handle)

    def _worked(self, size_bytes: int) -> None:
        self._step_bytes += size_bytes
        self._unrested_bytes += size_bytes
        if self._unrested_bytes >= REST_BYTES:
            self._unrested_bytes = 0
            self._rest()

    def _end_step(self) -> Worked:
        worked, self._step_bytes = Worked(self._step_bytes), 0
        return worked

    # ---- the keys of the dirty part

    def _learn_keys(self) -> Iterator[Worked]:
        """Fill the map; `end_offset` is the first offset for which it had no room, or the end."""
        plan = self.plan
        for index, file in enumerate(plan.files):
            if file.next_offset <= plan.first_dirty_offset:
                continue
            for batch in self._batches(index):
                if batch.next_offset > plan.first_dirty_offset and not self._learn(batch):
                    return
                if self._step_bytes >= STEP_BYTES:
                    yield self._end_step()
        self.end_offset = plan.end_offset

    def _learn(self, batch: RecordBatch) -> bool:
        """False where the map is full."""
        base_offset, first_dirty_offset, put = batch.base_offset, self.plan.first_dirty_offset, self._map.put
        for span in record_spans(batch, uncompressed_records(batch)):
            offset = base_offset + span.offset_delta
            if span.key is not None and offset >= first_dirty_offset and not put(span.key, offset):
                self.end_offset = offset
                return False
        return True

    # ---- copying

    def _clean(self, first: int, count: int) -> Iterator[Worked | CleanedSegment]:
        """Segments [first, first + count) become one; or stay, where nothing would change."""
        plan = self.plan
        files = plan.files[first : first + count]
        self._check_space(sum(file.size_bytes for file in files))
        made = self._file = CleanedFile(
            self._storage,
            plan.folder,
            files[0].base_offset,
            index_interval_bytes=plan.config.index_interval_bytes,
        )
        is_changed, dropped = count > 1, None
        for index in range(first, first + count):
            for batch in self._batches(index):
                kept = self._kept(batch)
                is_changed = is_changed or kept is not batch.source
                if kept is None:
                    dropped = batch
                else:
                    self._append(made, batch, kept)
                if self._step_bytes >= STEP_BYTES:
                    yield self._end_step()
        if dropped is not None and not made.size_bytes:
            self._append(made, dropped, empty_batch(dropped))  # a segment is never empty, nor is its age unknown
        if is_changed and made.size_bytes < OFFSET_SPAN:
            made.finish()
            self._file = None
            yield CleanedSegment(plan.segments[first : first + count], made.size_bytes)
        else:
            made.discard()
            self._file = None

    def _append(self, made: CleanedFile, batch: RecordBatch, kept: Bytes) -> None:
        data = batch.buffer if kept is batch.source else kept
        made.append(data, batch.base_offset, RecordBatch(data, 0).max_timestamp)
        self.totals.written_bytes += len(data)
        self._worked(len(data))

    def _check_space(self, size_bytes: int) -> None:
        free_bytes = self._storage.free_bytes(self.plan.folder)
        if free_bytes - size_bytes < self.plan.reserved_bytes:
            raise storage_refusal(
                f"{free_bytes} bytes are free, and cleaning {size_bytes} more would go below log.dir.reserved.bytes"
            )

    def _kept(self, batch: RecordBatch) -> Bytes | None:
        """The batch without what is superseded; its own `source` where all of it stays, None where nothing does."""
        if batch.base_offset >= self.end_offset:
            return batch.source
        data = uncompressed_records(batch)
        spans = record_spans(batch, data)
        drops_tombstones = self._drops_tombstones(batch)
        kept = [span for span in spans if self._stays(batch, span, drops_tombstones=drops_tombstones)]
        self.totals.removed_records += len(spans) - len(kept)
        if not kept:
            must_stay = batch.last_offset in self.plan.batch_ends_kept or batch.next_offset == self.plan.end_offset
            if not must_stay:
                return None
            return empty_batch(batch) if spans else batch.source
        horizon_ms = self._horizon(batch, kept)
        if horizon_ms is None and len(kept) == len(spans):
            return batch.source
        return filtered_batch(batch, data, kept, horizon_ms=horizon_ms)

    def _stays(self, batch: RecordBatch, span: RecordSpan, *, drops_tombstones: bool) -> bool:
        offset = batch.base_offset + span.offset_delta
        if offset >= self.end_offset:
            return True
        if span.key is None:
            self.totals.keyless_records += 1
            return False
        if span.is_tombstone and drops_tombstones:
            return False
        return self._map.last_offset(span.key) <= offset

    # ---- tombstones

    def _drops_tombstones(self, batch: RecordBatch) -> bool:
        """It was in the clean part before this cleaning, and has been there for `delete.retention.ms`."""
        horizon_ms = delete_horizon_ms(batch)
        return (
            self.plan.drops_tombstones
            and horizon_ms is not None
            and horizon_ms <= self.plan.now_ms
            and batch.last_offset < self.plan.first_dirty_offset
        )

    def _horizon(self, batch: RecordBatch, kept: list[RecordSpan]) -> int | None:
        """The delete horizon that a batch with tombstones is to get; None where it has one, or needs none.

        One that came from a leader is not this log's: here older records of the key may have lain until now.
        """
        if batch.last_offset >= self.end_offset or not any(span.is_tombstone for span in kept):
            return None
        known_ms = delete_horizon_ms(batch)
        wanted_ms = min(self.plan.now_ms + self.plan.config.delete_retention_ms, HORIZON_MAX_MS)
        is_clean = batch.last_offset < self.plan.first_dirty_offset
        horizon_ms = None if known_ms is not None and (is_clean or known_ms >= wanted_ms) else wanted_ms
        if horizon_ms is not None:
            base_ms = batch.base_timestamp - horizon_ms
            if any(abs(base_ms + span.timestamp_delta) > TIMESTAMP_MAX for span in kept):
                return None  # no such timestamp can be written; such a tombstone stays
        due_ms = horizon_ms if horizon_ms is not None else known_ms
        if due_ms is not None and (self.first_horizon_ms is None or due_ms < self.first_horizon_ms):
            self.first_horizon_ms = due_ms
        return horizon_ms


def _groups(plan: CleaningPlan, end_offset: int) -> Iterator[tuple[int, int]]:
    """(first, count) of runs of segments below `end_offset` that fit into one."""
    first = count = size_bytes = 0
    for index, file in enumerate(plan.files):
        if file.base_offset >= end_offset:
            break
        fits = size_bytes + file.size_bytes <= plan.config.segment_bytes
        if count and not (fits and file.next_offset - plan.files[first].base_offset < OFFSET_SPAN):
            yield first, count
            first, count, size_bytes = index, 0, 0
        count += 1
        size_bytes += file.size_bytes
    if count:
        yield first, count
