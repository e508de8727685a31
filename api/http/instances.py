"""The consumer instances of this node: those of the groups that it coordinates.

Owns their names, how many there may be, and their end: by their client, when nobody has used them for their timeout, or
when this node no longer coordinates their group. Nothing of them is replicated: another coordinator answers 404, and
the group goes on at its committed offsets. Invariant: while a request uses an instance, it does not expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.http.consumer_instance import ConsumerInstance
from api.http.errors import THROTTLED, ApiError
from api.http.group_errors import INSTANCE_EXISTS, instance_not_found
from broker.groups.membership import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.http.context import Context
    from api.http.instance_settings import InstanceSettings

INSTANCES_MAX: Final = 1_000
"""Each is a task and two heartbeats a second within the process: a thousand cost about a tenth of a core."""
SWEEP_S: Final = 0.5


class Instances:
    """By group and name."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_name: dict[tuple[str, str], ConsumerInstance] = {}
        self._in_use: dict[ConsumerInstance, int] = {}
        self._sweeping: asyncio.Task[None] | None = None

    def make(self, group_id: str, settings: InstanceSettings, client_host: str) -> ConsumerInstance:
        instance_id = settings.name or f"rest-consumer-{uuid.uuid4()}"
        there = self._by_name.get((group_id, instance_id))
        if there is not None and not there.is_lost:
            message = f"group {group_id!r} has a consumer instance {instance_id!r} already: use it, or another name"
            raise ApiError(409, INSTANCE_EXISTS, message)
        if len(self._by_name) >= INSTANCES_MAX:
            message = f"this node holds {INSTANCES_MAX} consumer instances, its bound: delete those that are done"
            raise ApiError(429, THROTTLED, message)
        loop = asyncio.get_running_loop()
        identity = Identity(group_id, instance_id, client_host)
        made = ConsumerInstance(self._context, identity, instance_id, settings, loop.time())
        self._by_name[group_id, instance_id] = made
        if self._sweeping is None:
            self._sweeping = loop.create_task(self._sweep(), name="consumer instances")
        return made

    @contextlib.contextmanager
    def using(self, group_id: str, instance_id: str) -> Iterator[ConsumerInstance]:
        """404 where there is none (any more)."""
        found = self._by_name.get((group_id, instance_id))
        if found is None or found.is_lost:
            raise instance_not_found(group_id, instance_id)
        self._in_use[found] = self._in_use.get(found, 0) + 1
        try:
            yield found
        finally:
            found.used_s = asyncio.get_running_loop().time()
            self._in_use[found] -= 1
            if not self._in_use[found]:
                del self._in_use[found]

    async def delete(self, instance: ConsumerInstance) -> None:
        self._by_name.pop((instance.group_id, instance.instance_id), None)
        await instance.close()

    async def close(self) -> None:
        """The node stops: nothing more is given out."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None
        instances, self._by_name = list(self._by_name.values()), {}
        for instance in instances:
            await instance.abandon()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = asyncio.get_running_loop().time()
            for name, instance in list(self._by_name.items()):
                idle_ms = 0.0 if instance in self._in_use else (now_s - instance.used_s) * 1000
                if instance.is_lost or idle_ms > instance.settings.instance_timeout_ms:
                    del self._by_name[name]
                    await instance.abandon()


INSTANCES: Final = web.AppKey("instances", Instances)
