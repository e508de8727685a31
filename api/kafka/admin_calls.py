"""How an admin request of a client is carried out and told: what the admin APIs share.

Owns the time that a request may take (the client's `timeout_ms`, at most the door's own), how many of its parts are
under way at once, and the codes that clients know. Any node is asked; the controller decides (`KafkaNode.admin`).
Invariant (S15): a failure says "timed out" only where nobody knows or nothing was begun, and its message says which.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from api.kafka.context import Caller
from broker.errors import OutcomeUnknownError
from metadata.answers import AdminAnswer
from metadata.image import Topic
from metadata.requests import AdminRequest
from metadata.topic_names import check_name
from wire.errors import ErrorCode, RefusedError

AT_ONCE: Final = 16
"""Parts of one request under way: enough to share the quorum's syncs, few enough to leave room for others."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


class Failure(NamedTuple):
    """Why one part of a request did not happen, or may not have."""

    code: ErrorCode
    message: str


class AdminCall:
    """One request of one client."""

    def __init__(self, caller: Caller, *, timeout_ms: int | None = None) -> None:
        """`timeout_ms` as the client gave it; None: its API has none."""
        context = caller.door.context
        self.node = context.node
        self._loop = asyncio.get_running_loop()
        bound_s = context.settings.admin_timeout_s
        self._until_s = self._loop.time() + (bound_s if timeout_ms is None else min(timeout_ms / 1000, bound_s))

    @property
    def left_s(self) -> float:
        """What is left of its time; below 0: nothing."""
        return self._until_s - self._loop.time()

    async def ask(self, request: AdminRequest) -> AdminAnswer:
        """The controller's answer, when this node has applied it. Raises RefusedError or OutcomeUnknownError."""
        left_s = self.left_s
        if left_s <= 0:
            raise RefusedError(ErrorCode.REQUEST_TIMED_OUT, "the request's timeout was over: nothing was changed")
        return await self.node.admin(request, timeout_s=left_s)

    async def each(self, items: Iterable[Item], do: Callable[[Item], Awaitable[Result]]) -> list[Result | Failure]:
        """`do` of every item, in their order: what it returned, or why it failed."""
        parts = list(items)
        results: dict[int, Result | Failure] = {}
        waiting = iter(enumerate(parts))

        async def work() -> None:
            for index, item in waiting:
                results[index] = await attempt(do(item))

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(parts)))))
        return [results[index] for index in range(len(parts))]


async def attempt(work: Awaitable[Result]) -> Result | Failure:
    """What `work` returns, or the refusal or doubt that it raised as clients are told it."""
    try:
        return await work
    except RefusedError as refused:
        return failure_of(refused)
    except OutcomeUnknownError as unknown:
        return Failure(unknown.code, unknown.message)


def failure_of(refused: RefusedError) -> Failure:
    """Java's clients give up on BROKER_NOT_AVAILABLE; that no controller was found is told as Kafka tells it."""
    is_absent = refused.code is ErrorCode.BROKER_NOT_AVAILABLE
    return Failure(ErrorCode.REQUEST_TIMED_OUT if is_absent else refused.code, refused.message)


def repeated(keys: Iterable[Key]) -> set[Key]:
    """Those that are named more than once: each of them is refused, since nobody knows which was meant."""
    return {key for key, count in Counter(keys).items() if count > 1}


def topic_named(call: AdminCall, name: str) -> Topic:
    """RefusedError(UNKNOWN_TOPIC_OR_PARTITION | INVALID_TOPIC_EXCEPTION)."""
    topic = call.node.image.topic(name)
    if topic is None:
        check_name(name)
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name!r} does not exist")
    return topic


def slices(items: Sequence[Item], count: int) -> Iterable[Sequence[Item]]:
    """In their order, so many at a time."""
    return (items[start : start + count] for start in range(0, len(items), count))
