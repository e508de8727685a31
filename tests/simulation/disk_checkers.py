"""Named checkers of S19: what is still done on a disk that failed, and on one that is too full.

They know of failures and of free space from the simulated disk itself, not from the nodes that are to heed them.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final

from logstore.disk import SPACE_CHECK_MS
from logstore.partition_log import PartitionLog
from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.machine import Disk
from tests.simulation.virtual_loop import LIFE, Life, here

NEVER_RETRIED: Final = ("pwrite", "fdatasync", "fsync_directory")
RESERVED_BYTES: Final = 64 << 20
"""`log.dir.reserved.bytes`, of which the simulated nodes say nothing."""
ASKED_WITHIN_S: Final = SPACE_CHECK_MS / 1000 + 0.01


class DiskCheckers:
    """Of all log directories of a run. `check` runs a check and keeps the violation that it raises."""

    def __init__(self, check: Callable[..., None]) -> None:
        self._check = check
        self._failed: dict[Life, str] = {}
        """Processes that have heard of it, and what failed."""
        self._had_space_s: dict[Life, float] = {}
        """When a process was told last that there is more than the reserve."""

    def wrappers(self) -> tuple[tuple[type, str, Callable[[Any], Any]], ...]:
        return (
            (Disk, "_enter", self._enter),
            (Disk, "free_bytes", self._free_bytes),
            (PartitionLog, "write", self._write),
            (PartitionLog, "begin_sync", self._begin_sync),
        )

    def _enter(self, real: Any) -> Any:
        def enter(disk: Disk, operation: str, path: str) -> None:
            try:
                real(disk, operation, path)
            except OSError as error:
                if error.errno == errno.EIO and operation in NEVER_RETRIED and (life := LIFE.get()) is not None:
                    self._after_a_turn(lambda: self._failed.setdefault(life, f"{operation} of {path}"))
                raise

        return enter

    def _after_a_turn(self, know: Callable[[], object]) -> None:
        """A thread that could not sync tells the loop of it: what the loop has begun to do before is done."""
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(know))

    def _free_bytes(self, real: Any) -> Any:
        def free_bytes(disk: Disk, path: str) -> int:
            free: int = real(disk, path)
            life = LIFE.get()
            if path and life is not None and free >= RESERVED_BYTES:
                self._had_space_s[life] = asyncio.get_running_loop().time()
            return free

        return free_bytes

    def _write(self, real: Any) -> Any:
        def write(log: PartitionLog, *args: Any) -> None:
            real(log, *args)
            self._check(self._may_be_written, log)

        return write

    def _begin_sync(self, real: Any) -> Any:
        def begin_sync(log: PartitionLog) -> Any:
            sync = real(log)
            if sync is not None:
                self._check(self._has_not_failed, log)
            return sync

        return begin_sync

    def _has_not_failed(self, log: PartitionLog) -> None:
        """Nothing is tried again: a sync would call durable what an earlier one has lost (fsyncgate)."""
        failed = self._failed.get(here())
        if failed is not None:
            raise ViolationError("S19", f"node {here().address} goes on with {log}, after {failed} failed")

    def _may_be_written(self, log: PartitionLog) -> None:
        """Whoever writes asks once a second for what is free, and stops where that is less than the reserve."""
        self._has_not_failed(log)
        ago_s = asyncio.get_running_loop().time() - self._had_space_s.get(here(), float("-inf"))
        if ago_s > ASKED_WITHIN_S:
            raise ViolationError(
                "S19", f"node {here().address} writes to {log}; that its disk has space it was told {ago_s:.3f} s ago"
            )
