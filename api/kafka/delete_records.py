"""DeleteRecords 0-2: moves the beginning of partitions forward (KIP-107); offset -1 means all that is committed.

1: nothing new. 2: flexible. Asked of each partition's leader; answered once every replica in service has followed, with
the lowest offset that any of them holds.
"""

import asyncio
from typing import Final, NamedTuple

from api.kafka.admin_calls import AdminCall, Failure, repeated, topic_named
from api.kafka.context import Caller
from api.kafka.leaders import code_by_name, led_replica
from broker.record_deletion import delete_records
from wire.errors import ErrorCode, RefusedError
from wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from wire.messages.headers import RequestHeader

UNKNOWN: Final = -1


class _Asked(NamedTuple):
    topic: str
    partition: int
    offset: int


def handle(caller: Caller, _: RequestHeader, request: DeleteRecordsRequest) -> asyncio.Future[DeleteRecordsResponse]:
    return asyncio.ensure_future(_deleted(caller, request))


async def _deleted(caller: Caller, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    call = AdminCall(caller, timeout_ms=request.timeout_ms)
    wanted = [
        _Asked(topic.name, one.partition_index, one.offset) for topic in request.topics for one in topic.partitions
    ]
    twice = repeated((one.topic, one.partition) for one in wanted)

    async def delete(asked: _Asked) -> int:
        if (asked.topic, asked.partition) in twice:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "the partition is named twice: name it once")
        replica = led_replica(caller, topic_named(call, asked.topic), asked.partition)
        room = call.node.waiting_room
        return await delete_records(
            replica, asked.offset, image=lambda: call.node.image, room=room, timeout_s=max(0.0, call.left_s)
        )

    results = iter(await call.each(wanted, delete))
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                topic.name, [_result(one.partition_index, next(results)) for one in topic.partitions]
            )
            for topic in request.topics
        ]
    )


def _result(partition: int, result: int | Failure) -> DeleteRecordsPartitionResult:
    if isinstance(result, Failure):
        return DeleteRecordsPartitionResult(partition, UNKNOWN, code_by_name(result.code))
    return DeleteRecordsPartitionResult(partition, result)
