"""What a new controller is told of the leader before it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.active_controller import ActiveController
from kraft.status import RoleChange
from metadata.image import Image

ME = 1


class Quorum:
    """Leadership as a test tells it; every barrier holds at once."""

    def __init__(self) -> None:
        self.is_leader = False
        self.leader_id: int | None = None
        self.term = 0
        self._callbacks: list[Callable[[RoleChange], None]] = []

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        self._callbacks.append(callback)

    async def barrier(self, *, timeout_s: float) -> None:
        assert timeout_s > 0

    def elect(self, leader_id: int | None, *, silent_ms: int = 0) -> None:
        self.term, self.leader_id, self.is_leader = self.term + 1, leader_id, leader_id == ME
        change = RoleChange(self.term, leader_id, is_leader=self.is_leader, leader_silent_ms=silent_ms)
        for callback in self._callbacks:
            callback(change)


class Turns:
    """A controller that only notes what each of its turns began with."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[int, int]] = asyncio.Queue()

    def activated(self, _: Image, now_ms: int, heard_ms: dict[int, int]) -> None:
        assert now_ms >= max(heard_ms.values(), default=0)
        self.told.put_nowait(heard_ms)

    def tick(self, *_: Any) -> list[Any]:
        return []


class Clock:
    now_ms = 10_000.0

    def monotonic_ms(self) -> float:
        return self.now_ms


@pytest.fixture
async def world():
    quorum, turns, clock = Quorum(), Turns(), Clock()
    active = ActiveController(
        quorum,  # type: ignore[arg-type] # a part of it
        turns,  # type: ignore[arg-type] # a part of it
        node_id=ME,
        image=lambda: Image.empty("a-cluster"),
        clock=clock,  # type: ignore[arg-type] # a part of it
        new_id=lambda: pytest.fail("nothing is created"),
        on_bug=lambda error: pytest.fail(repr(error)),
    )
    running = asyncio.ensure_future(active.run())
    yield quorum, turns, clock
    running.cancel()


async def test_the_silence_of_a_dead_leader_counts_from_when_it_was_heard_last(world):
    quorum, turns, clock = world
    quorum.elect(2)
    quorum.elect(None, silent_ms=600)
    clock.now_ms += 250
    quorum.elect(ME, silent_ms=850)
    assert {2: 9_400} == await turns.told.get()


async def test_who_led_before_this_nodes_own_turn_is_not_silent_since_then(world):
    quorum, turns, clock = world
    quorum.elect(2)
    quorum.elect(ME, silent_ms=500)
    assert {2: 9_500} == await turns.told.get()
    clock.now_ms += 60_000
    quorum.elect(None, silent_ms=60_500)
    quorum.elect(ME, silent_ms=60_500)
    assert {} == await turns.told.get()
