"""DescribeLogDirs: a broker's log directories, the replicas in them and their sizes (KIP-113)."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Int64, Message, Versions, empty, since

VERSIONS = Versions(1, 5, flexible_from=2)


class DescribableLogDirTopic(Message, frozen=True):
    topic: str = ""
    partitions: list[Int32] = empty()


class DescribeLogDirsRequest(Message, frozen=True):
    """Null `topics` ask for all."""

    wire_versions: ClassVar = VERSIONS

    topics: list[DescribableLogDirTopic] | None = empty()


class DescribeLogDirsPartition(Message, frozen=True):
    partition_index: Int32 = 0
    partition_size: Int64 = 0
    offset_lag: Int64 = 0
    is_future_key: bool = False


class DescribeLogDirsTopic(Message, frozen=True):
    name: str = ""
    partitions: list[DescribeLogDirsPartition] = empty()


class DescribeLogDirsResult(Message, frozen=True):
    error_code: Int16 = 0
    log_dir: str = ""
    topics: list[DescribeLogDirsTopic] = empty()
    total_bytes: Annotated[Int64, since(4)] = -1
    usable_bytes: Annotated[Int64, since(4)] = -1
    is_cordoned: Annotated[bool, since(5)] = False


class DescribeLogDirsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(3)] = 0
    results: list[DescribeLogDirsResult] = empty()


DESCRIBE_LOG_DIRS = Api(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest, DescribeLogDirsResponse)
