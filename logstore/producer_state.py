"""What a log remembers of its idempotent producers, and what it answers to their retries (KIP-98, KIP-360).

Owns, for each producer id, its epoch and its last five batches: pure values, no file and no clock. Upholds S13: a
(producer id, epoch, sequence) gets at most one offset. The leader asks `check` before it writes anything; leader,
follower and recovery `learn` each batch that lies in the log, so that all of them know the same below the same offset.

Where a producer is not known, it must begin with sequence 0, unless this log may have known and forgotten it (expired,
too many, or its records deleted before this replica was made): then any sequence is the beginning, as in Kafka since
KIP-360. Kafka takes any sequence from any unknown producer; here the second of two batches in flight cannot overtake a
first one that was refused, which would then be refused for ever.
DUPLICATE_SEQUENCE_NUMBER is success without an offset to Kafka's clients: it is answered only for sequences that were
written for certain, as the unbroken run that ends with the newest batch says.

An entry is forgotten when nothing came for `producer.id.expiration.ms`. Kafka compares the newest record's timestamp
with the wall clock; here the time since the last append counts, by the monotonic clock (S20): neither a jump of the
clock nor a producer that writes old timestamps makes its retry a second record. A restart begins that time anew.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from crc32c import crc32c

from wire.errors import ErrorCode, RefusedError
from wire.record_batch import SEQUENCE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wire.record_batch import RecordBatch

BATCHES_REMEMBERED: Final = 5
"""As many as a client may have in flight and still be sure of their order (max.in.flight.requests.per.connection)."""
PRODUCERS_MAX: Final = 10_000
"""Producers remembered per log: about 12 MB. Those that were silent the longest go first."""
RUN_MAX: Final = SEQUENCE_MAX // 2
UNPLACED: Final = -1
NOTHING_FORGOTTEN: Final = -1
ANYTHING_FORGOTTEN: Final = 2**63 - 1

# Kafka's file begins alike (version, CRC32C of the rest) with versions 1 and 2; it remembers one batch per producer.
SNAPSHOT_VERSION: Final = 1001
_SNAPSHOT_HEAD: Final = struct.Struct(">hIqI")  # version crc forgotten_up_to producers
_PRODUCER: Final = struct.Struct(">qhiB")  # producer_id epoch run batches
_BATCH: Final = struct.Struct(">iiqqq")
_CRC_END: Final = 6


class SnapshotError(ValueError):
    """Bytes that are no intact snapshot."""


class ProducedBatch(NamedTuple):
    """A batch of an idempotent producer as it lies in the log; `timestamp_ms` is its greatest."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp_ms: int


class ProducerEntry(NamedTuple):
    """One producer: its last batches in its newest epoch, oldest first, never empty.

    `run`: so many sequences up to the newest follow each other in the log (at most half of all there are).
    `heard_ms`: when the last one came, by the owner's monotonic clock.
    """

    epoch: int
    batches: tuple[ProducedBatch, ...]
    run: int
    heard_ms: int

    @property
    def next_sequence(self) -> int:
        return (self.batches[-1].last_sequence + 1) & SEQUENCE_MAX

    def duplicate_of(self, batch: RecordBatch) -> ProducedBatch | None:
        """The same batch among those that are remembered."""
        sequences = batch.base_sequence, batch.last_sequence
        return next((known for known in self.batches if known[:2] == sequences), None)

    def has_written(self, batch: RecordBatch) -> bool:
        """For certain, but too long ago to know where: all its sequences lie in the run, before the remembered ones."""
        first_back = (self.next_sequence - batch.base_sequence) & SEQUENCE_MAX
        last_back = (self.next_sequence - batch.last_sequence) & SEQUENCE_MAX
        remembered = (self.next_sequence - self.batches[0].base_sequence) & SEQUENCE_MAX
        return remembered < last_back <= first_back <= self.run


