"""The disk beneath one log directory: storage, open files, the free-space guard, and whether it has failed (S19).

Owns the answer to "may I write?". Refuses (KAFKA_STORAGE_ERROR) once the disk has failed, and while fewer than
`reserved_bytes` would stay free. Lack of space passes; a failure does not: EIO on a write or any failed fsync is never
retried, for the kernel may have dropped the dirty pages and call the next fsync a success (fsyncgate). Lack of file
descriptors says nothing about the disk: what it stopped before a byte was written is refused or tried again later.
"""

from __future__ import annotations

import contextlib
import errno
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from logstore.open_files import OpenFiles
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from logstore.segment import Segment
    from logstore.storage import Storage

OUT_OF_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
PASSING: Final = OUT_OF_SPACE | OUT_OF_DESCRIPTORS
"""What comes and goes without the disk being broken."""
SPACE_CHECK_BYTES: Final = 16 << 20
SPACE_CHECK_MS: Final = 1000
DELETED_SUFFIX: Final = ".deleted"


def storage_refusal(message: str) -> RefusedError:
    return RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, message)


def descriptor_refusal(error: OSError) -> RefusedError:
    return storage_refusal(
        f"no file descriptor is free ({error}): nothing was written, try again; raise the limit (`ulimit -n`) or lower"
        " log.max.open.files"
    )


def read_refusal(path: str, error: OSError) -> RefusedError:
    """A file could not be read, and nothing was written."""
    if error.errno in OUT_OF_DESCRIPTORS:
        return descriptor_refusal(error)
    return storage_refusal(f"the disk cannot read {path}: {error}")


def unlink_all(storage: Storage, paths: list[str]) -> None:
    """Runs anywhere. What cannot be removed now is found again when the directory is opened."""
    for path in paths:
        with contextlib.suppress(OSError):
            storage.unlink(path)


class Disk:
    """Shared by all logs of a directory; one thread, the owner's."""

    def __init__(
        self,
        path: str,
        *,
        storage: Storage,
        open_files_max: int,
        reserved_bytes: int,
        submit: Callable[[Callable[[], None]], object],
        checkpoint: Callable[[], None],
        finish_checkpoint: Callable[[], None],
        on_failure: Callable[[OSError], None],
    ) -> None:
        """`checkpoint` writes all offsets now; `finish_checkpoint` waits for one that is being written elsewhere."""
        self.path = path
        self.storage = storage
        self.open_files = OpenFiles(storage, capacity=open_files_max)
        self.reserved_bytes = reserved_bytes
        self.failure: OSError | None = None
        self.admitted_bytes = 0
        self.uptime_ms = 0
        self.checkpoint = checkpoint
        self.finish_checkpoint = finish_checkpoint
        self._submit = submit
        self._on_failure = on_failure
        self._budget_bytes = -1
        self._checked_ms = 0

    def admit(self, size_bytes: int, now_ms: int) -> None:
        """Refuse a write of `size_bytes` that the disk must not take.

        Free space is asked for once a second or every 16 MiB, whatever comes first; a jump of the clock only means one
        more question (S20).
        """
        if self.failure is not None:
            self.refuse_offline()
        self.admitted_bytes += size_bytes
        self._budget_bytes -= size_bytes
        if self._budget_bytes < 0 or not 0 <= now_ms - self._checked_ms < SPACE_CHECK_MS:
            self._check_space(size_bytes, now_ms)

    def _check_space(self, size_bytes: int, now_ms: int) -> None:
        free_bytes = self.storage.free_bytes(self.path)
        spare_bytes = free_bytes - self.reserved_bytes - size_bytes
        self._checked_ms = now_ms
        self._budget_bytes = min(SPACE_CHECK_BYTES, spare_bytes)
        if spare_bytes < 0:
            self._budget_bytes = -1
            raise storage_refusal(
                f"log directory {self.path} has {free_bytes} bytes free, and a write of {size_bytes} must leave"
                f" log.dir.reserved.bytes={self.reserved_bytes}: free space or lower retention; reads go on"
            )

    def refuse_offline(self) -> NoReturn:
        raise storage_refusal(
            f"log directory {self.path} is offline after a disk error ({self.failure}): replace the disk and restart"
        )

    def attempt(self, action: Callable[[], None]) -> None:
        """Do what must not fail: an OSError takes the directory offline and goes on to the caller."""
        try:
            action()
        except OSError as error:
            self.fail(error)
            raise

    def refuse_or_fail(self, error: OSError, message: str) -> NoReturn:
        """Before any byte was written: lack of space (`message`) or of descriptors is refused, else we are offline."""
        if error.errno in OUT_OF_DESCRIPTORS:
            raise descriptor_refusal(error) from error
        if error.errno in OUT_OF_SPACE:
            raise storage_refusal(f"{message}: {error}") from error
        self.fail(error)
        raise error

    def write_checkpoints(self, *, must_succeed: bool) -> None:
        """Put the offsets of all logs on disk now.

        Without space or descriptors: KAFKA_STORAGE_ERROR, or (not `must_succeed`) the old files stay, which are true.
        """
        try:
            self.checkpoint()
        except OSError as error:
            if must_succeed or error.errno not in PASSING:
                self.refuse_or_fail(error, f"no space to write the checkpoints of {self.path}")

    def discard_segments(self, segments: Iterable[Segment]) -> None:
        """Take the files out of sight now, in this order, and unlink them elsewhere: 1 GiB takes a while."""
        hidden = []
        for segment in segments:
            segment.close()
            for path in (segment.file.path, segment.offset_index.path, segment.time_index.path):
                try:
                    self.storage.rename(path, path + DELETED_SUFFIX)
                except FileNotFoundError:
                    continue  # an index that was never written, or a topic deleted meanwhile
                hidden.append(path + DELETED_SUFFIX)
        self.unlink_later(hidden)

    def unlink_later(self, paths: list[str]) -> None:
        if paths:
            self._submit(partial(unlink_all, self.storage, paths))

    def recheck_space(self) -> None:
        """After ENOSPC: the next write asks for the free space again."""
        self._budget_bytes = -1

    def fail(self, error: OSError) -> None:
        """Take the directory offline, for good and once."""
        if self.failure is None:
            self.failure = error
            self._on_failure(error)
