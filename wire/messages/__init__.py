"""Kafka's messages, one file an API: what is on the wire in which version, and nothing about what it does.

`API` has every API that is declared; a listener advertises those that it has handlers for. The facts are those of
Kafka 4.3's protocol guide; tests/wire hold them against two other implementations, byte by byte.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wire.messages.alter_configs import ALTER_CONFIGS
from wire.messages.alter_partition_reassignments import ALTER_PARTITION_REASSIGNMENTS
from wire.messages.api import Api, ApiKey
from wire.messages.api_versions import API_VERSIONS
from wire.messages.create_partitions import CREATE_PARTITIONS
from wire.messages.create_topics import CREATE_TOPICS
from wire.messages.delete_groups import DELETE_GROUPS
from wire.messages.delete_records import DELETE_RECORDS
from wire.messages.delete_topics import DELETE_TOPICS
from wire.messages.describe_cluster import DESCRIBE_CLUSTER
from wire.messages.describe_configs import DESCRIBE_CONFIGS
from wire.messages.describe_groups import DESCRIBE_GROUPS
from wire.messages.describe_log_dirs import DESCRIBE_LOG_DIRS
from wire.messages.describe_topic_partitions import DESCRIBE_TOPIC_PARTITIONS
from wire.messages.elect_leaders import ELECT_LEADERS
from wire.messages.fetch import FETCH
from wire.messages.find_coordinator import FIND_COORDINATOR
from wire.messages.heartbeat import HEARTBEAT
from wire.messages.incremental_alter_configs import INCREMENTAL_ALTER_CONFIGS
from wire.messages.init_producer_id import INIT_PRODUCER_ID
from wire.messages.join_group import JOIN_GROUP
from wire.messages.leave_group import LEAVE_GROUP
from wire.messages.list_config_resources import LIST_CONFIG_RESOURCES
from wire.messages.list_groups import LIST_GROUPS
from wire.messages.list_offsets import LIST_OFFSETS
from wire.messages.list_partition_reassignments import LIST_PARTITION_REASSIGNMENTS
from wire.messages.metadata import METADATA
from wire.messages.offset_commit import OFFSET_COMMIT
from wire.messages.offset_delete import OFFSET_DELETE
from wire.messages.offset_fetch import OFFSET_FETCH
from wire.messages.offset_for_leader_epoch import OFFSET_FOR_LEADER_EPOCH
from wire.messages.produce import PRODUCE
from wire.messages.sync_group import SYNC_GROUP

__all__ = ["API", "Api", "ApiKey"]

_ALL: Final = (
    ALTER_CONFIGS,
    ALTER_PARTITION_REASSIGNMENTS,
    API_VERSIONS,
    CREATE_PARTITIONS,
    CREATE_TOPICS,
    DELETE_GROUPS,
    DELETE_RECORDS,
    DELETE_TOPICS,
    DESCRIBE_CLUSTER,
    DESCRIBE_CONFIGS,
    DESCRIBE_GROUPS,
    DESCRIBE_LOG_DIRS,
    DESCRIBE_TOPIC_PARTITIONS,
    ELECT_LEADERS,
    FETCH,
    FIND_COORDINATOR,
    HEARTBEAT,
    INCREMENTAL_ALTER_CONFIGS,
    INIT_PRODUCER_ID,
    JOIN_GROUP,
    LEAVE_GROUP,
    LIST_CONFIG_RESOURCES,
    LIST_GROUPS,
    LIST_OFFSETS,
    LIST_PARTITION_REASSIGNMENTS,
    METADATA,
    OFFSET_COMMIT,
    OFFSET_DELETE,
    OFFSET_FETCH,
    OFFSET_FOR_LEADER_EPOCH,
    PRODUCE,
    SYNC_GROUP,
)

API: Final[Mapping[int, Api]] = MappingProxyType({api.key.value: api for api in _ALL})
