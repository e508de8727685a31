"""One partition of the offsets topic as this broker leads it: drives the coordinator of its groups.

Owns the reading of the log before the first answer, the appending of records with acks=all, the timer, and the futures
of those who wait. It lives for one leader epoch: when that is over it resigns, and whoever waits is told to look for
the coordinator again; what was being written the next one finds in the log or not (S15).
Invariants:
- nothing is answered before everything committed in earlier epochs was read: the high watermark has reached the end
  that the log had when this epoch began (KIP-207's reason, too);
- writes take effect in the order of the log, once they are below the high watermark, also those that were given up;
- S7: nothing is answered in an epoch that this broker does not lead any more.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from broker.clock import Clock
from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from broker.groups.coordinator import GroupCoordinator
from broker.groups.effects import Call, LogRecord, Now, Write
from broker.groups.records import read_record
from broker.groups.settings import GroupSettings
from broker.purgatory import Completion, Outcome, Waiter
from broker.replication.replica import ACKS_ALL, Replica
from broker.waiting_room import WaitingRoom
from logstore.log_answers import DamagedRangeError
from wire.codec import DecodeError
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import Record, RecordBatch, build_batch, iterate_batches

READ_BYTES: Final = 64 * 1024
"""What is read of the log before others get their turn: some milliseconds."""
LOAD_RECORDS: Final = 200
BATCH_BYTES: Final = 512 * 1024
WATERMARK_WAIT_MS: Final = 1_000
LATE_WAIT_MS: Final = 600_000

_NOT_COORDINATOR: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR})
_ITS_OWN: Final = frozenset({ErrorCode.MESSAGE_TOO_LARGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSurroundings:
    """What all shards of a broker share."""

    settings: GroupSettings
    clock: Clock
    waiting_room: WaitingRoom
    loop: asyncio.AbstractEventLoop


@dataclass(eq=False, slots=True)
class _Appended:
    last_offset: int
    write: Write
    waiter: Waiter | None = None


class Shard:
    """The groups of one partition in one leader epoch."""

    def __init__(self, replica: Replica, of: ShardSurroundings) -> None:
        self.replica = replica
        self.leader_epoch = replica.leader_epoch
        self.core = GroupCoordinator(of.settings)
        self.is_loaded = False
        self.is_over = False
        self._of = of
        self._calls = itertools.count(1)
        self._futures: dict[Call, asyncio.Future[Any]] = {}
        self._answers: dict[Call, object] = {}
        self._pending: deque[_Appended] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def leads(self) -> bool:
        """This broker leads the partition in the epoch that this shard is for."""
        return not self.is_over and self.replica.leader_epoch == self.leader_epoch

    # ---- loading

    async def load(self, topics: Callable[[], Any]) -> None:
        """Read the log; then it can be asked. `topics`: the names that the cluster knows, once all was read.

        Raises RefusedError or OutcomeUnknownError where the leadership, or the log, is lost meanwhile.
        """
        replica, room = self.replica, self._of.waiting_room
        end_offset = replica.log.log_end_offset
        while replica.high_watermark < end_offset and self.leads:
            await room.reached(replica.high_watermark_key, end_offset, timeout_ms=WATERMARK_WAIT_MS)
        latest: dict[bytes, bytes] = {}
        offset = replica.earliest_offset
        while offset < end_offset and self.leads:
            offset = self._read_from(offset, latest)
            await asyncio.sleep(0)
        records = list(latest.items())
        for at in range(0, len(records), LOAD_RECORDS):
            self._load(records[at : at + LOAD_RECORDS])
            await asyncio.sleep(0)
        if self.leads:
            self.core.loaded(self.now(), topics=topics())
            self.is_loaded = True
            self._carry_out()

    def _read_from(self, offset: int, latest: dict[bytes, bytes]) -> int:
        """One slice, of which each key's last value counts; the offset after it."""
        try:
            found = self.replica.fetch_now(offset, max_bytes=READ_BYTES).slice
        except DamagedRangeError as damaged:
            logger().error("groups lost: the offsets topic is damaged", log=self.replica.name, reason=str(damaged))
            return damaged.next_offset
        for batch in iterate_batches(found.data):
            for record in self._records(batch):
                key = record.key or b""
                if record.value is None:
                    latest.pop(key, None)
                else:
                    latest[key] = record.value
        return found.next_offset

    def _records(self, batch: RecordBatch) -> list[Record]:
        try:
            return [] if batch.is_control else batch.records()
        except RefusedError as refused:
            log, offset = self.replica.name, batch.base_offset
            logger().error("no records of groups", log=log, offset=offset, reason=refused.message)
            return []

    def _load(self, records: list[tuple[bytes, bytes]]) -> None:
        now = self.now()
        for key, value in records:
            try:
                read = read_record(key, value)
            except DecodeError as error:
                logger().error("no record of a group", log=self.replica.name, key=key[:80].hex(), reason=str(error))
                continue
            if read is not None:
                self.core.load(read, now)

    # ---- asking

    def ask(self, group_id: str, question: Callable[[GroupCoordinator, Call, Now], None]) -> Any:
        """What the core answers: at once, or a future of it. If the future is cancelled, the core hears of it.

        The future's result is ErrorCode.NOT_COORDINATOR where this epoch ends before.
        """
        call = next(self._calls)
        self._answers[call] = None
        question(self.core, call, self.now())
        self._carry_out()
        answer = self._answers.pop(call)
        if answer is not None:
            return answer
        future: asyncio.Future[Any] = self._of.loop.create_future()
        self._futures[call] = future
        future.add_done_callback(lambda done: self._gone(group_id, call) if done.cancelled() else None)
        return future

    def tell(self, event: Callable[[GroupCoordinator, Now], Any]) -> Any:
        """What the core says to something that is answered at once."""
        said = event(self.core, self.now())
        self._carry_out()
        return said

    def now(self) -> Now:
        return Now(self._of.clock.monotonic_ms(), self._of.clock.wall_ms())

    def _gone(self, group_id: str, call: Call) -> None:
        """Whoever asked has left."""
        if self._futures.pop(call, None) is not None and not self.is_over:
            self.tell(lambda core, now: core.abandoned(group_id, call, now))

    def resign(self) -> None:
        """The epoch is over: everybody looks for the next coordinator."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for appended in self._pending:
            if appended.waiter is not None:
                self._of.waiting_room.cancel(appended.waiter)
        self._pending.clear()
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if not future.done():
                future.set_result(ErrorCode.NOT_COORDINATOR)

    # ---- carrying out

    def _carry_out(self) -> None:
        effects = self.core.effects
        while not self.is_over and (effects.writes or effects.answers):
            for write in effects.take_writes():
                self._append(write)
            for call, answer in effects.take_answers():
                self._deliver(call, answer)
        self._arm()

    def _deliver(self, call: Call, answer: object) -> None:
        if call in self._answers:
            self._answers[call] = answer
        elif (future := self._futures.pop(call, None)) is not None and not future.done():
            future.set_result(answer)

    def _append(self, write: Write) -> None:
        try:
            last_offset = self._append_all(write.records)
        except (RefusedError, OutcomeUnknownError) as error:
            logger().warning("group not written", log=self.replica.name, reason=error.message)
            write.failed(code_for_members(error.code), self.now())
            return
        write.appended()
        appended = _Appended(last_offset, write)
        self._pending.append(appended)
        if self.replica.high_watermark > last_offset:
            self._advance()
        else:
            self._wait(appended, self._of.settings.offsets_commit_timeout_ms)

    def _append_all(self, records: list[LogRecord]) -> int:
        """Append them all, in one piece or not at all; the last offset."""
        if not self.leads:
            raise not_coordinator()
        wall_ms = self._of.clock.wall_ms()
        buffer = bytearray()
        batch: list[tuple[bytes, bytes | None, tuple[()], int]] = []
        size_bytes = 0
        for key, value in records:
            batch.append((key, value, (), wall_ms))
            size_bytes += len(key) + len(value or b"")
            if size_bytes >= BATCH_BYTES:
                buffer += build_batch(batch)
                batch, size_bytes = [], 0
        if batch:
            buffer += build_batch(batch)
        return self.replica.append_now(buffer, acks=ACKS_ALL).last_offset

    def _wait(self, appended: _Appended, timeout_ms: float) -> None:
        def complete(completion: Completion) -> None:
            if self.is_over:
                return
            if completion is Outcome.REACHED:
                self._advance()
            elif completion is Outcome.EXPIRED:
                self._wait(appended, LATE_WAIT_MS)
                appended.write.failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, self.now())
            else:
                self.resign()
            self._carry_out()

        key, threshold = self.replica.safe_key, appended.last_offset + 1
        appended.waiter = self._of.waiting_room.wait(key, threshold, timeout_ms=timeout_ms, complete=complete)

    def _advance(self) -> None:
        """What is below the high watermark takes effect, in the order of the log."""
        while self._pending and self._pending[0].last_offset < self.replica.high_watermark:
            self._pending.popleft().write.committed(self.now())

    # ---- time

    def _arm(self) -> None:
        """The timer stands for the earliest deadline, or for an earlier one that was put off since."""
        next_ms = None if self.is_over else self.core.next_deadline_ms
        if next_ms is None:
            return
        when_s = self._of.loop.time() + max(0.0, next_ms - self._of.clock.monotonic_ms()) / 1000
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= when_s:
                return
            self._timer.cancel()
        self._timer = self._of.loop.call_at(when_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.leads:
            self.resign()  # nobody says so where a disk failed that nobody else has a replica on (L1)
        elif self.is_loaded:
            self.tell(lambda core, now: core.expire(now))


def not_coordinator() -> RefusedError:
    """Look for the coordinator again."""
    return RefusedError(ErrorCode.NOT_COORDINATOR, "this broker does not coordinate the group: find its coordinator")


def code_for_members(code: ErrorCode) -> ErrorCode:
    """What members are told of a write that did not come about: clients know few codes and do the right thing."""
    if code in _NOT_COORDINATOR:
        return ErrorCode.NOT_COORDINATOR
    return code if code in _ITS_OWN or code is ErrorCode.NOT_COORDINATOR else ErrorCode.COORDINATOR_NOT_AVAILABLE
