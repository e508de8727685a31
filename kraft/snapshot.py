"""The snapshot: everything applied up to one entry, in one file, and the same bytes in chunks to a follower.

Owns the file format (a header with CRC32C, then MessagePack) and the assembly of received chunks. Refuses bytes that do
not match their checksum. Invariants: the file is synced before its name exists and its name before the journal forgets
an entry that it covers; chunks commit nothing, only the whole and verified snapshot is installed.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import crc32c
import msgspec

from kraft.disk import Disk, write_atomically
from kraft.errors import DamagedError

FILE_NAME = "snapshot"
_HEADER = struct.Struct("<8sQI")
"""Magic, bytes of the body, CRC32C of the body."""
_MAGIC = b"KRFTSNP1"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, int, dict[int, bytes], bytes])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`state` is the state machine's own; `directories` the committed directory id of each voter."""

    index: int
    term: int
    directories: Mapping[int, UUID]
    state: bytes

    def encode(self) -> bytes:
        directories = {node_id: directory.bytes for node_id, directory in sorted(self.directories.items())}
        body = _encoder.encode((self.index, self.term, directories, self.state))
        return _HEADER.pack(_MAGIC, len(body), crc32c.crc32c(body)) + body


def decode_snapshot(data: bytes) -> Snapshot | None:
    """Read `Snapshot.encode` back; None where a bit of it is not what was written."""
    if len(data) < _HEADER.size:
        return None
    magic, body_bytes, checksum = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or len(body) != body_bytes or crc32c.crc32c(body) != checksum:
        return None
    index, term, directories, state = _decoder.decode(body)
    return Snapshot(index, term, {node_id: UUID(bytes=directory) for node_id, directory in directories.items()}, state)


def load_snapshot(disk: Disk) -> Snapshot | None:
    """The file's snapshot; None where there is none; DamagedError where it does not match its checksum."""
    return None if disk.read(FILE_NAME) is None else read_snapshot_file(disk)[0]


def read_snapshot_file(disk: Disk) -> tuple[Snapshot, bytes]:
    """The snapshot and the file's bytes, which are what a follower gets; DamagedError where they are not whole."""
    data = disk.read(FILE_NAME)
    try:
        snapshot = None if data is None else decode_snapshot(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DamagedError(disk.path(FILE_NAME), f"the snapshot is of another version of Kraft ({error})") from None
    if data is None or snapshot is None:
        raise DamagedError(disk.path(FILE_NAME), "the snapshot is missing or does not match its checksum")
    return snapshot, data


def store_snapshot(disk: Disk, encoded: bytes) -> None:
    """Replace the file; durable when this returns."""
    write_atomically(disk, FILE_NAME, encoded)


class IncomingSnapshot:
    """The chunks of one snapshot from one leader in one term, in order; anything else starts anew.

    Memory is held for bytes received, never for a length announced.
    """

    def __init__(self, source: tuple[int, ...], total_bytes: int) -> None:
        self.source = source
        self._total_bytes = total_bytes
        self._data = bytearray()

    def add(self, offset: int, data: bytes) -> None:
        """Take the chunk if it is the next one; a repeated or early one changes nothing (see `wanted_offset`)."""
        if offset == len(self._data) and len(self._data) + len(data) <= self._total_bytes:
            self._data += data

    @property
    def wanted_offset(self) -> int:
        return len(self._data)

    @property
    def is_complete(self) -> bool:
        return len(self._data) == self._total_bytes

    def content(self) -> bytes:
        return bytes(self._data)
