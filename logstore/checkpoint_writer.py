"""Writing the checkpoints of a log directory: now, or elsewhere while the loop goes on.

Owns the order that makes a checkpoint true: indexes are handed to their files, leader-epoch files become durable, and
only then do recovery points move past the data that they describe. Snapshots of producers that are due are written on
the way; they are true whenever they arrive. Invariant: one writer at a time; whoever must write
now waits for the one elsewhere, so an older checkpoint never replaces a newer one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from logstore.checkpoints import (
    CLEANER_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    RECOVERY_POINT_FILE,
    render_checkpoint,
)
from logstore.disk import PASSING, Disk
from logstore.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE
from logstore.storage import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from logstore.checkpoints import PartitionKey, RecoveryPoint
    from logstore.flusher import Job
    from logstore.partition_log import PartitionLog
    from logstore.producer_state import ProducerState
    from logstore.storage import Storage

FILES = (RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE, CLEANER_FILE)
"""In the order in which they are written: how far a log is clean is at most its high watermark."""


class _Checkpoint:
    """What is to be written, captured at one moment; `write` may run in any thread."""

    __slots__ = (
        "compacted_logs",
        "epoch_logs",
        "error",
        "files",
        "job",
        "keys",
        "producer_logs",
        "snapshots",
        "storage",
    )

    def __init__(self, storage: Storage, keys: Iterable[PartitionKey]) -> None:
        self.storage = storage
        self.keys = frozenset(keys)
        self.files: dict[str, bytes] = {}
        self.epoch_logs: list[PartitionLog] = []
        self.snapshots: dict[str, ProducerState] = {}
        self.producer_logs: list[PartitionLog] = []
        self.compacted_logs: list[tuple[PartitionLog, RecoveryPoint]] = []
        self.job: Job | None = None
        self.error: OSError | None = None

    def write(self) -> None:
        try:
            for path, state in self.snapshots.items():
                self._replace(path, state.render())
            for path, data in self.files.items():
                self._replace(path, data)
        except OSError as error:
            self.error = error

    def _replace(self, path: str, data: bytes) -> None:
        try:
            replace_file(self.storage, path, data)
        except FileNotFoundError:
            if path.endswith(FILES):
                raise
            # the topic was deleted meanwhile, its folder with it


class CheckpointWriter:
    """Used from the owner's loop."""

    def __init__(
        self,
        disk: Disk,
        logs: Mapping[PartitionKey, PartitionLog],
        *,
        submit: Callable[[Callable[[], None]], Job],
        post: Callable[[Callable[[], None]], object],
    ) -> None:
        self._disk = disk
        self._logs = logs
        self._submit = submit
        self._post = post
        self.keys: frozenset[PartitionKey] = frozenset()
        """Of whom the files may say something: also of logs that are not there any more."""
        self._written: dict[str, bytes] = {}
        self._running: _Checkpoint | None = None
        self._is_due = False

    def finish(self) -> None:
        """The one elsewhere is on disk when this returns."""
        running = self._running
        if running is not None:
            if running.job is not None:
                running.job.result()
            self._take_in(running)

    def write_now(self) -> None:
        """On disk when this returns. OSError as the disk raises it."""
        self.finish()
        checkpoint = self._capture()
        checkpoint.write()
        if not self._is_written(checkpoint) and checkpoint.error is not None:
            raise checkpoint.error

    def write_elsewhere(self) -> None:
        """Soon; a call while one is being written makes it be written once more."""
        if self._running is not None:
            self._is_due = True
            return
        try:
            checkpoint = self._capture()
        except OSError as error:
            self._disk.fail(error)
            return
        if checkpoint.files or checkpoint.snapshots:
            self._running = checkpoint
            checkpoint.job = self._submit(partial(self._run, checkpoint))

    def _run(self, checkpoint: _Checkpoint) -> None:
        checkpoint.write()
        self._post(partial(self._ended, checkpoint))

    def _ended(self, checkpoint: _Checkpoint) -> None:
        if self._running is checkpoint:
            self._take_in(checkpoint)
            if self._is_due:
                self._is_due = False
                self.write_elsewhere()

    def _take_in(self, checkpoint: _Checkpoint) -> None:
        """Lack of space or descriptors leaves the older files, which are true; any other error means offline."""
        self._running = None
        if self._is_written(checkpoint):
            return
        if checkpoint.error is not None and checkpoint.error.errno not in PASSING:
            self._disk.fail(checkpoint.error)

    def _is_written(self, checkpoint: _Checkpoint) -> bool:
        if checkpoint.error is None:
            self.keys = checkpoint.keys
            self._written.update({path: data for path, data in checkpoint.files.items() if path in self._paths()})
            for log, point in checkpoint.compacted_logs:
                log.compaction.written_point = point
                log.compaction.holes_are_written = True
            for log in checkpoint.producer_logs:
                old = log.producers.end_save(log.segments, synced_end_offset=log.synced_end_offset)
                self._disk.unlink_later(old)
            return True
        self._written.clear()
        for log in checkpoint.epoch_logs:
            log.leader_epochs.is_dirty = True
        for log in checkpoint.producer_logs:
            log.producers.save_failed()
        return False

    def _capture_snapshots(self, checkpoint: _Checkpoint, log: PartitionLog) -> None:
        log.producers.save_if_new(log.segments, log.log_end_offset)
        snapshots = log.producers.begin_save()
        if snapshots:
            checkpoint.snapshots.update(snapshots)
            checkpoint.producer_logs.append(log)

    def _paths(self) -> list[str]:
        return [f"{self._disk.path}/{name}" for name in FILES]

    def _capture(self) -> _Checkpoint:
        """The files that differ from what is on disk, in the order in which they must be written."""
        checkpoint = _Checkpoint(self._disk.storage, self._logs)
        self.keys |= checkpoint.keys
        files = checkpoint.files
        lines: list[tuple[str, str, str, str]] = []
        for log in self._logs.values():
            if log.leader_epochs_are_dirty:
                checkpoint.epoch_logs.append(log)
                log.leader_epochs.is_dirty = False
                files[f"{log.folder}/{LEADER_EPOCHS_FILE}"] = log.leader_epochs.render()
            if not log.producers.never_were:
                self._capture_snapshots(checkpoint, log)
            if log.recovery_point != log.checkpointed_point:
                log.flush_indexes()
                log.checkpointed_point = log.recovery_point
            if log.has_cleaner_line:
                checkpoint.compacted_logs.append((log, log.recovery_point))
            lines.append(log.checkpoint_lines())
        for index, path in enumerate(self._paths()):
            data = render_checkpoint(line[index] for line in lines if line[index])
            if data != self._written.get(path):
                files[path] = data
        return checkpoint
