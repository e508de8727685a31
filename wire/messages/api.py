"""The keys of Kafka's APIs, and what pairs the two messages of one."""

from dataclasses import dataclass, field
from enum import IntEnum

from wire.schema import Message


class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLUSTER = 60
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75


@dataclass(frozen=True, slots=True)
class Api:
    """One API: both of its messages have the same versions.

    `name` is Kafka's, as in `ListOffsets`; `versions` those that both messages are declared for. What is advertised is
    up to who has handlers.
    """

    key: ApiKey
    request: type[Message]
    response: type[Message]
    name: str = field(init=False)
    versions: range = field(init=False)
    flexible_from: int = field(init=False)

    def __post_init__(self) -> None:
        declared = self.request.wire_versions
        assert declared == self.response.wire_versions, self.key
        object.__setattr__(self, "name", self.request.__name__.removesuffix("Request"))
        object.__setattr__(self, "versions", range(declared.first, declared.last + 1))
        object.__setattr__(self, "flexible_from", declared.flexible_from)
