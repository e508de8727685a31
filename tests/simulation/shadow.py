"""What one replica's log holds, record by record (leader epoch, value), kept beside it so that no check reads a disk.

A log that a new process opens is read once, and so what a crash left is what is checked.
"""

import contextlib
from functools import lru_cache
from typing import Any, Final

from logstore.partition_log import PartitionLog
from logstore.segment import LOG_SUFFIX
from tests.broker.replication.model_log import Record
from wire.errors import RefusedError
from wire.record_batch import RecordBatch, iterate_batches, read_header

OFFSETS_MAX: Final = 1 << 20
NOT_KNOWN: Final[Record] = (-1, -1)
"""What lies behind damage."""


@lru_cache(maxsize=4096)
def _values(batch: bytes) -> tuple[int, ...]:
    (one,) = iterate_batches(batch)
    return tuple(int(record.value or b"-1") for record in one.records())


def values_of(batch: RecordBatch) -> tuple[int, ...]:
    """Its records' values. A batch lies on three disks and comes to many readers, and is parsed once."""
    return _values(bytes(memoryview(batch.source)[batch.position : batch.position + batch.size_bytes]))


def _intact_batch(data: bytes, at: int) -> RecordBatch | None:
    with contextlib.suppress(RefusedError):
        one = read_header(data, at)
        return one if one is not None and one.crc_is_valid() else None
    return None


class Shadow:
    """What one replica's log holds, alive or as it was left."""

    def __init__(self) -> None:
        self.log: PartitionLog | None = None
        self.records: list[Record] = []
        self.first_offset = 0
        self._left = (0, 0, 0, 0)
        self._on_disk = 0
        """Survives whatever comes; a process that has just opened the log knows of less."""
        self.cutting_to: int | None = None
        """While the log is being cut: whoever dies meanwhile may have lost what lies behind, wherever he was."""

    @property
    def log_start_offset(self) -> int:
        return self._left[0] if self.log is None else self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self._left[1] if self.log is None else self.log.log_end_offset

    @property
    def durable_end_offset(self) -> int:
        if self.log is None:
            return self._left[2]
        return max(self.log.durable_end_offset, min(self._on_disk, self.log.log_end_offset))

    @property
    def high_watermark(self) -> int:
        return self._left[3] if self.log is None else self.log.high_watermark

    def record(self, offset: int) -> Record:
        return self.records[offset - self.first_offset]

    def opened(self, log: PartitionLog) -> None:
        """A process has it, and has recovered it. Its files are read here past the log: reading has effects on it.

        Where bytes have rotted, what lay behind them still does.
        """
        lay_there = dict(enumerate(self.records, self.first_offset))
        self.log = log
        self.records = []
        self.first_offset = log.log_start_offset
        storage: Any = log.disk.storage
        names = sorted(name for name in storage.list_directory(log.folder) if name.endswith(LOG_SUFFIX))
        bases = [int(name.removesuffix(LOG_SUFFIX)) for name in names]
        for name, base_offset, end_offset in zip(names, bases, [*bases, log.log_end_offset][1:], strict=True):
            self._know_up_to(base_offset, lay_there)
            self._read(bytes(storage.file(f"{log.folder}/{name}").live), base_offset, end_offset, lay_there)
        self._know_up_to(log.log_end_offset, lay_there)
        del self.records[log.log_end_offset - self.first_offset :]

    def _read(self, data: bytes, due_offset: int, end_offset: int, lay_there: dict[int, Record]) -> None:
        """A segment: each intact batch of it, also behind what has rotted, at whichever byte that ends."""
        at, is_behind_rot = 0, False
        while at < len(data):
            one = _intact_batch(data, at)
            fits = one is not None and due_offset <= one.base_offset < one.next_offset <= end_offset
            if one is not None and (one.base_offset == due_offset or (is_behind_rot and fits)):
                self._know_up_to(one.base_offset, lay_there)
                self.add(data[at : at + one.size_bytes])
                due_offset, at, is_behind_rot = one.next_offset, at + one.size_bytes, False
            else:
                at, is_behind_rot = at + 1, True

    def _know_up_to(self, offset: int, lay_there: dict[int, Record]) -> None:
        end = self.first_offset + len(self.records)
        assert offset - end < OFFSETS_MAX, f"offset {offset}, where {end} is due: no run writes so many records"
        self.records += [lay_there.get(at, NOT_KNOWN) for at in range(end, offset)]

    def add(self, data: Any) -> None:
        for one in iterate_batches(data):
            end = self.first_offset + len(self.records)
            if one.next_offset > end:
                values = values_of(one)[max(0, end - one.base_offset) :]
                self.records += [(one.partition_leader_epoch, value) for value in values]

    def cut(self) -> None:
        """The log was truncated, or begins anew, or its process died over that."""
        self.cutting_to = None
        if self.log is None:
            return
        self._on_disk = min(self._on_disk, self.log.log_end_offset)
        if self.log.log_end_offset == self.log.log_start_offset:
            self.records.clear()
            self.first_offset = self.log.log_start_offset
        del self.records[self.log.log_end_offset - self.first_offset :]

    def left(self, *, keeps_unsynced: bool) -> None:
        """Its process is gone; after a power cut only what was synced is counted on."""
        log = self.log
        if log is None:
            return
        self._on_disk = max(log.synced_end_offset, min(self._on_disk, log.log_end_offset))
        end = log.log_end_offset if keeps_unsynced else max(log.log_start_offset, self._on_disk)
        if self.cutting_to is not None:
            end = min(end, self.cutting_to)
            self._on_disk = min(self._on_disk, end)
        self._left = (log.log_start_offset, end, self._on_disk, min(log.high_watermark, end))
        self.log = None
        del self.records[max(0, end - self.first_offset) :]

    def wiped(self) -> None:
        self.log = None
        self.records.clear()
        self.first_offset = self._on_disk = 0
        self._left = (0, 0, 0, 0)
