"""The first moment of a cluster on this machine: ids, voters, ports, one formatted folder and one file for each node.

Invariant: all voters are formatted with one cluster id and know each other's directory ids before any of them starts
(an empty voter must not vote). An interrupted formation has started no node, so it can simply be done again.
"""

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.config import ConfigError, load_config
from broker.config_file import properties_settings
from broker.config_values import split_list
from broker.meta_properties import META_PROPERTIES, format_directory, new_cluster_id
from cli.data_directory import HOST, LocalCluster, LocalNode, write_cluster
from cli.failure import ExitCode, Failure
from cli.ports import free_ports, usual_ports

OWNED_KEYS: Final = frozenset(
    """
    node.id broker.id cluster.id process.roles node.directory log.dir log.dirs metadata.log.dir
    controller.quorum.voters peer.listeners advertised.peer.listeners http.listeners advertised.http.listeners
    listeners advertised.listeners controller.listener.names
    """.split()  # noqa: SIM905 - reads better than a column of quotes
)


def replication_defaults(nodes: int) -> dict[str, str]:
    """How many copies a topic of a new cluster has where nobody says: as many as are safe and still writable.

    Three nodes or more: three copies, written by two, so that one node may be away. Two: two copies, but one is enough
    to write (with 2 the loss of either node would stop all writes, and a single one would be no better off).
    """
    return {
        "default.replication.factor": str(min(3, nodes)),
        "offsets.topic.replication.factor": str(min(3, nodes)),
        "min.insync.replicas": "2" if nodes >= 3 else "1",
    }


def voter_count(nodes: int) -> int:
    """How many of the first nodes vote: an odd number, so that no vote is wasted, and never more than five."""
    return 1 if nodes < 3 else 3 if nodes < 5 else 5


def plan(directory: Path, nodes: int, *, any_port: bool) -> LocalCluster:
    """Ids, ports and voters of a new cluster; nothing is written yet."""
    if any_port:
        free = free_ports(3 * nodes)
        ports = [(free[i], free[i + 1], free[i + 2]) for i in range(0, 3 * nodes, 3)]
    else:
        ports = [usual_ports(node_id) for node_id in range(1, nodes + 1)]
    voters = voter_count(nodes)
    planned = tuple(
        LocalNode(node_id, http, kafka, peer, node_id <= voters, directory.absolute() / f"node-{node_id}")
        for node_id, (http, kafka, peer) in enumerate(ports, start=1)
    )
    return LocalCluster(new_cluster_id(), directory.absolute(), planned)


def form(cluster: LocalCluster, settings: Sequence[str]) -> None:
    """Write everything that the nodes need for their first start; `settings` (key=value) win over the defaults."""
    write_cluster(cluster)
    defaults = [f"{key}={value}" for key, value in replication_defaults(len(cluster.nodes)).items()]
    settings = normalised([*defaults, *settings])
    directories = {node.node_id: uuid.uuid4() for node in cluster.nodes if node.is_voter}
    for node in cluster.nodes:
        node.directory.mkdir(exist_ok=True)
        node.config_file.write_text(config_text(cluster, node, settings), encoding="utf-8")
        (node.directory / META_PROPERTIES).unlink(missing_ok=True)  # of an interrupted formation
        format_directory(
            node.directory, cluster_id=cluster.cluster_id, node_id=node.node_id, voter_directories=directories
        )


def is_formed(cluster: LocalCluster) -> bool:
    """Every node's folder was formatted; refuses a cluster that lost one afterwards."""
    lacking = [node for node in cluster.nodes if not (node.directory / META_PROPERTIES).exists()]
    was_started = any(any((node.directory / "metadata").glob("*")) for node in cluster.nodes)
    if lacking and was_started:
        lacking[0].directory.mkdir(exist_ok=True)
        if not lacking[0].config_file.exists():
            settings = common_settings(cluster)
            lacking[0].config_file.write_text(config_text(cluster, lacking[0], settings), encoding="utf-8")
        raise Failure(
            f"node {lacking[0].node_id} has lost its data ({lacking[0].directory} has no {META_PROPERTIES}). "
            f"Restore it; if it is gone for good: kraft node -c {lacking[0].config_file} --format"
        )
    return not lacking


def own_settings(cluster: LocalCluster, node: LocalNode) -> list[str]:
    """What `up` decides for a node, as key=value; paths count from the file that they stand in."""
    voters = ",".join(f"{voter.node_id}@{HOST}:{voter.peer_port}" for voter in cluster.nodes if voter.is_voter)
    return [
        f"node.id={node.node_id}",
        f"cluster.id={cluster.cluster_id}",
        f"process.roles={'broker,controller' if node.is_voter else 'broker'}",
        f"controller.quorum.voters={voters}",
        f"peer.listeners={HOST}:{node.peer_port}",
        f"http.listeners={node.http_url}",
        f"listeners=PLAINTEXT://{HOST}:{node.kafka_port}",
        "node.directory=.",
        "log.dirs=data",
        "metadata.log.dir=metadata",
    ]


def config_text(cluster: LocalCluster, node: LocalNode, settings: Sequence[str]) -> str:
    """The node's server.properties."""
    lines = ["# Written by `kraft up`. Edit it, then `kraft down` and `kraft up`.", *own_settings(cluster, node)]
    if settings:
        lines += ["", "# the same for all nodes", *settings]
    return "\n".join([*lines, ""])


def common_settings(cluster: LocalCluster) -> list[str]:
    """What the nodes' files say beyond `own_settings`, as key=value, from the first file that is there.

    A new node needs them too: a leader asks for `min.insync.replicas` of its own file.
    """
    for node in cluster.nodes:
        try:
            text = node.config_file.read_text(encoding="utf-8")
            found = list(properties_settings(text, node.config_file))
        except FileNotFoundError:
            continue
        except (ConfigError, UnicodeDecodeError) as error:
            raise Failure(str(error), ExitCode.USAGE) from None
        return [f"{setting.key}={setting.value}" for setting in found if setting.key not in OWNED_KEYS]
    return []


def check_settings(settings: Sequence[str], environ: Mapping[str, str], config_file: Path | None = None) -> list[str]:
    """Refuse what no node could start with, before any does; returns warnings."""
    for setting in settings:
        if (key := setting.partition("=")[0].strip()) in OWNED_KEYS:
            raise Failure(
                f"--set {key}: kraft up sets it for each node itself; run such a node with kraft node", ExitCode.USAGE
            )
    try:
        return load_config(config_file, environ, settings)[1]
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from None


def node_environment() -> dict[str, str]:
    """The environment for nodes of this machine's cluster: without settings that can't be the same for all of them."""
    owned = {"KAFKA_" + key.upper().replace(".", "_") for key in OWNED_KEYS}
    return {name: value for name, value in os.environ.items() if name not in owned}


def normalised(settings: Sequence[str]) -> list[str]:
    """`--set a=1 --set a=2` as the file would have it: each key once, the last one wins."""
    found: dict[str, str] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        found[key.strip()] = ",".join(split_list(value)) if "," in value else value.strip()
    return [f"{key}={value}" for key, value in found.items()]
