"""Looking at log directories from outside: read-only, without the lock, with or without a running node.

Owns what `kraft log dump|verify|dirs` show. Changes nothing on disk, trusts nothing on it, and judges by the bytes: a
finding says where, what, and how bad. A node that is writing meanwhile may show a batch that is not whole yet at the
very end: that is a "torn tail" finding, which is no damage.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from logstore.batch_walk import BrokenBatchError, scan_batches
from logstore.checkpoints import (
    CLEANER_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_FILE,
    RECOVERY_POINT_FILE,
    CheckpointError,
    PartitionKey,
    read_offsets,
)
from logstore.damage import load_gaps, next_intact
from logstore.offset_index import OffsetIndex
from logstore.partition_folder import read_partition_name
from logstore.recovery import STEM_LENGTH, is_segment_name
from logstore.segment import LOG_SUFFIX
from logstore.time_index import TimeIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from logstore.storage import Storage
    from wire.record_batch import RecordBatch


class Severity(StrEnum):
    NOTE = "note"
    DAMAGE = "damage"


class Finding(NamedTuple):
    """One thing that `verify` has to say: `path` and the byte `position` in it, the offset there (-1 unknown)."""

    severity: Severity
    path: str
    position: int
    offset: int
    message: str


class InspectedBatch(NamedTuple):
    """A batch, or (where `batch` is None) bytes that are none: `reason` says why, `size_bytes` how many."""

    path: str
    position: int
    size_bytes: int
    batch: RecordBatch | None
    reason: str


class InspectedLog(NamedTuple):
    """A partition folder as its names, sizes and checkpoints tell; offsets are -1 where nothing on disk says them."""

    directory: str
    folder: str
    topic_id: UUID
    topic_name: str
    partition: int
    size_bytes: int
    segments: int
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    high_watermark: int
    is_damaged: bool
    may_have_holes: bool
    """It is or was compacted: offsets may be missing between batches."""


class VerifiedLog(NamedTuple):
    """The verdict on one partition: what was counted, and what was found."""

    log: InspectedLog
    batches: int
    records: int
    log_end_offset: int
    findings: list[Finding]


class _SegmentFile:
    """A segment file opened for reading only."""

    def __init__(self, storage: Storage, path: str) -> None:
        status = storage.status(path)
        if status is None:
            raise FileNotFoundError(path)
        self.path = path
        self.size_bytes = status.size_bytes
        self._storage = storage
        self._handle = storage.open_read_only(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.close(self._handle)

    def read_at(self, size_bytes: int, position: int) -> bytes:
        return self._storage.pread(self._handle, size_bytes, position)

    def batches(self, position: int, offset: int, *, may_have_holes: bool) -> Iterator[tuple[int, RecordBatch]]:
        return scan_batches(self.read_at, position, self.size_bytes, offset, may_have_holes=may_have_holes)


def segment_base_offset(path: str) -> int:
    """The offset in a segment file's name; ValueError where it is none."""
    name = path.rpartition("/")[2]
    if not is_segment_name(name):
        raise ValueError(f"not a segment file (20 digits and {LOG_SUFFIX}): {path}")
    return int(name[:STEM_LENGTH])


def segment_paths(storage: Storage, folder: str) -> list[str]:
    """The segment files of a partition folder in order."""
    return [f"{folder}/{name}" for name in sorted(storage.list_directory(folder)) if is_segment_name(name)]


def iterate_segment(
    storage: Storage, path: str, *, from_offset: int = 0, may_have_holes: bool = True
) -> Iterator[InspectedBatch]:
    """Every batch of a segment file with its CRC checked, and every stretch of bytes between that is no batch.

    Not `may_have_holes`: the topic never was compacted, so where offsets are missing there is damage.
    """
    with _SegmentFile(storage, path) as segment:
        position, expected = 0, segment_base_offset(path)
        while position < segment.size_bytes:
            try:
                for at, batch in segment.batches(position, expected, may_have_holes=may_have_holes):
                    position, expected = at + batch.size_bytes, batch.next_offset
                    if batch.next_offset > from_offset:
                        yield InspectedBatch(path, at, batch.size_bytes, batch, "")
            except BrokenBatchError as broken:
                found = next_intact(segment.read_at, broken.position, segment.size_bytes, expected)
                end, expected = found if found is not None else (segment.size_bytes, expected)
                yield InspectedBatch(path, broken.position, end - broken.position, None, broken.reason)
                position = end


def iterate_folder(storage: Storage, folder: str, *, from_offset: int = 0) -> Iterator[InspectedBatch]:
    """`iterate_segment` over all segments of a partition folder; those wholly below `from_offset` are passed over."""
    paths = segment_paths(storage, folder)
    for path, following in zip(paths, [*paths[1:], None], strict=True):
        if following is None or segment_base_offset(following) > from_offset:
            yield from iterate_segment(storage, path, from_offset=from_offset)


