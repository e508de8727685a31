"""Which directory speaks for each voter, and when a voter with another one may speak again.

A voter that lost its disk still has its id, its address and its certificate, and none of its promises. So the id of
each voter's directory is committed in the log, every message carries the sender's, and a voter whose directory is not
the committed one is not seated: it grants no votes, is no candidate and does not count towards a commit. It is seated
again by a committed change, which the leader proposes when it has caught up to everything that the leader's log held
when the new directory was first seen.

Safe because that change is committed without counting the new directory, and because it votes only when it holds the
change itself: by then its log refuses every candidate that its lost disk could have been promised to in an older term.

Pure: no disk, no clock, no network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import msgspec


class VoterDirectoryChanged(msgspec.Struct, frozen=True, array_like=True):
    """Entry of the log: from here on `new` speaks for the voter, if `old` (None: nobody) did until here."""

    node_id: int
    old: UUID | None
    new: UUID


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(list[VoterDirectoryChanged])


def encode_changes(changes: list[VoterDirectoryChanged]) -> bytes:
    """The payload of one entry."""
    return _encoder.encode(changes)


def decode_changes(payload: bytes) -> list[VoterDirectoryChanged]:
    """Read `encode_changes` back."""
    return _decoder.decode(payload)


def formation(directories: Mapping[int, UUID]) -> list[VoterDirectoryChanged]:
    """The first entry of a new cluster: the same bytes on every voter that was formatted with the same directories."""
    return [VoterDirectoryChanged(node_id, None, directory) for node_id, directory in sorted(directories.items())]


def with_changes(directories: Mapping[int, UUID], changes: list[VoterDirectoryChanged]) -> dict[int, UUID]:
    """The committed directories after these changes; one whose `old` is not the committed one changes nothing."""
    result = dict(directories)
    for change in changes:
        if result.get(change.node_id) == change.old:
            result[change.node_id] = change.new
    return result


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A directory that is not the committed one, as first seen; it must come to hold the log up to `caught_up_at`."""

    directory: UUID
    caught_up_at: int


class Newcomers:
    """The leader's list of voters that are not seated. Lost with the leadership; the next leader sees them anew."""

    def __init__(self) -> None:
        self._waiting: dict[int, Newcomer] = {}
        self._proposed: set[VoterDirectoryChanged] = set()

    def seen(self, node_id: int, directory: UUID, *, last_index: int) -> None:
        """A message of an unseated directory arrived while the leader's log ended at `last_index`."""
        waiting = self._waiting.get(node_id)
        if waiting is None or waiting.directory != directory:
            self._waiting[node_id] = Newcomer(directory, caught_up_at=last_index)

    def gone(self, node_id: int) -> None:
        """The voter speaks from its committed directory."""
        self._waiting.pop(node_id, None)

    def due(self, node_id: int, *, match_index: int, committed: UUID | None) -> VoterDirectoryChanged | None:
        """The change to propose, once, when the voter has caught up."""
        waiting = self._waiting.get(node_id)
        if waiting is None or match_index < waiting.caught_up_at or waiting.directory == committed:
            return None
        change = VoterDirectoryChanged(node_id, committed, waiting.directory)
        if change in self._proposed:
            return None
        self._proposed.add(change)
        return change
