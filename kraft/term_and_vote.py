"""The current term and the vote given in it: the promise that a voter makes only once.

Owns one small file, replaced atomically and synced at every change, before any reply that shows it (S16). Refuses to be
read where it is missing or does not match its checksum: pysyncobj read such a file as "no vote yet", which is a second
vote in the same term.
"""

import struct

import crc32c

from kraft.disk import Disk, write_atomically
from kraft.errors import DamagedError

FILE_NAME = "term-and-vote"
_MAGIC = b"KRFTVOTE"
_BODY = struct.Struct("<8sQq")
_CRC = struct.Struct("<I")
_NO_VOTE = -1


class TermAndVote:
    """`voted_for` is a node id, or None while no vote was given in `term`."""

    __slots__ = ("_disk", "term", "voted_for")

    def __init__(self, disk: Disk, term: int, voted_for: int | None) -> None:
        self._disk = disk
        self.term = term
        self.voted_for = voted_for

    @classmethod
    def load(cls, disk: Disk) -> "TermAndVote | None":
        """None where there is no file; DamagedError where it is not what was stored."""
        data = disk.read(FILE_NAME)
        if data is None:
            return None
        if len(data) != _BODY.size + _CRC.size or _CRC.unpack_from(data, _BODY.size)[0] != crc32c.crc32c(
            data[: _BODY.size]
        ):
            raise DamagedError(disk.path(FILE_NAME), "the term and vote do not match their checksum")
        magic, term, voted_for = _BODY.unpack_from(data)
        if magic != _MAGIC:
            raise DamagedError(disk.path(FILE_NAME), "this is not a term and vote file")
        return cls(disk, term, None if voted_for == _NO_VOTE else voted_for)

    def store(self, term: int, voted_for: int | None) -> None:
        """Return when both are on disk. Terms never fall, and a vote is not changed within its term."""
        assert term >= self.term, f"term {term} after {self.term}"
        assert term > self.term or self.voted_for in (None, voted_for), f"a second vote in term {term}"
        body = _BODY.pack(_MAGIC, term, _NO_VOTE if voted_for is None else voted_for)
        write_atomically(self._disk, FILE_NAME, body + _CRC.pack(crc32c.crc32c(body)))
        self.term = term
        self.voted_for = voted_for
