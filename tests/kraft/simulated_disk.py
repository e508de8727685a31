"""A directory in memory that forgets, at a crash, what was not synced, and that can fail or lose power at any step.

It implements kraft.disk.Disk. At a crash: of appended but unsynced bytes any prefix survives, perhaps with a page of
zeros in it; of unsynced creations and renames any prefix in order survives.
"""

import errno
import random
from collections.abc import Callable

PAGE_BYTES = 512


class PowerCut(BaseException):
    """The process is gone: nothing may catch this and go on."""


class DiskError(OSError):
    """A fault that a test has put in: what stops a node by it is no bug."""


class _Content:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = b""
        self.is_clean = False
        """A sync has failed: no other one will write what this one had to (fsyncgate)."""

    def survivor(self, chance: random.Random) -> bytes:
        """What a power cut leaves of an appended file: everything synced, and some of the rest."""
        if not self.data.startswith(self.synced):
            return chance.choice([self.synced, bytes(self.data)])
        rest = bytearray(self.data[len(self.synced) :])
        rest = rest[: chance.randint(0, len(rest))] if chance.random() < 0.8 else rest
        if len(rest) > 1 and chance.random() < 0.5:
            at = chance.randrange(len(rest))
            hole = bytes(min(PAGE_BYTES, len(rest) - at))
            rest[at : at + len(hole)] = hole
        return self.synced + bytes(rest)


class SimulatedDisk:
    def __init__(self, chance: random.Random | None = None) -> None:
        self.chance = random.Random(0) if chance is None else chance
        self._names: dict[str, _Content] = {}
        self._synced_names: dict[str, _Content] = {}
        self._unsynced_operations: list[Callable[[dict[str, _Content]], None]] = []
        self.operations = 0
        self.cut_power_at: int | None = None
        self.free_bytes: int | None = None
        self.sync_fails = False
        self.syncs = 0
        self.is_locked = False

    def step(self) -> None:
        """Every operation is a place where power may fail."""
        self.operations += 1
        if self.operations == self.cut_power_at:
            raise PowerCut

    def crash(self) -> None:
        """Become what the next start finds."""
        survivors = dict(self._synced_names)
        for operation in self._unsynced_operations[: self.chance.randint(0, len(self._unsynced_operations))]:
            operation(survivors)
        self._names = {}
        for name, content in survivors.items():
            kept = _Content()
            kept.synced = content.survivor(self.chance)
            kept.data = bytearray(kept.synced)
            self._names[name] = kept
        self._synced_names = dict(self._names)
        self._unsynced_operations = []
        self.cut_power_at = None
        self.is_locked = False

    # kraft.disk.Disk

    def path(self, name: str) -> str:
        return f"/simulated/{name}"

    def read(self, name: str) -> bytes | None:
        content = self._names.get(name)
        if content is None:
            return None
        if content.is_clean:
            content.data, content.is_clean = bytearray(content.synced), False
        return bytes(content.data)

    def create(self, name: str) -> "SimulatedFile":
        self.step()
        content = _Content()
        self._change(lambda names: names.__setitem__(name, content))
        return SimulatedFile(self, content)

    def open(self, name: str) -> "SimulatedFile":
        return SimulatedFile(self, self._names[name])

    def rename(self, old: str, new: str) -> None:
        self.step()
        content = self._names[old]

        def operation(names: dict[str, _Content]) -> None:
            names.pop(old, None)
            names[new] = content

        self._change(operation)

    def _change(self, operation: Callable[[dict[str, _Content]], None]) -> None:
        operation(self._names)
        self._unsynced_operations.append(operation)

    def sync_directory(self) -> None:
        self.step()
        self._synced_names = dict(self._names)
        self._unsynced_operations = []

    def lock(self) -> None:
        assert not self.is_locked
        self.is_locked = True

    def close(self) -> None:
        self.is_locked = False

    def heal(self) -> None:
        """No call fails any more; what failed calls have left stays."""
        self.cut_power_at = self.free_bytes = None
        self.sync_fails = False

    # What a test does to a file behind its owner's back

    def overwrite(self, name: str, data: bytes) -> None:
        content = self._names[name]
        content.data, content.synced = bytearray(data), data

    def remove(self, name: str) -> None:
        del self._names[name]
        self._synced_names.pop(name, None)


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, content: _Content) -> None:
        self._disk = disk
        self._content = content

    def append(self, data: bytes) -> None:
        try:
            self._disk.step()
        except PowerCut:
            self._content.data += data[: self._disk.chance.randint(0, len(data))]
            raise
        if self._disk.free_bytes is not None:
            self._content.data += data[: self._disk.free_bytes]
            if len(data) > self._disk.free_bytes:
                self._disk.free_bytes = 0
                raise DiskError(errno.ENOSPC, "No space left on device")
            self._disk.free_bytes -= len(data)
        else:
            self._content.data += data

    def sync(self) -> None:
        self._disk.step()
        if self._disk.sync_fails:
            self._content.is_clean = True
            raise DiskError(errno.EIO, "Input/output error")
        self._disk.syncs += 1
        if not self._content.is_clean:
            self._content.synced = bytes(self._content.data)

    def truncate(self, size_bytes: int) -> None:
        self._disk.step()
        del self._content.data[size_bytes:]

    def close(self) -> None:
        pass
