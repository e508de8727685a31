"""Damage: bytes in the log that are no intact batch, and are not the torn tail of a crash (S18).

Owns the gaps of a log: where they lie, which offsets they took, and the file `damaged-ranges` that remembers them, so
that a restart neither forgets damage nor mistakes it for a torn tail. A log with a gap takes no appends; what lies
before and after is served.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from logstore.batch_walk import BrokenBatchError, ReadAt, find_intact_batch, head_at, intact_batch_at
from logstore.checkpoints import CheckpointError, parse_checkpoint, render_checkpoint
from logstore.disk import PASSING, storage_refusal
from logstore.storage import Storage, read_whole_file, replace_file
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logstore.partition_log import PartitionLog
    from logstore.segment import Segment

FILE_NAME: Final = "damaged-ranges"


class BrokenHeadersError(RefusedError):
    """Somebody who needs all headers of a log met one that makes no sense: KAFKA_STORAGE_ERROR, until it is noted."""

    def __init__(self, segment: Segment, broken: BrokenBatchError) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, f"{segment.file.path} is damaged: {broken}")
        self.segment = segment
        self.broken = broken


class Gap(NamedTuple):
    """Bytes [position, end_position) of a segment, and the offsets [offset, next_offset) that are lost with them."""

    segment_base_offset: int
    position: int
    end_position: int
    offset: int
    next_offset: int


def next_intact(read_at: ReadAt, position: int, end: int, expected_offset: int) -> tuple[int, int] | None:
    """(position, base offset) of the next intact batch after the broken one at `position`.

    First where the broken batch says that it ends (its payload may contain anything), then anywhere.
    """
    try:
        header = read_at(min(HEADER_BYTES, end - position), position)
        after = position + head_at(header, 0, position, end).size_bytes
    except BrokenBatchError:
        after = end
    base_offset = intact_batch_at(read_at, after, end, expected_offset)
    if base_offset is not None:
        return after, base_offset
    return find_intact_batch(read_at, position + 1, end, expected_offset)


def note_damage(log: PartitionLog, segment: Segment, broken: BrokenBatchError) -> None:
    """A reader met bytes that make no sense: find the broken batch, remember the gap, take no more appends.

    KAFKA_STORAGE_ERROR where nothing is broken after all (the disk reads differently each time).
    """
    log.positions = None
    gap = find_gap(segment, broken, end_offset=segment.next_offset, max_message_bytes=log.config.max_message_bytes)
    add_gaps([segment], [gap])
    segment.rebuild_indexes()
    mark_damaged(log, gap.offset)


def note_missing_end(log: PartitionLog, segment: Segment) -> None:
    """A segment ends before the next one begins, in a log without holes: batches that were synced are gone (S18)."""
    offset, size_bytes = segment.base_offset, segment.size_bytes
    for head in segment.heads(0, offset):
        offset = head.next_offset
    log.positions = None
    add_gaps([segment], [Gap(segment.base_offset, size_bytes, size_bytes, offset, segment.next_offset)])
    mark_damaged(log, offset)


def find_gap(segment: Segment, broken: BrokenBatchError, *, end_offset: int | None, max_message_bytes: int) -> Gap:
    """The broken batch that made somebody stumble; it reaches to `end_offset` where nothing intact follows it.

    None: nobody knows where the segment ends, and no offset is lost with what nobody can read.
    The segment is read up to there with every CRC, since the batch that a header walk stumbles over is often the one
    after the broken one. KAFKA_STORAGE_ERROR where nothing is broken.
    """
    position, offset, end = 0, segment.base_offset, segment.size_bytes
    for gap in segment.gaps:
        if gap.end_position <= broken.position:
            position, offset = gap.end_position, gap.next_offset
        elif gap.position < end:
            end, end_offset = gap.position, gap.offset
    try:
        for at, batch in segment.batches(position, end, offset, end_offset):
            position, offset = at + batch.size_bytes, batch.next_offset
            if position > broken.position + max_message_bytes:
                break
    except BrokenBatchError:
        found = next_intact(segment.read_at, position, end, offset)
        end_position, next_offset = found or (end, offset if end_offset is None else end_offset)
        return Gap(segment.base_offset, position, end_position, offset, max(next_offset, offset))
    raise storage_refusal(f"{segment.file.path} reads differently each time ({broken}): check the disk")


def mark_damaged(log: PartitionLog, offset: int) -> None:
    log.damaged_from = offset if log.damaged_from is None else min(log.damaged_from, offset)
    if log.disk.failure is None:
        try:
            save_gaps(log.disk.storage, log.folder, [gap for segment in log.segments for gap in segment.gaps])
        except OSError as error:
            log.disk.fail(error)
    if log.on_damaged is not None:
        log.on_damaged()


def forget_gaps(log: PartitionLog) -> None:
    """Segments were cut away: damage that went with them is forgotten, durably, for other batches will lie there.

    Missing synced records stay missing. OSError takes the directory offline.
    """
    if log.damaged_from is None or log.recovery_point.offset > log.log_end_offset:
        return
    gaps = [gap for segment in log.segments for gap in segment.gaps]
    log.damaged_from = gaps[0].offset if gaps else None
    log.disk.attempt(partial(save_gaps, log.disk.storage, log.folder, gaps))
    log.disk.attempt(partial(log.disk.storage.fsync_directory, log.folder))


def add_gaps(segments: Iterable[Segment], gaps: Iterable[Gap]) -> None:
    by_base = {segment.base_offset: segment for segment in segments}
    for gap in gaps:
        segment = by_base.get(gap.segment_base_offset)
        if segment is not None and gap not in segment.gaps:
            segment.gaps = tuple(sorted((*segment.gaps, gap)))


def save_gaps(storage: Storage, folder: str, gaps: list[Gap]) -> None:
    """Remember the gaps; without space or descriptors they are found again when they are read. OSError otherwise."""
    try:
        if gaps:
            replace_file(storage, f"{folder}/{FILE_NAME}", render_checkpoint(" ".join(map(str, gap)) for gap in gaps))
        elif storage.status(f"{folder}/{FILE_NAME}") is not None:
            storage.unlink(f"{folder}/{FILE_NAME}")
    except OSError as error:
        if error.errno not in PASSING:
            raise  # a sync that failed is no small matter, whatever it was for (S19)


def load_gaps(storage: Storage, folder: str) -> list[Gap]:
    """The remembered gaps; none where the file is missing or broken itself."""
    try:
        lines = parse_checkpoint(read_whole_file(storage, f"{folder}/{FILE_NAME}"))
        return [Gap(*map(int, line.split())) for line in lines]
    except (FileNotFoundError, CheckpointError, TypeError, ValueError):
        return []
