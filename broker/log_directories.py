"""All log directories of this broker, and the jobs that keep them: syncs, checkpoints, retention.

Owns the threads in which fdatasync runs, each directory's identity, and which directory a new partition goes to.
Refuses a directory of another cluster or node. Invariants:
- a partition lies in one directory; a new one goes to the directory that holds the fewest (KIP-113);
- S19: a directory that failed is used no more; the others go on.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from broker.event_log import logger
from broker.machine import Machine
from broker.node_config import NodeConfig
from logstore.flusher import Flusher
from logstore.log_config import LogConfig
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from logstore.storage import Storage  # noqa: TC001 - a type of the wiring, as the others here
from wire.errors import ErrorCode, RefusedError

THREADS: Final = 4
PARALLEL_SYNCS: Final = 2
"""Of one directory. More of them answer no sooner, since a file system's journal commits for all at once; each costs a
thread's wake-up and a fight for the interpreter (measured: 4 take a fifth more CPU for a replicated GB than 2)."""
TICK_S: Final = 1.0

Task = Callable[[], object]


class DirectoryState(NamedTuple):
    """One log directory as an operator sees it; sizes -1 where the disk does not tell."""

    path: str
    is_offline: bool
    total_bytes: int
    usable_bytes: int
    logs: tuple[PartitionLog, ...]


