"""One segment: a file of batches, its two indexes, and what is known of its offsets and timestamps.

Owns `%020d.log/.index/.timeindex`. An append is one pwrite at `size_bytes`; what a failed write left behind is cut
before anybody can read it (S19). Lookups use the index and believe only the log: an answer that the log contradicts
makes the indexes be built again. Invariants: batches lie back to back from 0 to `size_bytes`, except across `gaps`
(damage, S18), and their offsets lie in [base_offset, next_offset).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from logstore.batch_walk import BrokenBatchError, scan_batches, walk_heads
from logstore.disk import OUT_OF_SPACE, read_refusal, storage_refusal
from logstore.offset_index import OffsetIndex
from logstore.open_files import OpenFile
from logstore.time_index import TimeIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logstore.batch_walk import BatchHead
    from logstore.damage import Gap
    from logstore.disk import Disk
    from logstore.log_config import LogConfig
    from logstore.storage import Bytes
    from wire.record_batch import RecordBatch

LOG_SUFFIX: Final = ".log"
NO_TIMESTAMP: Final = -1
UNKNOWN: Final = -(2**62)
INDEX_SLACK: Final = 8
"""A walk this many index intervals long proves that entries are missing (one batch may be as long as it likes)."""


class Placed(NamedTuple):
    """A batch within the buffer that is appended."""

    position: int
    base_offset: int
    max_timestamp_ms: int


class Segment:
    """A segment that may still grow (the active one) or not."""

    __slots__ = (
        "_first_timestamp_ms",
        "_indexed_position",
        "_max_timestamp_ms",
        "_max_timestamp_offset",
        "base_offset",
        "disk",
        "file",
        "gaps",
        "index_interval_bytes",
        "may_have_holes",
        "next_offset",
        "offset_index",
        "size_bytes",
        "time_index",
    )

    def __init__(
        self,
        disk: Disk,
        folder: str,
        base_offset: int,
        *,
        size_bytes: int,
        next_offset: int,
        config: LogConfig,
        may_have_holes: bool,
    ) -> None:
        stem = f"{folder}/{base_offset:020d}"
        self.disk = disk
        self.base_offset = base_offset
        self.next_offset = next_offset
        self.size_bytes = size_bytes
        self.index_interval_bytes = config.index_interval_bytes
        self.may_have_holes = may_have_holes
        self.file = OpenFile(stem + LOG_SUFFIX)
        self.offset_index = OffsetIndex(disk.storage, stem)
        self.time_index = TimeIndex(disk.storage, stem)
        self.gaps: tuple[Gap, ...] = ()
        self._first_timestamp_ms = UNKNOWN
        self._max_timestamp_ms = UNKNOWN
        self._max_timestamp_offset = base_offset
        self._indexed_position = UNKNOWN

    # ---- writing

    def append(self, buffer: Bytes, placed: list[Placed], *, next_offset: int) -> None:
        """One write of the whole buffer at the end.

        RefusedError(KAFKA_STORAGE_ERROR) when the disk is full, no descriptor is free, or what must be known first
        cannot be read: nothing of it stays. OSError for any other failure: the directory is offline then, and whether
        the bytes are on disk nobody knows.
        """
        if self._indexed_position == UNKNOWN:
            self._load_state_or_refuse()
        disk = self.disk
        start = self.size_bytes
        handle = self.file.handle
        if handle < 0:
            handle = self._open_or_refuse()
        try:
            written = disk.storage.pwrite(handle, buffer, start)
        except OSError as error:
            self._write_failed(error)
        if written != len(buffer):
            self._cut_partial_write(f"only {written} of {len(buffer)} bytes could be written")
        self.size_bytes = start + written
        self.next_offset = next_offset
        for position, base_offset, max_timestamp_ms in placed:
            self.note_batch(start + position, base_offset, max_timestamp_ms)

    def note_batch(self, position: int, base_offset: int, max_timestamp_ms: int) -> None:
        """Count a batch into timestamps and indexes: an entry at most every `index_interval_bytes`."""
        if self._first_timestamp_ms == UNKNOWN and position == 0:
            self._first_timestamp_ms = max_timestamp_ms
        if max_timestamp_ms > self._max_timestamp_ms:
            self._max_timestamp_ms = max_timestamp_ms
            self._max_timestamp_offset = base_offset
        if position - self._indexed_position > self.index_interval_bytes:
            self._add_to_indexes(position, base_offset)

    def _add_to_indexes(self, position: int, base_offset: int) -> None:
        """Whatever an index file does, the batch is in the log: an entry that fails now is made for the next batch.

        The timestamp first: both indexes are always complete up to the same batch.
        """
        try:
            self._note_timestamp()
        except OSError:
            return
        self.offset_index.append(base_offset - self.base_offset, position)
        self._indexed_position = position

    def _note_timestamp(self) -> None:
        self.time_index.append_if_later(self._max_timestamp_ms, self._max_timestamp_offset - self.base_offset)

    def _load_state_or_refuse(self) -> None:
        try:
            self.load_state()
        except OSError as error:
            raise read_refusal(self.file.path, error) from error

    def _open_or_refuse(self) -> int:
        try:
            return self.disk.open_files.handle(self.file)
        except OSError as error:
            self.disk.refuse_or_fail(error, f"no space to open {self.file.path}")

    def _write_failed(self, error: OSError) -> NoReturn:
        if error.errno in OUT_OF_SPACE:
            self._cut_partial_write(str(error))
        self.disk.fail(error)
        raise error

    def _cut_partial_write(self, reason: str) -> NoReturn:
        """S19, S15: what was refused is gone from the disk before the refusal is spoken."""
        try:
            self.cut(self.size_bytes)
        except OSError as error:
            self.disk.fail(error)
            raise
        self.disk.recheck_space()
        raise storage_refusal(
            f"the disk of log directory {self.disk.path} is full ({reason}): nothing was written; free space or lower"
            " retention; reads go on"
        )

    def cut(self, size_bytes: int) -> None:
        """Shorten the file, durably."""
        handle = self.disk.open_files.handle(self.file)
        self.disk.storage.truncate(handle, size_bytes)
        self.disk.storage.fsync(handle)

    def create_file(self) -> None:
        self.disk.open_files.handle(self.file, create=True)
        self._indexed_position = 0
        self._max_timestamp_ms = NO_TIMESTAMP

    def flush_indexes(self) -> None:
        """Move what the indexes hold in memory into their files, with the greatest timestamp so far."""
        if self._indexed_position != UNKNOWN:
            with contextlib.suppress(OSError):
                self._note_timestamp()
            self.offset_index.flush()
            self.time_index.flush()

    # ---- what is known

    @property
    def first_timestamp_ms(self) -> int:
        """The first batch's max timestamp, from which the segment's age is counted; NO_TIMESTAMP when empty.

        Also where that batch is broken: its age keeps nobody from writing behind it, and readers will meet it (S18).
        """
        if self._first_timestamp_ms == UNKNOWN:
            try:
                head = next(self.heads(0, self.base_offset), None)
            except BrokenBatchError:
                head = None
            if head is None:
                return NO_TIMESTAMP
            self._first_timestamp_ms = head.max_timestamp_ms
        return self._first_timestamp_ms

    @property
    def max_timestamp_ms(self) -> int:
        """The greatest timestamp; NO_TIMESTAMP where no batch carries one."""
        if self._max_timestamp_ms == UNKNOWN:
            self.load_state()
        return self._max_timestamp_ms

    @property
    def modified_ms(self) -> int:
        status = self.disk.storage.status(self.file.path)
        return status.modified_ms if status else 0

    def load_state(self) -> None:
        """Learn timestamps and the index's end after a start: from the index, then by walking what it does not cover.

        What a crash lost of the index is found missing here or at a lookup, and built again. After an OSError nothing
        counts as known.
        """
        try:
            is_sound = self._learn_from_indexes()
        except (BrokenBatchError, _IndexError):
            is_sound = False
        except OSError:
            self._forget_state()
            raise
        if not is_sound:
            self.rebuild_indexes()

    def _learn_from_indexes(self) -> bool:
        """False where an index lacks entries, or its last one is not what the log says."""
        entry, latest = self.offset_index.last() or (0, 0), self.time_index.last()
        self._indexed_position = entry[1]
        self._max_timestamp_ms, relative = latest or (NO_TIMESTAMP, 0)
        self._max_timestamp_offset = self.base_offset + relative
        if entry[1] >= self.size_bytes > 0 or entry[1] > self.size_bytes:
            return False
        if latest is not None:
            offset = self.base_offset + relative
            head = self._walk_to(offset, self.offset_index.floor(relative))
            if head is None or head.max_timestamp_ms != latest[0]:
                return False
        for head in self.heads(entry[1], self.base_offset + entry[0]):
            if head.position == entry[1] > 0 and head.max_timestamp_ms > self._max_timestamp_ms:
                return False
            if head.position - entry[1] > self.index_interval_bytes:
                return False
            self.note_batch(head.position, head.base_offset, head.max_timestamp_ms)
        return True

    def rebuild_indexes(self) -> None:
        """Write both indexes anew from the log's headers, up to the first damage that no gap names yet."""
        try:
            self.reset_indexes()
            with contextlib.suppress(BrokenBatchError):
                for head in self.heads(0, self.base_offset):
                    self.note_batch(head.position, head.base_offset, head.max_timestamp_ms)
            self.flush_indexes()
        except OSError:
            self._forget_state()  # half a walk knows too small a timestamp: retention would believe it
            raise

    def cut_to(self, position: int, next_offset: int) -> None:
        """End the segment at `position`, durably; the indexes first, for one that says too little heals itself."""
        self.forget_from(position, next_offset)
        self.cut(position)

    def forget_from(self, position: int, next_offset: int) -> None:
        """The file ends at `position`: indexes, timestamps and gaps beyond are void."""
        self.size_bytes = position
        self.next_offset = next_offset
        self.offset_index.truncate_to_position(position)
        self.time_index.truncate_to_offset(next_offset - self.base_offset)
        self.gaps = tuple(gap for gap in self.gaps if gap.position < position)
        self._first_timestamp_ms = UNKNOWN
        self._forget_state()

    def _forget_state(self) -> None:
        self._max_timestamp_ms = UNKNOWN
        self._indexed_position = UNKNOWN

    def begin_scan(self, position: int, next_offset: int) -> None:
        """Recovery reads on from here and tells each batch to `note_batch`; the indexes keep what lies before.

        S3: from the disk: what the last process failed to sync may still lie in memory, and would be taken for synced.
        """
        self.disk.storage.drop_clean_pages(self.disk.open_files.handle(self.file), position)
        size_bytes, gaps = self.size_bytes, self.gaps
        self.forget_from(position, next_offset)
        self.size_bytes = position
        self.load_state()
        self.size_bytes, self.gaps = size_bytes, gaps

    def reset_indexes(self) -> None:
        self.offset_index.keep(0)
        self.time_index.keep(0)
        self._indexed_position = 0
        self._first_timestamp_ms = UNKNOWN
        self._max_timestamp_ms = NO_TIMESTAMP
        self._max_timestamp_offset = self.base_offset

    # ---- reading

    def read_at(self, size_bytes: int, position: int) -> bytes:
        return self.disk.storage.pread(self.disk.open_files.handle(self.file), size_bytes, position)

    def read_ahead(self, size_bytes: int, position: int) -> None:
        """`read_at` will be asked for this soon."""
        self.disk.storage.read_ahead(self.disk.open_files.handle(self.file), size_bytes, position)

    def heads(self, position: int, offset: int) -> Iterator[BatchHead]:
        """Batch headers from the batch at `position`, which begins with `offset`, to the end, over the gaps.

        BrokenBatchError at new damage.
        """
        walk = partial(walk_heads, self.read_at, end_offset=self.next_offset, may_have_holes=self.may_have_holes)
        for gap in self.gaps:
            if position <= gap.position:
                yield from walk(position, gap.position, offset)
            if position < gap.end_position:
                position, offset = gap.end_position, gap.next_offset
        yield from walk(position, self.size_bytes, offset)

    def start_for_timestamp(self, timestamp_ms: int) -> tuple[int, int]:
        """(position, offset) of a batch before which none reaches `timestamp_ms`."""
        for _ in range(2):
            entry = self.time_index.floor(timestamp_ms)
            if entry is None:
                break
            head = self.locate(self.base_offset + entry[1])
            if head is not None and head.max_timestamp_ms == entry[0]:
                return head.position, head.base_offset
            self.rebuild_indexes()
        return 0, self.base_offset

    def batches(
        self, position: int, end: int, offset: int, end_offset: int | None
    ) -> Iterator[tuple[int, RecordBatch]]:
        """(position, batch) with every CRC checked, from `position` on, where `offset` is due; see `scan_batches`."""
        holes = self.may_have_holes
        return scan_batches(self.read_at, position, end, offset, end_offset=end_offset, may_have_holes=holes)

    def locate(self, offset: int) -> BatchHead | None:
        """The batch that holds `offset`, or the first after it; None where the segment ends before."""
        for _ in range(2):
            entry = self.offset_index.floor(offset - self.base_offset) or (0, 0)
            try:
                return self._walk_to(offset, entry)
            except _IndexError:
                self.rebuild_indexes()
        return self._walk_to(offset, None)

    def _walk_to(self, offset: int, entry: tuple[int, int] | None) -> BatchHead | None:
        position = entry[1] if entry else 0
        if position >= self.size_bytes > 0:
            raise _IndexError
        try:
            for head in self.heads(position, self.base_offset + (entry[0] if entry else 0)):
                if head.position == position and entry and head.base_offset != self.base_offset + entry[0]:
                    raise _IndexError
                if head.next_offset > offset:
                    return head
                if entry and head.position - position > INDEX_SLACK * self.index_interval_bytes:
                    raise _IndexError
        except BrokenBatchError as broken:
            if entry and any(entry) and broken.position == position:
                raise _IndexError from broken  # a power cut may leave half an entry, the rest of it zeros
            raise
        return None

    def close(self) -> None:
        self.disk.open_files.close(self.file)


class _IndexError(Exception):
    """The index led somewhere that the log does not confirm."""
