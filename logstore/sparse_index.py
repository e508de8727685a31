"""A sorted file of fixed-size entries that grows at its end: the shape of both indexes of a segment.

Owns the entries' bytes: those on disk, and a tail in memory that `flush` writes when a checkpoint or a roll comes, so
an append costs no system call here. Lookups bisect the file by pread; no descriptor stays open.
Refuses nothing: an index is a cache of the log. What a crash loses is written again by recovery, and a file that makes
no sense is rebuilt by the segment, which checks every answer against the log itself.
"""

import struct
from typing import ClassVar

from logstore.disk import PASSING
from logstore.storage import Storage, write_fully

Entry = tuple[int, int]
PAGE_ENTRIES = 512


class SparseIndex:
    """Entries (key, value), keys strictly increasing."""

    ENTRY: ClassVar[struct.Struct]
    SUFFIX: ClassVar[str]

    __slots__ = ("_flushed", "_last_flushed", "_stem", "_storage", "_tail")

    def __init__(self, storage: Storage, stem: str) -> None:
        """`stem` is the segment's path without its suffix."""
        self._storage = storage
        self._stem = stem
        self._flushed = -1
        self._last_flushed: Entry | None = None  # where it is known: an append that asks for it opens no file
        self._tail: bytearray | None = None

    @property
    def path(self) -> str:
        return self._stem + self.SUFFIX

    def __len__(self) -> int:
        return self._flushed_entries() + (len(self._tail) // self.ENTRY.size if self._tail else 0)

    def _flushed_entries(self) -> int:
        """Whole entries in the file; a torn one at its end does not count and is written over."""
        if self._flushed < 0:
            status = self._storage.status(self.path)
            self._flushed = status.size_bytes // self.ENTRY.size if status else 0
        return self._flushed

    def append(self, key: int, value: int) -> None:
        if self._tail is None:
            self._tail = bytearray()
        self._tail += self.ENTRY.pack(key, value)

    def last(self) -> Entry | None:
        if self._tail:
            return self._unpack(self._tail, len(self._tail) - self.ENTRY.size)
        if self._last_flushed is None and (count := self._flushed_entries()):
            self._last_flushed = self._entries(count - 1, 1)[0]
        return self._last_flushed

    def entries(self) -> list[Entry]:
        return self._entries(0, len(self))

    def floor(self, key: int) -> Entry | None:
        """The last entry whose key is at most `key`."""
        tail = self._tail
        if tail and self._unpack(tail, 0)[0] <= key:
            return _floor(list(self.ENTRY.iter_unpack(tail)), key)
        low, high = 0, self._flushed_entries()
        if not high:
            return None
        handle = self._storage.open_read_only(self.path)
        try:
            while high - low > PAGE_ENTRIES:
                middle = (low + high) // 2
                entry = self._storage.pread(handle, self.ENTRY.size, middle * self.ENTRY.size)
                low, high = (middle, high) if self._unpack(entry, 0)[0] <= key else (low, middle)
            page = self._storage.pread(handle, (high - low) * self.ENTRY.size, low * self.ENTRY.size)
        finally:
            self._storage.close(handle)
        return _floor(list(self.ENTRY.iter_unpack(page)), key)

    def keep(self, count: int) -> None:
        """Forget all entries but the first `count`, durably: they must not come back under other records."""
        flushed = self._flushed_entries()
        if count >= flushed:
            if self._tail:
                del self._tail[(count - flushed) * self.ENTRY.size :]
            return
        self._tail = self._last_flushed = None
        handle = self._storage.open(self.path)
        try:
            self._storage.truncate(handle, count * self.ENTRY.size)
            self._storage.fsync(handle)
        finally:
            self._storage.close(handle)
        self._flushed = count

    def flush(self) -> None:
        """Move the tail into the file. Lack of space or descriptors leaves it in memory."""
        if not self._tail:
            return
        flushed = self._flushed_entries()
        try:
            handle = self._storage.open(self.path, create=True)
            try:
                write_fully(self._storage, handle, self._tail, flushed * self.ENTRY.size)
            finally:
                self._storage.close(handle)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            return
        self._flushed = flushed + len(self._tail) // self.ENTRY.size
        self._last_flushed = self.last()
        self._tail = None

    def forget_file(self) -> None:
        """The file was removed beneath: look again when asked next."""
        self._flushed = -1
        self._tail = self._last_flushed = None

    def _entries(self, first: int, count: int) -> list[Entry]:
        size = self.ENTRY.size
        flushed = self._flushed_entries()
        data = b""
        if first < flushed:
            handle = self._storage.open_read_only(self.path)
            try:
                data = self._storage.pread(handle, min(count, flushed - first) * size, first * size)
            finally:
                self._storage.close(handle)
        if first + count > flushed and self._tail:
            start = max(first - flushed, 0)
            data += bytes(self._tail[start * size : (first + count - flushed) * size])
        return [(key, value) for key, value in self.ENTRY.iter_unpack(data)]

    def _unpack(self, data: bytes | bytearray, position: int) -> Entry:
        key, value = self.ENTRY.unpack_from(data, position)
        return key, value


def _floor(entries: list[Entry], key: int) -> Entry | None:
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if entries[middle][0] <= key:
            low = middle + 1
        else:
            high = middle
    return entries[low - 1] if low else None
