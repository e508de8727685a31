"""Deletion of a partition's oldest records by an operator's wish (DeleteRecords, KIP-107), for every door.

Owns the way of it: the leader's log start moves and is checkpointed, followers take it over from the answers to their
fetches, and it is done once every replica in service holds nothing below. Refuses what is not committed, topics of the
cluster itself, and logs that keep the last value of each key for ever (Kafka's codes).
Invariant (S12): what was deleted never comes back while the replicas in service stay; one that was away learns of it
with its first fetch.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from broker.errors import OutcomeUnknownError
from broker.replication.replica import Replica
from broker.waiting_room import WaitingRoom
from logstore.log_answers import OffsetOutOfRangeError
from metadata.image import Image
from metadata.topic_names import check_not_internal
from wire.errors import ErrorCode, RefusedError

UP_TO_HIGH_WATERMARK: Final = -1
LOOK_S: Final = 0.02
"""Followers tell within replica.fetch.wait.max.ms; this is an operator's rare wish, so nothing is kept to be told."""


async def delete_records(
    replica: Replica, before_offset: int, *, image: Callable[[], Image], room: WaitingRoom, timeout_s: float
) -> int:
    """Delete everything below `before_offset` (-1: all that is committed) in all replicas; the low watermark reached.

    Raises RefusedError: OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE, POLICY_VIOLATION,
    INVALID_TOPIC_EXCEPTION, KAFKA_STORAGE_ERROR; OutcomeUnknownError where the followers did not follow in time.
    """
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    log = replica.log
    start_offset = _checked(replica, before_offset)
    try:
        log.delete_records_before(start_offset)
    except OSError as error:
        raise OutcomeUnknownError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"{log.name}: the disk failed while deleting ({error}): look again"
        ) from error
    room.advanced(replica.high_watermark_key, replica.high_watermark)  # readers and followers hear of the new start
    leader_epoch = replica.leader_epoch
    while (reached := low_watermark(replica, image())) < start_offset:
        if replica.leader_epoch != leader_epoch:
            raise OutcomeUnknownError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{log.name} has another leader now, which may begin lower: ask it"
            )
        if asyncio.get_running_loop().time() > deadline_s:
            raise OutcomeUnknownError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"{log.name} begins at {log.log_start_offset} now, a replica in service has not followed yet: look",
            )
        await asyncio.sleep(LOOK_S)
    return reached


def low_watermark(replica: Replica, image: Image) -> int:
    """Below it no replica in service holds anything; -1 while one of them was not heard in this leader epoch."""
    starts = [replica.log.log_start_offset]
    for follower in replica.follower_states():
        broker = image.brokers.get(follower.broker_id)
        if broker is not None and not broker.fenced:
            starts.append(follower.log_start_offset)
    return min(starts)


def _checked(replica: Replica, before_offset: int) -> int:
    """The offset that is meant; RefusedError where it may not be."""
    log = replica.log
    check_not_internal(log.topic_name, "delete records of")
    if not replica.is_leader:
        raise RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this broker does not lead {log.name}: ask its leader")
    if not log.config.deletes_old_segments:
        raise RefusedError(
            ErrorCode.POLICY_VIOLATION,
            f"{log.name} keeps the last value of every key: add delete to its cleanup.policy, or write tombstones",
        )
    if before_offset == UP_TO_HIGH_WATERMARK:
        if not replica.knows_high_watermark:
            raise RefusedError(
                ErrorCode.OFFSET_NOT_AVAILABLE, f"the new leader of {log.name} does not know yet what is committed"
            )
        return replica.high_watermark
    if not 0 <= before_offset <= replica.high_watermark:
        raise OffsetOutOfRangeError(before_offset, earliest=log.log_start_offset, latest=replica.high_watermark)
    return before_offset
