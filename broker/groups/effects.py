"""What a group's core wants done: answers to give, records to write, deadlines to keep.

The core puts them here; its driver takes them after each call and carries them out, in this order of durability: what
an answer tells of was written first. Owns nothing of what they mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from broker.groups.deadlines import Deadlines
from wire.errors import ErrorCode

Call = int
"""Somebody who waits for an answer, by a number that the driver gave."""


class Now(NamedTuple):
    """One moment on both clocks: deadlines count on the first, what is stored carries the second (S20)."""

    monotonic_ms: float
    wall_ms: int


class Event(Enum):
    """What a deadline brings."""

    SESSION = "a member was silent for its session timeout"
    PENDING_JOIN = "a member was given an id and did not come back with it"
    REBALANCE = "the members had their time to join"
    SYNC = "the members had their time to fetch their assignments"


class Deadline(NamedTuple):
    event: Event
    group_id: str
    member_id: str = ""


class LogRecord(NamedTuple):
    """One record of the offsets topic; no value: a tombstone."""

    key: bytes
    value: bytes | None


Committed = Callable[[Now], None]
Failed = Callable[[ErrorCode, Now], None]


@dataclass(eq=False, slots=True)
class Write:
    """Records that are to be appended together, and what follows.

    `committed` is called once they are below the high watermark, in the order of the log. `failed` is called when
    nothing was written, and also when it is not known in time: then `committed` may follow later.
    """

    records: list[LogRecord]
    committed: Committed
    failed: Failed
    appended: Callable[[], None] = lambda: None
    """Called once they are in the log, where they may wait for long to be committed."""


@dataclass(slots=True)
class Effects:
    """What is to be done now. Deadlines stay: they are the core's memory."""

    answers: list[tuple[Call, object]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    deadlines: Deadlines[Deadline] = field(default_factory=Deadlines)

    def answer(self, call: Call, answer: object) -> None:
        self.answers.append((call, answer))

    def once(self, call: Call) -> Callable[[object], None]:
        """Answers `call` the first time only: a write that was given up may still come about."""
        is_answered = False

        def answer(answer: object) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self.answer(call, answer)

        return answer

    def take_answers(self) -> list[tuple[Call, object]]:
        taken, self.answers = self.answers, []
        return taken

    def take_writes(self) -> list[Write]:
        taken, self.writes = self.writes, []
        return taken
