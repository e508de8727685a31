"""A cleaned segment takes the place of those that it was made of: a crash at any moment leaves one or the other.

Owns the names on that way. A cleaning writes `{base}.log.cleaned` and its two indexes and syncs them. One rename to
`{base}-{next}.swap` decides: the name says which offsets it stands for, so whoever finds it after a crash finishes what
was begun, and whoever finds `.cleaned` files drops them. Then the old files go out of sight (`.deleted`), and the new
ones get their names. Relies on the order of changes within one folder, which journaling file systems keep.
Invariant: no checkpoint names a position in a segment that is replaced (see `CompactionState.written_point`).
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from logstore.disk import DELETED_SUFFIX
from logstore.offset_index import OffsetIndex
from logstore.segment import LOG_SUFFIX, Segment
from logstore.time_index import TimeIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logstore.partition_log import PartitionLog
    from logstore.storage import Storage

CLEANED_SUFFIX: Final = ".cleaned"
_SWAP: Final = re.compile(r"([0-9]{20})-([0-9]{20})\.swap")
_INDEX_SUFFIXES: Final = (OffsetIndex.SUFFIX, TimeIndex.SUFFIX)


class CleanedSegment(NamedTuple):
    """Files that are written and synced under their `.cleaned` names, and the segments whose place they can take."""

    replaced: tuple[Segment, ...]
    size_bytes: int

    @property
    def base_offset(self) -> int:
        return self.replaced[0].base_offset

    @property
    def next_offset(self) -> int:
        """Where the following segment begins."""
        return self.replaced[-1].next_offset


def stem(folder: str, base_offset: int) -> str:
    return f"{folder}/{base_offset:020d}"


def swap_in(log: PartitionLog, cleaned: CleanedSegment) -> None:
    """On the owner's loop: renames, nothing is synced yet. OSError takes the directory offline."""
    log.disk.attempt(partial(_swap_in, log, cleaned))


def _swap_in(log: PartitionLog, cleaned: CleanedSegment) -> None:
    storage, base_offset = log.disk.storage, cleaned.base_offset
    log.compaction.has_unsynced_names = True
    swap = f"{log.folder}/{base_offset:020d}-{cleaned.next_offset:020d}.swap"
    storage.rename(stem(log.folder, base_offset) + LOG_SUFFIX + CLEANED_SUFFIX, swap)
    log.disk.discard_segments(cleaned.replaced)
    _take_place(storage, log.folder, swap, base_offset)
    made = Segment(
        log.disk,
        log.folder,
        base_offset,
        size_bytes=cleaned.size_bytes,
        next_offset=cleaned.next_offset,
        config=log.config,
        may_have_holes=True,
    )
    log.segments.replace(cleaned.replaced, made)
    log.positions = None


def _take_place(storage: Storage, folder: str, swap: str, base_offset: int) -> None:
    """What lay there is out of sight. Indexes that a crash has lost are made again from the log."""
    storage.rename(swap, stem(folder, base_offset) + LOG_SUFFIX)
    for suffix in _INDEX_SUFFIXES:
        path = stem(folder, base_offset) + suffix
        with contextlib.suppress(FileNotFoundError):
            storage.rename(path + CLEANED_SUFFIX, path)


def finish_swaps(storage: Storage, folder: str, names: Iterable[str]) -> bool:
    """After a crash: whatever was decided is carried out, durably; true if anything was. OSError as the disk raises it.

    What a crash during this leaves is finished the same way.
    """
    names = set(names)
    found = [(name, int(match[1]), int(match[2])) for name in sorted(names) if (match := _SWAP.fullmatch(name))]
    for name, base_offset, next_offset in found:
        for old in sorted(names):
            digits, dot, suffix = old.partition(".")
            is_segment = dot + suffix in (LOG_SUFFIX, *_INDEX_SUFFIXES) and len(digits) == 20 and digits.isdigit()
            if is_segment and base_offset <= int(digits) < next_offset:
                storage.rename(f"{folder}/{old}", f"{folder}/{old}{DELETED_SUFFIX}")
        _take_place(storage, folder, f"{folder}/{name}", base_offset)
    if found:
        storage.fsync_directory(folder)
    return bool(found)
