"""Compaction on this broker: which log is cleaned next, in a thread of its own, and how fast.

Owns the choice (what is overdue first, then the dirtiest, as Kafka's LogCleanerManager), the throttle, and the way
between the node's loop and the cleaner's thread: the loop plans, puts finished segments in place and rests, the thread
reads and writes, half a MiB at a time. One log is cleaned at a time.
Refuses to drop a tombstone while a replica is out of sync: one that was away for longer than `delete.retention.ms`
would otherwise bring the deleted key back. A log that cannot be read is left alone until a restart, and the event log
says why; damage (S18) is told as if a reader had met it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from broker.event_log import logger
from broker.log_directories import LogDirectories
from broker.machine import Machine
from broker.node_config import NodeConfig
from logstore.cleaner import (
    Cleanable,
    cleanable,
    complete,
    is_current,
    note_damage_found,
    plan_cleaning,
    take_in,
)
from logstore.cleaning import Cleaning, DamagedSegmentError, Worked
from logstore.disk import PASSING
from logstore.partition_log import PartitionLog
from logstore.segment_swap import CleanedSegment
from metadata.image import Image
from wire.errors import ErrorCode, RefusedError

REST_S: Final = 0.0002
"""What the cleaner's thread gives the loop, every 32 KiB: the interpreter would else change hands every 5 ms only."""
THROTTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningSettings:
    """Those of the configuration's `log.cleaner.*`."""

    buffer_bytes: int
    bytes_per_second_max: int
    backoff_ms: int

    @classmethod
    def of(cls, config: NodeConfig) -> Self:
        return cls(
            buffer_bytes=config.log_cleaner_dedupe_buffer_bytes,
            bytes_per_second_max=config.log_cleaner_bytes_per_second_max,
            backoff_ms=config.log_cleaner_backoff_ms,
        )


class LogCleaning:
    """Used on the node's loop."""

    def __init__(
        self,
        settings: CleaningSettings,
        *,
        directories: LogDirectories,
        image: Callable[[], Image],
        machine: Machine,
    ) -> None:
        self._settings = settings
        self._directories = directories
        self._image = image
        self._executor = machine.threads(1, "log-cleaner")
        self._clock = machine.clock
        self._rest = partial(time.sleep, REST_S)
        self._log = logger()
        self._throttle_from_ms = 0.0
        self._throttled_bytes = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._settings.backoff_ms / 1000)
            await self._clean_all()

    async def _clean_all(self) -> None:
        """As long as any log is due; one that has no room now ends it."""
        goes_on = True
        while goes_on and (found := self._next()) is not None:
            goes_on = await self._clean(found)

    def close(self) -> None:
        """The step under way ends; `run` was cancelled before."""
        self._executor.shutdown()

    # ---- what

    def _next(self) -> Cleanable | None:
        """The log that needs it most."""
        due = [
            found for log in self._directories.logs() if (found := self._cleanable(log)) is not None and found.is_due
        ]
        return max(due, key=lambda found: (found.is_overdue, found.dirty_ratio), default=None)

    def _cleanable(self, log: PartitionLog) -> Cleanable | None:
        if not log.config.compacts:
            return None
        try:
            return cleanable(log, self._clock.wall_ms(), drops_tombstones=self._drops_tombstones(log))
        except (RefusedError, OSError) as error:
            self._stop(log, error)
            return None

    def _drops_tombstones(self, log: PartitionLog) -> bool:
        """Every replica holds all that is committed."""
        state = self._image().partition(*log.key)
        return state is not None and set(state.replicas) <= set(state.in_sync_replicas)

    # ---- how

    async def _clean(self, found: Cleanable) -> bool:
        """False where it could not be done, and others should wait as well."""
        log = found.log
        try:
            plan = plan_cleaning(found, self._clock.wall_ms(), drops_tombstones=self._drops_tombstones(log))
        except RefusedError as error:
            self._stop(log, error)
            return True
        cleaning = Cleaning(log.disk.storage, plan, buffer_bytes=self._settings.buffer_bytes, rest=self._rest)
        try:
            await self._run_steps(log, cleaning)
        except DamagedSegmentError as damaged:
            if note_damage_found(log, plan, damaged):
                self._stop(log, damaged)
        except (RefusedError, OSError) as error:
            return not is_current(log, plan) or self._failed(log, error)
        return True

    async def _run_steps(self, log: PartitionLog, cleaning: Cleaning) -> None:
        loop = asyncio.get_running_loop()
        began_s, size_bytes = loop.time(), log.size_bytes
        step: asyncio.Future[Worked | CleanedSegment | None] | None = None
        try:
            while True:
                step = loop.run_in_executor(self._executor, cleaning.step)
                done = await asyncio.shield(step)
                if done is None:
                    break
                if isinstance(done, Worked):
                    await self._throttle(done.size_bytes)
                    is_wanted = is_current(log, cleaning.plan)
                else:
                    is_wanted = take_in(log, cleaning.plan, done)
                if not is_wanted:
                    cleaning.discard()
                    return
        except asyncio.CancelledError:
            if step is not None and not step.done():
                step.add_done_callback(partial(_given_up, cleaning))
            else:
                cleaning.discard()
            raise
        complete(log, cleaning)
        self._directories.checkpoint(*log.key)
        self._tell(log, cleaning, freed_bytes=size_bytes - log.size_bytes, seconds=loop.time() - began_s)

    async def _throttle(self, size_bytes: int) -> None:
        """Rest until what was read and written since is no more than the limit allows."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._throttle_from_ms > 1000 * THROTTLE_S:
            self._throttle_from_ms, self._throttled_bytes = now_ms, 0
        self._throttled_bytes += size_bytes
        due_ms = self._throttle_from_ms + 1000 * self._throttled_bytes / self._settings.bytes_per_second_max
        if due_ms > now_ms:
            await asyncio.sleep((due_ms - now_ms) / 1000)

    # ---- what became of it

    def _failed(self, log: PartitionLog, error: RefusedError | OSError) -> bool:
        """Lack of space or of descriptors passes; a disk that fails to write is used no more (S19)."""
        if isinstance(error, FileNotFoundError):
            return True  # its oldest segments were deleted meanwhile
        if isinstance(error, RefusedError) and error.code is ErrorCode.KAFKA_STORAGE_ERROR:
            self._log.warning("not compacted now", log=log.name, reason=error.message)
            return False
        if isinstance(error, OSError) and error.errno in PASSING:
            self._log.warning("not compacted now", log=log.name, reason=str(error))
            return False
        if isinstance(error, OSError):
            log.disk.fail(error)
            return True
        self._stop(log, error)
        return True

    def _stop(self, log: PartitionLog, error: Exception) -> None:
        log.compaction.stopped_by = str(error)
        self._log.error("compaction stopped until a restart", log=log.name, reason=str(error))

    def _tell(self, log: PartitionLog, cleaning: Cleaning, *, freed_bytes: int, seconds: float) -> None:
        totals = cleaning.totals
        self._log.info(
            "compacted",
            log=log.name,
            clean_end_offset=cleaning.end_offset,
            removed_records=totals.removed_records,
            freed_bytes=freed_bytes,
            seconds=round(seconds, 3),
        )
        if totals.keyless_records:
            self._log.warning(
                "records without a key were removed: they were written before the topic was compacted",
                log=log.name,
                records=totals.keyless_records,
            )


def _given_up(cleaning: Cleaning, step: asyncio.Future[Worked | CleanedSegment | None]) -> None:
    """The last step has ended, after all; whatever it made, nobody wants it."""
    if not step.cancelled():
        step.exception()
    cleaning.discard()
