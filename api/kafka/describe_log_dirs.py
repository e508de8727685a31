"""DescribeLogDirs 1-5: this broker's log directories, what lies in them and how much room they have (KIP-113).

2: flexible. 3: an error of the whole. 4: the sizes of the disks (KIP-827). 5: whether a directory takes no more new
replicas (none is told so here). A replica is never behind itself: nothing moves between directories.
"""

from api.kafka.context import Caller
from broker.log_directories import DirectoryState
from logstore.partition_log import PartitionLog  # noqa: TC001 - as everywhere in this room
from wire.errors import ErrorCode
from wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from wire.messages.headers import RequestHeader


def handle(caller: Caller, _: RequestHeader, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
    asked = None
    if request.topics is not None:
        asked = {(topic.topic, partition) for topic in request.topics for partition in topic.partitions}
    states = caller.door.context.node.directory_states()
    return DescribeLogDirsResponse(results=[_directory(state, asked) for state in states])


def _directory(state: DirectoryState, asked: set[tuple[str, int]] | None) -> DescribeLogDirsResult:
    if state.is_offline:
        return DescribeLogDirsResult(ErrorCode.KAFKA_STORAGE_ERROR, state.path)
    by_topic: dict[str, list[PartitionLog]] = {}
    for log in state.logs:
        if asked is None or (log.topic_name, log.partition) in asked:
            by_topic.setdefault(log.topic_name, []).append(log)
    topics = [
        DescribeLogDirsTopic(name, [DescribeLogDirsPartition(log.partition, log.size_bytes) for log in logs])
        for name, logs in by_topic.items()
    ]
    return DescribeLogDirsResult(0, state.path, topics, state.total_bytes, state.usable_bytes)
