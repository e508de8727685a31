"""Group commit: one `Flusher` per log directory turns many appends into few fdatasyncs.

Owns when a log is synced and how many syncs run at once. While one runs for a log, everything appended meanwhile waits
for the next one, so a sync covers all that was appended before it began, and no more. It knows neither threads nor
loops: `submit` runs a callable elsewhere, `post` runs one back on the owner's loop. Only `LogSync.run` happens
elsewhere; it touches the storage and nothing of ours.
Refuses to go on after any failed sync (S19): the directory is offline, nothing is retried, no offset becomes durable.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from logstore.disk import OUT_OF_DESCRIPTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from logstore.checkpoints import RecoveryPoint
    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment
    from logstore.storage import Storage

SYNCS_PER_JOB_MAX: Final = 16


class Job(Protocol):
    """What `submit` answers: `result()` blocks until the task has run (a concurrent.futures.Future will do)."""

    def result(self) -> object: ...


class LogSync:
    """One log's unsynced bytes at one moment: what must reach the disk so that `point` is durable."""

    __slots__ = (
        "_handles",
        "directories",
        "error",
        "generation",
        "is_done",
        "log",
        "paths",
        "point",
        "segments",
        "storage",
    )

    def __init__(
        self,
        log: PartitionLog,
        *,
        storage: Storage,
        generation: int,
        point: RecoveryPoint,
        segments: list[Segment],
        handles: list[int],
        paths: list[str],
        directories: list[str],
    ) -> None:
        self.log = log
        self.storage = storage
        self.generation = generation
        self.point = point
        self.segments = segments
        self._handles = handles
        self.paths = paths
        self.directories = directories
        self.is_done = False
        self.error: OSError | None = None

    def run(self) -> None:
        """Blocks on the disk; in any thread. Afterwards `is_done`, or `error` takes the directory offline."""
        try:
            for handle in self._handles:
                self.storage.fdatasync(handle)
            for path in self.paths:
                self._sync_path(path)
            for directory in self.directories:
                self._sync_directory(directory)
        except OSError as error:
            self.error = error
        else:
            self.is_done = True

    @property
    def lacked_descriptors(self) -> bool:
        """A name could not be opened to sync it. An fsync itself never fails so: nothing was lost, it can be redone."""
        return self.error is not None and self.error.errno in OUT_OF_DESCRIPTORS

    def _sync_path(self, path: str) -> None:
        try:
            handle = self.storage.open_read_only(path)
        except FileNotFoundError:
            return  # deleted by retention or with its topic while this waited: nothing left to make durable
        try:
            self.storage.fsync(handle)
        finally:
            self.storage.close(handle)

    def _sync_directory(self, path: str) -> None:
        try:
            self.storage.fsync_directory(path)
        except FileNotFoundError:
            return  # the topic was deleted meanwhile


