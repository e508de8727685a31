"""Descriptors, opened when needed and closed when too many are open (the clock algorithm).

Owns every long-lived handle on a segment file. A partition costs no descriptor until it is read or written, and 2,000
partitions share `capacity` of them. Indexes and checkpoints are opened, used and closed where they are used.
Invariants: a pinned file (a sync is running on its handle in another thread) is never closed, so no descriptor number
is used again beneath that thread. Closing a file with unsynced bytes is safe on Linux: a write-back error that nobody
has seen is reported to the next descriptor's fdatasync (errseq_t, since 4.13).
"""

import errno
from collections import deque

from logstore.storage import Storage


class OpenFile:
    """A file that may be open; made for a path, not for a handle."""

    __slots__ = ("handle", "is_closing", "path", "pins", "was_used")

    def __init__(self, path: str) -> None:
        self.path = path
        self.handle = -1
        self.pins = 0
        self.was_used = False
        self.is_closing = False


class OpenFiles:
    """The open ones among all files of a log directory."""

    def __init__(self, storage: Storage, *, capacity: int) -> None:
        assert capacity >= 1
        self._storage = storage
        self.capacity = capacity
        self._open: deque[OpenFile] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def handle(self, file: OpenFile, *, create: bool = False) -> int:
        """The file's handle, opened now if it is not; OSError as the storage raises it."""
        if file.handle < 0:
            self._make_room(self.capacity)
            file.handle = self._open_now(file.path, create=create)
            self._open.append(file)
        file.was_used = True
        return file.handle

    def pin(self, file: OpenFile) -> int:
        """The handle, which stays open until the matching `unpin`."""
        handle = self.handle(file)
        file.pins += 1
        return handle

    def pin_all(self, files: list[OpenFile]) -> list[int]:
        """Their handles; after an OSError none of them is pinned."""
        handles: list[int] = []
        try:
            handles.extend(map(self.pin, files))
        except OSError:
            for file in files[: len(handles)]:
                self.unpin(file)
            raise
        return handles

    def unpin(self, file: OpenFile) -> None:
        assert file.pins > 0
        file.pins -= 1
        if not file.pins and (file.is_closing or len(self._open) > self.capacity):
            self.close(file)

    def close(self, file: OpenFile) -> None:
        """Close it, or as soon as nobody has it pinned."""
        if file.pins:
            file.is_closing = True
            return
        file.is_closing = False
        if file.handle >= 0:
            handle, file.handle = file.handle, -1
            self._open.remove(file)
            self._storage.close(handle)

    def close_all(self) -> None:
        for file in list(self._open):
            self.close(file)

    def _open_now(self, path: str, *, create: bool) -> int:
        """Where the process may have no more descriptors, close half of those that are open now and try once more.

        `capacity` stays: the shortage may pass.
        """
        try:
            return self._storage.open(path, create=create)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._open:
                raise
        self._make_room(max(1, len(self._open) // 2))
        return self._storage.open(path, create=create)

    def _make_room(self, capacity: int) -> None:
        """Close unused files until one more fits into `capacity`.

        A first turn of the clock clears the marks, a second finds them.
        """
        for _ in range(3 * len(self._open)):
            if len(self._open) < capacity:
                return
            file = self._open.popleft()
            if file.pins or file.was_used:
                file.was_used = False
                self._open.append(file)
            else:
                handle, file.handle = file.handle, -1
                self._storage.close(handle)
