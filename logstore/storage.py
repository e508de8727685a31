"""The disk as a port: every byte that logstore reads or writes passes here, and nowhere else is `os` imported.

Owns the list of what a disk can do and its real implementation. A simulator implements the same protocol with the
semantics of fsync (what was not synced may be lost, torn or kept). Failures are OSError, never translated here.
A handle is an integer that means something only to the storage which gave it.
"""

import contextlib
import fcntl
import os
import stat
from typing import Final, NamedTuple, Protocol

Bytes = bytes | bytearray | memoryview


_RWF_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
"""Linux has it, and posix_fadvise; elsewhere nothing is read ahead."""
_PAGES_BYTES: Final = 1 << 16
"""A multiple of every page size."""


class FileStatus(NamedTuple):
    size_bytes: int
    modified_ms: int
    is_directory: bool


class Storage(Protocol):
    """What a disk can do. Paths are absolute or relative to the process; all numbers are bytes."""

    def open(self, path: str, *, create: bool = False) -> int:
        """Open for reading and writing; FileNotFoundError unless it exists or `create` makes it."""
        ...

    def open_read_only(self, path: str) -> int: ...

    def close(self, handle: int) -> None: ...

    def pread(self, handle: int, size_bytes: int, position: int, /) -> bytes:
        """At most `size_bytes` from `position`; fewer only at the end of the file."""
        ...

    def read_ahead(self, handle: int, size_bytes: int, position: int, /) -> None:
        """These bytes will be asked for soon: begin to fetch what is not in memory. A hint, which never waits."""
        ...

    def drop_clean_pages(self, handle: int, position: int, /) -> None:
        """From `position` on read from the disk again what is not waiting to be written; where the system can do it.

        After a failed fsync Linux calls pages clean that the disk never got ("fsyncgate"): whoever reads them from the
        page cache, in the next process too, takes them for durable.
        """
        ...

    def pwrite(self, handle: int, data: Bytes, position: int, /) -> int:
        """Write at `position`; the answer may be smaller than the data (a short write)."""
        ...

    def truncate(self, handle: int, size_bytes: int, /) -> None: ...

    def fdatasync(self, handle: int, /) -> None:
        """The file's bytes and size are durable when this returns. Runs in any thread."""
        ...

    def fsync(self, handle: int, /) -> None: ...

    def fsync_directory(self, path: str) -> None:
        """The names in this directory are durable when this returns. Runs in any thread."""
        ...

    def status(self, path: str) -> FileStatus | None:
        """Size, time of the last change and kind; None where there is nothing."""
        ...

    def list_directory(self, path: str) -> list[str]: ...

    def make_directory(self, path: str) -> None:
        """FileExistsError where it is there already."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Atomically, over an existing file too."""
        ...

    def unlink(self, path: str) -> None: ...

    def remove_directory(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int:
        """What an ordinary user can still write beneath this path."""
        ...

    def total_bytes(self, path: str) -> int:
        """The size of the disk beneath this path."""
        ...

    def lock(self, path: str) -> int:
        """Take the advisory lock of this file (made if missing); BlockingIOError where another process has it."""
        ...


class PosixStorage:
    """The real disk. Hot calls are the system calls themselves, without a Python frame between."""

    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    truncate = staticmethod(os.ftruncate)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    list_directory = staticmethod(os.listdir)
    rename = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)
    remove_directory = staticmethod(os.rmdir)

    def open(self, path: str, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def open_read_only(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read_ahead(self, handle: int, size_bytes: int, position: int, /) -> None:
        """One probe where the bytes are in the page cache; the kernel's own read-ahead stops 128 KiB further on."""
        if _RWF_NOWAIT is None:
            return
        try:
            os.preadv(handle, [bytearray(1)], position + size_bytes - 1, _RWF_NOWAIT)
        except BlockingIOError:
            with contextlib.suppress(OSError):
                os.posix_fadvise(handle, position, size_bytes, os.POSIX_FADV_WILLNEED)
        except OSError:
            return  # a file system that cannot tell

    def drop_clean_pages(self, handle: int, position: int, /) -> None:
        """The kernel keeps a page of which only a part is named, so it begins before."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, position // _PAGES_BYTES * _PAGES_BYTES, 0, os.POSIX_FADV_DONTNEED)

    make_directory = staticmethod(os.mkdir)

    def fsync_directory(self, path: str) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def status(self, path: str) -> FileStatus | None:
        try:
            found = os.stat(path)  # noqa: PTH116 - the port speaks strings; a Path object costs more than the call
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileStatus(found.st_size, found.st_mtime_ns // 1_000_000, stat.S_ISDIR(found.st_mode))

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def total_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def lock(self, path: str) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle


def read_whole_file(storage: Storage, path: str) -> bytes:
    """All bytes of a small file; FileNotFoundError where it is missing."""
    handle = storage.open_read_only(path)
    try:
        chunks = []
        position = 0
        while chunk := storage.pread(handle, 1 << 20, position):
            chunks.append(chunk)
            position += len(chunk)
        return b"".join(chunks)
    finally:
        storage.close(handle)


def write_fully(storage: Storage, handle: int, data: Bytes, position: int) -> None:
    """Write all of it, however short the single writes are; for small files outside the append path."""
    view = memoryview(data)
    while view:
        written = storage.pwrite(handle, view, position)
        view = view[written:]
        position += written


def replace_file(storage: Storage, path: str, data: Bytes) -> None:
    """Put `data` at `path` atomically and durably: a crash leaves the old file or the new one, never a mixture."""
    temporary = path + ".tmp"
    handle = storage.open(temporary, create=True)
    try:
        storage.truncate(handle, 0)
        write_fully(storage, handle, data, 0)
        storage.fsync(handle)
    finally:
        storage.close(handle)
    storage.rename(temporary, path)
    storage.fsync_directory(parent_directory(path))


def parent_directory(path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return folder or slash or "."
