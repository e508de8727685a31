"""Work that only a partition's leader can do: here if this node leads, else there.

Owns the way to the leader: which broker it is in the committed image, the wait while one is being elected or made
known, the translation of what it refuses. A request that another node forwarded is done here or not at all: no loops.

A write waits out a failover: as long as its own timeout allows where another replica may take over, else
`leader_wait_s` (nobody knows when the only replica comes back).

Invariants: only a `StaleRouteError`, after which nothing was done, leads to another try, for an idempotent write a
doubt too (S13); once a try was in doubt, so is the whole, whatever a later one is told (S15).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from api.http.errors import (
    RETRIABLE,
    ApiError,
    Outcome,
    StaleRouteError,
    from_refusal,
    from_unknown_outcome,
    topic_not_found,
)
from api.http.routing import leader_headers
from broker.errors import OutcomeUnknownError
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from api.http.context import Context
    from broker.replication.replica import Replica
    from metadata.image import Broker, Image, Topic

T = TypeVar("T")
Leader = tuple[int, int] | None
"""Broker id and epoch: a broker that restarted is another one."""

WAIT_FIRST_S: Final = 0.01
WAIT_MAX_S: Final = 0.2
LOOK_S: Final = 0.25
"""How often it is looked whether a broker that has not answered yet still leads."""


class Write(enum.Enum):
    """What may be done again after doubt."""

    PLAIN = enum.auto()
    """Nothing: twice written is a duplicate."""
    IDEMPOTENT = enum.auto()
    """All: the log knows it again."""


class Target(NamedTuple):
    """A partition that a request is about."""

    context: Context
    topic: Topic
    partition: int
    may_forward: bool
    """False for a request that another node forwarded."""


async def at_leader(
    target: Target,
    *,
    here: Callable[[Replica, Broker], Awaitable[T]],
    there: Callable[[Broker], Awaitable[T]],
    wait_s: float,
    write: Write | None = None,
) -> T:
    """`here` with the local replica or `there` with the broker that leads; what a refused `write` is told has an
    outcome.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    pause = WAIT_FIRST_S
    in_doubt = False
    while True:
        asked = _leader_now(target)
        try:
            return await _try(target, here, there, write)
        except ApiError as error:
            in_doubt = in_doubt or error.outcome is Outcome.UNKNOWN
            if in_doubt and error.outcome is not Outcome.WRITTEN:
                error.outcome = Outcome.UNKNOWN
            may_retry = target.may_forward and (isinstance(error, StaleRouteError) or _is_repeatable(error, write))
            if not may_retry or loop.time() + pause - began > _patience_s(target, wait_s, write, asked):
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, WAIT_MAX_S)


def _is_repeatable(error: ApiError, write: Write | None) -> bool:
    return write is Write.IDEMPOTENT and error.outcome is Outcome.UNKNOWN and error.status in (503, 507)


def _patience_s(target: Target, wait_s: float, write: Write | None, asked: Leader) -> float:
    """How long to go on trying, as things are now; `asked` is who led when it was tried last."""
    context, topic, partition, _ = target
    now = _leader_now(target)
    if write is not None and now is not None and now != asked:
        return wait_s
    if write is not None and not context.is_draining and _others_may_lead(context.node.image, topic, partition):
        return wait_s
    return min(wait_s, context.settings.leader_wait_s)


def _leader_now(target: Target) -> Leader:
    topic = target.context.node.image.topics.get(target.topic.topic_id)
    leader = None if topic is None else target.context.node.image.leader_of(topic, target.partition)
    return None if leader is None else (leader.broker_id, leader.epoch)


def _others_may_lead(image: Image, topic: Topic, partition: int) -> bool:
    """Whether there is a broker in service that may be elected, besides the one that leads now."""
    state = image.partition(topic.topic_id, partition)
    if state is None:
        return False
    leader = image.leader_of(image.topics[topic.topic_id], partition)
    candidates = {*state.in_sync_replicas, *state.eligible_leader_replicas}
    if leader is not None:
        candidates.discard(leader.broker_id)
    return any((broker := image.brokers.get(candidate)) and broker.in_service for candidate in candidates)


@contextlib.asynccontextmanager
async def while_it_leads(target: Target, leader: Broker, *, longer_s: float) -> AsyncIterator[None]:
    """Wait for a leader as long as it leads, and `longer_s`: then TimeoutError, what it did is unknown (S15).

    A broker that was paused or cut off while it held a request says nothing until the request's own timeout.
    """
    loop = asyncio.get_running_loop()
    leads = (leader.broker_id, leader.epoch)
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as until:

        def look() -> None:
            nonlocal timer
            if _leader_now(target) == leads:
                timer = loop.call_later(LOOK_S, look)
            else:
                until.reschedule(loop.time() + longer_s)

        timer = loop.call_later(LOOK_S, look)
        try:
            yield
        finally:
            timer.cancel()


async def _try(
    target: Target,
    here: Callable[[Replica, Broker], Awaitable[T]],
    there: Callable[[Broker], Awaitable[T]],
    write: Write | None,
) -> T:
    context, named, partition, may_forward = target
    node = context.node
    image = node.image
    topic = image.topics.get(named.topic_id)
    if topic is None:
        raise _told(topic_not_found(named.name), write)
    leader = image.leader_of(topic, partition)
    if leader is None:
        leaderless = stale(f"partition {partition} of topic {topic.name!r} has no leader at the moment: try again")
        raise _told(leaderless, write)
    try:
        if leader.broker_id == node.broker_id:
            return await here(node.replica(topic.topic_id, partition), leader)
        if not may_forward:
            raise stale(f"broker {leader.broker_id} leads partition {partition} of topic {topic.name!r}, not this one")
        return await there(leader)
    except RefusedError as refused:
        # This node's folders may be a moment behind its image.
        is_stale = refused.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        error = stale(refused.message) if is_stale else from_refusal(refused)
    except OutcomeUnknownError as unknown:
        error = from_unknown_outcome(unknown)
    except ApiError as told:
        error = told
    error.headers.update(leader_headers(context, leader))
    raise _told(error, write) from None


def stale(message: str) -> StaleRouteError:
    return StaleRouteError(503, RETRIABLE, message)


def _told(error: ApiError, write: Write | None) -> ApiError:
    return error if write is None else error.with_outcome(Outcome.NOT_WRITTEN)
