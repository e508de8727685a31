"""A one-way street into an event loop of another thread: calls in order, one wake-up for a whole burst.

Owns the queue between two threads. `loop.call_soon_threadsafe` costs a system call and a fight for the interpreter lock
each time; here a burst of a thousand calls pays once.

Invariants: calls run in the order in which they were put, on the lane's loop; after the loop is closed they are
dropped. The wake-up flag is cleared before the queue is read, so a call put at any moment is either seen by the
running drain or wakes the next one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any


class LoopLane:
    """`put` and `wake` may be called from any thread; the calls run on `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_awake = False

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run `function(*arguments)` on the lane's loop soon."""
        self.put(function, *arguments)
        self.wake()

    def put(self, function: Callable[..., object], *arguments: Any) -> None:
        """Queue a call for a `wake` that the same thread promises to make soon."""
        self._calls.append((function, arguments))

    def wake(self) -> None:
        """See to it that what was put runs; free where a wake-up is already under way or nothing was put."""
        if self._is_awake or not self._calls:
            return
        self._is_awake = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._is_awake = False
        for _ in range(len(self._calls)):
            function, arguments = self._calls.popleft()
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001  # one caller's bug must not swallow the calls behind it
                context = {"message": f"a call from another thread failed: {function!r}", "exception": error}
                self._loop.call_exception_handler(context)
        self.wake()


def settle(future: "asyncio.Future[Any]", answer: object, error: BaseException | None) -> None:
    """End a future with an answer or an error, unless its caller has gone; on the future's loop only."""
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