class OwnerLoop:
    """Runs what other threads hand over on the node's loop; holds it back while the directories are being opened."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._held_back: list[Task] | None = []

    def post(self, task: Task) -> None:
        """From any thread."""
        with self._lock:
            if self._held_back is not None:
                self._held_back.append(task)
                return
        self._loop.call_soon_threadsafe(task)

    def begin(self) -> None:
        """On the loop, which owns the logs from here on."""
        with self._lock:
            tasks, self._held_back = self._held_back, None
        for task in tasks or ():
            self._loop.call_soon(task)


class LogDirectories:
    """One `LogDirectory` for each entry of log.dirs; used on the node's loop only."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        cluster_id: str,
        defaults: LogConfig,
        loop: asyncio.AbstractEventLoop,
        machine: Machine,
        on_offline: Callable[[Iterable[tuple[UUID, int]]], None],
    ) -> None:
        """`on_offline` is told once for each directory that fails, with the partitions that lie there (S19)."""
        self.defaults = defaults
        self.directory_ids: tuple[UUID, ...] = ()
        self._config = config
        self._cluster_id = cluster_id
        self._loop = loop
        self._machine = machine
        self._clock = machine.clock
        self._on_offline = on_offline
        self._log = logger()
        self._executor = machine.threads(THREADS, "fdatasync")
        self._owner_loop = OwnerLoop(loop)
        self._homes: dict[tuple[UUID, int], LogDirectory] = {}
        self._opened: list[LogDirectory] = []
        self._full: set[str] = set()
        self._storages: dict[str, Storage] = {}
        self._directories = [self._directory(str(path)) for path in config.log_directories]

    def _directory(self, path: str) -> LogDirectory:
        flusher = Flusher(
            submit=self._executor.submit,
            post=self._owner_loop.post,
            on_failure=partial(self._failed, path),
            parallel_syncs=PARALLEL_SYNCS,
        )
        storage = self._storages[path] = self._machine.storage()
        return LogDirectory(
            path,
            storage=storage,
            flusher=flusher,
            defaults=self.defaults,
            reserved_bytes=self._config.log_dir_reserved_bytes,
            producer_id_expiration_ms=self._config.producer_id_expiration_ms,
            open_files_max=max(1, self._config.log_max_open_files // len(self._config.log_directories)),
        )

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self, config_of: Callable[[UUID, str], LogConfig]) -> None:
        """Recover every directory, off the loop: after a crash it reads whatever came since the last checkpoint.

        Raises RefusedError (in use by another process), ConfigError (another cluster's or node's), OSError.
        """
        self.directory_ids = tuple(
            self._machine.identify_directory(path, cluster_id=self._cluster_id, node_id=self._config.node_id)
            for path in self._config.log_directories
        )
        for directory in self._directories:
            await self._loop.run_in_executor(self._executor, directory.open, config_of)
            self._opened.append(directory)
            self._homes.update(dict.fromkeys(directory.logs, directory))
            self._log.info(
                "log directory open",
                path=directory.path,
                partitions=len(directory.logs),
                clean=directory.was_clean_shutdown,
                recovered_bytes=directory.scanned_bytes,
            )
        self._owner_loop.begin()
        for log in self.logs():
            if log.damaged_from is not None:
                self._log.error(
                    "partition damaged: what is intact is served, writes are refused",
                    topic=log.topic_name,
                    partition=log.partition,
                    damaged_from=log.damaged_from,
                )

    async def maintain(self) -> None:
        """Until cancelled: syncs by time, checkpoints, retention."""
        checkpoint_ms, retention_ms = 0.0, 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._clock.monotonic_ms()
            for directory in self._directories:
                directory.tick(int(now_ms))
                self._watch_space(directory)
            if now_ms - checkpoint_ms >= self._config.log_flush_offset_checkpoint_interval_ms:
                checkpoint_ms = now_ms
                for directory in self._directories:
                    directory.checkpoint()
            if now_ms - retention_ms >= self._config.log_retention_check_interval_ms:
                retention_ms = now_ms
                self._run_retention()

    def _watch_space(self, directory: LogDirectory) -> None:
        """Say so once when writes begin to be refused for lack of space, and once when they are accepted again."""
        if directory.is_offline:
            return
        try:
            is_full = directory.free_bytes < self._config.log_dir_reserved_bytes
        except OSError:
            return  # the next write or sync finds out what it is
        if is_full and directory.path not in self._full:
            self._full.add(directory.path)
            self._log.error("disk full: writes are refused, reads go on", path=directory.path)
        elif not is_full and directory.path in self._full:
            self._full.discard(directory.path)
            self._log.warning("disk has space again: writes are accepted", path=directory.path)

    def _run_retention(self) -> None:
        for directory in self._directories:
            freed_bytes = directory.run_retention(self._clock.wall_ms())
            if freed_bytes:
                self._log.info("retention", path=directory.path, freed_bytes=freed_bytes)

    async def close(self) -> None:
        """Sync everything, write the checkpoints and the clean-shutdown markers."""
        for directory in self._opened:
            directory.close()
        self._opened.clear()
        self._executor.shutdown()

    # -- what the reconciler asks -------------------------------------------------------------------------------

    @property
    def was_clean(self) -> bool:
        """Every directory was closed in good order when it was used last."""
        return all(directory.was_clean_shutdown for directory in self._directories)

    def logs(self) -> list[PartitionLog]:
        """Every partition's log."""
        return [log for directory in self._directories for log in directory.logs.values()]

    def vanished(self) -> list[tuple[UUID, int]]:
        """Partitions that had records here, and of which there is not even a folder (S18)."""
        return [key for directory in self._directories for key in directory.vanished if key not in self._homes]

    def damaged(self) -> list[tuple[UUID, int]]:
        """Partitions of which a part below the recovery point can't be read (S18)."""
        return [log.key for log in self.logs() if log.damaged_from is not None]

    def log(self, topic_id: UUID, topic_name: str, partition: int, config: LogConfig) -> PartitionLog:
        """The partition's log, made where it is missing; raises RefusedError(KAFKA_STORAGE_ERROR)."""
        key = (topic_id, partition)
        home = self._homes.get(key)
        if home is None:
            usable = [directory for directory in self._directories if not directory.is_offline]
            if not usable:
                raise RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, "every log directory of this broker is offline")
            home = min(usable, key=lambda directory: len(directory.logs))
        try:
            log = home.create_log(topic_id, topic_name, partition, config)
        except OSError as error:
            raise RefusedError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"log directory {home.path} can't hold {topic_name}-{partition}: {error}"
            ) from error
        self._homes[key] = home
        return log

    def checkpoint(self, topic_id: UUID, partition: int) -> None:
        """Write down soon how far the logs of this partition's directory are synced, committed and clean."""
        home = self._homes.get((topic_id, partition))
        if home is not None:
            home.checkpoint()

    def delete(self, topic_id: UUID, partition: int) -> None:
        """The topic is gone, so is its data."""
        home = self._homes.pop((topic_id, partition), None)
        if home is not None:
            home.delete_log(topic_id, partition)

    def is_offline(self, topic_id: UUID, partition: int) -> bool:
        """The partition's directory has failed (S19)."""
        home = self._homes.get((topic_id, partition))
        return home is not None and home.is_offline

    def check_online(self, topic_id: UUID, partition: int) -> None:
        """Raises RefusedError(KAFKA_STORAGE_ERROR) where the partition's directory has failed."""
        if self.is_offline(topic_id, partition):
            home = self._homes[topic_id, partition]
            raise RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, _offline(home))

    # -- what an operator asks ----------------------------------------------------------------------------------

    @property
    def all_offline(self) -> bool:
        return all(directory.is_offline for directory in self._directories)

    def states(self) -> list[DirectoryState]:
        """Every directory of `log.dirs`, in its order."""
        return [self._state(directory) for directory in self._directories]

    def _state(self, directory: LogDirectory) -> DirectoryState:
        path, total_bytes, usable_bytes = directory.path, -1, -1
        if not directory.is_offline:
            with contextlib.suppress(OSError):  # the next write or sync finds out what it is
                total_bytes, usable_bytes = self._storages[path].total_bytes(path), directory.free_bytes
        return DirectoryState(path, directory.is_offline, total_bytes, usable_bytes, tuple(directory.logs.values()))

    def reasons(self) -> list[str]:
        """One line for each thing that is wrong with this broker's disks."""
        for directory in self._directories:
            self._watch_space(directory)
        offline = [_offline(directory) for directory in self._directories if directory.is_offline]
        full = [
            f"log directory {path} has less than log.dir.reserved.bytes free: writes are refused until there is space"
            for path in sorted(self._full)
        ]
        damaged = [
            f"{log.name} on broker {self._config.node_id} is damaged from offset {log.damaged_from} on: what is intact "
            "is served, writes are refused; see `kraft log verify`"
            for log in self.logs()
            if log.damaged_from is not None
        ]
        return offline + full + damaged

    def _failed(self, path: str, error: OSError) -> None:
        self._log.error("log directory offline", path=path, error=str(error))
        self._on_offline([key for key, home in self._homes.items() if home.path == path])


def _offline(directory: LogDirectory) -> str:
    return f"log directory {directory.path} is offline ({directory.failure}): mend or replace the disk, then restart"
