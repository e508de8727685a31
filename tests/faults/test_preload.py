"""The library between a process and its C library does to a disk and a clock what it is told, and nothing else."""

import errno
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import power_cut
from tests.faults.battlefield import calls_can_fail
from tests.faults.preload import DATA, METADATA, FailingCalls

pytestmark = pytest.mark.skipif(not calls_can_fail(), reason="needs Linux and a C compiler")

PROGRAM = """
import errno, os, sys, time
os.chdir(sys.argv[1])
def told(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
{body}
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    for name in ("data", "metadata", "elsewhere"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(calls: FailingCalls, node: Path, body: str, *, with_journal: bool = False) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body), str(node)],
        env=dict(calls.environment(with_journal=with_journal)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


WRITE = """
file = os.open(sys.argv[1] + "/{folder}/x", os.O_RDWR | os.O_CREAT)
print(told(os.pwrite, file, b"12345678", 0), told(os.fdatasync, file))
"""


def test_errors_hit_the_directory_that_was_named_and_no_other(node: Path):
    calls = FailingCalls(node)
    for folder in ("data", "metadata", "elsewhere"):
        assert "8 None" == run(calls, node, WRITE.format(folder=folder))
    calls.fail_writes(DATA, errno.ENOSPC)
    calls.fail_syncs(METADATA, errno.EIO)
    assert "ENOSPC None" == run(calls, node, WRITE.format(folder="data"))
    assert "8 EIO" == run(calls, node, WRITE.format(folder="metadata"))
    assert "8 None" == run(calls, node, WRITE.format(folder="elsewhere"))
    assert 2 == calls.failures
    calls.fail_writes(DATA, errno.ENOSPC, short=True)
    assert "4 None" == run(calls, node, WRITE.format(folder="data")), "a full disk writes some of it first"
    calls.heal()
    assert "8 None" == run(calls, node, WRITE.format(folder="data"))


def test_a_sync_takes_as_long_as_it_is_told_and_a_full_disk_says_so(node: Path):
    calls = FailingCalls(node)
    calls.delay_syncs(DATA, 0.3)
    calls.tell_full(DATA)
    began_s = time.monotonic()
    assert "8 None" == run(calls, node, WRITE.format(folder="data"))
    assert time.monotonic() - began_s > 0.3
    assert "0 True" == run(calls, node, "print(os.statvfs('data').f_bavail, os.statvfs('metadata').f_bavail > 0)")


def test_s20_only_the_wall_clock_jumps(node: Path):
    calls = FailingCalls(node)
    calls.move_clock(-3_600_000)
    wall_s, monotonic_s = run(calls, node, "print(time.time(), time.monotonic())").split()
    assert abs(time.time() - 3600 - float(wall_s)) < 60
    assert abs(time.monotonic() - float(monotonic_s)) < 60


CHANGES = """
file = os.open("data/log", os.O_RDWR | os.O_CREAT)
os.pwrite(file, b"synced--", 0)
os.fsync(file)
folder = os.open("data", os.O_RDONLY)
os.fsync(folder)
os.pwrite(file, b"lost", 8)
os.pwrite(file, b"S", 0)
os.ftruncate(file, 2)
os.rename("data/log", "data/renamed")
os.mkdir("data/new")
open("data/new/file", "w").write("x")
"""


def test_what_was_synced_survives_a_power_cut_and_the_rest_may_go(node: Path):
    calls = FailingCalls(node)
    run(calls, node, CHANGES, with_journal=True)
    taken = power_cut.cut(calls.journal, node, AllLost())
    assert (4, 3, 0) == (taken.writes, taken.names, taken.torn)
    assert ["log"] == sorted(path.name for path in (node / "data").iterdir())
    assert b"synced--" == (node / "data" / "log").read_bytes()


class AllLost(random.Random):
    """A disk that keeps nothing which it does not have to keep."""

    def choice(self, options):
        return options[0]

    def random(self) -> float:
        return 0.99


APPENDS = """
file = os.open("data/log", os.O_RDWR | os.O_CREAT)
folder = os.open("data", os.O_RDONLY)
os.fsync(folder)
for number in range(20):
    os.pwrite(file, b"%04d" % number, 4 * number)
    if number == 9:
        os.fdatasync(file)
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_leaves_a_beginning_of_what_was_not_synced(node: Path, seed: int):
    calls = FailingCalls(node)
    run(calls, node, APPENDS, with_journal=True)
    power_cut.cut(calls.journal, node, random.Random(seed))
    left = (node / "data" / "log").read_bytes()
    whole = b"".join(b"%04d" % number for number in range(20))
    assert whole[:40] == left[:40]
    assert whole.startswith(left.rstrip(b"\0"))
    assert [] == list(power_cut.read(calls.journal / "journal")), "a second cut takes nothing back again"


def test_a_name_that_was_not_synced_takes_back_what_it_replaced(node: Path):
    calls = FailingCalls(node)
    (node / "data" / "checkpoint").write_text("old")
    body = """
with open("data/checkpoint.tmp", "w") as file:
    file.write("new")
    file.flush()
    os.fsync(file.fileno())
os.replace("data/checkpoint.tmp", "data/checkpoint")
os.unlink("data/gone")
"""
    (node / "data" / "gone").write_text("still here")
    run(calls, node, body, with_journal=True)
    assert "new" == (node / "data" / "checkpoint").read_text()
    power_cut.cut(calls.journal, node, AllLost())
    assert "old" == (node / "data" / "checkpoint").read_text()
    assert "still here" == (node / "data" / "gone").read_text()


def test_the_only_rooms_that_touch_a_disk_use_no_call_that_the_library_does_not_see():
    """Else a power cut would leave behind what a real one takes: pwritev, sendfile, copy_file_range, mmap and so on."""
    seen = {
        "close",
        "fdatasync",
        "fsync",
        "ftruncate",
        "mkdir",
        "open",
        "pwrite",
        "replace",
        "rmdir",
        "unlink",
        "write",
    }
    changes_nothing = {"listdir", "posix_fadvise", "pread", "preadv", "stat", "statvfs"}
    for room in ("logstore/storage.py", "kraft/disk.py"):
        text = (Path(__file__).resolve().parents[2] / room).read_text(encoding="utf-8")
        assert set(re.findall(r"\bos\.([a-z_]+)", text)) <= seen | changes_nothing, room
        assert "mmap" not in text, room
