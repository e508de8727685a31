"""Work that only a partition's leader can do: here if this node leads, else there.

Owns the way to the leader: which broker it is in the committed image, the wait while one is being elected or made
known, the translation of what it refuses. A request that another node forwarded is done here or not at all: no loops.
Invariant: only a `StaleRouteError`, after which nothing was done, leads to another try.
"""

from __future__ import annotations

import asyncio
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
    from collections.abc import Awaitable, Callable

    from api.http.context import Context
    from broker.replication.replica import Replica
    from metadata.image import Broker, Topic

T = TypeVar("T")

WAIT_FIRST_S: Final = 0.01
WAIT_MAX_S: Final = 0.2


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
    outcome: Outcome | None = None,
) -> T:
    """`here` with the local replica or `there` with the broker that leads; a refused write is told `outcome`."""
    context = target.context
    loop = asyncio.get_running_loop()
    give_up = loop.time() + min(wait_s, context.settings.leader_wait_s)
    pause = WAIT_FIRST_S
    while True:
        try:
            return await _try(target, here, there, outcome)
        except StaleRouteError:
            if not target.may_forward or context.is_draining or loop.time() + pause > give_up:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, WAIT_MAX_S)


async def _try(
    target: Target,
    here: Callable[[Replica, Broker], Awaitable[T]],
    there: Callable[[Broker], Awaitable[T]],
    outcome: Outcome | None,
) -> T:
    context, named, partition, may_forward = target
    node = context.node
    image = node.image
    topic = image.topics.get(named.topic_id)
    if topic is None:
        raise _told(topic_not_found(named.name), outcome)
    leader = image.leader_of(topic, partition)
    if leader is None:
        raise stale(f"partition {partition} of topic {topic.name!r} has no leader at the moment: try again", outcome)
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
    raise _told(error, outcome) from None


def stale(message: str, outcome: Outcome | None = None) -> StaleRouteError:
    return StaleRouteError(503, RETRIABLE, message, outcome=outcome)


def _told(error: ApiError, outcome: Outcome | None) -> ApiError:
    return error if outcome is None else error.with_outcome(outcome)
