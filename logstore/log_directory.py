"""One entry of `log.dirs`: its lock, its logs, its checkpoints, and its end.

Owns the directory's files outside the partition folders (`.lock`, the clean-shutdown marker, three checkpoints), the
opening of all logs with recovery only past the recovery point, the creation and deletion of partition folders, and the
moments at which checkpoints are written: on `checkpoint()`, before data goes, and by itself after
`CHECKPOINT_BYTES` were synced, so that a restart scans little however much was written.
Refuses to open a directory that another process holds (KAFKA_STORAGE_ERROR). After a disk error (`failure`) it only
serves what it can still read (S19).
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

from logstore.checkpoint_writer import CheckpointWriter
from logstore.checkpoints import (
    CLEANER_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    RECOVERY_POINT_FILE,
    CheckpointError,
    PartitionKey,
    RecoveryPoint,
    read_offsets,
)
from logstore.compaction_state import CompactionState
from logstore.disk import Disk, storage_refusal
from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_producers import SNAPSHOT_BATCHES_AT_CLOSE
from logstore.partition_folder import (
    DELETED_SUFFIX,
    PartitionName,
    folder_name,
    read_partition_name,
    write_metadata,
)
from logstore.partition_log import PartitionLog
from logstore.producer_expiry import EXPIRATION_MS, ProducerExpiry
from logstore.recovery import Recovery
from logstore.retention import expire_segments
from logstore.segments import Segments
from logstore.storage import Storage, parent_directory, replace_file
from wire.identifiers import uuid_to_text

LOCK_FILE: Final = ".lock"
CLEAN_SHUTDOWN_FILE: Final = ".kraft_cleanshutdown"
CHECKPOINT_BYTES: Final = 128 << 20


class LogDirectory:
    """All logs of one disk."""

    def __init__(
        self,
        path: str,
        *,
        storage: Storage,
        flusher: Flusher,
        defaults: LogConfig | None = None,
        reserved_bytes: int = 64 << 20,
        open_files_max: int = 512,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        producer_id_expiration_ms: int = EXPIRATION_MS,
    ) -> None:
        """`open_files_max`: descriptors kept open for all logs together; half of a usual limit of 1,024.

        `checkpoint_bytes`: after so much was appended, checkpoints are written without being asked for.
        """
        self.path = path = path.rstrip("/") or "/"
        self.defaults = defaults if defaults is not None else LogConfig()
        self.logs: dict[PartitionKey, PartitionLog] = {}
        self.vanished: tuple[PartitionKey, ...] = ()
        """Logs that had synced records when this directory was used last, and have no folder any more (S18)."""
        self.was_clean_shutdown = False
        self.scanned_bytes = 0
        self._storage = storage
        self._flusher = flusher
        self._lock_handle = -1
        self._deletions = 0
        self._checkpoint_bytes = checkpoint_bytes
        self._checkpointed_bytes = 0
        self._disk = Disk(
            path,
            storage=storage,
            open_files_max=open_files_max,
            reserved_bytes=reserved_bytes,
            submit=flusher.submit,
            checkpoint=self._write_checkpoints,
            finish_checkpoint=self._finish_checkpoint,
            on_failure=flusher.fail,
        )
        self._checkpoints = CheckpointWriter(self._disk, self.logs, submit=flusher.submit, post=flusher.post)
        self._producer_expiry = ProducerExpiry(self._disk, self.logs, expiration_ms=producer_id_expiration_ms)
        flusher.on_job_ended = self._checkpoint_if_due

    @property
    def failure(self) -> OSError | None:
        """Why the directory is offline; None while it works."""
        return self._disk.failure

    @property
    def is_offline(self) -> bool:
        return self._disk.failure is not None

    @property
    def open_files(self) -> int:
        """Descriptors that its logs hold open now."""
        return len(self._disk.open_files)

    @property
    def free_bytes(self) -> int:
        return self._storage.free_bytes(self.path)

    # ---- opening

    def open(self, config_of: Callable[[UUID, str], LogConfig] | None = None) -> None:
        """Take the lock, load every log. `config_of(topic_id, topic_name)` gives a topic's settings, else the defaults.

        RefusedError(KAFKA_STORAGE_ERROR) where another process has the directory. OSError as the disk raises it.
        """
        if self._storage.status(self.path) is None:
            self._storage.make_directory(self.path)
            self._storage.fsync_directory(parent_directory(self.path))
        try:
            self._lock_handle = self._storage.lock(f"{self.path}/{LOCK_FILE}")
        except BlockingIOError as error:
            raise storage_refusal(
                f"log directory {self.path} is in use by another process: stop that one, or choose another log.dirs"
            ) from error
        names = self._storage.list_directory(self.path)
        points, producers_ends, tail_may_be_torn = self._read_recovery_points(names)
        start_offsets = self._read_offsets(LOG_START_FILE)
        high_watermarks = self._read_offsets(HIGH_WATERMARK_FILE)
        clean_ends = self._read_clean_ends(names)
        for name in names:
            if name.endswith(DELETED_SUFFIX):
                self._remove_later(f"{self.path}/{name}")
                continue
            found = read_partition_name(self._storage, self.path, name)
            if found is None:
                continue
            key = found.topic_id, found.partition
            self.logs[key] = self._load(
                found,
                f"{self.path}/{name}",
                config=config_of(found.topic_id, found.topic_name) if config_of else self.defaults,
                point=points.get(key),
                producers_end_offset=producers_ends.get(key),
                tail_may_be_torn=tail_may_be_torn,
                log_start_offset=start_offsets.get(key, 0),
                high_watermark=high_watermarks.get(key, 0),
                clean_end_offset=0 if clean_ends is None else clean_ends.get(key),
            )
        self.vanished = tuple(key for key, point in points.items() if point.offset and key not in self.logs)
        self._checkpoints.keys = frozenset({*points, *start_offsets, *high_watermarks, *(clean_ends or ())})
        self._begin_unclean(names)

    def _begin_unclean(self, names: list[str]) -> None:
        """From here on a stop is unclean unless `close` says otherwise; and a missing checkpoint file means a loss."""
        self.was_clean_shutdown = CLEAN_SHUTDOWN_FILE in names
        if self.was_clean_shutdown:
            self._storage.unlink(f"{self.path}/{CLEAN_SHUTDOWN_FILE}")
        if RECOVERY_POINT_FILE not in names:
            self._checkpoints.write_now()
        self._storage.fsync_directory(self.path)

    def _read_recovery_points(
        self, names: list[str]
    ) -> tuple[dict[PartitionKey, RecoveryPoint], dict[PartitionKey, int], bool]:
        """The recovery points, the ends of producers, and whether they can be trusted to name every log that had one.

        Where the file was lost or broken, no tail is taken for torn: it may have been acknowledged (S18).
        """
        is_missing = RECOVERY_POINT_FILE not in names
        try:
            points = read_offsets(self._storage, f"{self.path}/{RECOVERY_POINT_FILE}")
            recovery_points = {key: RecoveryPoint(*numbers[:3]) for key, numbers in points.items()}
            return recovery_points, {key: numbers[3] for key, numbers in points.items() if numbers[3:]}, not is_missing
        except (CheckpointError, TypeError):
            return {}, {}, False

    def _read_offsets(self, file_name: str) -> dict[PartitionKey, int]:
        try:
            return {key: numbers[0] for key, numbers in read_offsets(self._storage, f"{self.path}/{file_name}").items()}
        except (CheckpointError, IndexError):
            return {}

    def _read_clean_ends(self, names: list[str]) -> dict[PartitionKey, int] | None:
        """How far logs are clean that are or were compacted; None where nobody can tell which those are."""
        if CLEANER_FILE not in names and RECOVERY_POINT_FILE in names:
            return None  # lost: they are always written together
        try:
            found = read_offsets(self._storage, f"{self.path}/{CLEANER_FILE}")
            return {key: numbers[0] for key, numbers in found.items()}
        except (CheckpointError, IndexError):
            return None

    def _load(
        self,
        name: PartitionName,
        folder: str,
        *,
        config: LogConfig,
        point: RecoveryPoint | None,
        producers_end_offset: int | None = None,
        tail_may_be_torn: bool,
        log_start_offset: int,
        high_watermark: int,
        clean_end_offset: int | None = None,
    ) -> PartitionLog:
        """`clean_end_offset` None: no checkpoint says that this log ever was compacted."""
        may_have_holes = config.compacts or clean_end_offset is not None
        recovery = Recovery(
            self._disk,
            folder,
            config=config,
            point=point,
            producers_end_offset=producers_end_offset,
            tail_may_be_torn=tail_may_be_torn,
            may_have_holes=may_have_holes,
        )
        recovery.run(log_start_offset)
        self.scanned_bytes += recovery.scanned_bytes
        if recovery.segments:
            first = recovery.segments[0].base_offset
            log_start_offset = max(log_start_offset, first) if log_start_offset <= recovery.log_end_offset else first
        log = PartitionLog(
            topic_id=name.topic_id,
            topic_name=name.topic_name,
            partition=name.partition,
            folder=folder,
            config=config,
            disk=self._disk,
            flusher=self._flusher,
            segments=Segments(recovery.segments),
            log_start_offset=log_start_offset,
            log_end_offset=recovery.log_end_offset,
            high_watermark=high_watermark,
            recovery_point=recovery.recovery_point,
            producers=recovery.producers,
            compaction=CompactionState(
                may_have_holes=may_have_holes,
                written_point=recovery.recovery_point,
                clean_end_offset=min(clean_end_offset or 0, recovery.log_end_offset),
                holes_are_written=clean_end_offset is not None,
            ),
            damaged_from=recovery.damaged_from,
        )
        log.sync_later(paths=[], directories=[folder])  # a killed process may have left names that nobody synced
        if recovery.leader_epochs is not None:
            log.leader_epochs = recovery.leader_epochs
        if recovery.unsynced and recovery.damaged_from is None:
            log.sync_segments(recovery.unsynced)
        return log

    # ---- partitions

    def create_log(
        self, topic_id: UUID, topic_name: str, partition: int, config: LogConfig | None = None
    ) -> PartitionLog:
        """The log of this partition, its folder made if it is not there; nothing is synced before the first append is.

        RefusedError(KAFKA_STORAGE_ERROR) where the disk is full or offline; OSError for another failure.
        """
        config = config if config is not None else self.defaults
        log = self.logs.get((topic_id, partition))
        if log is not None:
            log.config = config
            return log
        if self._disk.failure is not None:
            self._disk.refuse_offline()
        if (topic_id, partition) in self._checkpoints.keys:
            self._disk.write_checkpoints(must_succeed=True)  # S3, S18: they tell of a log that lay here before
        name = PartitionName(topic_id, topic_name, partition)
        folder = f"{self.path}/{folder_name(topic_id, topic_name, partition)}"
        metadata_path = self._make_folder(folder, name)
        log = self._load(
            name, folder, config=config, point=None, tail_may_be_torn=True, log_start_offset=0, high_watermark=0
        )
        log.sync_later(paths=[metadata_path], directories=[folder, self.path])
        self.logs[log.key] = log
        return log

    def _make_folder(self, folder: str, name: PartitionName) -> str:
        try:
            with contextlib.suppress(FileExistsError):
                self._storage.make_directory(folder)
            return write_metadata(self._storage, folder, name)
        except OSError as error:
            self._disk.refuse_or_fail(error, f"no space for the folder {folder}: free space and try again")

    def delete_log(self, topic_id: UUID, partition: int) -> bool:
        """Take the folder out of sight now, remove it elsewhere; False where there is no such log.

        Never raises for the disk: an OSError takes the directory offline (S19), the log is gone from `logs` all the
        same, and its folder is found again at the next start.
        """
        log = self.logs.pop((topic_id, partition), None)
        if log is None:
            return False
        log.close()
        with contextlib.suppress(OSError):
            self._disk.attempt(partial(self._hide, log))
        return True

    def _hide(self, log: PartitionLog) -> None:
        topic_id, partition = log.key
        self._deletions += 1
        hidden = f"{self.path}/{uuid_to_text(topic_id)}-{partition}.{self._deletions}{DELETED_SUFFIX}"
        while self._storage.status(hidden) is not None:
            self._deletions += 1
            hidden = f"{self.path}/{uuid_to_text(topic_id)}-{partition}.{self._deletions}{DELETED_SUFFIX}"
        self._storage.rename(log.folder, hidden)
        self._remove_later(hidden)

    def _remove_later(self, folder: str) -> None:
        self._flusher.submit(partial(remove_folder, self._storage, folder))

    # ---- durability

    def tick(self, now_ms: int) -> None:
        """Sync what `flush.ms` makes due, forget silent producers; `now_ms` from a monotonic clock, once a second."""
        self._flusher.tick(now_ms)
        self._producer_expiry.tick(now_ms)

    def run_retention(self, now_ms: int) -> int:
        """Apply retention to every log; bytes freed. Every few minutes, with the wall clock.

        Never raises for the disk: an OSError takes the directory offline.
        """
        return expire_segments(self.logs.values(), now_ms) if not self.is_offline else 0

    def checkpoint(self) -> None:
        """Write all checkpoints, elsewhere; every few seconds."""
        if not self.is_offline:
            self._checkpoints.write_elsewhere()

    def _write_checkpoints(self) -> None:
        self._checkpoints.write_now()

    def _finish_checkpoint(self) -> None:
        self._checkpoints.finish()

    def _checkpoint_if_due(self) -> None:
        if self._disk.admitted_bytes - self._checkpointed_bytes >= self._checkpoint_bytes:
            self._checkpointed_bytes = self._disk.admitted_bytes
            self.checkpoint()

    # ---- the end

    def close(self) -> None:
        """Sync and checkpoint everything, leave the clean-shutdown marker, let go of the lock; blocks on the disk.

        After a failure nothing is written any more: the next start recovers.
        """
        self._flusher.drain()
        try:
            if not self.is_offline:
                self._disk.attempt(self._close_cleanly)
        finally:
            for log in self.logs.values():
                log.close()
            self._disk.open_files.close_all()
            if self._lock_handle >= 0:
                self._storage.close(self._lock_handle)
                self._lock_handle = -1

    def _close_cleanly(self) -> None:
        for log in self.logs.values():
            sync = log.begin_sync()
            if sync is not None:
                sync.run()
                log.finish_sync(sync)
            if sync is not None and sync.error is not None:
                return
            log.flush_indexes()
            log.producers.save_if_new(log.segments, log.log_end_offset, batches_min=SNAPSHOT_BATCHES_AT_CLOSE)
        self._checkpoints.write_now()
        replace_file(self._storage, f"{self.path}/{CLEAN_SHUTDOWN_FILE}", b"")


def remove_folder(storage: Storage, folder: str) -> None:
    """Unlink a deleted partition's files; runs anywhere. What stays is found again at the next start."""
    with contextlib.suppress(OSError):
        for name in storage.list_directory(folder):
            storage.unlink(f"{folder}/{name}")
        storage.remove_directory(folder)
