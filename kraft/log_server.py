"""The voter's side of the observers: long polls for applied entries, and snapshots in chunks.

Owns the questions that wait for a new entry, and the one snapshot that is being handed out. All on the quorum's loop.

Refuses: malformed questions (answered FAILED). Invariants: an answer is at most `MAX_ANSWER_BYTES` long; only applied
entries leave; one snapshot's bytes are held at a time, for as long as somebody fetches it and `KEEP_SNAPSHOT_S` more;
all chunks of one `snapshot_index` come from the same bytes.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from crc32c import crc32c

from kraft.log_fetch import (
    ENVELOPE_BYTES,
    MAX_ANSWER_BYTES,
    MAX_WAIT_MS,
    FetchLog,
    FetchSnapshot,
    LogSlice,
    SnapshotChunk,
    decode_question,
    encode,
)
from kraft.peer_frames import Outcome
from kraft.peer_requests import Reply

KEEP_SNAPSHOT_S: Final = 30.0
# msgpack's cost of one entry beside its command: an array of two, an index, a length.
_ENTRY_OVERHEAD_BYTES: Final = 16


class AppliedLog(Protocol):
    """The part of the core that observers read."""

    @property
    def term(self) -> int: ...
    @property
    def leader_id(self) -> int | None: ...
    @property
    def last_applied(self) -> int: ...
    def committed_entries(self, from_index: int, max_bytes: int) -> tuple[list[tuple[int, bytes]], int] | None: ...
    def snapshot_for_observer(self) -> tuple[int, bytes]: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    question: FetchLog
    reply: Reply
    timer: asyncio.TimerHandle = field(init=False)


@dataclass(slots=True)
class _Snapshot:
    index: int
    data: bytes
    crc32c: int
    timer: asyncio.TimerHandle


class LogServer:
    """`serve` is the METADATA_LOG handler; `applied` and `role_changed` are called when those moved."""

    def __init__(self, log: AppliedLog, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._waiting: set[_Waiting] = set()
        self._snapshot: _Snapshot | None = None

    def serve(self, _node_id: int, payload: bytes, reply: Reply) -> None:
        """Answer now, or when there is something to tell."""
        try:
            question = decode_question(payload)
        except msgspec.MsgspecError as error:
            reply(Outcome.FAILED, f"malformed fetch: {error}".encode())
            return
        if isinstance(question, FetchSnapshot):
            reply(Outcome.DONE, encode(self._chunk(question)))
        elif self._has_news(question) or question.wait_ms <= 0:
            self._answer(question, reply)
        else:
            self._hold(question, reply)

    def applied(self) -> None:
        """There are new entries: answer whoever waits for them."""
        self._release(only_with_news=True)

    def role_changed(self) -> None:
        """Observers follow the leader too: tell all of them."""
        self._release(only_with_news=False)

    def close(self) -> None:
        """Forget all; the links end the questions."""
        for waiting in self._waiting:
            waiting.timer.cancel()
        self._waiting.clear()
        self._drop_snapshot()

    def _has_news(self, question: FetchLog) -> bool:
        return question.from_index <= self._log.last_applied

    def _hold(self, question: FetchLog, reply: Reply) -> None:
        wait_s = min(question.wait_ms, MAX_WAIT_MS) / 1000
        waiting = _Waiting(question, reply)
        waiting.timer = self._loop.call_later(wait_s, self._finish, waiting)
        self._waiting.add(waiting)

    def _release(self, *, only_with_news: bool) -> None:
        for waiting in list(self._waiting):
            if not only_with_news or self._has_news(waiting.question):
                self._finish(waiting)

    def _finish(self, waiting: _Waiting) -> None:
        self._waiting.discard(waiting)
        waiting.timer.cancel()
        self._answer(waiting.question, waiting.reply)

    def _answer(self, question: FetchLog, reply: Reply) -> None:
        budget = MAX_ANSWER_BYTES - ENVELOPE_BYTES
        found = self._log.committed_entries(question.from_index, budget)
        entries, next_index = found if found is not None else ([], question.from_index)
        kept = _within(entries, budget)
        answer = LogSlice(
            term=self._log.term,
            leader_id=self._log.leader_id,
            last_applied=self._log.last_applied,
            is_compacted=found is None,
            next_index=next_index if kept == len(entries) else entries[kept][0],
            entries=entries[:kept],
        )
        reply(Outcome.DONE, encode(answer))

    def _chunk(self, question: FetchSnapshot) -> SnapshotChunk:
        snapshot = self._snapshot_at(question.snapshot_index)
        offset = question.offset if snapshot.index == question.snapshot_index else 0
        data = snapshot.data[offset : offset + MAX_ANSWER_BYTES - ENVELOPE_BYTES]
        return SnapshotChunk(snapshot.index, len(snapshot.data), snapshot.crc32c, offset, data)

    def _snapshot_at(self, index: int) -> _Snapshot:
        """The one in hand while it is what is asked for, or still leads into the log; else a new one."""
        snapshot = self._snapshot
        if snapshot is not None and index not in (0, snapshot.index):
            snapshot = None
        if snapshot is not None and self._log.committed_entries(snapshot.index + 1, 0) is None:
            snapshot = None
        if snapshot is None:
            self._drop_snapshot()
            taken_at, data = self._log.snapshot_for_observer()
            snapshot = _Snapshot(taken_at, data, crc32c(data), self._keep_timer())
            self._snapshot = snapshot
        snapshot.timer.cancel()
        snapshot.timer = self._keep_timer()
        return snapshot

    def _keep_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(KEEP_SNAPSHOT_S, self._drop_snapshot)

    def _drop_snapshot(self) -> None:
        if self._snapshot is not None:
            self._snapshot.timer.cancel()
        self._snapshot = None


def _within(entries: list[tuple[int, bytes]], budget: int) -> int:
    """How many of the entries fit with their envelopes; at least one."""
    size = 0
    for position, (_, command) in enumerate(entries):
        size += len(command) + _ENTRY_OVERHEAD_BYTES
        if position and size > budget:
            return position
    return len(entries)
