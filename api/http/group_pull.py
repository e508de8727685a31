"""Records of many partitions of several topics, in one pull that waits until any has some.

Owns the taking of turns, so that a busy partition does not starve the others of `max_bytes`, and the end of the wait:
the first partition that has something, the deadline, or `until`. What cannot be read now is told in its place.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from api.http.errors import ApiError, topic_not_found
from api.http.fetching import Batches, FetchFrom, fetch_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.http.context import Context
    from broker.groups.offsets import TopicPartition

AT_ONCE: Final = 8
"""Partitions read at the same time: with a batch each, that is as much memory as a pull may take beyond its bound."""

Pulled = dict["TopicPartition", "Batches | ApiError"]
_turns: Final = itertools.count()


class Wish(NamedTuple):
    max_bytes: int
    min_bytes: int
    timeout_ms: int


async def pull(context: Context, positions: Mapping[TopicPartition, int], wish: Wish, until: asyncio.Event) -> Pulled:
    """What there is from these offsets on, by partition, in the order in which it was read."""
    if not positions:
        return {}
    found = await _at_once(context, positions, wish.max_bytes)
    if wish.timeout_ms <= 0 or any(isinstance(one, ApiError) or one.data for one in found.values()):
        return found
    each = wish._replace(max_bytes=max(1, wish.max_bytes // len(positions)))
    fetches = {asyncio.ensure_future(_fetch(context, one, positions[one], each)): one for one in positions}
    over = asyncio.ensure_future(until.wait())
    try:
        await asyncio.wait({over, *fetches}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (over, *fetches):
            task.cancel()
    return found | {one: task.result() for task, one in fetches.items() if task.done() and not task.cancelled()}


async def _at_once(context: Context, positions: Mapping[TopicPartition, int], left_bytes: int) -> Pulled:
    found: Pulled = {}
    order = list(positions)
    turn = next(_turns) % len(order)
    order = order[turn:] + order[:turn]
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        if left_bytes <= 0:
            break
        wish = Wish(max(left_bytes // len(some), 1), 1, 0)
        batches = await asyncio.gather(*(_fetch(context, one, positions[one], wish) for one in some))
        found.update(zip(some, batches, strict=True))
        left_bytes -= sum(len(one.data) for one in batches if isinstance(one, Batches))
    return found


async def _fetch(context: Context, one: TopicPartition, offset: int, wish: Wish) -> Batches | ApiError:
    topic = context.node.image.topic(one.topic)
    if topic is None:
        return topic_not_found(one.topic)
    wanted = FetchFrom(offset, None, wish.max_bytes, wish.min_bytes, wish.timeout_ms)
    try:
        return await fetch_batches(context, topic, one.partition, wanted, may_forward=True)
    except ApiError as error:
        return error
