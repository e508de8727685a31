"""DeleteRecords: moves the beginning of partitions forward; offset -1 means the high watermark (KIP-107)."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Int64, Message, Versions, empty

VERSIONS = Versions(0, 2, flexible_from=2)


class DeleteRecordsPartition(Message, frozen=True):
    partition_index: Int32 = 0
    offset: Int64 = 0


class DeleteRecordsTopic(Message, frozen=True):
    name: str = ""
    partitions: list[DeleteRecordsPartition] = empty()


class DeleteRecordsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    topics: list[DeleteRecordsTopic] = empty()
    timeout_ms: Int32 = 0


class DeleteRecordsPartitionResult(Message, frozen=True):
    partition_index: Int32 = 0
    low_watermark: Int64 = 0
    error_code: Int16 = 0


class DeleteRecordsTopicResult(Message, frozen=True):
    name: str = ""
    partitions: list[DeleteRecordsPartitionResult] = empty()


class DeleteRecordsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    topics: list[DeleteRecordsTopicResult] = empty()


DELETE_RECORDS = Api(ApiKey.DELETE_RECORDS, DeleteRecordsRequest, DeleteRecordsResponse)
