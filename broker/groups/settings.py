"""The bounds of consumer groups: one frozen value, read by the coordinator and its driver."""

from dataclasses import dataclass

DAY_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """Kafka's names in snake_case; each field says why its default where that is not Kafka's."""

    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    initial_rebalance_delay_ms: int = 200
    """How long a new group waits for more members. Kafka: 3 s, which whoever tries something out on a laptop takes for
    a failure; 0.2 s is not felt, and members that one command starts still meet in one generation."""
    members_max: int = 10_000
    """`group.max.size`. Kafka: no limit; so many already make a JoinGroup answer of several MiB."""
    member_metadata_bytes_max: int = 1 << 20
    """What one member may say of itself, for all the protocols that it speaks: some ten thousand topics."""
    group_metadata_bytes_max: int = 8 << 20
    """What all members say together: it must fit into one record of the offsets topic."""
    offset_metadata_bytes_max: int = 4_096
    offsets_retention_ms: int = 7 * DAY_MS
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    topic_partitions: int = 50
    topic_replication_factor: int = 1
    topic_segment_bytes: int = 100 << 20
