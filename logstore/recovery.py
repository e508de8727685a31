"""From a partition's folder to its log, after any kind of stop.

Owns the judgement between a torn tail and damage (S18). Everything below the checkpointed recovery point is synced and
is not read again; what lies beyond is scanned in order with every CRC. Where the scan meets bytes that are no batch, it
looks for any intact batch after them: if there is none, a crash tore the tail, and it is cut; if there is one, or if
the log ends before its recovery point, the log is damaged: nothing is cut, and what is intact on both sides stays
readable. Indexes, leader epochs and the state of producers beyond the recovery point are made anew from the batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logstore.batch_walk import OFFSET_SPAN, BrokenBatchError, find_intact_batch
from logstore.checkpoints import RecoveryPoint
from logstore.damage import FILE_NAME as DAMAGE_FILE
from logstore.damage import BrokenHeadersError, Gap, add_gaps, find_gap, load_gaps, next_intact, save_gaps
from logstore.disk import DELETED_SUFFIX, Disk
from logstore.leader_epochs import EpochScan, LeaderEpochs, load_leader_epochs
from logstore.log_producers import LogProducers
from logstore.producer_snapshots import snapshot_offsets
from logstore.segment import LOG_SUFFIX, Segment
from logstore.segment_swap import CLEANED_SUFFIX, finish_swaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logstore.log_config import LogConfig
    from logstore.segments import Segments
    from logstore.storage import Storage
    from wire.record_batch import RecordBatch

STEM_LENGTH: Final = 20
NO_OFFSET: Final = -1


class Recovery:
    """The recovery of one folder: `run` fills the attributes with what the log is."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        *,
        config: LogConfig,
        point: RecoveryPoint | None,
        producers_end_offset: int | None = None,
        tail_may_be_torn: bool,
        may_have_holes: bool = False,
    ) -> None:
        """`point` None: nothing is known to be synced. `tail_may_be_torn` False: the checkpoints were lost.

        `producers_end_offset`: no batch from there to `point` has a producer id; None: it was not checkpointed.
        `may_have_holes`: the log is or was compacted.
        """
        self._disk = disk
        self._folder = folder
        self._config = config
        self._may_have_holes = may_have_holes
        self._point = point
        self._tail_may_be_torn = tail_may_be_torn
        self._producers_end_offset = producers_end_offset
        self.segments: list[Segment] = []
        self.producers = LogProducers(disk, folder, snapshots=[], end_offset=0)
        self.unsynced: list[Segment] = []
        self.leader_epochs: LeaderEpochs | None = None
        self._epoch_scan = EpochScan(LeaderEpochs())
        self.log_end_offset = 0
        self.recovery_point = point or RecoveryPoint(0, 0, 0)
        self.damaged_from: int | None = None
        self.scanned_bytes = 0
        self.cut_bytes = 0

    def run(self, log_start_offset: int) -> None:
        """`log_start_offset` as checkpointed (0 if not). OSError as the disk raises it."""
        names = self._disk.storage.list_directory(self._folder)
        if finish_swaps(self._disk.storage, self._folder, names):
            names = self._disk.storage.list_directory(self._folder)
        self._disk.unlink_later([f"{self._folder}/{name}" for name in names if _is_leftover(name)])
        self.segments = self._open_segments(names)
        if DAMAGE_FILE in names:
            add_gaps(self.segments, load_gaps(self._disk.storage, self._folder))
        self.producers = self._producers(names)
        if not self.segments:
            self._recover_nothing(log_start_offset)
        elif not self._is_known():
            self._scan()
        self.producers.end_scan(self.log_end_offset)
        gaps = self._gaps()
        if gaps:
            self.damaged_from = min(gap.offset for gap in gaps)

    def _producers(self, names: Iterable[str]) -> LogProducers:
        end_offset = self._producers_end_offset
        if end_offset is None:
            end_offset = 0 if self._point is None else self._point.offset
        return LogProducers(self._disk, self._folder, snapshots=snapshot_offsets(names), end_offset=end_offset)

    def _open_segments(self, names: Iterable[str]) -> list[Segment]:
        bases = sorted(int(name[:STEM_LENGTH]) for name in names if is_segment_name(name))
        segments = []
        unknown = bases[-1] + OFFSET_SPAN if bases else 0
        for base_offset, next_offset in zip(bases, [*bases[1:], unknown][: len(bases)], strict=True):
            segment = Segment(
                self._disk,
                self._folder,
                base_offset,
                size_bytes=0,
                next_offset=next_offset,
                config=self._config,
                may_have_holes=self._may_have_holes,
            )
            status = self._disk.storage.status(segment.file.path)
            segment.size_bytes = status.size_bytes if status else 0
            segments.append(segment)
        return segments

    def _recover_nothing(self, log_start_offset: int) -> None:
        """No segment: a log that never was written, unless its recovery point knows better."""
        self.log_end_offset = log_start_offset
        if self.recovery_point.offset > log_start_offset:
            self.damaged_from = log_start_offset
        elif self._point is None:
            self.recovery_point = RecoveryPoint(log_start_offset, log_start_offset, 0)

    def _is_known(self) -> bool:
        """The last segment ends where the recovery point says: nothing to read, after a clean stop or not."""
        point, last = self._point, self.segments[-1]
        if point is None or last.base_offset != point.segment_base_offset or last.size_bytes != point.position:
            return False
        last.next_offset = self.log_end_offset = point.offset
        return True

    def _scan(self) -> None:
        first, position, offset = self._scan_start()
        self.leader_epochs = known_leader_epochs(self._disk.storage, self._folder, self.segments[: first + 1], offset)
        self.leader_epochs.truncate_from_end(offset)
        self._epoch_scan = EpochScan(self.leader_epochs)
        self._begin_with_producers(self.segments[: first + 1], offset, position)
        index = first
        while index < len(self.segments):
            segment = self.segments[index]
            if index > first:
                position = 0
                if (
                    segment.base_offset > offset
                    and not self._may_have_holes
                    and self._ends_too_early(index - 1, offset, segment.base_offset)
                ):
                    break
                offset = max(offset, segment.base_offset)
            offset = self._scan_segment(index, position, offset)
            index += 1
        self._epoch_scan.end()
        self.leader_epochs.truncate_from_end(offset)
        self.log_end_offset = offset
        self._check_reaches_recovery_point()
        self.unsynced = [segment for segment in self.segments[first:] if segment.size_bytes]
        if self._point is None and first == 0:
            self.recovery_point = RecoveryPoint(self.segments[0].base_offset, self.segments[0].base_offset, 0)
        if self._gaps():
            save_gaps(self._disk.storage, self._folder, self._gaps())

    def _begin_with_producers(self, segments: list[Segment], offset: int, position: int) -> None:
        """Their state at `offset`; damage that hides a part of it is damage of the log (S13, S18)."""
        is_known_before = self._point is not None and self._point.offset == offset
        while True:
            try:
                return self.producers.begin_scan(segments, offset, position, is_known_before=is_known_before)
            except BrokenHeadersError as found:
                end_offset = self._next_base(self.segments.index(found.segment))
                size = self._config.max_message_bytes
                gap = find_gap(found.segment, found.broken, end_offset=end_offset, max_message_bytes=size)
                add_gaps([found.segment], [gap])

    def _scan_start(self) -> tuple[int, int, int]:
        """(segment index, position, offset) of the recovery point, or of the very beginning where it is not there."""
        point = self._point
        if point is not None:
            for index, segment in enumerate(self.segments):
                if segment.base_offset == point.segment_base_offset and segment.size_bytes >= point.position:
                    return index, point.position, point.offset
        return 0, 0, self.segments[0].base_offset

    def _scan_segment(self, index: int, position: int, offset: int) -> int:
        """Read the segment from `position`, where `offset` is due; the offset at its intact end."""
        segment = self.segments[index]
        next_base = self._next_base(index)
        segment.begin_scan(position, offset)
        self.scanned_bytes += segment.size_bytes - position
        for gap in (*segment.gaps, None):
            end, end_offset = (gap.position, gap.offset) if gap is not None else (segment.size_bytes, next_base)
            while position < end:
                try:
                    for at, batch in segment.batches(position, end, offset, end_offset):
                        self._note(segment, at, batch, offset)
                        position, offset = at + batch.size_bytes, batch.next_offset
                except BrokenBatchError:
                    found = next_intact(segment.read_at, position, segment.size_bytes, offset)
                    if found is None and self._is_torn_tail(index, offset):
                        self._cut_tail(index, position, offset)
                        return offset
                    end_position, next_offset = found or (segment.size_bytes, next_base or offset)
                    add_gaps([segment], [Gap(segment.base_offset, position, end_position, offset, next_offset)])
                    position, offset = end_position, next_offset
            if gap is not None and position < gap.end_position:
                position, offset = gap.end_position, max(offset, gap.next_offset)
        segment.next_offset = offset
        return offset

    def _note(self, segment: Segment, position: int, batch: RecordBatch, due_offset: int) -> None:
        segment.note_batch(position, batch.base_offset, batch.max_timestamp)
        self._epoch_scan.found(batch.partition_leader_epoch, due_offset)
        self.producers.scanned(batch, is_after_hole=batch.base_offset > due_offset)

    def _next_base(self, index: int) -> int | None:
        return self.segments[index + 1].base_offset if index + 1 < len(self.segments) else None

    def _is_torn_tail(self, index: int, offset: int) -> bool:
        """S18: beyond the recovery point, and no intact batch with a later offset follows in any later segment."""
        if not self._tail_may_be_torn or (self._point is not None and offset < self._point.offset):
            return False
        return all(
            find_intact_batch(segment.read_at, 0, segment.size_bytes, max(offset, segment.base_offset)) is None
            for segment in self.segments[index + 1 :]
        )

    def _cut_tail(self, index: int, position: int, offset: int) -> None:
        later = self.segments[index + 1 :]
        segment = self.segments[index]
        self.cut_bytes += segment.size_bytes - position + sum(other.size_bytes for other in later)
        self._disk.discard_segments(reversed(later))
        del self.segments[index + 1 :]
        segment.cut_to(position, offset)

    def _ends_too_early(self, index: int, offset: int, next_base: int) -> bool:
        """A segment ends before the next one begins. True where a crash lost the end of both: the log ends here."""
        segment = self.segments[index]
        if self._is_torn_tail(index, offset):
            self._cut_tail(index, segment.size_bytes, offset)
            return True
        add_gaps([segment], [Gap(segment.base_offset, segment.size_bytes, segment.size_bytes, offset, next_base)])
        return False

    def _check_reaches_recovery_point(self) -> None:
        """S18: the log ends before what was synced: records are missing, and no later append may hide it."""
        if self._point is not None and self.log_end_offset < self._point.offset:
            self.damaged_from = self.log_end_offset

    def _gaps(self) -> list[Gap]:
        return [gap for segment in self.segments for gap in segment.gaps]


