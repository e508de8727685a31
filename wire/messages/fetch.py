"""Fetch: read record batches, as a consumer or as a follower.

A follower says who it is in `replica_state`, before version 15 in `replica_id`.
"""

from typing import Annotated, ClassVar
from uuid import UUID

from wire.messages.api import Api, ApiKey
from wire.messages.leaders import LeaderIdAndEpoch, NodeEndpoint
from wire.schema import (
    NO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    RecordsInParts,
    Versions,
    between,
    empty,
    since,
    tag,
    until,
)

VERSIONS = Versions(4, 17, flexible_from=12)


class ReplicaState(Message, frozen=True):
    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


class FetchPartition(Message, frozen=True):
    """`log_start_offset` is the follower's own; `last_fetched_epoch` -1 where it has no record (KIP-320)."""

    partition: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(9)] = -1
    fetch_offset: Int64 = 0
    last_fetched_epoch: Annotated[Int32, since(12)] = -1
    log_start_offset: Annotated[Int64, since(5)] = -1
    partition_max_bytes: Int32 = 0
    replica_directory_id: Annotated[UUID, since(17), tag(0)] = NO_UUID


class FetchTopic(Message, frozen=True):
    topic: Annotated[str, until(12)] = ""
    topic_id: Annotated[UUID, since(13)] = NO_UUID
    partitions: list[FetchPartition] = empty()


class ForgottenTopic(Message, frozen=True):
    """Partitions that leave an incremental fetch session (KIP-227)."""

    topic: Annotated[str, between(7, 12)] = ""
    topic_id: Annotated[UUID, since(13)] = NO_UUID
    partitions: list[Int32] = empty()


class FetchRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    cluster_id: Annotated[str | None, since(12), tag(0)] = None
    replica_id: Annotated[Int32, until(14)] = -1
    replica_state: Annotated[ReplicaState, since(15), tag(1)] = ReplicaState()
    max_wait_ms: Int32 = 0
    min_bytes: Int32 = 0
    max_bytes: Int32 = 0x7FFFFFFF
    isolation_level: Int8 = 0
    session_id: Annotated[Int32, since(7)] = 0
    session_epoch: Annotated[Int32, since(7)] = -1
    topics: list[FetchTopic] = empty()
    forgotten_topics_data: Annotated[list[ForgottenTopic], since(7)] = empty()
    rack_id: Annotated[str, since(11)] = ""


class EpochEndOffset(Message, frozen=True):
    """Where the follower's last epoch ends at the leader: it truncates to there (KIP-595)."""

    epoch: Int32 = -1
    end_offset: Int64 = -1


class SnapshotId(Message, frozen=True):
    end_offset: Int64 = -1
    epoch: Int32 = -1


class AbortedTransaction(Message, frozen=True):
    producer_id: Int64 = 0
    first_offset: Int64 = 0


class PartitionData(Message, frozen=True):
    """`records` is sent from one buffer or from a list of them, and arrives as one memoryview."""

    partition_index: Int32 = 0
    error_code: Int16 = 0
    high_watermark: Int64 = 0
    last_stable_offset: Int64 = -1
    log_start_offset: Annotated[Int64, since(5)] = -1
    diverging_epoch: Annotated[EpochEndOffset, since(12), tag(0)] = EpochEndOffset()
    current_leader: Annotated[LeaderIdAndEpoch, since(12), tag(1)] = LeaderIdAndEpoch()
    snapshot_id: Annotated[SnapshotId, since(12), tag(2)] = SnapshotId()
    aborted_transactions: list[AbortedTransaction] | None = empty()
    preferred_read_replica: Annotated[Int32, since(11)] = -1
    records: RecordsInParts | None = None


class FetchableTopicResponse(Message, frozen=True):
    topic: Annotated[str, until(12)] = ""
    topic_id: Annotated[UUID, since(13)] = NO_UUID
    partitions: list[PartitionData] = empty()


class FetchResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(7)] = 0
    session_id: Annotated[Int32, since(7)] = 0
    responses: list[FetchableTopicResponse] = empty()
    node_endpoints: Annotated[list[NodeEndpoint], since(16), tag(0)] = empty()


FETCH = Api(ApiKey.FETCH, FetchRequest, FetchResponse)
