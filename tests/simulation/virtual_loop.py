"""An event loop whose time is virtual and whose processes can be killed and stopped like those of an operating system.

Nothing waits: where nothing is ready, time jumps to the next timer. Everything runs in one thread in an order that
follows from the order of calls, so a run is a function of its seed.

A `Life` is one process. Whatever it schedules carries it along (a context variable), so that after `kill` nothing of it
ever runs again, no `finally` either, and while it is `stopped` (SIGSTOP) everything that falls due waits. Who dies in
the middle of a callback leaves it by `Death`: Python runs each `finally` on the way, but neither disk nor network nor
loop does anything for a dead process.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

LIFE: ContextVar["Life | None"] = ContextVar("LIFE", default=None)
MACHINE_EPOCH_MS = 1_700_000_000_000
LATE_S = 1e-8
TURNS_MAX = 100_000
"""Turns of the loop in which time stands still."""


class Death(BaseException):
    """The process that runs now is gone: nothing may catch this and go on."""


class Life:
    """One process on one machine; `address` is the machine's, which network faults go by."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.is_alive = True
        self.is_stopped = False
        self.context = copy_context()
        self.context.run(LIFE.set, self)
        self.when_killed: list[Callable[[], None]] = []
        self._due: list[tuple[Context, Callable[..., object], tuple[object, ...]]] = []
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def kill(self) -> None:
        """Nothing of it runs any more."""
        if self.is_alive:
            self.is_alive = False
            self._due.clear()
            for tell in self.when_killed:
                tell()

    def stop(self) -> None:
        self.is_stopped = True

    def go_on(self) -> None:
        """SIGCONT: what fell due meanwhile runs now, in its order."""
        self.is_stopped = False
        due, self._due = self._due, []
        loop = asyncio.get_running_loop()
        for context, callback, args in due:
            loop.call_soon(callback, *args, context=context)

    def run(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        """In its own context already."""
        if not self.is_alive:
            return
        if self.is_stopped:
            self._due.append((copy_context(), callback, args))
        else:
            with contextlib.suppress(Death):
                callback(*args)

    def has(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)

    def tasks(self) -> list[asyncio.Task[Any]]:
        return list(self._tasks)


def here() -> Life:
    """The process that runs now."""
    life = LIFE.get()
    assert life is not None, "outside of all processes"
    return life


class StuckError(Exception):
    """Nothing is ready and no timer is set: the run can never go on."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` begins at 0 and moves only between callbacks. Give it a `network` to connect and listen."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._turns = 0
        self._clock_resolution = 1e-9
        self._selector = self  # what BaseEventLoop asks to wait
        self._buried: list[asyncio.Task[Any]] = []
        self.network: Any = None
        self.callbacks_run = 0
        self.set_exception_handler(self._told)
        self.bugs: list[BaseException] = []

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """BaseEventLoop's selector: instead of waiting, it is later."""
        if timeout is None:
            raise StuckError("nothing is ready and no timer is set")
        if timeout > 0:
            # A timer is never early: whoever reckons in milliseconds must find that its time has come.
            self._now_s = max(self._now_s, self._scheduled[0].when()) + LATE_S
            self._turns = 0
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise StuckError(f"no end to what happens at {self._now_s} s")
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # ---- whatever is scheduled belongs to the process that schedules it

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        context = copy_context() if context is None else context
        self.callbacks_run += 1
        if (life := context.get(LIFE)) is not None:
            return super().call_soon(life.run, callback, args, context=context)
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context
        self.callbacks_run += 1
        if (life := context.get(LIFE)) is not None:
            return super().call_at(when, life.run, callback, args, context=context)
        return super().call_at(when, callback, *args, context=context)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        life = LIFE.get() if context is None else context.get(LIFE)
        if life is not None:
            life.has(task)
        return task

    def bury(self, life: Life) -> None:
        """Keep what a killed process was doing, so that collecting the garbage runs none of its `finally`."""
        self._buried += [task for task in life.tasks() if not task.done()]

    # ---- the world

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, host, port)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self.network.listen(protocol_factory, host, port)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Death:
                raise
            except BaseException as error:  # noqa: BLE001 - goes to whoever waits, as from a thread
                future.set_exception(error)
            else:
                future.set_result(result)

        executor.submit(run)
        return future

    # ---- the end

    def _told(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if (error := context.get("exception")) is not None:
            self.bugs.append(error)

    def end(self) -> None:
        """Close what was never finished: after this nothing of the run is left."""
        self.set_exception_handler(lambda *_: None)
        for task in {*self._buried, *asyncio.all_tasks(self)}:
            task._log_destroy_pending = False
            with contextlib.suppress(BaseException):
                task.get_coro().close()  # type: ignore[union-attr] # a coroutine, since nothing else is run here
        self._buried.clear()
        self._ready.clear()
        self._scheduled.clear()
        self.close()


@contextlib.contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        loop.end()
