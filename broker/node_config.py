"""`NodeConfig`: one node's settings as a value; each field says why its default where that is not Kafka's.

Invariants of one that `broker/config.py` returned: the node's own voter entry agrees with its roles, every encrypted
listener has its files, and nothing listens beyond this machine for anybody unless that was asked for in words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.config_values import Listener


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a TLS server shows: a certificate chain and its key, both in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class PeerTlsFiles:
    """What both ends of a peer link show and demand (mutual TLS): PEM files, `authorities` signed the other's."""

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True)
class KafkaTlsFiles:
    """What the SSL entries of `listeners` show; who comes to the replication listener must be of `authorities`."""

    certificate: Path
    key: Path
    authorities: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node's settings. Paths are absolute; hosts are without brackets; an empty host means every address."""

    node_id: int
    cluster_id: str | None = None  # only where the file pins it; otherwise meta.properties knows
    roles: frozenset[str]
    voters: Mapping[int, tuple[str, int]]
    rack: str | None = None

    node_directory: Path  # meta.properties, formation.properties, kraft.log
    metadata_directory: Path  # the quorum's journal, vote and snapshots
    log_directories: tuple[Path, ...]  # the partitions

    peer_listener: tuple[str, int]
    advertised_peer: tuple[str, int]
    http_listeners: tuple[Listener, ...]
    advertised_http: Listener
    kafka_listeners: tuple[Listener, ...] = ()  # names in capitals
    advertised_kafka: tuple[Listener, ...] = ()  # one for each of kafka_listeners, in the same order
    replication_listener: str | None = None  # the name of the one over which followers fetch; None: there is none
    http_tls: TlsFiles | None = None
    http_authorities: Path | None = None  # None: those of the system, of the peer link and of the node's own chain
    peer_tls: PeerTlsFiles | None = None
    kafka_tls: KafkaTlsFiles | None = None
    insecure_listeners: bool = False

    http_header_timeout_ms: int = 10_000  # a slow-loris client holds a connection no longer
    http_body_timeout_ms: int = 30_000
    connections_max_idle_ms: int | None = None  # None: 10 min for Kafka clients, 75 s for the pools of HTTP clients
    max_connections: int = 10_000
    max_connections_per_ip: int = 2_000  # behind one proxy all clients share an address
    socket_request_max_bytes: int = 16 * 2**20  # Kafka: 100 MiB; JSON of that size would hold the loop for a second
    queued_max_request_bytes: int = 256 * 2**20  # bodies in flight at once; beyond it clients are told to wait (429)
    fetch_max_bytes: int = 8 * 2**20  # Kafka: 55 MiB; as above
    fetch_session_slots: int = 1_000

    num_partitions: int = 1
    default_replication_factor: int = 1
    auto_create_topics_enable: bool = False  # Kafka: true; a typo in a topic's name should be an error

    broker_session_timeout_ms: int = 6_000
    broker_heartbeat_interval_ms: int = 500
    quorum_election_timeout_ms: int = 400  # the shortest; the longest is twice this
    metadata_snapshot_entries: int | None = None  # None: as kraft/ thinks best
    auto_leader_rebalance_enable: bool = True
    leader_imbalance_check_interval_seconds: int = 300
    leader_imbalance_per_broker_percentage: int = 10

    replica_lag_time_max_ms: int = 30_000
    replica_fetch_wait_max_ms: int = 500
    replica_fetch_min_bytes: int = 1
    replica_fetch_max_bytes: int = 2**20
    replica_fetch_response_max_bytes: int = 8 * 2**20  # Kafka: 10 MiB; the leader gives no more than fetch.max.bytes
    replica_fetch_backoff_ms: int = 200  # Kafka: 1 s; a new leader is there long before
    replica_socket_timeout_ms: int = 30_000

    group_session_timeout_ms_min: int = 6_000
    group_session_timeout_ms_max: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 200  # Kafka: 3 s; enough for members that one command starts, and not felt
    group_members_max: int = 10_000  # Kafka: no limit
    offset_metadata_bytes_max: int = 4_096
    offsets_retention_minutes: int = 7 * 24 * 60
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_topic_num_partitions: int = 50
    offsets_topic_replication_factor: int | None = None  # None: default.replication.factor; Kafka: 3
    offsets_topic_segment_bytes: int = 100 * 2**20

    log_dir_reserved_bytes: int = 64 * 2**20  # S19: below it produce is refused so that metadata can still be written
    log_retention_check_interval_ms: int = 300_000
    log_flush_offset_checkpoint_interval_ms: int = 60_000
    log_max_open_files: int = 1_000
    log_cleaner_enable: bool = True
    log_cleaner_dedupe_buffer_bytes: int = 128 * 2**20  # no more of it is taken than a log's new offsets need
    log_cleaner_bytes_per_second_max: int = 32 * 2**20  # Kafka: no limit; read and written, so that others get the disk
    log_cleaner_backoff_ms: int = 15_000
    producer_id_expiration_ms: int = 86_400_000
    topic_defaults: Mapping[str, str] = field(default_factory=dict)  # topic key -> text, only what was set
    stated: Mapping[str, str] = field(default_factory=dict)  # every setting that was given, by key, as text

    log_level: str = "info"
    log_format: str = "auto"  # JSON unless the log goes to a terminal

    @property
    def is_voter(self) -> bool:
        """This node has a vote in the metadata quorum."""
        return self.node_id in self.voters
