"""Where every answer waits that cannot be given yet (Kafka's purgatory), as a pure core.

Owns the waiters: each waits for one progress (a partition's high watermark, the applied metadata index) to reach a
threshold, until a deadline; and the watchers, who hear of every step (a fetch session of many partitions). Refuses to
know time, futures or logs: `now_ms` is an argument and a waiter is completed by calling what it brought. Invariants:
each waiter is completed exactly once, by the first of reached, failed, expired; a cancelled one never. Memory follows
those who wait now, not those who ever did.
"""

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    REACHED = "reached"
    EXPIRED = "expired"


Completion = Outcome | BaseException
Watcher = Callable[[], None]

SWEEP_WAITERS_MIN = 1024
"""Answers that left early stay behind in the heaps; these are swept when they have doubled, so each costs O(1)."""


@dataclass(slots=True, order=True)
class Waiter:
    """One answer in waiting. Ordered by threshold, then by arrival: answers leave in the order of offsets."""

    threshold: int
    order: int
    key: Hashable = field(compare=False)
    complete: Callable[[Completion], None] = field(compare=False)
    done: bool = field(compare=False, default=False)


class Purgatory:
    """Waiters by what they wait for, and by deadline."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, list[Waiter]] = {}
        self._by_deadline: list[tuple[float, int, Waiter]] = []
        self._watchers: dict[Hashable, dict[Watcher, None]] = {}
        self._order = itertools.count()
        self._sweep_at = SWEEP_WAITERS_MIN
        self._cancelled = 0

    def __len__(self) -> int:
        return sum(not waiter.done for waiters in self._by_key.values() for waiter in waiters)

    @property
    def next_deadline_ms(self) -> float | None:
        """The earliest deadline of a waiter that still waits; None where nobody does."""
        while self._by_deadline and self._by_deadline[0][2].done:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else None

    def wait(
        self, key: Hashable, threshold: int, *, deadline_ms: float, complete: Callable[[Completion], None]
    ) -> Waiter:
        """Keep `complete` until `advanced(key, value)` brings a value of at least `threshold`."""
        waiter = Waiter(threshold, next(self._order), key, complete)
        heapq.heappush(self._by_key.setdefault(key, []), waiter)
        if len(self._by_deadline) >= self._sweep_at:
            self._by_deadline = [entry for entry in self._by_deadline if not entry[2].done]
            heapq.heapify(self._by_deadline)
            self._sweep_at = max(SWEEP_WAITERS_MIN, 2 * len(self._by_deadline))
        heapq.heappush(self._by_deadline, (deadline_ms, waiter.order, waiter))
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        """The one who waited went away; no effect after its completion."""
        if waiter.done:
            return
        waiter.done = True
        self._cancelled += 1
        if self._cancelled >= self._sweep_at:
            for key in list(self._by_key):
                self._forget_done(key)
            self._cancelled = 0

    def watch(self, key: Hashable, changed: Watcher) -> None:
        """Call `changed()` at every progress and failure until `unwatch`; from within it nobody may (un)watch."""
        self._watchers.setdefault(key, {})[changed] = None

    def unwatch(self, key: Hashable, changed: Watcher) -> None:
        """No more calls; no effect for one that does not watch."""
        watchers = self._watchers.get(key)
        if watchers is not None:
            watchers.pop(changed, None)
            if not watchers:
                del self._watchers[key]

    def advanced(self, key: Hashable, value: int) -> None:
        """Progress reached `value`: complete everyone who waited for that much."""
        if (watchers := self._watchers.get(key)) is not None:
            for changed in watchers:
                changed()
        waiters = self._by_key.get(key)
        if waiters is None:
            return
        reached = []
        while waiters and (waiters[0].done or waiters[0].threshold <= value):
            reached.append(heapq.heappop(waiters))
        if not waiters:
            del self._by_key[key]
        self._complete(reached, Outcome.REACHED)

    def failed(self, key: Hashable, error: BaseException) -> None:
        """What was waited for will not come (leadership lost, topic deleted): everyone is told `error`."""
        for changed in self._watchers.get(key, ()):
            changed()
        self._complete(sorted(self._by_key.pop(key, [])), error)

    def expire(self, now_ms: float) -> None:
        """Complete everyone whose deadline has come."""
        expired = []
        while self._by_deadline and (self._by_deadline[0][0] <= now_ms or self._by_deadline[0][2].done):
            expired.append(heapq.heappop(self._by_deadline)[2])
        self._complete(expired, Outcome.EXPIRED)
        for key in {waiter.key for waiter in expired}:
            self._forget_done(key)

    def _forget_done(self, key: Hashable) -> None:
        waiters = [waiter for waiter in self._by_key.pop(key, []) if not waiter.done]
        if waiters:
            heapq.heapify(waiters)
            self._by_key[key] = waiters

    @staticmethod
    def _complete(waiters: list[Waiter], completion: Completion) -> None:
        for waiter in waiters:
            if not waiter.done:
                waiter.done = True
                waiter.complete(completion)
