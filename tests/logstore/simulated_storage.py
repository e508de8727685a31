"""A disk in memory with the semantics of fsync: what was not synced may be lost, torn, or kept, as a seed decides.

Each file has a durable image, an ordered list of pending writes and the bytes that readers see; each directory has
durable names and an ordered list of pending changes of names. `crash` keeps a prefix of each list, tears the next
write (cut, or its place filled with zeros), and forgets all handles and locks. Faults: `fail` makes a call fail,
`shorten` makes a write short, `capacity_bytes` makes the disk full (a short write first, then ENOSPC, as tmpfs does).
After a failed fsync the pending writes are clean but not durable (fsyncgate), so whoever tries again believes a lie:
readers see them, also of the next process, until `drop_clean_pages` or a power cut.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from random import Random

from logstore.storage import Bytes, FileStatus


class SimulatedFile:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.live = bytearray()
        self.pending: list[tuple[int, bytes] | int] = []
        self.changes = 0
        """All that there ever were; the last of them are pending."""
        self.modified_ms = 0

    def apply(self, change: tuple[int, bytes] | int, image: bytearray) -> None:
        if isinstance(change, int):
            del image[change:]
            image.extend(bytes(change - len(image)))
            return
        position, data = change
        image.extend(bytes(max(0, position - len(image))))
        image[position : position + len(data)] = data

    def change(self, change: tuple[int, bytes] | int) -> None:
        self.pending.append(change)
        self.changes += 1
        self.apply(change, self.live)

    def sync(self) -> None:
        """What is seen is durable, however it came there: a test has written it."""
        self.durable = bytearray(self.live)
        self.pending.clear()

    def flush(self, changes: int) -> None:
        """The first so many changes, but for those that an earlier flush has lost."""
        count = max(0, changes - (self.changes - len(self.pending)))
        for change in self.pending[:count]:
            self.apply(change, self.durable)
        del self.pending[:count]

    def drop_clean_pages(self) -> None:
        self.live = bytearray(self.durable)
        for change in self.pending:
            self.apply(change, self.live)

    def lose_power(self, random: Random) -> None:
        kept = random.randint(0, len(self.pending))
        for change in self.pending[:kept]:
            self.apply(change, self.durable)
        if kept < len(self.pending) and not isinstance(torn := self.pending[kept], int):
            position, data = torn
            length = random.randint(0, len(data))
            tail = random.choice([b"", bytes(len(data) - length)])
            self.apply((position, data[:length] + tail), self.durable)
        self.live = bytearray(self.durable)
        self.pending.clear()


class SimulatedDirectory:
    def __init__(self) -> None:
        self.durable: dict[str, Node] = {}
        self.live: dict[str, Node] = {}
        self.pending: list[Callable[[dict[str, Node]], object]] = []

    def change(self, change: Callable[[dict[str, "Node"]], object]) -> None:
        self.pending.append(change)
        change(self.live)

    def sync(self) -> None:
        self.durable = dict(self.live)
        self.pending.clear()

    def lose_power(self, random: Random) -> None:
        for change in self.pending[: random.randint(0, len(self.pending))]:
            change(self.durable)
        self.live = dict(self.durable)
        self.pending.clear()
        for node in self.live.values():
            node.lose_power(random)


Node = SimulatedFile | SimulatedDirectory


class SimulatedStorage:
    """Implements `logstore.storage.Storage`; paths begin at a root that exists."""

    def __init__(self, *, capacity_bytes: int = 1 << 40) -> None:
        self.root = SimulatedDirectory()
        self.capacity_bytes = capacity_bytes
        self.now_ms = 0
        self.calls: list[tuple[str, str]] = []
        self._handles: dict[int, tuple[SimulatedFile, str]] = {}
        self._next_handle = 3
        self._locks: dict[int, str] = {}
        self._faults: list[tuple[str, str, int, range]] = []
        self._short_bytes: int | None = None
        self._as_of: dict[SimulatedFile, int] | None = None

    # ---- what a test does to it

    def crash(self, random: Random) -> None:
        self.root.lose_power(random)
        self.kill()

    def kill(self) -> None:
        """The process ends; everything that it wrote stays in the page cache."""
        self._handles.clear()
        self._locks.clear()
        self._faults.clear()
        self._short_bytes = None

    def fail(self, operation: str, error_number: int, *, path: str = "", times: int = 1, after: int = 0) -> None:
        """So many of the next calls with `path` in their path fail, once `after` others have been made."""
        self._faults.append((operation, path, error_number, range(after, after + times)))

    def shorten(self, size_bytes: int) -> None:
        self._short_bytes = size_bytes

    def moment(self) -> dict[SimulatedFile, int]:
        """How much of each open file is written by now."""
        return {file: file.changes for file, _ in self._handles.values()}

    @contextlib.contextmanager
    def as_of(self, moment: dict[SimulatedFile, int]) -> Iterator[None]:
        """What is synced meanwhile was begun at that moment: it covers nothing that came later."""
        self._as_of = moment
        try:
            yield
        finally:
            self._as_of = None

    def file(self, path: str) -> SimulatedFile:
        node = self._find(path)
        assert isinstance(node, SimulatedFile), path
        return node

    def paths(self, suffix: str = "") -> list[str]:
        found: list[str] = []

        def visit(directory: SimulatedDirectory, prefix: str) -> None:
            for name, node in directory.live.items():
                if isinstance(node, SimulatedDirectory):
                    visit(node, f"{prefix}{name}/")
                elif name.endswith(suffix):
                    found.append(prefix + name)

        visit(self.root, "")
        return sorted(found)

    @property
    def open_handles(self) -> int:
        return len(self._handles)

    # ---- the port

    def open(self, path: str, *, create: bool = False) -> int:
        self._enter("open", path)
        directory, name = self._parent(path)
        node = directory.live.get(name)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = SimulatedFile()
            directory.change(lambda names: names.__setitem__(name, node))
        assert isinstance(node, SimulatedFile)
        return self._handle(node, path)

    def open_read_only(self, path: str) -> int:
        return self.open(path)

    def _handle(self, node: SimulatedFile, path: str) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = (node, path)
        return self._next_handle

    def close(self, handle: int) -> None:
        self._of(handle)
        del self._handles[handle]
        self._locks.pop(handle, None)

    def pread(self, handle: int, size_bytes: int, position: int, /) -> bytes:
        file, path = self._of(handle)
        self._enter("pread", path)
        return bytes(file.live[position : position + size_bytes])

    def read_ahead(self, handle: int, size_bytes: int, position: int, /) -> None:
        file, path = self._of(handle)
        assert 0 < size_bytes <= len(file.live) - position
        self._enter("read_ahead", path)

    def drop_clean_pages(self, handle: int, position: int, /) -> None:
        del position
        self._of(handle)[0].drop_clean_pages()

    def pwrite(self, handle: int, data: Bytes, position: int, /) -> int:
        file, path = self._of(handle)
        self._enter("pwrite", path)
        room = self.free_bytes("") + max(0, len(file.live) - position)
        written = min(len(data), room)
        if self._short_bytes is not None and path.endswith(".log"):
            written = min(written, self._short_bytes)
            self._short_bytes = None
        if not written and len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        file.change((position, bytes(data[:written])))
        file.modified_ms = self.now_ms
        return written

    def truncate(self, handle: int, size_bytes: int, /) -> None:
        file, path = self._of(handle)
        self._enter("truncate", path)
        if size_bytes != len(file.live):
            file.change(size_bytes)

    def fdatasync(self, handle: int, /) -> None:
        file, path = self._of(handle)
        try:
            self._enter("fdatasync", path)
        except OSError:
            file.pending.clear()
            raise
        file.flush(file.changes if self._as_of is None else self._as_of.get(file, file.changes))

    def fsync(self, handle: int, /) -> None:
        self.fdatasync(handle)

    def fsync_directory(self, path: str) -> None:
        self._enter("fsync_directory", path)
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        assert isinstance(node, SimulatedDirectory)
        node.sync()

    def status(self, path: str) -> FileStatus | None:
        node = self._find(path)
        if node is None:
            return None
        if isinstance(node, SimulatedDirectory):
            return FileStatus(0, 0, is_directory=True)
        return FileStatus(len(node.live), node.modified_ms, is_directory=False)

    def list_directory(self, path: str) -> list[str]:
        node = self._find(path)
        if not isinstance(node, SimulatedDirectory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return list(node.live)

    def make_directory(self, path: str) -> None:
        self._enter("make_directory", path)
        directory, name = self._parent(path)
        if name in directory.live:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        made = SimulatedDirectory()
        directory.change(lambda names: names.__setitem__(name, made))

    def rename(self, source: str, target: str) -> None:
        self._enter("rename", source)
        directory, name = self._parent(source)
        other, target_name = self._parent(target)
        assert directory is other, "logstore renames within a directory"
        if name not in directory.live:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        node = directory.live[name]

        def move(names: dict[str, Node]) -> None:
            names.pop(name, None)
            names[target_name] = node

        directory.change(move)

    def unlink(self, path: str) -> None:
        self._enter("unlink", path)
        directory, name = self._parent(path)
        if not isinstance(directory.live.get(name), SimulatedFile):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        directory.change(lambda names: names.pop(name, None))

    def remove_directory(self, path: str) -> None:
        self._enter("remove_directory", path)
        directory, name = self._parent(path)
        directory.change(lambda names: names.pop(name, None))

    def free_bytes(self, path: str) -> int:
        return max(0, self.capacity_bytes - sum(len(self.file(name).live) for name in self.paths()))

    def total_bytes(self, path: str) -> int:
        return self.capacity_bytes

    def lock(self, path: str) -> int:
        handle = self.open(path, create=True)
        if path in self._locks.values():
            self.close(handle)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        self._locks[handle] = path
        return handle

    # ---- within

    def _enter(self, operation: str, path: str) -> None:
        self.calls.append((operation, path))
        for index, (name, part, error_number, due) in enumerate(self._faults):
            if name == operation and part in path:
                self._faults[index] = name, part, error_number, range(max(due.start - 1, 0), due.stop - 1)
                if due.start == 0:
                    if due.stop == 1:
                        del self._faults[index]
                    raise OSError(error_number, os.strerror(error_number), path)

    def _of(self, handle: int) -> tuple[SimulatedFile, str]:
        if handle not in self._handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handles[handle]

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.root
        for name in path.split("/") if path not in {"", "."} else ():
            if not isinstance(node, SimulatedDirectory):
                return None
            node = node.live.get(name)
        return node

    def _parent(self, path: str) -> tuple[SimulatedDirectory, str]:
        folder, _, name = path.rpartition("/")
        node = self._find(folder)
        if not isinstance(node, SimulatedDirectory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node, name
