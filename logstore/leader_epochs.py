"""Which leader epoch began at which offset: the history by which replicas find where they parted (KIP-101, KIP-320).

Owns the epochs of one partition and their file `leader-epoch-checkpoint` (Kafka's text form). Invariants (S4): epochs
and start offsets strictly increase. The file is written with the checkpoints, before the recovery point moves past the
data; what lies beyond the recovery point is learned again from the batches themselves.
"""

from bisect import bisect_right
from typing import NamedTuple

from logstore.checkpoints import CheckpointError, parse_checkpoint, render_checkpoint
from logstore.storage import Storage, read_whole_file

FILE_NAME = "leader-epoch-checkpoint"
NO_EPOCH = -1
NO_OFFSET = -1


class EpochStart(NamedTuple):
    epoch: int
    start_offset: int


class LeaderEpochs:
    """The epochs of one log, oldest first."""

    __slots__ = ("_entries", "is_dirty")

    def __init__(self, entries: list[EpochStart] | None = None) -> None:
        self._entries = entries if entries is not None else []
        self.is_dirty = False

    @property
    def entries(self) -> tuple[EpochStart, ...]:
        return tuple(self._entries)

    @property
    def latest(self) -> int | None:
        """The newest epoch, None where no leader ever wrote."""
        return self._entries[-1].epoch if self._entries else None

    def assign(self, epoch: int, start_offset: int) -> None:
        """`epoch` begins at `start_offset`; no effect where it is the latest already.

        An epoch in which nothing was written gives way to its successor at the same offset.
        """
        latest = self._entries[-1].epoch if self._entries else NO_EPOCH
        if epoch == latest:
            return
        assert epoch > latest, f"S4: leader epoch {epoch} after {latest}"
        while self._entries and self._entries[-1].start_offset >= start_offset:
            self._entries.pop()
        self._entries.append(EpochStart(epoch, start_offset))
        self.is_dirty = True

    def learn(self, epoch: int, start_offset: int) -> None:
        """Batches found on disk were written in `epoch`, so epochs above it that seemed to begin before were not."""
        while self._entries and self._entries[-1].epoch > epoch:
            self._entries.pop()
        self.assign(epoch, start_offset)

    def epoch_for(self, offset: int) -> int | None:
        """The epoch in which `offset` was or would be written."""
        index = bisect_right(self._entries, offset, key=lambda entry: entry.start_offset)
        return self._entries[index - 1].epoch if index else None

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(largest known epoch <= `epoch`, the offset at which it ends); (-1, -1) where the log cannot say.

        As OffsetsForLeaderEpoch answers (KIP-101, KIP-279).
        """
        if epoch == NO_EPOCH or not self._entries or epoch > self._entries[-1].epoch:
            return NO_EPOCH, NO_OFFSET
        if epoch == self._entries[-1].epoch:
            return epoch, log_end_offset
        index = bisect_right(self._entries, epoch, key=lambda entry: entry.epoch)
        higher = self._entries[index]
        return (self._entries[index - 1].epoch if index else epoch), higher.start_offset

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget epochs that begin at or beyond the log's new end."""
        while self._entries and self._entries[-1].start_offset >= end_offset:
            self._entries.pop()
            self.is_dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget what lies before the log's new start; the epoch in force there begins there."""
        index = bisect_right(self._entries, start_offset, key=lambda entry: entry.start_offset)
        if index and self._entries[index - 1].start_offset < start_offset:
            self._entries[:index] = [EpochStart(self._entries[index - 1].epoch, start_offset)]
            self.is_dirty = True

    def render(self) -> bytes:
        return render_checkpoint(f"{entry.epoch} {entry.start_offset}" for entry in self._entries)

    @classmethod
    def parse(cls, data: bytes) -> "LeaderEpochs":
        """Read the file's text; CheckpointError where it is not one, or not increasing."""
        entries: list[EpochStart] = []
        for line in parse_checkpoint(data):
            try:
                epoch, start_offset = map(int, line.split())
            except ValueError:
                raise CheckpointError(f"not an epoch and an offset: {line!r}") from None
            if entries and not (epoch > entries[-1].epoch and start_offset > entries[-1].start_offset):
                raise CheckpointError(f"leader epochs do not increase at {line!r}")
            entries.append(EpochStart(epoch, start_offset))
        return cls(entries)


class EpochScan:
    """Learns the epochs of batches that are read from a disk, in order.

    No CRC covers a batch's leader epoch (KIP-98). One that differs from that of the batch before counts only if the
    batch behind it bears it out: a flipped bit neither moves the start of an epoch nor begins one.
    """

    __slots__ = ("_due", "_epochs")

    def __init__(self, epochs: LeaderEpochs) -> None:
        self._epochs = epochs
        self._due: EpochStart | None = None

    def found(self, epoch: int, start_offset: int) -> None:
        """The next batch: its epoch, and where that would begin."""
        self._judge(epoch)
        self._due = EpochStart(epoch, start_offset) if epoch != self._epochs.latest else None

    def end(self) -> None:
        """No batch follows: a rise of the last one is believed, a fall is not."""
        self._judge(None)
        self._due = None

    def _judge(self, following: int | None) -> None:
        if self._due is None:
            return
        epoch, start_offset = self._due
        latest = self._epochs.latest if self._epochs.latest is not None else NO_EPOCH
        if epoch > latest and following is not None and following < epoch:
            epoch = max(following, latest)  # it seems higher than it was; at most what follows has begun here
        elif epoch < latest and (following is None or following >= latest):
            return
        if epoch > NO_EPOCH:
            self._epochs.learn(epoch, start_offset)


def load_leader_epochs(storage: Storage, folder: str) -> LeaderEpochs | None:
    """The epochs in the file of a partition folder; None where it is missing or broken."""
    try:
        return LeaderEpochs.parse(read_whole_file(storage, f"{folder}/{FILE_NAME}"))
    except (FileNotFoundError, CheckpointError):
        return None