def known_leader_epochs(
    storage: Storage, folder: str, segments: Sequence[Segment] | Segments, end_offset: int
) -> LeaderEpochs:
    """The epochs of a folder up to `end_offset`: from the file, or by all headers where it is lost or broken."""
    epochs = load_leader_epochs(storage, folder)
    if epochs is None:
        return _epochs_from_headers(segments, end_offset)
    epochs.truncate_from_end(end_offset)
    return epochs


def _epochs_from_headers(segments: Sequence[Segment] | Segments, end_offset: int) -> LeaderEpochs:
    epochs = LeaderEpochs()
    scan = EpochScan(epochs)
    due_offset = -1
    for segment in segments:
        try:
            for head in segment.heads(0, segment.base_offset):
                if head.base_offset >= end_offset:
                    scan.end()
                    return epochs
                # As a follower does: what was compacted away at an epoch's start counts as its own (S5).
                is_after_hole = segment.may_have_holes and 0 <= due_offset < head.base_offset
                scan.found(head.leader_epoch, due_offset if is_after_hole else head.base_offset)
                due_offset = head.next_offset
        except BrokenBatchError:
            due_offset = -1
    scan.end()
    return epochs


def is_segment_name(name: str) -> bool:
    return len(name) == STEM_LENGTH + len(LOG_SUFFIX) and name.endswith(LOG_SUFFIX) and name[:STEM_LENGTH].isdigit()


def _is_leftover(name: str) -> bool:
    return name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX, ".tmp"))