class ProducerState:
    """All producers that one log remembers."""

    __slots__ = ("entries", "forgotten_up_to")

    def __init__(
        self, entries: dict[int, ProducerEntry] | None = None, *, forgotten_up_to: int = NOTHING_FORGOTTEN
    ) -> None:
        """`forgotten_up_to`: no producer with a greater id was ever forgotten here."""
        self.entries = entries if entries is not None else {}
        self.forgotten_up_to = forgotten_up_to

    def copy(self) -> ProducerState:
        """One that does not change when this one does; the entries are shared values."""
        return ProducerState(dict(self.entries), forgotten_up_to=self.forgotten_up_to)

    # ---- the leader's question

    def check(self, batches: Sequence[RecordBatch]) -> list[ProducedBatch] | None:
        """Whether `batches` may be appended, all of them: None; or where all of them lie already.

        RefusedError, and nothing may be written: OUT_OF_ORDER_SEQUENCE_NUMBER (a gap, or retries and news in one
        append), DUPLICATE_SEQUENCE_NUMBER (written, too long ago to say where), INVALID_PRODUCER_EPOCH (fenced by a
        newer epoch).
        """
        if len(batches) == 1:
            duplicate = self._duplicate(batches[0], self.entries.get(batches[0].producer_id))
            return None if duplicate is None else [duplicate]
        ahead: dict[int, ProducerEntry] = {}
        duplicates = []
        for batch in batches:
            known = ahead.get(batch.producer_id) or self.entries.get(batch.producer_id)
            duplicate = self._duplicate(batch, known)
            if duplicate is not None:
                duplicates.append(duplicate)
            elif batch.producer_id >= 0:
                ahead[batch.producer_id] = entry_after(known, batch.producer_epoch, _unplaced(batch), heard_ms=0)
        if not duplicates:
            return None
        if len(duplicates) < len(batches) or not _lie_together(duplicates):
            raise _out_of_order("some of these batches were written before and others not: send each by itself")
        return duplicates

    def _duplicate(self, batch: RecordBatch, known: ProducerEntry | None) -> ProducedBatch | None:
        """Where `batch` lies; None where it comes next. Raises as `check`."""
        if batch.producer_id < 0:
            return None
        if known is None:
            if batch.base_sequence and batch.producer_id > self.forgotten_up_to:
                raise _out_of_order(f"{_who(batch)} is not known here: its first sequence is 0")
            return None
        if batch.producer_epoch != known.epoch:
            _check_epoch(batch, known)
            return None
        if batch.base_sequence == known.next_sequence:
            return None
        duplicate = known.duplicate_of(batch)
        if duplicate is None:
            if known.has_written(batch):
                raise RefusedError(
                    ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
                    f"{_who(batch)} was written before, longer ago than the last {BATCHES_REMEMBERED} batches,"
                    " whose offsets are remembered",
                )
            raise _out_of_order(f"{_who(batch)} does not follow: sequence {known.next_sequence} is next")
        return duplicate

    # ---- what lies in the log

    def expects(self, producer_id: int, epoch: int, base_sequence: int) -> bool:
        """Whether a batch that begins so is the next of its producer, its first in an epoch, or no producer's at all.

        Others lie in an intact log too, where producers were forgotten, or their batches compacted away.
        """
        if producer_id < 0:
            return epoch < 0 and base_sequence < 0
        known = self.entries.get(producer_id)
        if known is not None and epoch == known.epoch:
            return base_sequence == known.next_sequence
        return base_sequence == 0 and (known is None or epoch > known.epoch)

    def learn(self, producer_id: int, epoch: int, batch: ProducedBatch, *, now_ms: int) -> None:
        """This batch lies in the log now; the log is right, whatever is known."""
        known = self.entries.get(producer_id)
        if known is None and len(self.entries) >= PRODUCERS_MAX:
            self.forget_oldest(PRODUCERS_MAX // 10)
        self.entries[producer_id] = entry_after(known, epoch, batch, heard_ms=now_ms)

    def expire(self, before_ms: int) -> int:
        """Forget the producers that were not heard of since `before_ms`; how many they were."""
        return self._forget([key for key, entry in self.entries.items() if entry.heard_ms < before_ms])

    def may_have_forgotten_anybody(self) -> None:
        """Batches are missing that compaction took out: their producers are unknown, and welcome (KIP-360)."""
        self.forgotten_up_to = ANYTHING_FORGOTTEN

    def forget_oldest(self, count: int) -> int:
        """Forget the `count` producers that were silent the longest."""
        return self._forget(sorted(self.entries, key=lambda key: self.entries[key].heard_ms)[:count])

    def _forget(self, producer_ids: Iterable[int]) -> int:
        count = 0
        for producer_id in producer_ids:
            del self.entries[producer_id]
            self.forgotten_up_to = max(self.forgotten_up_to, producer_id)
            count += 1
        return count

    # ---- as bytes

    def render(self) -> bytes:
        """The content of a snapshot file; equal for equal states."""
        parts = [b""]
        for producer_id, entry in sorted(self.entries.items()):
            parts.append(_PRODUCER.pack(producer_id, entry.epoch, entry.run, len(entry.batches)))
            parts += [_BATCH.pack(*batch) for batch in entry.batches]
        parts[0] = _SNAPSHOT_HEAD.pack(SNAPSHOT_VERSION, 0, self.forgotten_up_to, len(self.entries))
        data = bytearray(b"".join(parts))
        struct.pack_into(">I", data, 2, crc32c(memoryview(data)[_CRC_END:]))
        return bytes(data)

    @classmethod
    def parse(cls, data: bytes, *, now_ms: int) -> ProducerState:
        """What `render` made; SnapshotError for anything else."""
        if len(data) < _SNAPSHOT_HEAD.size:
            raise SnapshotError(f"{len(data)} bytes are no snapshot")
        version, crc, forgotten_up_to, count = _SNAPSHOT_HEAD.unpack_from(data)
        if version != SNAPSHOT_VERSION or crc != crc32c(memoryview(data)[_CRC_END:]):
            raise SnapshotError(f"version {version}, or the CRC does not match the bytes")
        entries = {}
        at = _SNAPSHOT_HEAD.size
        try:
            for _ in range(count):
                producer_id, epoch, run, batches = _PRODUCER.unpack_from(data, at)
                at += _PRODUCER.size
                known = tuple(ProducedBatch(*_BATCH.unpack_from(data, at + i * _BATCH.size)) for i in range(batches))
                at += batches * _BATCH.size
                entries[producer_id] = ProducerEntry(epoch, known, run, now_ms)
        except struct.error as error:
            raise SnapshotError(str(error)) from None
        if at != len(data) or not all(entry.batches for entry in entries.values()):
            raise SnapshotError("the counts do not fit the bytes")
        return cls(entries, forgotten_up_to=forgotten_up_to)


def entry_after(known: ProducerEntry | None, epoch: int, batch: ProducedBatch, *, heard_ms: int) -> ProducerEntry:
    """What is known of a producer after one more batch."""
    run = ((batch.last_sequence - batch.base_sequence) & SEQUENCE_MAX) + 1
    if known is None or known.epoch != epoch:
        return ProducerEntry(epoch, (batch,), run, heard_ms)
    if batch.base_sequence == known.next_sequence:
        run = min(known.run + run, RUN_MAX)
    return ProducerEntry(epoch, (*known.batches[1 - BATCHES_REMEMBERED :], batch), run, heard_ms)


def _check_epoch(batch: RecordBatch, known: ProducerEntry) -> None:
    if batch.producer_epoch < known.epoch:
        raise RefusedError(
            ErrorCode.INVALID_PRODUCER_EPOCH,
            f"{_who(batch)} is fenced by epoch {known.epoch}: ask for a new producer id",
        )
    if batch.base_sequence:
        raise _out_of_order(f"{_who(batch)} begins an epoch: its first sequence is 0")


def _unplaced(batch: RecordBatch) -> ProducedBatch:
    """Where it will lie is not known yet."""
    return ProducedBatch(batch.base_sequence, batch.last_sequence, UNPLACED, UNPLACED, batch.max_timestamp)


def _lie_together(batches: list[ProducedBatch]) -> bool:
    ends = [batch.last_offset + 1 for batch in batches[:-1]]
    return batches[0].base_offset != UNPLACED and ends == [batch.base_offset for batch in batches[1:]]


def _who(batch: RecordBatch) -> str:
    return (
        f"producer_id {batch.producer_id}, producer_epoch {batch.producer_epoch}, base_sequence {batch.base_sequence}"
    )


def _out_of_order(message: str) -> RefusedError:
    return RefusedError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, message)
