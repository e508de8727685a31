"""The Raft log of one voter: in memory since the last compaction, on disk in one append-only file.

The file is a header and frames. A frame is everything that one `sync` had to write: entries from `first_index` on,
which replace whatever had those indexes before, and the commit index known then. One frame is one write and one
fdatasync, and the next frame is written only after that sync returned. So a valid frame proves that all frames before
it had been synced: a bad frame with a valid one behind it is damage and refuses to start; a bad frame with nothing
valid behind it is what a crash tore, was never acknowledged, and is cut.

Invariants: entries are contiguous and never empty; the first entry is already part of the snapshot (or is index 1,
which carries nothing); `durable_index` is the last entry known to be on disk (S16); the file is replaced atomically,
never rewritten in place.
"""

# ruff: noqa: N802, N803 - the names at the end are pysyncobj's

import struct
from collections.abc import Sequence
from uuid import UUID

import crc32c
from pysyncobj.journal import Journal

from kraft.disk import Disk, File, write_atomically
from kraft.errors import DamagedError
from kraft.term_and_vote import TermAndVote

FILE_NAME = "journal"
Entry = tuple[bytes, int, int]
"""(kind byte + command, index, term): the order is pysyncobj's."""

_FILE_MAGIC = b"KRFTLOG1"
_FILE_HEADER = struct.Struct("<8s16s")
_CRC = struct.Struct("<I")
_FRAMES_START = _FILE_HEADER.size + _CRC.size
_FRAME_MAGIC = b"KFRM"
_FRAME_HEADER = struct.Struct("<QQQQI")
"""Own position in the file, bytes of the body, first index, commit index, number of entries."""
_FRAME_PREFIX_BYTES = len(_FRAME_MAGIC) + _CRC.size
_FRAME_BODY_OFFSET = _FRAME_PREFIX_BYTES + _FRAME_HEADER.size
_ENTRY_HEADER = struct.Struct("<QI")
"""Term, bytes of the command."""


def encode_frame(position: int, first_index: int, commit_index: int, entries: Sequence[Entry]) -> bytes:
    """One frame for this position of the file: bytes copied elsewhere are no valid frame there."""
    parts = [b""]
    for command, _index, term in entries:
        parts.append(_ENTRY_HEADER.pack(term, len(command)))
        parts.append(command)
    body_bytes = sum(map(len, parts))
    parts[0] = _FRAME_HEADER.pack(position, body_bytes, first_index, commit_index, len(entries))
    checked = b"".join(parts)
    return _FRAME_MAGIC + _CRC.pack(crc32c.crc32c(checked)) + checked


class _Frame:
    """A frame that passed its checks."""

    __slots__ = ("commit_index", "end", "entries", "first_index")

    def __init__(self, data: bytes, position: int) -> None:
        _position, body_bytes, self.first_index, self.commit_index, count = _FRAME_HEADER.unpack_from(
            data, position + _FRAME_PREFIX_BYTES
        )
        self.end = position + _FRAME_BODY_OFFSET + body_bytes
        self.entries: list[Entry] = []
        at = position + _FRAME_BODY_OFFSET
        for index in range(self.first_index, self.first_index + count):
            term, command_bytes = _ENTRY_HEADER.unpack_from(data, at)
            at += _ENTRY_HEADER.size + command_bytes
            self.entries.append((data[at - command_bytes : at], index, term))
        assert at == self.end, "a frame with a good checksum holds what its header says"


def read_frame(data: bytes, position: int) -> _Frame | None:
    """The frame at this position, or None where there is none that passes every check."""
    if data[position : position + len(_FRAME_MAGIC)] != _FRAME_MAGIC or len(data) < position + _FRAME_BODY_OFFSET:
        return None
    own_position, body_bytes, *_rest = _FRAME_HEADER.unpack_from(data, position + _FRAME_PREFIX_BYTES)
    end = position + _FRAME_BODY_OFFSET + body_bytes
    if own_position != position or end > len(data):
        return None
    (checksum,) = _CRC.unpack_from(data, position + len(_FRAME_MAGIC))
    if checksum != crc32c.crc32c(memoryview(data)[position + _FRAME_PREFIX_BYTES : end]):
        return None
    return _Frame(data, position)


