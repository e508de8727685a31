"""A simulated process dies in the middle of what it does, and nothing of it goes on."""

import asyncio
from contextvars import Context
from random import Random

import pytest

from logstore.storage import read_whole_file, replace_file, write_fully
from tests.simulation.machine import Countdown, SimulatedMachine
from tests.simulation.virtual_loop import Life, virtual_loop

OLD, NEW = b"what was there", b"what is to be there"
WRITES_OF_A_REPLACEMENT = 6
"""The file made, emptied, written, synced, renamed, and its directory synced."""


class Doomed:
    """A process on a machine of its own, which replaces a file and dies in its n-th write."""

    def __init__(self, loop, *, writes, loses_power=False):
        self.machine = SimulatedMachine(1, loop, Random(writes))
        self.life = Life(1)
        self.done = []
        replace_file(self.machine.disk, "file", OLD)
        ends = self.machine.lose_power if loses_power else self.machine.lose_process

        def die():
            self.life.kill()
            ends()

        self.machine.disk.countdown = Countdown(writes, "", die, Random(0))

    def work(self):
        try:
            replace_file(self.machine.disk, "file", NEW)
            self.done.append("replaced")
        finally:
            handle = self.machine.disk.open("file")
            write_fully(self.machine.disk, handle, b"by a dead process", 0)
            self.done.append("written by a dead process")

    async def work_in_a_task(self):
        try:
            self.work()
        finally:
            await asyncio.sleep(0)
            self.done.append("went on")

    def work_in_a_thread(self):
        threads = self.machine.ports(None).threads(1, "of the test")
        asyncio.get_running_loop().run_in_executor(threads, self.work).add_done_callback(self.done.append)


async def in_a_callback(doomed):
    asyncio.get_running_loop().call_soon(doomed.work, context=doomed.life.context)
    await asyncio.sleep(1)  # sleeps: virtual time


async def in_a_task(doomed):
    asyncio.get_running_loop().create_task(doomed.work_in_a_task(), context=doomed.life.context)
    await asyncio.sleep(1)  # sleeps: virtual time


async def in_a_thread(doomed):
    asyncio.get_running_loop().call_soon(doomed.work_in_a_thread, context=doomed.life.context)
    await asyncio.sleep(1)  # sleeps: virtual time


@pytest.mark.parametrize("where", [in_a_callback, in_a_task, in_a_thread])
@pytest.mark.parametrize("loses_power", [False, True])
def test_whoever_dies_in_a_write_leaves_the_old_file_or_the_new_one_and_does_nothing_more(where, loses_power):
    found = []
    for writes in range(1, WRITES_OF_A_REPLACEMENT + 1):
        with virtual_loop() as loop:
            doomed = Doomed(loop, writes=writes, loses_power=loses_power)
            loop.run_until_complete(where(doomed))
            assert [] == doomed.done
            assert [] == loop.bugs
            found.append(Context().run(read_whole_file, doomed.machine.disk, "file"))
    assert {OLD, NEW} >= set(found)
    assert found[:5] == [OLD] * 5, "not renamed"


def test_a_part_of_the_write_in_which_a_process_dies_may_be_there():
    with virtual_loop() as loop:
        machine = SimulatedMachine(1, loop, Random(0))
        life = Life(1)
        handle = machine.disk.open("file", create=True)
        machine.disk.countdown = Countdown(1, "", lambda: (life.kill(), machine.lose_process()), Random(0))

        async def die():
            loop.call_soon(machine.disk.pwrite, handle, NEW, 0, context=life.context)
            await asyncio.sleep(1)  # sleeps: virtual time

        loop.run_until_complete(die())
        part = bytes(machine.disk.file("file").live)
        assert NEW.startswith(part)
        assert 0 < len(part) < len(NEW)
