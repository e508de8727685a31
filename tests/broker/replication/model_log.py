"""A partition's log as a list, with a power cut: what the cores read of `PartitionLog`, without bytes.

A record is (leader epoch, value). Invariant: `log_start_offset <= synced_end_offset <= log_end_offset`.
"""

import random

from logstore.leader_epochs import LeaderEpochs

Record = tuple[int, int]


class ListLog:
    """The log of one replica; it outlives the process that writes it."""

    def __init__(self, *, counts_unsynced: bool = False) -> None:
        self.records: list[Record] = []
        self.log_start_offset = 0
        self.synced_end_offset = 0
        self.high_watermark = 0
        self.checkpointed_high_watermark = 0
        self.leader_epochs = LeaderEpochs()
        self.generation = 0
        self._counts_unsynced = counts_unsynced

    @property
    def log_end_offset(self) -> int:
        return self.log_start_offset + len(self.records)

    @property
    def durable_end_offset(self) -> int:
        return self.log_end_offset if self._counts_unsynced else self.synced_end_offset

    def record(self, offset: int) -> Record:
        return self.records[offset - self.log_start_offset]

    def read(self, offset: int, *, upper_offset: int, count_max: int) -> list[Record]:
        first = offset - self.log_start_offset
        return self.records[first : min(first + count_max, upper_offset - self.log_start_offset)]

    def append(self, records: list[Record]) -> None:
        for record in records:
            self.leader_epochs.assign(record[0], self.log_end_offset)
            self.records.append(record)

    def synced(self, end_offset: int, generation: int) -> None:
        if generation == self.generation:
            self.synced_end_offset = max(self.synced_end_offset, end_offset)

    def truncate_to(self, offset: int) -> None:
        if offset <= self.log_start_offset:
            self.start_at(offset)
            return
        del self.records[offset - self.log_start_offset :]
        self.synced_end_offset = min(self.synced_end_offset, offset)
        self.high_watermark = min(self.high_watermark, offset)
        self.leader_epochs.truncate_from_end(offset)
        self.generation += 1

    def start_at(self, offset: int) -> None:
        self.records = []
        self.log_start_offset = self.synced_end_offset = self.high_watermark = offset
        self.leader_epochs = LeaderEpochs()
        self.generation += 1

    def delete_records_before(self, offset: int) -> None:
        if offset > self.log_start_offset:
            assert offset <= self.high_watermark, (offset, self.high_watermark)
            del self.records[: offset - self.log_start_offset]
            self.log_start_offset = offset
            self.synced_end_offset = max(self.synced_end_offset, offset)
            self.leader_epochs.truncate_from_start(offset)

    def power_cut(self, rng: random.Random) -> int:
        """Lose a random part of what was not synced; the number of records lost that counted as durable."""
        counted = self.durable_end_offset
        kept = rng.randint(self.synced_end_offset, self.log_end_offset)
        del self.records[kept - self.log_start_offset :]
        self.recovered()
        return max(0, counted - kept)

    def recovered(self) -> None:
        """A process opens the log: what it finds is synced first, epochs are learned from the records."""
        self.synced_end_offset = self.log_end_offset
        checkpointed = max(self.checkpointed_high_watermark, self.log_start_offset)
        self.high_watermark = min(checkpointed, self.durable_end_offset)
        self.leader_epochs = LeaderEpochs()
        for offset, (epoch, _) in enumerate(self.records, self.log_start_offset):
            self.leader_epochs.learn(epoch, offset)
        self.generation += 1

    def wiped(self) -> None:
        """Another disk, empty."""
        self.start_at(0)
        self.checkpointed_high_watermark = 0
