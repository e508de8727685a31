"""Record batches out of a partition, wherever its leader is.

Owns the two ways of fetching, the long poll that ends when the node drains, and the time by which a fetch is answered
whatever its leader does: the long poll's own and `fetch_timeout_s`, over all tries (L1). What comes back are batches
as they lie in the log; making records of them is `fetched_records.py`'s. S12: only what lies below the high watermark
is ever returned; the replica sees to that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from api.http.errors import RETRIABLE, ApiError
from api.http.leading import Target, at_leader
from api.http.media import RECORD_BATCH
from api.http.routing import leader_headers
from logstore.log_answers import OffsetOutOfRangeError
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from api.http.context import Context
    from broker.replication.replica import Replica
    from metadata.image import Broker, Topic

ATTEMPT_S_MIN: Final = 0.25
"""What even the last try gets."""
EARLIEST: Final = "earliest"
LATEST: Final = "latest"

NEXT_OFFSET: Final = "Stream-Next-Offset"
UP_TO_DATE: Final = "Stream-Up-To-Date"
START_OFFSET: Final = "Stream-Start-Offset"
HIGH_WATERMARK: Final = "High-Watermark"
LOG_START_OFFSET: Final = "Log-Start-Offset"
LOG_END_OFFSET: Final = "Log-End-Offset"
_NUMBERS: Final = (START_OFFSET, NEXT_OFFSET, HIGH_WATERMARK, LOG_START_OFFSET, LOG_END_OFFSET)


class FetchFrom(NamedTuple):
    """Where to read, exactly one of the two given, and how much to wait and take."""

    offset: int | str | None
    """An offset, `earliest` or `latest`."""
    timestamp_ms: int | None
    max_bytes: int
    """0: nothing is read, only where the log stands is told."""
    min_bytes: int
    timeout_ms: int


class Batches(NamedTuple):
    """Whole batches; the first may begin below `start_offset`, where the caller asked to begin."""

    data: bytes | memoryview
    start_offset: int
    next_offset: int
    high_watermark: int
    log_start_offset: int
    log_end_offset: int
    leader: Broker

    def headers(self, context: Context) -> dict[str, str]:
        return {
            **leader_headers(context, self.leader),
            NEXT_OFFSET: str(self.next_offset),
            UP_TO_DATE: "true" if self.next_offset >= self.high_watermark else "false",
            START_OFFSET: str(self.start_offset),
            HIGH_WATERMARK: str(self.high_watermark),
            LOG_START_OFFSET: str(self.log_start_offset),
            LOG_END_OFFSET: str(self.log_end_offset),
        }


async def fetch_batches(
    context: Context,
    topic: Topic,
    partition: int,
    wanted: FetchFrom,
    *,
    may_forward: bool,
    answer_by_s: float | None = None,
) -> Batches:
    """Read at the leader; `answer_by_s`, on the loop's clock, is that of the wish itself where it is not given."""
    now_s = asyncio.get_running_loop().time
    late_s = context.settings.fetch_timeout_s
    answer_by_s = now_s() + wanted.timeout_ms / 1000 + late_s if answer_by_s is None else answer_by_s

    async def here(replica: Replica, leader: Broker) -> Batches:
        return await _fetch_here(context, replica, in_time(), leader)

    async def there(leader: Broker) -> Batches:
        left_s = max(answer_by_s - now_s(), ATTEMPT_S_MIN)
        return await _fetch_there(target, leader, in_time(), left_s)

    def in_time() -> FetchFrom:
        left_ms = max(int((answer_by_s - late_s - now_s()) * 1000) + 1, 0)
        return wanted._replace(timeout_ms=min(wanted.timeout_ms, left_ms))

    target = Target(context, topic, partition, may_forward)
    return await at_leader(target, here=here, there=there, wait_s=answer_by_s - now_s())


def latest_offset(replica: Replica) -> int:
    """The next offset that will be readable; OFFSET_NOT_AVAILABLE for a moment after an election (KIP-207).

    The high watermark of a new leader may be below what its predecessor showed: told as the latest offset it would lead
    a reader back.
    """
    if replica.knows_high_watermark:
        return replica.latest_offset
    raise RefusedError(
        ErrorCode.OFFSET_NOT_AVAILABLE,
        f"the new leader of {replica.topic}-{replica.partition} does not know the latest offset yet: try again",
    )


def start_of(replica: Replica, wanted: FetchFrom) -> int:
    """The offset that a wish comes to."""
    if wanted.timestamp_ms is not None:
        found = replica.offset_for_timestamp(wanted.timestamp_ms)
        return latest_offset(replica) if found is None else found.offset
    if wanted.offset == EARLIEST:
        return replica.earliest_offset
    if wanted.offset == LATEST:
        return latest_offset(replica)
    assert isinstance(wanted.offset, int)
    return wanted.offset


async def _fetch_here(context: Context, replica: Replica, wanted: FetchFrom, leader: Broker) -> Batches:
    start = start_of(replica, wanted)
    max_bytes, min_bytes = wanted.max_bytes, wanted.min_bytes
    if max_bytes == 0:
        return _standing(replica, start, leader)
    fetched = await replica.fetch(start, max_bytes=max_bytes, min_bytes=min_bytes)
    if wanted.timeout_ms > 0 and len(fetched.slice.data) < wanted.min_bytes:
        waited = await context.poll(
            replica.fetch(start, max_bytes=max_bytes, min_bytes=min_bytes, timeout_ms=wanted.timeout_ms)
        )
        fetched = fetched if waited is None else waited
    return Batches(
        fetched.slice.data,
        start,
        max(start, fetched.slice.next_offset),
        fetched.high_watermark,
        fetched.log_start_offset,
        fetched.log_end_offset,
        leader,
    )


def _standing(replica: Replica, start: int, leader: Broker) -> Batches:
    earliest, high_watermark, end = replica.earliest_offset, replica.high_watermark, replica.log.log_end_offset
    if not earliest <= start <= end:
        raise OffsetOutOfRangeError(start, earliest=earliest, latest=high_watermark)
    return Batches(b"", start, start, high_watermark, earliest, end, leader)


async def _fetch_there(target: Target, leader: Broker, wanted: FetchFrom, timeout_s: float) -> Batches:
    context, topic, partition, _ = target
    query = {
        "max_bytes": str(wanted.max_bytes),
        "min_bytes": str(wanted.min_bytes),
        "timeout": str(wanted.timeout_ms),
    }
    if wanted.timestamp_ms is not None:
        query["timestamp"] = str(wanted.timestamp_ms)
    else:
        query["offset"] = str(wanted.offset)
    asked = context.forwarder.get(
        leader,
        f"/topics/{topic.name}/partitions/{partition}/records",
        query=query,
        topic_id=topic.topic_id,
        accept=RECORD_BATCH,
        timeout_s=timeout_s,
    )
    answer = await asked
    try:
        start, following, high_watermark, earliest, end = [int(answer.headers[name]) for name in _NUMBERS]
    except (KeyError, ValueError):
        raise ApiError(503, RETRIABLE, f"the fetch answer of broker {leader.broker_id} cannot be read") from None
    return Batches(answer.body, start, following, high_watermark, earliest, end, leader)
