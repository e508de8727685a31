"""Coroutines wait for offsets; one timer on the loop ends those whose time has come."""

import asyncio

import pytest

from broker.waiting_room import WaitingRoom


async def test_progress_wakes_the_waiting_coroutine() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiting = asyncio.create_task(room.reached("pay-0", 5, timeout_ms=10_000))
    await asyncio.sleep(0)
    room.advanced("pay-0", 5)
    assert await waiting
    room.close()


async def test_a_timeout_is_false_and_a_shorter_one_is_not_delayed_by_a_longer() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    long = asyncio.create_task(room.reached("pay-0", 5, timeout_ms=60_000))
    await asyncio.sleep(0)
    assert not await room.reached("pay-0", 5, timeout_ms=5)
    assert not await room.reached("pay-0", 5, timeout_ms=0)
    assert not long.done()
    room.advanced("pay-0", 9)
    assert await long
    room.close()


async def test_a_failure_is_raised_where_one_waits() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiting = asyncio.create_task(room.reached("pay-0", 5, timeout_ms=10_000))
    await asyncio.sleep(0)
    room.failed("pay-0", RuntimeError("leadership lost"))
    with pytest.raises(RuntimeError, match="leadership lost"):
        await waiting
    room.close()
