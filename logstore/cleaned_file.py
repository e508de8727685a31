"""The files of a segment that is being made by a cleaning: the log and both indexes, under their `.cleaned` names.

Runs in the cleaner's thread and touches nothing but the storage. Invariant: what `finish` has returned for is synced.
The indexes follow the rules of `Segment.note_batch`; where they do not, they cost a walk, for they are a cache.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from logstore.offset_index import OffsetIndex
from logstore.segment import LOG_SUFFIX, NO_TIMESTAMP
from logstore.segment_swap import CLEANED_SUFFIX, stem
from logstore.storage import write_fully
from logstore.time_index import TimeIndex

if TYPE_CHECKING:
    from logstore.storage import Bytes, Storage

WRITE_BYTES: Final = 1 << 20


class CleanedFile:
    """One segment that grows; `finish` or `discard` ends it."""

    def __init__(self, storage: Storage, folder: str, base_offset: int, *, index_interval_bytes: int) -> None:
        """OSError as the disk raises it."""
        self.base_offset = base_offset
        self.size_bytes = 0
        self._storage = storage
        self._stem = stem(folder, base_offset)
        self._interval_bytes = index_interval_bytes
        self._pending = bytearray()
        self._indexed_position = 0
        self._max_timestamp_ms = NO_TIMESTAMP
        self._max_timestamp_offset = base_offset
        self._timed_ms = NO_TIMESTAMP
        self._offsets = bytearray()
        self._times = bytearray()
        self._handle = self._create(LOG_SUFFIX)

    def _create(self, suffix: str) -> int:
        handle = self._storage.open(self._stem + suffix + CLEANED_SUFFIX, create=True)
        self._storage.truncate(handle, 0)
        return handle

    def append(self, batch: Bytes, base_offset: int, max_timestamp_ms: int) -> None:
        position = self.size_bytes
        self._pending += batch
        self.size_bytes += len(batch)
        if max_timestamp_ms > self._max_timestamp_ms:
            self._max_timestamp_ms, self._max_timestamp_offset = max_timestamp_ms, base_offset
        if position - self._indexed_position > self._interval_bytes:
            self._note_timestamp()
            self._offsets += OffsetIndex.ENTRY.pack(base_offset - self.base_offset, position)
            self._indexed_position = position
        if len(self._pending) >= WRITE_BYTES:
            self._write()

    def _note_timestamp(self) -> None:
        if self._max_timestamp_ms > self._timed_ms:
            self._timed_ms = self._max_timestamp_ms
            self._times += TimeIndex.ENTRY.pack(self._timed_ms, self._max_timestamp_offset - self.base_offset)

    def _write(self) -> None:
        write_fully(self._storage, self._handle, self._pending, self.size_bytes - len(self._pending))
        self._pending = bytearray()

    def finish(self) -> None:
        """All of it is on disk when this returns. OSError as the disk raises it."""
        self._write()
        self._storage.fsync(self._handle)
        self._close()
        self._note_timestamp()
        for suffix, entries in ((OffsetIndex.SUFFIX, self._offsets), (TimeIndex.SUFFIX, self._times)):
            handle = self._create(suffix)
            try:
                write_fully(self._storage, handle, entries, 0)
                self._storage.fsync(handle)
            finally:
                self._storage.close(handle)

    def discard(self) -> None:
        """Nobody wants it. What cannot be removed now is found at the next start."""
        self._close()
        for suffix in (LOG_SUFFIX, OffsetIndex.SUFFIX, TimeIndex.SUFFIX):
            with contextlib.suppress(OSError):
                self._storage.unlink(self._stem + suffix + CLEANED_SUFFIX)

    def _close(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            self._storage.close(handle)
