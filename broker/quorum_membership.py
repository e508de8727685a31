"""This node's end of the metadata quorum: a voter where the voter list names it, an observer otherwise."""

from collections.abc import Mapping
from uuid import UUID

from broker.cluster_image import ClusterImage
from broker.meta_properties import Formation, MetaProperties
from broker.node_config import NodeConfig
from kraft.observer import Observer
from kraft.quorum import MetadataQuorum, RaftQuorum
from kraft.quorum_config import PeerTls, QuorumConfig


def quorum_for(
    config: NodeConfig, identity: MetaProperties, formation: Formation | None, image: ClusterImage
) -> MetadataQuorum:
    """The quorum's end that `config` asks for; not started yet."""
    quorum_config = quorum_config_of(config, identity, formation)
    return RaftQuorum(quorum_config, image) if config.is_voter else Observer(quorum_config, image)


def quorum_config_of(config: NodeConfig, identity: MetaProperties, formation: Formation | None) -> QuorumConfig:
    """Kafka's keys in the words of `kraft/`."""
    tls = config.peer_tls
    election_s = config.quorum_election_timeout_ms / 1000
    optional = (
        {} if config.metadata_snapshot_entries is None else {"snapshot_entries": config.metadata_snapshot_entries}
    )
    return QuorumConfig(
        cluster_id=identity.cluster_id,
        node_id=config.node_id,
        directory_id=identity.directory_id,
        voters=config.voters,
        listen=config.peer_listener,
        directory=str(config.metadata_directory),
        initial_directories=_initial_directories(config, formation),
        tls=None if tls is None else PeerTls(str(tls.certificate), str(tls.key), str(tls.authorities)),
        election_timeout_min_s=election_s,
        election_timeout_max_s=2 * election_s,
        heartbeat_interval_s=election_s / 4,
        **optional,
    )


def _initial_directories(config: NodeConfig, formation: Formation | None) -> Mapping[int, UUID] | None:
    """The first voters' directories, where this directory was part of the cluster's formation."""
    if formation is None or set(formation.voter_directories) != set(config.voters):
        return None
    return formation.voter_directories
