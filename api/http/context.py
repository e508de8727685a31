"""What every handler of one node shares: the node, the bounds, the accounts, the way to other nodes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

from api.http.forwarding import Forwarder
from api.http.in_flight import InFlightBytes
from api.http.partition_choice import PartitionChoice

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from api.http.settings import HttpSettings
    from broker.node import Node
    from metadata.answers import AdminAnswer
    from metadata.requests import AdminRequest

T = TypeVar("T")


class Context:
    """One node's HTTP door. Invariant: while it drains, nobody waits in `poll`."""

    def __init__(self, node: Node, settings: HttpSettings) -> None:
        self.node = node
        self.settings = settings
        self.in_flight = InFlightBytes(settings.in_flight_bytes_max)
        self.partition_choice = PartitionChoice()
        self.forwarder = Forwarder(settings, broker_id=node.broker_id, cluster_id=node.cluster_id)
        self.is_draining = False
        self.listeners = 0
        """How many serve it; the last one to stop closes it."""
        self._polls: set[asyncio.Task[Any]] = set()

    async def poll(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """Wait for `waiting`; None where the node began to drain meanwhile: long polls are answered, not cut off."""
        if self.is_draining:
            waiting.close()
            return None
        task = asyncio.ensure_future(waiting)
        self._polls.add(task)
        try:
            await asyncio.wait((task,))
            return None if task.cancelled() else task.result()
        finally:
            self._polls.discard(task)
            task.cancel()

    def drain(self) -> None:
        """Answer every long poll now; later ones do not wait."""
        self.is_draining = True
        for task in self._polls:
            task.cancel()

    async def admin(self, request: AdminRequest) -> AdminAnswer:
        """Ask the active controller. Raises RefusedError or OutcomeUnknownError."""
        return await self.node.admin(request, timeout_s=self.settings.admin_timeout_s)

    async def close(self) -> None:
        self.drain()
        await self.forwarder.close()


CONTEXT: Final = web.AppKey("context", Context)


def context_of(request: web.Request) -> Context:
    return request.app[CONTEXT]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
