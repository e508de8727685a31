"""ListOffsets 1-11: the offset of a time, or of either end of a partition.

1: one offset a partition. 2: isolation (nothing is transactional here: the same answer). 4: leader epochs. 5:
OFFSET_NOT_AVAILABLE (KIP-207). 6: flexible. 7: the record of the greatest timestamp (KIP-734). 8, 9, 11: the ends of
tiered storage (KIP-405, KIP-1005, KIP-1023), answered as by Kafka without tiering: all is local, nothing is tiered. 10:
a timeout, which nothing here waits for.
Consumers see what lies below the high watermark; a follower (replica_id from 0 on) and a debugger (-2) the log's end.
"""

from typing import Final, NamedTuple

from api.kafka.context import Caller
from api.kafka.leaders import NO_EPOCH, code_by_name, led_replica, topic_named
from broker.replication.replica import Replica
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.list_offsets import (
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_PENDING_UPLOAD_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

CONSUMER: Final = -1
NOT_AVAILABLE_SINCE: Final = 5
KNOWN_SINCE: Final = {
    LATEST_TIMESTAMP: 1,
    EARLIEST_TIMESTAMP: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL_TIMESTAMP: 8,
    LATEST_TIERED_TIMESTAMP: 9,
    EARLIEST_PENDING_UPLOAD_TIMESTAMP: 11,
}


class _Found(NamedTuple):
    offset: int
    timestamp_ms: int
    leader_epoch: int


NOTHING: Final = _Found(-1, -1, NO_EPOCH)


def handle(caller: Caller, header: RequestHeader, request: ListOffsetsRequest) -> ListOffsetsResponse:
    asking = _Asking(caller, header.api_version, request.replica_id)
    seen = set()
    topics = []
    for topic in request.topics:
        answers = []
        for asked in topic.partitions:
            key = (topic.name, asked.partition_index)
            answers.append(_refusal(asked, ErrorCode.INVALID_REQUEST) if key in seen else asking(topic.name, asked))
            seen.add(key)
        topics.append(ListOffsetsTopicResponse(topic.name, answers))
    return ListOffsetsResponse(topics=topics)


def _refusal(asked: ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(asked.partition_index, code)


class _Asking:
    """One request's questions."""

    def __init__(self, caller: Caller, version: int, replica_id: int) -> None:
        self._caller = caller
        self._version = version
        self._is_consumer = replica_id == CONSUMER
        self._image = caller.door.context.node.image

    def __call__(self, name: str, asked: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
        try:
            self._check_known(asked.timestamp)
            topic = topic_named(self._image, name)
            epoch = asked.current_leader_epoch
            replica = led_replica(self._caller, topic, asked.partition_index, current_leader_epoch=epoch)
            found = self._find(replica, asked.timestamp)
        except RefusedError as refused:
            return _refusal(asked, code_by_name(refused.code))
        offset, timestamp_ms, leader_epoch = found
        return ListOffsetsPartitionResponse(asked.partition_index, 0, timestamp_ms, offset, leader_epoch)

    def _check_known(self, timestamp: int) -> None:
        if timestamp < 0 and self._version < KNOWN_SINCE.get(timestamp, self._version + 1):
            raise RefusedError(
                ErrorCode.UNSUPPORTED_VERSION, f"timestamp {timestamp} means nothing in version {self._version}"
            )

    def _find(self, replica: Replica, timestamp: int) -> _Found:
        log = replica.log
        match timestamp:
            case -1:
                return self._latest(replica)
            case -2 | -4:
                epoch = log.leader_epochs.epoch_for(log.log_start_offset)
                return _Found(log.log_start_offset, -1, NO_EPOCH if epoch is None else epoch)
            case -5 | -6:
                return NOTHING
            case -3:
                timestamp = max((segment.max_timestamp_ms for segment in log.segments), default=-1)
                if timestamp < 0:
                    return NOTHING
        found = replica.offset_for_timestamp(timestamp)
        if found is None and self._is_consumer:
            self._latest(replica)  # KIP-207: "none" is no answer either while nobody knows how far it may look
        return NOTHING if found is None else _Found(found.offset, found.timestamp_ms, found.leader_epoch)

    def _latest(self, replica: Replica) -> _Found:
        epoch = replica.leader_epoch
        if not self._is_consumer:
            return _Found(replica.log.log_end_offset, -1, epoch)
        if not replica.knows_high_watermark:
            code = ErrorCode.OFFSET_NOT_AVAILABLE
            raise RefusedError(
                code if self._version >= NOT_AVAILABLE_SINCE else ErrorCode.LEADER_NOT_AVAILABLE,
                "a new leader does not know yet how far its predecessor had come: try again",
            )
        return _Found(replica.high_watermark, -1, epoch)
