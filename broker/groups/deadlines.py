"""Many deadlines that are put off all the time, and the earliest of them: a heap that is corrected when looked at.

Owns no clock: times are arguments. A heartbeat costs one entry in a dict; the heap sees it when the old deadline comes
up. Invariant: every deadline that stands has an entry in the heap that is due no later than itself.
"""

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """At most one deadline a key, in milliseconds of one monotonic clock."""

    __slots__ = ("_at_ms", "_heap", "_order", "_queued_ms")

    def __init__(self) -> None:
        self._at_ms: dict[Key, float] = {}
        self._queued_ms: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()

    def __contains__(self, key: Key) -> bool:
        return key in self._at_ms

    def __len__(self) -> int:
        return len(self._at_ms)

    @property
    def next_ms(self) -> float | None:
        """Not before then is anything due; None where nothing ever is. It may be early, never late."""
        return self._heap[0][0] if self._heap else None

    def set(self, key: Key, at_ms: float) -> None:
        """Due at `at_ms`, whatever was said before."""
        self._at_ms[key] = at_ms
        queued_ms = self._queued_ms.get(key)
        if queued_ms is None or at_ms < queued_ms:
            self._queue(key, at_ms)

    def clear(self, key: Key) -> None:
        """Never due; no effect on one that is not set."""
        self._at_ms.pop(key, None)

    def pop_due(self, now_ms: float) -> Key | None:
        """The key whose deadline came first, and it is not set any more; None where none has come."""
        while self._heap and self._heap[0][0] <= now_ms:
            queued_ms, _, key = heapq.heappop(self._heap)
            if self._queued_ms.get(key) != queued_ms:
                continue  # an earlier entry took its place
            del self._queued_ms[key]
            at_ms = self._at_ms.get(key)
            if at_ms is None:
                continue
            if at_ms > queued_ms:
                self._queue(key, at_ms)
                continue
            del self._at_ms[key]
            return key
        return None

    def _queue(self, key: Key, at_ms: float) -> None:
        self._queued_ms[key] = at_ms
        heapq.heappush(self._heap, (at_ms, next(self._order), key))
