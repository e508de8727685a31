"""A power cut without cutting power: what a dead node had not synced is taken back from its disk.

`failing_calls.c` wrote down every change before it was made and every sync that succeeded. Owns the reading of that
journal and the undoing. What a disk may do, and this does, drawn from the seed: of each file's changes since its last
sync a prefix is kept, the next one may be torn, and lost bytes at the end may read as zeros; of each directory's
changes of names since its last sync a prefix is kept. What was synced is never touched.
"""

import random
import shutil
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ENTRY = struct.Struct("<IIQQQqqqqII")
MAGIC = 0x4B524654
WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, CREATE, RENAME, UNLINK, MAKE_DIRECTORY, REMOVE_DIRECTORY = range(1, 10)
CONTENT = {WRITE, TRUNCATE}
TORN_SHARE, ZEROS_SHARE = 0.5, 0.25
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """One entry: of a file's content (`offset`, `length`, what was there before), or of a name."""

    kind: int
    sequence: int
    inode: int
    parent: int
    offset: int
    length: int
    old_size: int
    saved: int
    first: bytes
    second: bytes

    @property
    def group(self) -> int:
        """Whose sync makes it durable: the file's inode, or the directory's."""
        return self.inode if self.kind in CONTENT else self.parent


@dataclass(frozen=True, slots=True)
class Taken:
    """What the cut took away: a cut that took nothing proves nothing."""

    writes: int
    names: int
    torn: int


def cut(journal: Path, node_directory: Path, chance: random.Random) -> Taken:
    """Undo on a dead node's disk; the journal is empty afterwards."""
    changes = list(read(journal / "journal"))
    lost, torn = _choose(_not_durable(changes), chance)
    names = [change for change in lost if change.kind not in CONTENT]
    writes = [change for change in lost if change.kind in CONTENT]
    for change in reversed(names):
        _undo_name(change, journal)
    files = {path.stat().st_ino: path for path in node_directory.rglob("*") if path.is_file()}
    sizes = {inode: path.stat().st_size for inode, path in files.items()}
    for change in reversed(writes):
        if change.inode in files:
            _undo_content(files[change.inode], change, torn.get(change.sequence, 0))
    for inode in sorted({change.inode for change in writes if change.kind == WRITE} & files.keys()):
        if chance.random() < ZEROS_SHARE:
            _leave_zeros(files[inode], sizes[inode], chance)
    shutil.rmtree(journal)
    journal.mkdir()
    return Taken(len(writes), len(names), len(torn))


def read(file: Path) -> Iterator[Change]:
    """In the order of sequence; an entry that the death of the process cut off was never followed by its change."""
    content = file.read_bytes() if file.exists() else b""
    found = []
    position = 0
    while position + ENTRY.size <= len(content):
        magic, kind, sequence, inode, parent, offset, length, old_size, saved, *sizes = ENTRY.unpack_from(
            content, position
        )
        assert magic == MAGIC, f"{file}: no entry at {position}"
        position += ENTRY.size
        first, second = content[position : position + sizes[0]], content[position + sizes[0] : position + sum(sizes)]
        position += sum(sizes)
        if position <= len(content):
            found.append(Change(kind, sequence, inode, parent, offset, length, old_size, saved, first, second))
    yield from sorted(found, key=lambda change: change.sequence)


def _not_durable(changes: Iterable[Change]) -> list[Change]:
    """Those of a file or directory after the beginning of its last sync that succeeded."""
    changes = list(changes)
    durable: dict[int, int] = defaultdict(int)
    for change in changes:
        if change.kind == SYNC_END:
            durable[change.inode] = max(durable[change.inode], change.offset)
    noted = (change for change in changes if change.kind not in {SYNC_BEGIN, SYNC_END})
    return [change for change in noted if change.sequence > durable[change.group]]


def _choose(candidates: list[Change], chance: random.Random) -> tuple[list[Change], dict[int, int]]:
    """Which are lost, and by sequence how many bytes of a torn one stay."""
    groups: dict[tuple[bool, int], list[Change]] = defaultdict(list)
    for change in candidates:
        groups[change.kind in CONTENT, change.group].append(change)
    lost: list[Change] = []
    torn: dict[int, int] = {}
    for (is_content, _), changes in sorted(groups.items()):
        kept = chance.choice((0, chance.randint(0, len(changes))))
        lost += changes[kept:]
        if is_content and kept < len(changes) and changes[kept].length > 1 and chance.random() < TORN_SHARE:
            torn[changes[kept].sequence] = chance.randrange(1, changes[kept].length)
    return sorted(lost, key=lambda change: change.sequence), torn


def _undo_content(path: Path, change: Change, kept_bytes: int) -> None:
    with path.open("r+b") as file:
        file.seek(change.offset)
        kept = file.read(kept_bytes)
        file.seek(change.offset)
        file.write(change.first)
        file.truncate(change.old_size)
        if kept:
            file.seek(change.offset)
            file.write(kept)


def _leave_zeros(path: Path, size_bytes: int, chance: random.Random) -> None:
    """The size reached the disk and the bytes did not."""
    now = path.stat().st_size
    if size_bytes > now:
        with path.open("r+b") as file:
            file.truncate(now + min(size_bytes - now, chance.choice((1, 61, PAGE_BYTES, size_bytes))))


def _undo_name(change: Change, journal: Path) -> None:
    first, second = Path(change.first.decode()), Path(change.second.decode() or "/nowhere")
    match change.kind:
        case k if k == CREATE:
            first.unlink(missing_ok=True)
        case k if k == MAKE_DIRECTORY:
            shutil.rmtree(first, ignore_errors=True)
        case k if k == REMOVE_DIRECTORY and first.parent.exists():
            first.mkdir(exist_ok=True)
        case k if k == UNLINK:
            _give_back(change, journal, first)
        case k if k == RENAME:
            if second.exists() and first.parent.exists():
                second.rename(first)
            _give_back(change, journal, second)


def _give_back(change: Change, journal: Path, path: Path) -> None:
    if change.saved and path.parent.exists() and not path.exists():
        saved = journal / f"{change.saved >> 32}.{change.saved & 0xFFFFFFFF}"
        path.hardlink_to(saved)