def list_logs(storage: Storage, directory: str) -> list[InspectedLog]:
    """The partition folders of a log directory, by topic and partition. Reads names, sizes and checkpoints only."""
    points, starts, high_watermarks = (
        _read_checkpoint(storage, f"{directory}/{name}")
        for name in (RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE)
    )
    compacted = _compacted_logs(storage, directory)
    found = []
    for name in storage.list_directory(directory):
        partition = read_partition_name(storage, directory, name)
        if partition is None:
            continue
        key: PartitionKey = (partition.topic_id, partition.partition)
        folder = f"{directory}/{name}"
        paths = segment_paths(storage, folder)
        sizes = [status.size_bytes for path in paths if (status := storage.status(path)) is not None]
        first = segment_base_offset(paths[0]) if paths else 0
        point = points.get(key, ())
        found.append(
            InspectedLog(
                directory=directory,
                folder=folder,
                topic_id=partition.topic_id,
                topic_name=partition.topic_name,
                partition=partition.partition,
                size_bytes=sum(sizes),
                segments=len(paths),
                log_start_offset=max(first, *starts.get(key, (0,))),
                log_end_offset=_log_end(storage, paths, sizes, point),
                recovery_point=point[0] if point else -1,
                high_watermark=high_watermarks[key][0] if high_watermarks.get(key) else -1,
                is_damaged=bool(load_gaps(storage, folder)),
                may_have_holes=compacted is None or key in compacted,
            )
        )
    return sorted(found, key=lambda log: (log.topic_name, log.partition))


def _read_checkpoint(storage: Storage, path: str) -> dict[PartitionKey, tuple[int, ...]]:
    try:
        return read_offsets(storage, path)
    except CheckpointError:
        return {}


def _compacted_logs(storage: Storage, directory: str) -> dict[PartitionKey, tuple[int, ...]] | None:
    """Those that are or were compacted; None where nobody can tell."""
    try:
        return read_offsets(storage, f"{directory}/{CLEANER_FILE}")
    except CheckpointError:
        return None


def _log_end(storage: Storage, paths: list[str], sizes: list[int], point: tuple[int, ...]) -> int:
    """The recovery point where the last segment ends there, else the end of the last intact batch."""
    if not paths:
        return point[0] if point else 0
    base_offset = segment_base_offset(paths[-1])
    position, offset = 0, base_offset
    if len(point) >= POINT_NUMBERS and point[1] == base_offset and point[2] <= sizes[-1]:
        position, offset = point[2], point[0]
    with _SegmentFile(storage, paths[-1]) as segment:
        try:
            for _, batch in segment.batches(position, offset, may_have_holes=True):
                offset = batch.next_offset
        except BrokenBatchError:
            return offset
    return offset


POINT_NUMBERS: Final = 3


def verify_log(storage: Storage, log: InspectedLog) -> VerifiedLog:
    """Read every byte of a partition's segments and check CRCs, offsets, epochs, indexes and the recovery point."""
    findings: list[Finding] = []
    batches = records = 0
    expected, epoch = -1, -1
    paths = segment_paths(storage, log.folder)
    for path in paths:
        base_offset = segment_base_offset(path)
        if 0 <= expected < base_offset and not log.may_have_holes:
            findings.append(
                Finding(Severity.DAMAGE, path, 0, expected, f"offsets {expected} to {base_offset - 1} are missing")
            )
        expected = max(expected, base_offset)
        positions: dict[int, int] = {}
        for found in iterate_segment(storage, path, may_have_holes=log.may_have_holes):
            if found.batch is None:
                findings.append(_judge(log, found, expected, is_last=path == paths[-1], storage=storage))
                continue
            batches += 1
            records += found.batch.record_count
            positions[found.position] = found.batch.base_offset
            if found.batch.partition_leader_epoch < epoch:
                message = f"leader epoch {found.batch.partition_leader_epoch} after {epoch}"
                findings.append(Finding(Severity.DAMAGE, path, found.position, found.batch.base_offset, message))
            epoch = max(epoch, found.batch.partition_leader_epoch)
            expected = found.batch.next_offset
        findings += _verify_indexes(storage, path, positions)
    end_offset = max(expected, 0)
    if end_offset < log.recovery_point:
        message = (
            f"the log ends at {end_offset}, below its recovery point {log.recovery_point}: synced records are gone"
        )
        findings.append(Finding(Severity.DAMAGE, paths[-1] if paths else log.folder, 0, end_offset, message))
    return VerifiedLog(log, batches, records, end_offset, findings)


def _judge(log: InspectedLog, found: InspectedBatch, offset: int, *, is_last: bool, storage: Storage) -> Finding:
    """Torn tail or damage, as recovery would say (S18)."""
    status = storage.status(found.path)
    reaches_end = is_last and status is not None and found.position + found.size_bytes >= status.size_bytes
    if reaches_end and offset >= log.recovery_point:
        message = f"{found.size_bytes} bytes of an unfinished batch ({found.reason}): cut at the next start"
        return Finding(Severity.NOTE, found.path, found.position, offset, message)
    message = f"{found.size_bytes} bytes are no intact batch: {found.reason}"
    return Finding(Severity.DAMAGE, found.path, found.position, offset, message)


def _verify_indexes(storage: Storage, path: str, positions: dict[int, int]) -> Iterator[Finding]:
    """Indexes are rebuilt from the log, so what is wrong with one is a note."""
    stem, base_offset = path.removesuffix(LOG_SUFFIX), segment_base_offset(path)
    offset_index, time_index = OffsetIndex(storage, stem), TimeIndex(storage, stem)
    for relative, position in offset_index.entries():
        if positions.get(position) != base_offset + relative:
            message = f"the index says offset {base_offset + relative} lies at byte {position} of the log: it does not"
            yield Finding(Severity.NOTE, offset_index.path, position, base_offset + relative, message)
            break
    times = time_index.entries()
    if any(later[0] <= earlier[0] for earlier, later in pairwise(times)):
        yield Finding(Severity.NOTE, time_index.path, 0, -1, "timestamps in the index do not increase")


def verify_directory(storage: Storage, directory: str) -> Iterator[VerifiedLog]:
    """`verify_log` for every partition of a log directory."""
    for log in list_logs(storage, directory):
        yield verify_log(storage, log)
