"""One machine: a disk that forgets what was not synced, clocks, threads that are only delays, and ids from the seed.

A process may die between any two calls of its disk, and in the middle of a write (`Countdown`).
"""

import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from broker.machine import Machine
from logstore.storage import Bytes
from tests.logstore.simulated_storage import SimulatedFile, SimulatedStorage
from tests.simulation.virtual_loop import LIFE, MACHINE_EPOCH_MS, Death, VirtualLoop
from wire.errors import RefusedError
from wire.record_batch import iterate_batches

DISK = "data"
CAPACITY_BYTES = 1 << 30
LEADER_EPOCH_AT = 12
MAGIC_AT = 16
RECENT = 8
WRITES = {"truncate", "fdatasync", "fsync_directory", "make_directory", "rename", "unlink", "remove_directory", "open"}
"""And `pwrite`: calls that change what the next process finds. `open` may make a file."""


@dataclass(slots=True)
class Countdown:
    """The process dies in the last of so many writes to files whose paths have this in them."""

    writes: int
    path: str
    die: Callable[[], None]
    rng: Random

    def is_over(self, path: str) -> bool:
        if self.path in path:
            self.writes -= 1
        return self.writes <= 0


class Disk(SimulatedStorage):
    """Says how much is free without looking at every file, does not keep the calls, and does nothing for the dead."""

    def __init__(self) -> None:
        super().__init__(capacity_bytes=CAPACITY_BYTES)
        self.free: int | None = None
        self.countdown: Countdown | None = None

    def heal(self) -> None:
        """There is space, and no call fails any more."""
        self.free = self.countdown = None
        self._faults.clear()
        self._short_bytes = None

    @property
    def will_fail(self) -> bool:
        """A call is going to, or a part of a write."""
        return bool(self._faults) or self._short_bytes is not None

    def damage(self, path: str, rng: Random) -> None:
        """Flip a bit or lose the end of a file of which nobody has a handle."""
        file = self.file(path)
        if not file.live:
            return
        at = rng.randrange(len(file.live))
        if rng.random() < 0.5:
            file.live[at] ^= 1 << rng.randrange(8)
        else:
            del file.live[at:]
        file.sync()

    def rot(self, path: str, rng: Random, *, is_last: bool) -> tuple[int, range] | None:
        """Flip a bit of a batch that is synced; where in the file, and which offsets it holds. None: there is none.

        Not of the last one of a log: what nothing intact follows is a torn tail to whoever recovers it (S18). Not of a
        batch's leader epoch: of all that a batch says, only that is covered by nothing (Kafka's format).
        """
        file = self.file(path)
        batches = []
        with contextlib.suppress(RefusedError):  # a tail that was torn, or rotted before
            batches += iterate_batches(memoryview(bytes(file.durable)))
        if is_last:
            batches = batches[:-1]
        if not batches:
            return None
        number = rng.randrange(len(batches))
        if is_last and rng.random() < 0.7:  # so late that the next process reads it again
            number = rng.randrange(max(0, len(batches) - RECENT), len(batches))
        start = sum(batch.size_bytes for batch in batches[:number])
        at = start + rng.choice([rng.randrange(LEADER_EPOCH_AT), rng.randrange(MAGIC_AT, batches[number].size_bytes)])
        bit = 1 << rng.randrange(8)
        for image in (file.live, file.durable):
            image[at] ^= bit
        return at, range(batches[number].base_offset, batches[number].next_offset)

    def kill(self) -> None:
        super().kill()
        self.countdown = None

    def pwrite(self, handle: int, data: Bytes, position: int, /) -> int:
        """Whoever dies in it has written a part."""
        file, path = self._of(handle)
        if (countdown := self.countdown) is not None and countdown.is_over(path):
            file.change((position, bytes(data[: countdown.rng.randint(0, len(data))])))
            self._die(countdown)
        return super().pwrite(handle, data, position)

    def _enter(self, operation: str, path: str) -> None:
        _refuse_the_dead()
        if self.countdown is not None and operation in WRITES and self.countdown.is_over(path):
            self._die(self.countdown)
        if self._faults:
            super()._enter(operation, path)
            self.calls.clear()

    def _of(self, handle: int) -> tuple[SimulatedFile, str]:
        _refuse_the_dead()
        return super()._of(handle)

    def _die(self, countdown: Countdown) -> NoReturn:
        countdown.die()
        raise Death

    def free_bytes(self, path: str) -> int:
        del path
        return CAPACITY_BYTES if self.free is None else self.free


def _refuse_the_dead() -> None:
    life = LIFE.get()
    if life is not None and not life.is_alive:
        raise Death


class Clock:
    """The machine's: its wall clock may be wrong, the monotonic one is the loop's (S20)."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.wall_error_ms = 0

    def wall_ms(self) -> int:
        return MACHINE_EPOCH_MS + int(self._loop.time() * 1000) + self.wall_error_ms

    def monotonic_ms(self) -> float:
        return self._loop.time() * 1000


class Job:
    """What `submit` gives: it ends once, at its time or when somebody waits for it. What it syncs it began to now."""

    def __init__(self, task: Callable[[], Any], disk: Disk) -> None:
        self._task: Callable[[], Any] | None = task
        self._disk = disk
        self._began = disk.moment()

    def result(self, timeout: float | None = None) -> None:
        del timeout
        task, self._task = self._task, None
        if task is not None:
            with self._disk.as_of(self._began):
                task()


class Threads(Executor):
    """Whatever is submitted runs on the loop a while later, in the process that submitted it."""

    def __init__(self, loop: VirtualLoop, disk: Disk, delay_s: Callable[[], float]) -> None:
        self._loop = loop
        self._disk = disk
        self._delay_s = delay_s

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        job = Job(lambda: fn(*args, **kwargs), self._disk)
        self._loop.call_later(self._delay_s(), job.result)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Nothing runs by itself here."""


class SimulatedMachine:
    """What outlives the processes of a node."""

    def __init__(self, address: int, loop: VirtualLoop, rng: Random) -> None:
        self.address = address
        self.disk = Disk()
        self.clock = Clock(loop)
        self.sync_s = (0.0001, 0.001)
        self._loop = loop
        self._rng = rng
        self._directory_id = self._new_id()

    def ports(self, quorum_for: Any) -> Machine:
        return Machine(
            clock=self.clock,
            storage=lambda: self.disk,
            identify_directory=self._identify,
            threads=lambda _count, _name: Threads(self._loop, self.disk, lambda: self._rng.uniform(*self.sync_s)),
            new_id=self._new_id,
            quorum_for=quorum_for,
        )

    def _identify(self, path: Path, *, cluster_id: str, node_id: int) -> uuid.UUID:
        del cluster_id, node_id
        assert str(path) == DISK, path
        return self._directory_id

    def _new_id(self) -> uuid.UUID:
        return uuid.UUID(int=self._rng.getrandbits(128), version=4)

    def lose_power(self) -> None:
        """What was not synced is kept, torn or lost."""
        self.disk.crash(self._rng)

    def lose_process(self) -> None:
        """What was written is in the page cache."""
        self.disk.kill()

    def replace_disk(self) -> None:
        """An empty one."""
        self.disk = Disk()
        self._directory_id = self._new_id()
