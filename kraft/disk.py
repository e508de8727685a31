"""The storage port of the quorum: a flat directory of files, with the durability of each step spelled out.

Owns the only system calls of kraft/ on files. The fuzzer implements the same port and loses, at a crash, what was not
synced: appended bytes without `sync`, and creations and renames without `sync_directory`.

Invariants: a write is whole or raises OSError; after a failed `sync` the file is not to be used again (what the kernel
then believes to be clean may never have reached the disk).
"""

import fcntl
import os
from pathlib import Path
from typing import Protocol

NEW_SUFFIX = ".new"


class File(Protocol):
    """A file open for appending."""

    def append(self, data: bytes) -> None:
        """Add all of `data` at the end, or raise OSError."""

    def sync(self) -> None:
        """Return when everything appended is on disk (fdatasync)."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file's end off; the next append continues there. Durable with the next `sync`."""

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory. Names are plain file names."""

    def path(self, name: str) -> str:
        """The file's name as messages to people show it."""

    def read(self, name: str) -> bytes | None:
        """The whole file; None where there is none. What a failed `sync` left in memory only is not in it (S16)."""

    def create(self, name: str) -> File:
        """A new, empty file in place of whatever has this name."""

    def open(self, name: str) -> File:
        """An existing file, to be continued at its end."""

    def rename(self, old: str, new: str) -> None: ...

    def sync_directory(self) -> None:
        """Return when all creations and renames so far are on disk."""

    def lock(self) -> None:
        """Take the directory for this process until `close`; raises OSError where another process has it."""

    def close(self) -> None: ...


def write_atomically(disk: Disk, name: str, data: bytes) -> None:
    """Replace a file: a crash at any point leaves the old content or the new one, whole; synced when this returns."""
    file = disk.create(name + NEW_SUFFIX)
    try:
        file.append(data)
        file.sync()
    finally:
        file.close()
    disk.rename(name + NEW_SUFFIX, name)
    disk.sync_directory()


class PosixFile:
    """A file descriptor in append mode: the kernel keeps the position, also after `truncate`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._descriptor, size_bytes)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PosixDisk:
    """A real directory, made where it is missing."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        missing = [path for path in (self._directory, *self._directory.parents) if not path.exists()]
        self._directory.mkdir(parents=True, exist_ok=True)
        for made in missing:
            _sync_directory(made.parent)
        self._lock = -1

    def path(self, name: str) -> str:
        return str(self._directory / name)

    def read(self, name: str) -> bytes | None:
        try:
            with (self._directory / name).open("rb") as file:
                if hasattr(os, "posix_fadvise"):
                    # Pages that are clean, rightly or not, are read from the disk again.
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                return file.read()
        except FileNotFoundError:
            return None

    def create(self, name: str) -> File:
        return self._open(name, os.O_CREAT | os.O_TRUNC)

    def open(self, name: str) -> File:
        return self._open(name, 0)

    def _open(self, name: str, flags: int) -> File:
        return PosixFile(os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o600))

    def rename(self, old: str, new: str) -> None:
        (self._directory / old).rename(self._directory / new)

    def sync_directory(self) -> None:
        _sync_directory(self._directory)

    def lock(self) -> None:
        lock = os.open(self._directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise OSError(error.errno, "another process runs on this metadata directory", self.path("lock")) from error
        self._lock = lock

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