class Flusher:
    """All syncs of one log directory; used from the owner's loop only."""

    def __init__(
        self,
        *,
        submit: Callable[[Callable[[], None]], Job],
        post: Callable[[Callable[[], None]], object],
        on_failure: Callable[[OSError], None],
        parallel_syncs: int = 4,
    ) -> None:
        """`submit`: e.g. `executor.submit`; `post`: e.g. `loop.call_soon_threadsafe`.

        `on_failure` is called once, on the owner's loop, when the directory fails, whoever noticed it first.
        """
        self.submit = submit
        self.post = post
        self.failure: OSError | None = None
        self.syncs_total = 0
        self.on_job_ended: Callable[[], None] | None = None
        self._on_failure = on_failure
        self._idle_workers = parallel_syncs
        self._waiting: dict[PartitionLog, None] = {}
        self._running: dict[PartitionLog, LogSync] = {}
        self._again: set[PartitionLog] = set()
        self._at_next_tick: set[PartitionLog] = set()
        self._unsynced_since: dict[PartitionLog, int | None] = {}
        self._jobs: list[_SyncJob] = []

    def request(self, log: PartitionLog) -> None:
        """Sync what this log has appended until now, soon; `log.durable_end_offset` moves when it is done."""
        if log in self._running:
            self._again.add(log)
            return
        self._waiting[log] = None
        if self._idle_workers:
            self._start_jobs()

    def request_by_timer(self, log: PartitionLog) -> None:
        """Sync this log once its `flush_ms` has passed (see `tick`)."""
        self._unsynced_since.setdefault(log, None)

    def request_at_next_tick(self, log: PartitionLog) -> None:
        """What stopped this log's sync passes by itself: try again then, or with the next append."""
        if self.failure is None:
            self._at_next_tick.add(log)

    def tick(self, now_ms: int) -> None:
        """Request what is due by `flush.ms`; `now_ms` from a monotonic clock (S20), call it about once a second."""
        again, self._at_next_tick = self._at_next_tick, set()
        for log in again:
            self.request(log)
        for log, since_ms in list(self._unsynced_since.items()):
            if since_ms is None:
                self._unsynced_since[log] = now_ms
            elif now_ms - since_ms >= log.config.flush_ms:
                self.request(log)

    def forget(self, log: PartitionLog) -> None:
        """The log is closed: nothing more is synced for it."""
        self._waiting.pop(log, None)
        self._again.discard(log)
        self._at_next_tick.discard(log)
        self._unsynced_since.pop(log, None)

    def fail(self, error: OSError) -> None:
        """The directory has failed: no further sync begins."""
        if self.failure is None:
            self.failure = error
            self._waiting.clear()
            self._again.clear()
            self._at_next_tick.clear()
            self._unsynced_since.clear()
            self._on_failure(error)

    def drain(self) -> None:
        """Block until all that was requested is synced; the results are taken in here."""
        while self._jobs:
            job = self._jobs[0]
            job.wait()
            self._job_ended(job)

    def _start_jobs(self) -> None:
        while self._idle_workers and self._waiting and self.failure is None:
            share = min(-(-len(self._waiting) // self._idle_workers), SYNCS_PER_JOB_MAX)
            syncs = [sync for log in list(self._waiting)[:share] if (sync := self._begin(log)) is not None]
            if syncs:
                self._idle_workers -= 1
                job = _SyncJob(syncs, post=self.post, sync_ended=self._sync_ended, job_ended=self._job_ended)
                self._jobs.append(job)
                job.pending = self.submit(job.run)

    def _begin(self, log: PartitionLog) -> LogSync | None:
        self._waiting.pop(log, None)
        self._unsynced_since.pop(log, None)
        sync = log.begin_sync()
        if sync is not None:
            self._running[log] = sync
        return sync

    def _sync_ended(self, sync: LogSync) -> None:
        """Take in the result, once, whether it was posted or drained."""
        log = sync.log
        if self._running.get(log) is not sync:
            return
        del self._running[log]
        self.syncs_total += 1
        log.finish_sync(sync)
        if log in self._again:
            self._again.discard(log)
            self.request(log)

    def _job_ended(self, job: _SyncJob) -> None:
        if job not in self._jobs:
            return
        self._jobs.remove(job)
        self._idle_workers += 1
        for sync in job.syncs:
            self._sync_ended(sync)
        self._start_jobs()
        if self.on_job_ended is not None:
            self.on_job_ended()


class _SyncJob:
    """A few syncs that one thread runs after another; each is reported as soon as it is done."""

    __slots__ = ("_job_ended", "_post", "_sync_ended", "pending", "syncs")

    def __init__(
        self,
        syncs: list[LogSync],
        *,
        post: Callable[[Callable[[], None]], object],
        sync_ended: Callable[[LogSync], None],
        job_ended: Callable[[_SyncJob], None],
    ) -> None:
        self.syncs = syncs
        self.pending: Job | None = None
        self._post = post
        self._sync_ended = sync_ended
        self._job_ended = job_ended

    def run(self) -> None:
        """In another thread."""
        for sync in self.syncs[:-1]:
            sync.run()
            if sync.error is not None and not sync.lacked_descriptors:
                break
            self._post(partial(self._sync_ended, sync))
        else:
            self.syncs[-1].run()
        self._post(partial(self._job_ended, self))

    def wait(self) -> None:
        if self.pending is not None:
            self.pending.result()
