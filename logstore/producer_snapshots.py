"""Snapshots of a log's producers: files `%020d.snapshot`, named as Kafka's by the offset below which they are true.

Owns names, reading and removal; `producer_state` owns the bytes, the checkpoint writer puts them on disk atomically.
A snapshot is a cache of the log: one that is missing or damaged costs a longer walk over the batches behind an older
one. Invariant: none lies beyond the end of its log, for nobody could tell it from the truth once the log has grown
again; so they go, durably, before the log is cut, and recovery removes those that a crash left beyond the end.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from logstore.producer_state import ProducerState, SnapshotError
from logstore.storage import read_whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logstore.storage import Storage

SNAPSHOT_SUFFIX: Final = ".snapshot"
STEM_LENGTH: Final = 20


def snapshot_path(folder: str, offset: int) -> str:
    return f"{folder}/{offset:020d}{SNAPSHOT_SUFFIX}"


def snapshot_offsets(names: Iterable[str]) -> list[int]:
    """The offsets of the snapshots among a folder's file names, ascending."""
    return sorted(
        int(name[:STEM_LENGTH])
        for name in names
        if len(name) == STEM_LENGTH + len(SNAPSHOT_SUFFIX)
        and name.endswith(SNAPSHOT_SUFFIX)
        and name[:STEM_LENGTH].isdigit()
    )


def load_snapshot(storage: Storage, folder: str, offset: int, *, now_ms: int) -> ProducerState | None:
    """None where it is missing or broken; OSError where it cannot be read."""
    with contextlib.suppress(FileNotFoundError, SnapshotError):
        return ProducerState.parse(read_whole_file(storage, snapshot_path(folder, offset)), now_ms=now_ms)
    return None


def remove_snapshots_beyond(storage: Storage, folder: str, offset: int) -> None:
    """Durably, whatever became of earlier removals. OSError as the disk raises it."""
    for found in snapshot_offsets(storage.list_directory(folder)):
        if found > offset:
            with contextlib.suppress(FileNotFoundError):  # the removal of an old one was under way
                storage.unlink(snapshot_path(folder, found))
    storage.fsync_directory(folder)
