"""Which settings there are: ours and Kafka's that mean the same here, and the names of Kafka's others.

A key that only Kafka knows is warned about (a Kafka user's file must start a node); any other unknown key is refused.
Each entry names the field of `NodeConfig` that it fills, or the topic setting for which it is the broker-wide default.
Where two keys fill the same, the later in this table wins, whatever their sources (`log.retention.ms` over `.hours`).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from broker.config_values import (
    INT_MAX,
    LONG_MAX,
    boolean,
    choice,
    choices,
    endpoint,
    fraction,
    integer,
    listener_protocols,
    listeners,
    split_list,
    voters,
    word,
)


class Key(NamedTuple):
    """How one setting is read: into `field` of NodeConfig, and where `topic_key` is given also as a topic default."""

    field: str
    parse: Callable[[str], object]
    topic_key: str = ""
    factor: int = 1


_POSITIVE = integer(1, INT_MAX)
_COUNT = integer(0, INT_MAX)
_LONG = integer(1, LONG_MAX)
_LIMIT = integer(-1, LONG_MAX)
_MILLISECONDS_A_HOUR: Final = 3_600_000

KEYS: Final[dict[str, Key]] = {
    # who and where
    "broker.id": Key("node_id", integer(0, INT_MAX)),
    "node.id": Key("node_id", integer(0, INT_MAX)),
    "cluster.id": Key("cluster_id", word),
    "process.roles": Key("roles", choices("broker", "controller")),
    "broker.rack": Key("rack", word),
    "node.directory": Key("node_directory", word),
    "log.dir": Key("log_directories", split_list),
    "log.dirs": Key("log_directories", split_list),
    "metadata.log.dir": Key("metadata_directory", word),
    # listeners
    "controller.quorum.voters": Key("voters", voters),
    "peer.listeners": Key("peer_listener", endpoint),
    "advertised.peer.listeners": Key("advertised_peer", endpoint),
    "http.listeners": Key("http_listeners", listeners("http", "https")),
    "advertised.http.listeners": Key("advertised_http", listeners("http", "https")),
    "listeners": Key("kafka_listeners", listeners()),
    "advertised.listeners": Key("advertised_kafka", listeners()),
    "listener.security.protocol.map": Key("listener_protocols", listener_protocols),
    "inter.broker.listener.name": Key("replication_listener", word),
    "controller.listener.names": Key("controller_listener_names", split_list),
    "insecure.listeners": Key("insecure_listeners", boolean),
    "http.ssl.certificate": Key("http_ssl_certificate", word),
    "http.ssl.key": Key("http_ssl_key", word),
    "http.ssl.authorities": Key("http_ssl_authorities", word),
    "kafka.ssl.certificate": Key("kafka_ssl_certificate", word),
    "kafka.ssl.key": Key("kafka_ssl_key", word),
    "kafka.ssl.authorities": Key("kafka_ssl_authorities", word),
    "peer.ssl.certificate": Key("peer_ssl_certificate", word),
    "peer.ssl.key": Key("peer_ssl_key", word),
    "peer.ssl.authorities": Key("peer_ssl_authorities", word),
    # bounds on what clients may take
    "http.header.timeout.ms": Key("http_header_timeout_ms", integer(100, 600_000)),
    "http.body.timeout.ms": Key("http_body_timeout_ms", integer(100, 3_600_000)),
    "connections.max.idle.ms": Key("connections_max_idle_ms", integer(100, LONG_MAX)),
    "max.connections": Key("max_connections", _POSITIVE),
    "max.connections.per.ip": Key("max_connections_per_ip", _POSITIVE),
    "socket.request.max.bytes": Key("socket_request_max_bytes", integer(1024, INT_MAX)),
    "queued.max.request.bytes": Key("queued_max_request_bytes", integer(1024, LONG_MAX)),
    "fetch.max.bytes": Key("fetch_max_bytes", integer(1024, INT_MAX)),
    "max.incremental.fetch.session.cache.slots": Key("fetch_session_slots", integer(0, 1_000_000)),
    # topics
    "num.partitions": Key("num_partitions", integer(1, 100_000)),
    "default.replication.factor": Key("default_replication_factor", integer(1, 32_767)),
    "auto.create.topics.enable": Key("auto_create_topics_enable", boolean),
    # metadata quorum and controller
    "broker.session.timeout.ms": Key("broker_session_timeout_ms", integer(500, 600_000)),
    "broker.heartbeat.interval.ms": Key("broker_heartbeat_interval_ms", integer(50, 500)),
    "controller.quorum.election.timeout.ms": Key("quorum_election_timeout_ms", integer(100, 60_000)),
    "metadata.log.max.entries.between.snapshots": Key("metadata_snapshot_entries", integer(100, INT_MAX)),
    "auto.leader.rebalance.enable": Key("auto_leader_rebalance_enable", boolean),
    "leader.imbalance.check.interval.seconds": Key("leader_imbalance_check_interval_seconds", _POSITIVE),
    "leader.imbalance.per.broker.percentage": Key("leader_imbalance_per_broker_percentage", integer(0, 100)),
    # replication
    "replica.lag.time.max.ms": Key("replica_lag_time_max_ms", _LONG),
    "replica.fetch.wait.max.ms": Key("replica_fetch_wait_max_ms", integer(1, 60_000)),
    "replica.fetch.min.bytes": Key("replica_fetch_min_bytes", _COUNT),
    "replica.fetch.max.bytes": Key("replica_fetch_max_bytes", integer(1024, INT_MAX)),
    "replica.fetch.response.max.bytes": Key("replica_fetch_response_max_bytes", integer(1024, INT_MAX)),
    "replica.fetch.backoff.ms": Key("replica_fetch_backoff_ms", integer(1, 600_000)),
    "replica.socket.timeout.ms": Key("replica_socket_timeout_ms", integer(1000, 3_600_000)),
    # consumer groups
    "group.min.session.timeout.ms": Key("group_session_timeout_ms_min", _POSITIVE),
    "group.max.session.timeout.ms": Key("group_session_timeout_ms_max", _POSITIVE),
    "group.initial.rebalance.delay.ms": Key("group_initial_rebalance_delay_ms", _COUNT),
    "group.max.size": Key("group_members_max", _POSITIVE),
    "offset.metadata.max.bytes": Key("offset_metadata_bytes_max", integer(0, 1 << 20)),
    "offsets.retention.minutes": Key("offsets_retention_minutes", _POSITIVE),
    "offsets.retention.check.interval.ms": Key("offsets_retention_check_interval_ms", _LONG),
    "offsets.commit.timeout.ms": Key("offsets_commit_timeout_ms", _POSITIVE),
    "offsets.topic.num.partitions": Key("offsets_topic_num_partitions", integer(1, 10_000)),
    "offsets.topic.replication.factor": Key("offsets_topic_replication_factor", integer(1, 32_767)),
    "offsets.topic.segment.bytes": Key("offsets_topic_segment_bytes", integer(1024, INT_MAX)),
    # the log directories
    "log.dir.reserved.bytes": Key("log_dir_reserved_bytes", integer(0, LONG_MAX)),
    "log.retention.check.interval.ms": Key("log_retention_check_interval_ms", integer(100, LONG_MAX)),
    "log.flush.offset.checkpoint.interval.ms": Key("log_flush_offset_checkpoint_interval_ms", integer(100, INT_MAX)),
    "log.cleaner.enable": Key("log_cleaner_enable", boolean),
    "log.cleaner.dedupe.buffer.size": Key("log_cleaner_dedupe_buffer_bytes", integer(1024, LONG_MAX)),
    "log.cleaner.io.max.bytes.per.second": Key("log_cleaner_bytes_per_second_max", _LONG),
    "log.cleaner.backoff.ms": Key("log_cleaner_backoff_ms", integer(10, LONG_MAX)),
    "log.max.open.files": Key("log_max_open_files", integer(16, 1_000_000)),
    "producer.id.expiration.ms": Key("producer_id_expiration_ms", integer(1000, INT_MAX)),
    # broker-wide defaults of topic settings; the more exact unit wins, as in Kafka
    "log.retention.hours": Key("", integer(-1, INT_MAX), "retention.ms", _MILLISECONDS_A_HOUR),
    "log.retention.minutes": Key("", integer(-1, INT_MAX), "retention.ms", 60_000),
    "log.retention.ms": Key("", _LIMIT, "retention.ms"),
    "log.retention.bytes": Key("", _LIMIT, "retention.bytes"),
    "log.segment.bytes": Key("", integer(14, INT_MAX), "segment.bytes"),
    "log.roll.hours": Key("", _POSITIVE, "segment.ms", _MILLISECONDS_A_HOUR),
    "log.roll.ms": Key("", _LONG, "segment.ms"),
    "log.index.interval.bytes": Key("", _COUNT, "index.interval.bytes"),
    "log.index.size.max.bytes": Key("", integer(12, INT_MAX), "segment.index.bytes"),
    "log.cleanup.policy": Key("", choices("compact", "delete"), "cleanup.policy"),
    "log.cleaner.delete.retention.ms": Key("", integer(0, LONG_MAX), "delete.retention.ms"),
    "log.cleaner.min.cleanable.ratio": Key("", fraction, "min.cleanable.dirty.ratio"),
    "log.cleaner.min.compaction.lag.ms": Key("", integer(0, LONG_MAX), "min.compaction.lag.ms"),
    "log.cleaner.max.compaction.lag.ms": Key("", _LONG, "max.compaction.lag.ms"),
    "log.flush.interval.messages": Key("", _LONG, "flush.messages"),
    "log.flush.interval.ms": Key("", integer(0, LONG_MAX), "flush.ms"),
    "log.message.timestamp.type": Key("", choice("CreateTime", "LogAppendTime"), "message.timestamp.type"),
    "message.max.bytes": Key("", integer(0, INT_MAX), "max.message.bytes"),
    "compression.type": Key(
        "", choice("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"), "compression.type"
    ),
    "min.insync.replicas": Key("", integer(1, 32_767), "min.insync.replicas"),
    "unclean.leader.election.enable": Key("", boolean, "unclean.leader.election.enable"),
    # the node's own log
    "log.level": Key("log_level", choice("debug", "info", "warning", "error")),
    "log.format": Key("log_format", choice("auto", "json", "console")),
}

PATH_KEYS: Final = frozenset({
    "node.directory", "log.dirs", "log.dir", "metadata.log.dir",
    "http.ssl.certificate", "http.ssl.key", "http.ssl.authorities",
    "kafka.ssl.certificate", "kafka.ssl.key", "kafka.ssl.authorities",
    "peer.ssl.certificate", "peer.ssl.key", "peer.ssl.authorities",
})  # fmt: skip

_KAFKA_NAMES: Final = """
advertised.host.name advertised.port alter.config.policy.class.name alter.log.dirs.replication.quota.window.num
alter.log.dirs.replication.quota.window.size.seconds authorizer.class.name auto.include.jmx.reporter
background.threads broker.id.generation.enable
broker.session.timeout.ms client.quota.callback.class config.providers
connection.failed.authentication.delay.ms connections.max.reauth.ms control.plane.listener.name
controlled.shutdown.enable controlled.shutdown.max.retries controlled.shutdown.retry.backoff.ms
controller.performance.always.log.threshold.ms controller.performance.sample.period.ms
controller.quorum.append.linger.ms controller.quorum.auto.join.enable controller.quorum.bootstrap.servers
controller.quorum.election.backoff.max.ms controller.quorum.fetch.max.bytes
controller.quorum.fetch.snapshot.max.bytes controller.quorum.fetch.timeout.ms
controller.quorum.request.timeout.ms controller.quorum.retry.backoff.ms
controller.quota.window.num controller.quota.window.size.seconds controller.socket.timeout.ms
create.topic.policy.class.name delegation.token.expiry.check.interval.ms delegation.token.expiry.time.ms
delegation.token.master.key delegation.token.max.lifetime.ms delegation.token.secret.key
delete.records.purgatory.purge.interval.requests delete.topic.enable early.start.listeners
eligible.leader.replicas.enable fetch.purgatory.purge.interval.requests
group.consumer.assignors group.consumer.heartbeat.interval.ms group.consumer.max.heartbeat.interval.ms
group.consumer.max.session.timeout.ms group.consumer.max.size group.consumer.migration.policy
group.consumer.min.heartbeat.interval.ms group.consumer.min.session.timeout.ms group.consumer.session.timeout.ms
group.coordinator.append.linger.ms group.coordinator.new.enable group.coordinator.rebalance.protocols
group.coordinator.threads group.initial.rebalance.delay.ms group.max.session.timeout.ms group.max.size
group.min.session.timeout.ms initial.broker.registration.timeout.ms
inter.broker.protocol.version internal.metadata.log.segment.bytes kafka.metrics.polling.interval.secs
kafka.metrics.reporters
log.cleaner.io.buffer.load.factor log.cleaner.io.buffer.size
log.cleaner.threads log.dir.failure.timeout.ms log.flush.scheduler.interval.ms
log.flush.start.offset.checkpoint.interval.ms log.initial.task.delay.ms
log.local.retention.bytes log.local.retention.ms log.message.downconversion.enable log.message.format.version
log.message.timestamp.after.max.ms log.message.timestamp.before.max.ms log.message.timestamp.difference.max.ms
log.preallocate log.roll.jitter.hours log.roll.jitter.ms log.segment.delete.delay.ms
max.connection.creation.rate max.connections.per.ip.overrides
max.request.partition.size.limit metadata.log.max.record.bytes.between.snapshots
metadata.log.max.snapshot.interval.ms metadata.log.segment.bytes metadata.log.segment.min.bytes
metadata.log.segment.ms metadata.max.idle.interval.ms metadata.max.retention.bytes metadata.max.retention.ms
metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms num.io.threads
num.network.threads num.recovery.threads.per.data.dir num.replica.alter.log.dirs.threads num.replica.fetchers
offset.metadata.max.bytes offsets.commit.required.acks offsets.commit.timeout.ms offsets.load.buffer.size
offsets.retention.check.interval.ms offsets.retention.minutes offsets.topic.compression.codec
offsets.topic.num.partitions offsets.topic.replication.factor offsets.topic.segment.bytes
password.encoder.cipher.algorithm password.encoder.iterations password.encoder.key.length
password.encoder.keyfactory.algorithm password.encoder.old.secret password.encoder.secret port host.name
principal.builder.class producer.id.expiration.check.interval.ms
producer.purgatory.purge.interval.requests queued.max.requests quota.window.num quota.window.size.seconds
remote.fetch.max.wait.ms remote.log.manager.copier.thread.pool.size remote.log.manager.task.interval.ms
remote.log.manager.thread.pool.size remote.log.metadata.manager.class.name
remote.log.storage.manager.class.name remote.log.storage.system.enable
replica.high.watermark.checkpoint.interval.ms replica.selector.class replica.socket.receive.buffer.bytes
replication.quota.window.num replication.quota.window.size.seconds request.timeout.ms
reserved.broker.max.id sasl.client.callback.handler.class sasl.enabled.mechanisms sasl.jaas.config
sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal.to.local.rules
sasl.kerberos.service.name sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor
sasl.login.callback.handler.class sasl.login.class sasl.login.refresh.buffer.seconds
sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor sasl.login.refresh.window.jitter
sasl.mechanism.controller.protocol sasl.mechanism.inter.broker.protocol sasl.oauthbearer.jwks.endpoint.url
sasl.server.callback.handler.class sasl.server.max.receive.size security.inter.broker.protocol
security.providers server.max.startup.time.ms share.coordinator.threads
socket.connection.setup.timeout.max.ms socket.connection.setup.timeout.ms socket.listen.backlog.size
socket.receive.buffer.bytes socket.send.buffer.bytes ssl.allow.dn.changes ssl.allow.san.changes
ssl.cipher.suites ssl.client.auth ssl.enabled.protocols ssl.endpoint.identification.algorithm
ssl.engine.factory.class ssl.key.password ssl.keymanager.algorithm ssl.keystore.certificate.chain
ssl.keystore.key ssl.keystore.location ssl.keystore.password ssl.keystore.type ssl.principal.mapping.rules
ssl.protocol ssl.provider ssl.secure.random.implementation ssl.trustmanager.algorithm
ssl.truststore.certificates ssl.truststore.location ssl.truststore.password ssl.truststore.type
telemetry.max.bytes transaction.abort.timed.out.transaction.cleanup.interval.ms transaction.max.timeout.ms
transaction.partition.verification.enable transaction.remove.expired.transaction.cleanup.interval.ms
transaction.state.log.load.buffer.size transaction.state.log.min.isr transaction.state.log.num.partitions
transaction.state.log.replication.factor transaction.state.log.segment.bytes transactional.id.expiration.ms
unstable.api.versions.enable unstable.feature.versions.enable zookeeper.connect
zookeeper.connection.timeout.ms zookeeper.max.in.flight.requests zookeeper.session.timeout.ms
zookeeper.set.acl
"""
KAFKA_ONLY_KEYS: Final = frozenset(_KAFKA_NAMES.split()) - KEYS.keys()
KAFKA_ONLY_PREFIXES: Final = ("listener.name.", "ssl.", "sasl.", "confluent.", "group.", "share.", "remote.log.")

# What Kafka's own start scripts and images put into the environment; none of it is a setting.
_SCRIPT_VARIABLES: Final = """
KAFKA_HOME KAFKA_OPTS KAFKA_HEAP_OPTS KAFKA_JVM_PERFORMANCE_OPTS KAFKA_JMX_OPTS KAFKA_JMX_PORT KAFKA_GC_LOG_OPTS
KAFKA_LOG4J_OPTS KAFKA_LOG4J_LOGGERS KAFKA_LOG4J_ROOT_LOGLEVEL KAFKA_TOOLS_LOG4J_LOGLEVEL KAFKA_DEBUG KAFKA_VERSION
KAFKA_USER KAFKA_CLASSPATH KAFKA_MODE KAFKA_CONFIG_DIR
"""
KAFKA_SCRIPT_VARIABLES: Final = frozenset(_SCRIPT_VARIABLES.split())
