"""One partition's log: segments, leader epochs, and the four offsets that matter.

Owns what was appended, what of it is durable, what is committed and where it begins:
`log_start_offset <= high_watermark <= log_end_offset`, `synced_end_offset <= durable_end_offset <= log_end_offset`.
One thread, the owner's loop, calls everything here; only fdatasync runs elsewhere (`begin_sync`, `finish_sync`).
Refuses (KAFKA_STORAGE_ERROR) appends while the disk is full or below its reserve (S19), and to a log that is damaged
(S18); reads go on in both cases. An OSError means that the directory has gone offline and that nobody knows whether the
bytes in question were written.
Invariants: offsets are given once (S12), leader epochs never fall (S4), nothing is durable before its sync.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from logstore.checkpoints import PartitionKey, RecoveryPoint
from logstore.disk import OUT_OF_DESCRIPTORS, read_refusal, storage_refusal
from logstore.flusher import LogSync
from logstore.log_answers import Appended, LogSlice, TimestampOffset
from logstore.log_config import LogConfig, TimestampType
from logstore.log_producers import known_producers
from logstore.log_reader import ReadRequest, find_timestamp, read_slice
from logstore.recovery import known_leader_epochs
from logstore.replicated_append import append_replicated
from logstore.retention import delete_records_before, expire_segments
from logstore.rolling import must_roll, roll
from logstore.segment import NO_TIMESTAMP, Placed, Segment
from logstore.truncation import truncate_fully_and_start_at, truncate_to
from wire.errors import ErrorCode, RefusedError
from wire.identifiers import uuid_to_text
from wire.record_batch import stamp, stamp_log_append_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from logstore.compaction_state import CompactionState
    from logstore.disk import Disk
    from logstore.flusher import Flusher
    from logstore.leader_epochs import LeaderEpochs
    from logstore.log_producers import LogProducers
    from logstore.segments import Segments
    from wire.record_batch import RecordBatch

UNSYNCED_BYTES_MAX: Final = 64 << 20
"""Relaxed flush settings promise nothing sooner, but a restart should not wait for a whole segment."""
UNSYNCED_BYTES_BEFORE_ROLL: Final = 4 << 20
"""The seal at a roll waits on the owner's loop for what is not synced then: as a segment's end nears, not for long."""


class PartitionLog:
    """The log of one partition of one topic id. Made by `LogDirectory`, which has recovered it."""

    __slots__ = (
        "_flusher",
        "_leader_epochs",
        "_unsynced",
        "_unsynced_directories",
        "_unsynced_paths",
        "checkpointed_point",
        "compaction",
        "config",
        "damaged_from",
        "disk",
        "durable_end_offset",
        "folder",
        "generation",
        "high_watermark",
        "is_closed",
        "log_end_offset",
        "log_start_offset",
        "on_damaged",
        "on_durable",
        "partition",
        "positions",
        "producers",
        "recovery_point",
        "segments",
        "topic_id",
        "topic_name",
    )

    def __init__(
        self,
        *,
        topic_id: UUID,
        topic_name: str,
        partition: int,
        folder: str,
        config: LogConfig,
        disk: Disk,
        flusher: Flusher,
        segments: Segments,
        log_start_offset: int,
        log_end_offset: int,
        high_watermark: int,
        recovery_point: RecoveryPoint,
        producers: LogProducers,
        compaction: CompactionState,
        damaged_from: int | None = None,
    ) -> None:
        assert 0 <= log_start_offset <= log_end_offset
        self.topic_id = topic_id
        self.topic_name = topic_name
        self.partition = partition
        self.folder = folder
        self.config = config
        self.disk = disk
        self.segments = segments
        self.log_start_offset = log_start_offset
        self.log_end_offset = log_end_offset
        counts_unsynced = damaged_from is not None or not config.syncs_every_append
        synced_end_offset = max(min(recovery_point.offset, log_end_offset), log_start_offset)
        self.durable_end_offset = log_end_offset if counts_unsynced else synced_end_offset
        # A checkpoint made under relaxed settings may lie above: S2 holds from here on, and what was readable up there
        # is so again, the same (S12), when recovery's sync has ended and the replica hears of it (`on_durable`).
        self.high_watermark = min(max(high_watermark, log_start_offset), self.durable_end_offset)
        self.recovery_point = recovery_point
        self.producers = producers
        self.compaction = compaction
        self.damaged_from = damaged_from
        self.generation = 0
        self.is_closed = False
        self.on_durable: Callable[[PartitionLog], None] | None = None
        self.on_damaged: Callable[[], object] | None = None
        self.positions: dict[int, tuple[int, int]] | None = None
        self.checkpointed_point: RecoveryPoint | None = recovery_point
        self._flusher = flusher
        self._leader_epochs: LeaderEpochs | None = None
        self._unsynced: list[Segment] = []
        self._unsynced_paths: list[str] = []
        self._unsynced_directories: list[str] = []

    def __repr__(self) -> str:
        return f"PartitionLog({self.name}, {self.log_start_offset}..{self.log_end_offset})"

    @property
    def name(self) -> str:
        return f"{self.topic_name}-{self.partition}"

    @property
    def key(self) -> PartitionKey:
        return self.topic_id, self.partition

    @property
    def size_bytes(self) -> int:
        return self.segments.size_bytes

    @property
    def synced_end_offset(self) -> int:
        """The end of what fdatasync has confirmed, whatever the flush settings count as durable."""
        return self.recovery_point.offset

    @property
    def leader_epochs(self) -> LeaderEpochs:
        if self._leader_epochs is None:
            try:
                self._leader_epochs = known_leader_epochs(
                    self.disk.storage, self.folder, self.segments, self.log_end_offset
                )
            except OSError as error:
                raise read_refusal(self.folder, error) from error
        return self._leader_epochs

    @leader_epochs.setter
    def leader_epochs(self, epochs: LeaderEpochs) -> None:
        self._leader_epochs = epochs

    @property
    def leader_epochs_are_dirty(self) -> bool:
        return self._leader_epochs is not None and self._leader_epochs.is_dirty

    # ---- appending

    def append(
        self, buffer: bytearray | memoryview, batches: list[RecordBatch], *, leader_epoch: int, now_ms: int
    ) -> Appended:
        """As the leader: give offsets, stamp them and the epoch into `buffer` in place, write it with one call.

        `batches` are all batches of `buffer`, already checked (`check_batches`). With the default flush settings a sync
        is requested and `durable_end_offset` moves when it is done; with relaxed ones it has moved on return.
        What idempotent producers sent before is not written again: `Appended.is_duplicate` (see `duplicate_of`).
        RefusedError: FENCED_LEADER_EPOCH, KAFKA_STORAGE_ERROR, those of `duplicate_of`: nothing was written. OSError:
        unknown, and the directory is offline.
        """
        size_bytes = len(buffer)
        epochs = self._leader_epochs or self.leader_epochs
        is_new_epoch = leader_epoch != epochs.latest
        if is_new_epoch:
            self._check_epoch(epochs, leader_epoch)
        is_idempotent = batches[0].producer_id >= 0 or (len(batches) > 1 and _any_idempotent(batches))
        if is_idempotent:
            duplicate = self._find_duplicate(batches)
            if duplicate is not None:
                return duplicate
        self.admit_append(size_bytes, now_ms)
        append_time_ms = now_ms if self.config.message_timestamp_type is TimestampType.LOG_APPEND_TIME else NO_TIMESTAMP
        base_offset = offset = self.log_end_offset
        position = 0
        placed = []
        for batch in batches:
            stamp(buffer, position, base_offset=offset, leader_epoch=leader_epoch)
            if append_time_ms != NO_TIMESTAMP:
                stamp_log_append_time(buffer, position, timestamp_ms=append_time_ms)
                placed.append(Placed(position, offset, append_time_ms))
            else:
                placed.append(Placed(position, offset, batch.max_timestamp))
            offset += batch.last_offset_delta + 1
            position += batch.size_bytes
        assert position == size_bytes, f"the batches have {position} bytes, the buffer {size_bytes}"
        self.write(buffer, placed, offset)
        if is_new_epoch:  # an epoch in which nothing was written is nobody's history
            epochs.assign(leader_epoch, base_offset)
        if is_idempotent:
            self.producers.learn(self.segments, batches, placed)
        return Appended(base_offset, offset - 1, size_bytes, append_time_ms)

    def duplicate_of(self, batches: list[RecordBatch]) -> Appended | None:
        """Where these batches of idempotent producers lie already, as their first append answered; None where they
        may be appended (S13).

        RefusedError: OUT_OF_ORDER_SEQUENCE_NUMBER, DUPLICATE_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH (see
        `ProducerState.check`), KAFKA_STORAGE_ERROR.
        """
        return self._find_duplicate(batches) if _any_idempotent(batches) else None

    def _find_duplicate(self, batches: list[RecordBatch]) -> Appended | None:
        self._check_writable()
        found = known_producers(self).check(batches)
        if found is None:
            return None
        is_append_time = self.config.message_timestamp_type is TimestampType.LOG_APPEND_TIME
        timestamp_ms = found[-1].timestamp_ms if is_append_time else NO_TIMESTAMP
        return Appended(found[0].base_offset, found[-1].last_offset, 0, timestamp_ms, is_duplicate=True)

    def _check_epoch(self, epochs: LeaderEpochs, leader_epoch: int) -> None:
        if epochs.latest is not None and leader_epoch < epochs.latest:
            raise RefusedError(
                ErrorCode.FENCED_LEADER_EPOCH,
                f"leader epoch {leader_epoch} cannot append to {self.name}, where epoch {epochs.latest} wrote (S4)",
            )

    def append_replicated(self, buffer: bytearray | bytes | memoryview, *, now_ms: int) -> Appended | None:
        """As a follower: the leader's batches with their offsets and epochs; None where no whole batch is there.

        Every CRC is checked, nothing is copied. CORRUPT_MESSAGE for a broken batch, one that is not at the log's end
        (beyond it where compaction leaves holes), or of an older epoch (S4): nothing was written.
        """
        self._check_writable()
        return append_replicated(self, buffer, now_ms)

    def allow_holes(self) -> None:
        """From here on offsets may be missing between batches; remembered for ever, before the first one is made.

        RefusedError(KAFKA_STORAGE_ERROR) where the disk has no room to say so.
        """
        compaction = self.compaction
        compaction.may_have_holes = True
        for segment in self.segments:
            segment.may_have_holes = True
        if not compaction.holes_are_written and not self.config.compacts:
            self.disk.write_checkpoints(must_succeed=True)

    def admit_append(self, size_bytes: int, now_ms: int) -> None:
        """Refuse now what an append of `size_bytes` would be refused for."""
        self._check_writable()
        self.disk.admit(size_bytes, now_ms)

    def _check_writable(self) -> None:
        if self.is_closed:
            raise storage_refusal(f"the log of {self.name} is closed")
        if self.damaged_from is not None:
            raise storage_refusal(
                f"the log of {self.name} is damaged from offset {self.damaged_from} on (see `kraft log verify`):"
                " what is intact is served, nothing can be appended"
            )

    def write(self, buffer: bytearray | memoryview, placed: list[Placed], next_offset: int) -> None:
        """Checked batches at the end: one write, then a sync as configured. Raises as `append`."""
        segment = self.segments.active
        if segment is None or must_roll(segment, self.config, len(buffer), placed[0].max_timestamp_ms, next_offset):
            segment = roll(self, placed[0].base_offset)
        segment.append(buffer, placed, next_offset=next_offset)
        self.log_end_offset = next_offset
        if not self._unsynced or self._unsynced[-1] is not segment:
            self._unsynced.append(segment)
        self._sync_as_configured()

    def _sync_as_configured(self) -> None:
        config = self.config
        if config.flush_messages <= 1:
            self._flusher.request(self)
            return
        self.durable_end_offset = self.log_end_offset
        active, point = self.segments[-1], self.recovery_point
        unsynced_bytes = active.size_bytes - (point.position if point.segment_base_offset == active.base_offset else 0)
        is_due = self.log_end_offset - self.synced_end_offset >= config.flush_messages
        ends_soon = config.segment_bytes - active.size_bytes < UNSYNCED_BYTES_MAX
        if is_due or unsynced_bytes >= (UNSYNCED_BYTES_BEFORE_ROLL if ends_soon else UNSYNCED_BYTES_MAX):
            self._flusher.request(self)
        else:
            self._flusher.request_by_timer(self)

    # ---- rolling

    def roll(self, base_offset: int | None = None) -> Segment:
        """Begin a new active segment at `base_offset` (by default the log's end); the next sync covers it."""
        return roll(self, self.log_end_offset if base_offset is None else base_offset)

    def new_segment(self, base_offset: int) -> Segment:
        """An empty segment's file, its name durable with the next sync."""
        segment = Segment(
            self.disk,
            self.folder,
            base_offset,
            size_bytes=0,
            next_offset=base_offset,
            config=self.config,
            may_have_holes=self.config.compacts or self.compaction.may_have_holes,
        )
        try:
            segment.create_file()
        except OSError as error:
            self.disk.refuse_or_fail(error, f"no space for a new segment of {self.name}")
        if self.folder not in self._unsynced_directories:
            self._unsynced_directories.append(self.folder)
        return segment

    def restart_at(self, offset: int) -> None:
        """After all segments went: an empty log whose next offset is `offset`, as its file's name remembers."""
        assert not len(self.segments)
        self.log_start_offset = self.log_end_offset = self.durable_end_offset = self.high_watermark = offset
        self.segments.add(self.new_segment(offset))
        self.disk.attempt(partial(self.disk.storage.fsync_directory, self.folder))

    # ---- durability

    def sync_later(self, *, paths: list[str], directories: list[str]) -> None:
        """Names and small files that must be durable before anything appended from now on is."""
        self._unsynced_paths += paths
        self._unsynced_directories += directories

    def sync_again(self) -> None:
        """Sync the active segment although nothing was appended: the end was cut while a sync ran."""
        active = self.segments.active
        if active is not None and active not in self._unsynced:
            self._unsynced.append(active)
        self._flusher.request(self)

    def sync_segments(self, segments: list[Segment]) -> None:
        """Recovery read these; a kill leaves their bytes in the page cache only."""
        self._unsynced = segments
        self._unsynced_directories.append(self.folder)
        self._flusher.request(self)

    def begin_sync(self) -> LogSync | None:
        """What must be synced so that all that was appended until now is durable; None where nothing is."""
        active = self.segments.active
        if self.is_closed or active is None or not (self._unsynced or self._unsynced_directories):
            return None
        try:
            handles = self.disk.open_files.pin_all([segment.file for segment in self._unsynced])
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                self._flusher.request_at_next_tick(self)
            else:
                self.disk.fail(error)
            return None
        sync = LogSync(
            self,
            storage=self.disk.storage,
            generation=self.generation,
            point=RecoveryPoint(self.log_end_offset, active.base_offset, active.size_bytes),
            segments=self._unsynced,
            handles=handles,
            paths=self._unsynced_paths,
            directories=self._unsynced_directories,
        )
        self._unsynced, self._unsynced_paths, self._unsynced_directories = [], [], []
        return sync

    def finish_sync(self, sync: LogSync) -> None:
        """Take in the result of a sync, on the owner's loop: offsets become durable, or the directory has failed."""
        for segment in sync.segments:
            self.disk.open_files.unpin(segment.file)
        if sync.lacked_descriptors:
            self._sync_at_next_tick(sync)
        elif sync.error is not None:
            self.disk.fail(sync.error)
        if not sync.is_done or self.is_closed or self.damaged_from is not None:
            return
        if self.disk.failure is not None:
            return  # the kernel tells an error once for each descriptor: it may have been this sync's (S3, S19)
        if sync.generation != self.generation:
            self.sync_again()
            return
        assert self.recovery_point.offset <= sync.point.offset <= self.log_end_offset
        self.recovery_point = sync.point
        self.durable_end_offset = max(self.durable_end_offset, sync.point.offset)
        if self.on_durable is not None:
            self.on_durable(self)

    def _sync_at_next_tick(self, sync: LogSync) -> None:
        """A directory or index file could not be opened; no fsync failed, so all of it may be synced again."""
        known = [segment for segment in sync.segments if segment in list(self.segments)]
        self._unsynced = [*known, *(segment for segment in self._unsynced if segment not in known)]
        self._unsynced_paths = [*sync.paths, *self._unsynced_paths]
        self._unsynced_directories = [*sync.directories, *self._unsynced_directories]
        if not self.is_closed:
            self._flusher.request_at_next_tick(self)

    def advance_high_watermark(self, offset: int) -> bool:
        """The replica says what is committed (S2); true if it moved. It never moves back here, nor beyond the end."""
        if offset <= self.high_watermark:
            return False
        assert offset <= self.log_end_offset, f"high watermark {offset} beyond the log end {self.log_end_offset}"
        self.high_watermark = offset
        return True

    # ---- reading

    def read(
        self, offset: int, *, max_bytes: int, upper_offset: int, at_least_one: bool = True, check_crc: bool = True
    ) -> LogSlice:
        """Whole batches from the one that holds `offset`, below `upper_offset`, about `max_bytes` of them.

        The first may begin below `offset`, and is given whole even above `max_bytes` (unless not `at_least_one`).
        OffsetOutOfRangeError with both bounds; DamagedRangeError where the disk damaged what lies at `offset`, with the
        next offset that is intact. Not `check_crc` (1 us per 16 KiB): for those whose client checks it anyway.
        """
        return read_slice(self, ReadRequest(offset, max_bytes, upper_offset, at_least_one, check_crc))

    def offset_for_timestamp(self, timestamp_ms: int, *, upper_offset: int) -> TimestampOffset | None:
        """The first record at or after `timestamp_ms` among those below `upper_offset` (ListOffsets)."""
        return find_timestamp(self, timestamp_ms, upper_offset)

    # ---- cutting at either end

    def truncate_to(self, offset: int) -> None:
        """Cut everything from `offset` on, durably (S5: the replica decides where); a batch across it goes whole."""
        truncate_to(self, offset)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Forget everything; the next offset is `offset`."""
        truncate_fully_and_start_at(self, offset)

    def delete_records_before(self, offset: int) -> None:
        """Move the start of the log up to `offset`, durably; OFFSET_OUT_OF_RANGE above the high watermark."""
        delete_records_before(self, offset)

    def apply_retention(self, now_ms: int) -> int:
        """Delete segments that are too old or too many; bytes freed. See `retention`."""
        return expire_segments([self], now_ms)

    def forget_unsynced(self, removed: list[Segment]) -> None:
        """These segments no longer exist: nothing of them waits for a sync."""
        self._unsynced = [segment for segment in self._unsynced if segment not in removed]

    def begin_generation(self, removed: list[Segment]) -> None:
        """The end of the log was cut: what a running sync covers may be other bytes than what lies there now."""
        self.forget_unsynced(removed)
        self.generation += 1
        self.positions = None

    # ---- closing and checkpoints

    def checkpoint_lines(self) -> tuple[str, str, str, str]:
        """The lines of this log in the checkpoint files: recovery point with the producers' end, start, watermark,
        and (empty where the log never was compacted) how far it is clean.
        """
        name = f"{uuid_to_text(self.topic_id)} {self.partition}"
        point = self.recovery_point
        return (
            f"{name} {point.offset} {point.segment_base_offset} {point.position} {self.producers.end_offset}",
            f"{name} {self.log_start_offset}",
            f"{name} {self.high_watermark}",
            f"{name} {self.compaction.clean_end_offset}" if self.has_cleaner_line else "",
        )

    @property
    def has_cleaner_line(self) -> bool:
        return self.config.compacts or self.compaction.may_have_holes or self.compaction.holes_are_written

    def flush_indexes(self) -> None:
        active = self.segments.active
        if active is not None:
            active.flush_indexes()

    def close(self) -> None:
        """Let go of the files; what is not synced is not durable (`LogDirectory.close` syncs first)."""
        self.is_closed = True
        self._flusher.forget(self)
        for segment in self.segments:
            segment.close()


def _any_idempotent(batches: list[RecordBatch]) -> bool:
    return any(batch.producer_id >= 0 for batch in batches)
