"""The library that stands between a node and its C library (`failing_calls.c`), and what it is told meanwhile.

Owns building it with the system's compiler (once a content, kept beside other temporary files) and its control file.
Refuses (LookupError) a machine without a compiler or with another C library's rules. Nothing of it is in the project:
a node is started with it, or runs as it is.
"""

import functools
import hashlib
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_calls.c")
DATA, METADATA = 0, 1
_FIELDS = ("write_errno", "sync_errno", "sync_delay_us", "short_writes", "is_full")
_FAILURES = 1 + 2 * len(_FIELDS)


@functools.cache
def library() -> Path:
    """The built library; LookupError where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        raise LookupError("disk and clock faults need Linux and a C compiler (cc)")
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"kraft-failing-calls-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{version}.so"
    if not built.exists():
        making = built.with_suffix(f".{os.getpid()}")
        command = [
            compiler,
            "-std=gnu11",
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            str(making),
            str(SOURCE),
            "-ldl",
            "-lpthread",
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LookupError(f"{SOURCE.name} cannot be built here:\n{made.stderr}")
        making.rename(built)
    return built


class FailingCalls:
    """One node's control: every setting counts at once, and survives the node's death."""

    def __init__(self, node_directory: Path) -> None:
        self._root = node_directory.resolve()
        self._control_file = self._root / "faults.control"
        self.journal = self._root / "faults.journal"
        self._control_file.write_bytes(bytes(mmap.PAGESIZE))
        with self._control_file.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def environment(self, *, with_journal: bool = False) -> Mapping[str, str]:
        """For starts of the node. With the journal everything that a power cut could take is written down."""
        variables = {
            "LD_PRELOAD": str(library()),
            "KRAFT_FAULTS_ROOT": str(self._root),
            "KRAFT_FAULTS_CONTROL": str(self._control_file),
        }
        if with_journal:
            self.journal.mkdir(exist_ok=True)
            variables["KRAFT_FAULTS_JOURNAL"] = str(self.journal)
        return variables

    def fail_writes(self, area: int, code: int, *, short: bool = False) -> None:
        """Every write answers `code` (an errno); `short`: half of each is made instead, until there is one byte."""
        self._put(area, "short_writes", int(short))
        self._put(area, "write_errno", code)

    def fail_syncs(self, area: int, code: int) -> None:
        self._put(area, "sync_errno", code)

    def delay_syncs(self, area: int, delay_s: float) -> None:
        self._put(area, "sync_delay_us", int(delay_s * 1_000_000))

    def tell_full(self, area: int) -> None:
        """Who asks hears that no byte is free."""
        self._put(area, "is_full", 1)

    def move_clock(self, offset_ms: int) -> None:
        """CLOCK_REALTIME only."""
        self._store(0, offset_ms)

    def heal(self) -> None:
        """All is well from now on; `failures` counts on."""
        for index in range(_FAILURES):
            self._store(index, 0)

    @property
    def failures(self) -> int:
        """How many calls were failed or delayed so far."""
        return self._load(_FAILURES)

    def close(self) -> None:
        self._map.close()

    def _put(self, area: int, field: str, value: int) -> None:
        self._store(1 + area * len(_FIELDS) + _FIELDS.index(field), value)

    def _store(self, index: int, value: int) -> None:
        self._map[8 * index : 8 * index + 8] = value.to_bytes(8, "little", signed=True)

    def _load(self, index: int) -> int:
        return int.from_bytes(self._map[8 * index : 8 * index + 8], "little", signed=True)