def _file_header(directory_id: UUID) -> bytes:
    header = _FILE_HEADER.pack(_FILE_MAGIC, directory_id.bytes)
    return header + _CRC.pack(crc32c.crc32c(header))


class DurableJournal(Journal):  # type: ignore[misc]  # pysyncobj has no type hints
    """pysyncobj's Journal (positions in the log), plus the same by index, plus `sync`."""

    def __init__(self, disk: Disk, term_and_vote: TermAndVote) -> None:
        """Read the file; cut a torn tail; raise DamagedError where more than a torn tail is wrong."""
        self._disk = disk
        self._term_and_vote = term_and_vote
        self._entries: list[Entry] = []
        self._commit_index = 0
        self._load()
        self._file: File = disk.open(FILE_NAME)
        if self._torn:
            self._file.truncate(self._size_bytes)
        # What the last process wrote and was killed before it had synced is read like the rest, and not yet durable.
        self._file.sync()
        disk.sync_directory()
        self._commit_index = min(self._commit_index, self.last_index)
        self.durable_index = self.last_index
        self._unsynced_from: int | None = None
        self._failed = False

    @staticmethod
    def create(disk: Disk, directory_id: UUID, entries: Sequence[Entry], commit_index: int) -> None:
        """A new file, durable when this returns; the directory id is its own for ever (kraft/voter_directories.py)."""
        frame = encode_frame(_FRAMES_START, entries[0][1], commit_index, entries)
        write_atomically(disk, FILE_NAME, _file_header(directory_id) + frame)

    def _load(self) -> None:
        path = self._disk.path(FILE_NAME)
        data = self._disk.read(FILE_NAME)
        if data is None:
            raise DamagedError(path, "the journal is missing")
        header = data[:_FRAMES_START]
        if len(header) < _FRAMES_START or not header.startswith(_FILE_MAGIC):
            raise DamagedError(path, "this is not a journal, or its header is damaged")
        self.directory_id = UUID(bytes=_FILE_HEADER.unpack_from(header)[1])
        if header != _file_header(self.directory_id):
            raise DamagedError(path, "the header does not match its checksum")
        position = _FRAMES_START
        while (frame := read_frame(data, position)) is not None:
            self._replay(path, frame, position)
            position = frame.end
        self._refuse_damage_before(path, data, position)
        self._torn = position < len(data)
        self._size_bytes = position

    def _replay(self, path: str, frame: _Frame, position: int) -> None:
        if self._entries:
            if not self.first_index < frame.first_index <= self.last_index + 1:
                raise DamagedError(path, f"the frame at byte {position} does not continue the log before it")
            del self._entries[frame.first_index - self.first_index :]
        self._entries += frame.entries
        self._commit_index = max(self._commit_index, frame.commit_index)

    def _refuse_damage_before(self, path: str, data: bytes, end: int) -> None:
        """The first frame was written atomically; a later one is torn only if nothing valid follows it."""
        if not self._entries:
            raise DamagedError(path, "the first frame does not match its checksum")
        at = data.find(_FRAME_MAGIC, end)
        while at >= 0:
            if read_frame(data, at) is not None:
                raise DamagedError(path, f"the bytes from {end} to {at} are damaged: a valid frame follows them")
            at = data.find(_FRAME_MAGIC, at + 1)

    # By index

    @property
    def first_index(self) -> int:
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    @property
    def last_term(self) -> int:
        return self._entries[-1][2]

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None where the log does not reach so far, or no longer has it."""
        position = index - self.first_index
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def entries_between(self, first: int, last: int) -> list[Entry]:
        """Entries `first` to `last`, both inclusive; the caller knows that the log has them."""
        start = first - self.first_index
        assert start >= 0, f"entry {first} was compacted away; the log starts at {self.first_index}"
        return self._entries[start : last - self.first_index + 1]

    def entries_from(self, index: int, *, max_bytes: int, max_entries: int = 4096) -> list[Entry]:
        """Entries from `index` on whose commands fit into `max_bytes`; at least one where there is one."""
        start = index - self.first_index
        candidates = self._entries[start : start + max_entries]
        total_bytes = 0
        for position, entry in enumerate(candidates):
            total_bytes += len(entry[0])
            if total_bytes > max_bytes and position:
                return candidates[:position]
        return candidates

    def last_agreement(self, index: int, term: int) -> int:
        """The last entry at or below `index` with a term of at most `term`: where two logs can still agree.

        Each side skips what the other cannot have, so a divergence costs one round per term and not per entry. Below
        the first entry everything is committed and agrees.
        """
        index = min(index, self.last_index)
        while index > self.first_index and self._entries[index - self.first_index][2] > term:
            index -= 1
        return index

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append in memory; on disk with the next `sync`."""
        assert idx == self.last_index + 1, f"entry {idx} after {self.last_index}"
        self._entries.append((command, idx, term))
        if self._unsynced_from is None:
            self._unsynced_from = idx

    def truncate_from(self, index: int) -> None:
        """Drop `index` and everything above it; on disk with the next `sync`."""
        assert self.first_index < index, f"entry {index} is part of the snapshot"
        del self._entries[index - self.first_index :]
        self._unsynced_from = index if self._unsynced_from is None else min(index, self._unsynced_from)
        self.durable_index = min(self.durable_index, index - 1)

    # Durability

    @property
    def is_synced(self) -> bool:
        return self._unsynced_from is None

    def mark_commit_index(self) -> None:
        """Have the next `sync` write a frame for the commit index alone, should there be nothing else to write."""
        if self._unsynced_from is None:
            self._unsynced_from = self.last_index + 1

    def sync(self) -> None:
        """Return when all entries are on disk. Once it has failed it fails for ever: nothing here is retried (S16)."""
        if self._failed:
            raise OSError("the journal failed before; the node must stop")
        if self._unsynced_from is None:
            return
        entries = self.entries_between(self._unsynced_from, self.last_index)
        commit_index = min(self._commit_index, self.last_index)
        frame = encode_frame(self._size_bytes, self._unsynced_from, commit_index, entries)
        self._failed = True
        self._file.append(frame)
        self._file.sync()
        self._failed = False
        self._size_bytes += len(frame)
        self._settle()

    def _settle(self) -> None:
        self._unsynced_from = None
        self.durable_index = self.last_index

    def compact_to(self, index: int) -> None:
        """Forget entries below `index`, which a synced snapshot covers; durable when this returns."""
        assert self.first_index <= index <= self.last_index
        self._rewrite(self._entries[index - self.first_index :])

    def align(self, snapshot_index: int, snapshot_term: int) -> None:
        """Make the log continue the snapshot; durable when this returns.

        A crash may have come between a snapshot's rename and the journal's rewrite. Where the log has the snapshot's
        last entry everything is kept (its suffix may be acknowledged); else the log ends before it, or diverges from
        it, and holds nothing that is not in the snapshot or discarded by it.
        """
        if snapshot_index < self.first_index:
            raise DamagedError(
                self._disk.path(FILE_NAME),
                f"it starts at entry {self.first_index} and the snapshot ends at {snapshot_index}: a later one is lost",
            )
        if self.term_at(snapshot_index) != snapshot_term:
            self._commit_index = snapshot_index
            self._rewrite([(b"\x01", snapshot_index, snapshot_term)])

    def _rewrite(self, entries: list[Entry]) -> None:
        if self._failed:
            raise OSError("the journal failed before; the node must stop")
        commit_index = min(self._commit_index, entries[-1][1])
        data = _file_header(self.directory_id) + encode_frame(_FRAMES_START, entries[0][1], commit_index, entries)
        self._failed = True
        write_atomically(self._disk, FILE_NAME, data)
        self._file.close()
        self._file = self._disk.open(FILE_NAME)
        self._failed = False
        self._entries = entries
        self._size_bytes = len(data)
        self._settle()

    @property
    def size_bytes(self) -> int:
        """The file's size: what `sync` has written since the last rewrite."""
        return self._size_bytes

    # pysyncobj's face: positions instead of indexes, its own names

    def __getitem__(self, item: int) -> Entry:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        self._commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:
        return self._commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: int | None) -> None:
        self._term_and_vote.store(term, votedForNodeId)

    def getCurrentTerm(self) -> int:
        return self._term_and_vote.term

    def getVotedForNodeId(self) -> int | None:
        return self._term_and_vote.voted_for

    def _destroy(self) -> None:
        self._file.close()
