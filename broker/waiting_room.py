"""The purgatory on an event loop: a coroutine waits, one timer serves every deadline.

Owns the timer. Time is the loop's own monotonic clock (S20).
"""

import asyncio
from collections.abc import Callable, Hashable

from broker.purgatory import Completion, Outcome, Purgatory, Waiter, Watcher


class WaitingRoom:
    """`await reached(...)` for anything that the purgatory can hold."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._purgatory = Purgatory()
        self._timer: asyncio.TimerHandle | None = None

    async def reached(self, key: Hashable, threshold: int, *, timeout_ms: float) -> bool:
        """True when `threshold` was reached, False at the timeout; raises what `failed` was given."""
        if timeout_ms <= 0:
            return False
        future: asyncio.Future[bool] = self._loop.create_future()

        def complete(completion: Completion) -> None:
            if future.done():
                return
            if isinstance(completion, Outcome):
                future.set_result(completion is Outcome.REACHED)
            else:
                future.set_exception(completion)

        waiter = self.wait(key, threshold, timeout_ms=timeout_ms, complete=complete)
        try:
            return await future
        finally:
            self._purgatory.cancel(waiter)

    def wait(
        self, key: Hashable, threshold: int, *, timeout_ms: float, complete: Callable[[Completion], None]
    ) -> Waiter:
        """Without a coroutine: `complete` is called once, never before this has returned."""
        deadline_ms = self._loop.time() * 1000 + timeout_ms
        waiter = self._purgatory.wait(key, threshold, deadline_ms=deadline_ms, complete=complete)
        self._arm()
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        self._purgatory.cancel(waiter)

    def watch(self, key: Hashable, changed: Watcher) -> None:
        """Call `changed()` at every progress and failure of `key` until `unwatch`; it must not watch or unwatch."""
        self._purgatory.watch(key, changed)

    def unwatch(self, key: Hashable, changed: Watcher) -> None:
        self._purgatory.unwatch(key, changed)

    def advanced(self, key: Hashable, value: int) -> None:
        self._purgatory.advanced(key, value)

    def failed(self, key: Hashable, error: BaseException) -> None:
        self._purgatory.failed(key, error)

    def close(self) -> None:
        """Stop the timer; whoever still waits is ended by the end of its own task."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        deadline_ms = self._purgatory.next_deadline_ms
        if deadline_ms is None:
            return
        when = deadline_ms / 1000
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._purgatory.expire(self._loop.time() * 1000)
        self._arm()
