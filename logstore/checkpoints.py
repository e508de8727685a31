"""The small text files that remember offsets across a restart, replaced atomically.

Owns their form (Kafka's: a version, a count, then one line per entry; and a CRC behind it) and their names. Refuses a
file that is not what was written (CheckpointError): half a checkpoint is no checkpoint, and one whose bits have turned
would cut what was acknowledged (S1, S18).
Lines: recovery point `topic_id partition offset segment_base_offset segment_position producers_end_offset` (everything
below `offset` is synced, it ends there in that segment, and below it nothing from `producers_end_offset` on has a
producer id), log start, high watermark, and of logs that are or were compacted how far they are clean: `topic_id
partition offset`.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple
from uuid import UUID

from crc32c import crc32c

from logstore.storage import Storage, read_whole_file
from wire.identifiers import uuid_from_text

RECOVERY_POINT_FILE: Final = "recovery-point-offset-checkpoint"
LOG_START_FILE: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK_FILE: Final = "replication-offset-checkpoint"
CLEANER_FILE: Final = "cleaner-offset-checkpoint"
VERSION: Final = 1
VERSION_WITHOUT_CHECKSUM: Final = 0
"""Kafka's: still read."""
CHECKSUM_BYTES: Final = 9

PartitionKey = tuple[UUID, int]


class CheckpointError(ValueError):
    """A checkpoint file that cannot be trusted."""


class RecoveryPoint(NamedTuple):
    """Everything below `offset` is on disk; it ends at `position` in the segment `segment_base_offset`."""

    offset: int
    segment_base_offset: int
    position: int


def render_checkpoint(lines: Iterable[str]) -> bytes:
    """The version, how many lines, the lines, and the CRC-32C of all that in eight hexadecimal digits."""
    body = list(lines)
    data = "\n".join([str(VERSION), str(len(body)), *body, ""]).encode()
    return data + _checksum(data)


def parse_checkpoint(data: bytes) -> list[str]:
    """The lines. CheckpointError where these are not the bytes that were written."""
    try:
        version, count, *lines = data.decode("ascii").splitlines()
        if int(version) == VERSION:
            if data[-CHECKSUM_BYTES:] != _checksum(data[:-CHECKSUM_BYTES]):
                raise CheckpointError("the CRC of a checkpoint does not match its bytes")
            del lines[-1]
        elif int(version) != VERSION_WITHOUT_CHECKSUM:
            raise CheckpointError(f"checkpoint version {version}")
        if int(count) != len(lines):
            raise CheckpointError(f"checkpoint version {version} announces {count} lines and has {len(lines)}")
    except (UnicodeDecodeError, ValueError) as error:
        raise CheckpointError(str(error)) from None
    return lines


def _checksum(data: bytes) -> bytes:
    return f"{crc32c(data):08x}\n".encode()


def read_offsets(storage: Storage, path: str) -> dict[PartitionKey, tuple[int, ...]]:
    """The numbers behind each partition; nothing where the file is missing; CheckpointError where it is broken."""
    try:
        data = read_whole_file(storage, path)
    except FileNotFoundError:
        return {}
    found: dict[PartitionKey, tuple[int, ...]] = {}
    for line in parse_checkpoint(data):
        try:
            topic_id, partition, *numbers = line.split(" ")
            found[uuid_from_text(topic_id), int(partition)] = tuple(map(int, numbers))
        except ValueError:
            raise CheckpointError(f"{path}: not a line of a checkpoint: {line!r}") from None
    return found
