"""New nodes for a cluster on this machine: brokers that are no voters, so that the quorum is never touched.

Invariant: an id that any broker of the cluster has is not given again, also not one that came from another machine.
A node is in the cluster's file only when its folder is complete; one that never started is taken out again.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.meta_properties import META_PROPERTIES, MetaProperties, write_meta_properties
from cli.bootstrap import Server
from cli.data_directory import HOST, LocalCluster, LocalNode, delete_node, shown, write_cluster
from cli.failure import ExitCode, Failure
from cli.formation import common_settings, config_text, normalised
from cli.http_client import CLUSTER, HttpClient
from cli.ports import free_ports, usual_ports
from cli.progress import StatusLine
from cli.startup import check_ports, start_all


def grow(
    cluster: LocalCluster,
    added: int,
    settings: Sequence[str],
    environment: Mapping[str, str],
    *,
    any_port: bool,
    timeout_s: float,
    status_line: StatusLine,
) -> LocalCluster:
    """Start `added` nodes more, and return the cluster with them; its other nodes are up. All come, or none."""
    nodes = plan(cluster, added, _broker_ids(cluster, timeout_s), any_port=any_port)
    check_ports(nodes, advice="stop it, or let kraft choose: --any-port")
    grown = replace(cluster, nodes=(*cluster.nodes, *nodes))
    for node in nodes:
        _format(grown, node, normalised([*common_settings(cluster), *settings]))
    write_cluster(grown)
    try:
        start_all(nodes, nodes, (), environment, timeout_s=timeout_s, all_or_none=True, status_line=status_line)
    except BaseException:
        left = grown
        for node in nodes:
            left = delete_node(left, node)
        raise
    return grown


def plan(cluster: LocalCluster, added: int, taken: Sequence[int], *, any_port: bool) -> list[LocalNode]:
    """Ids above all that are taken; the usual ports where the cluster has them, else free ones."""
    first = 1 + max(*taken, *(node.node_id for node in cluster.nodes), 0)
    ids = range(first, first + added)
    if any_port or any(_ports(node) != usual_ports(node.node_id) for node in cluster.nodes):
        free = free_ports(3 * added)
        ports = [(free[i], free[i + 1], free[i + 2]) for i in range(0, 3 * added, 3)]
    else:
        ports = [usual_ports(node_id) for node_id in ids]
    return [
        LocalNode(node_id, *three, is_voter=False, directory=cluster.directory / f"node-{node_id}")
        for node_id, three in zip(ids, ports, strict=True)
    ]


def _ports(node: LocalNode) -> tuple[int, int, int]:
    return node.http_port, node.kafka_port, node.peer_port


def _broker_ids(cluster: LocalCluster, timeout_s: float) -> list[int]:
    client = HttpClient([Server("http", HOST, node.http_port) for node in cluster.nodes], timeout_s=timeout_s)
    try:
        return [broker["broker_id"] for broker in client.get_list(f"{CLUSTER}/brokers")]
    finally:
        client.close()


def _format(cluster: LocalCluster, node: LocalNode, settings: Sequence[str]) -> None:
    """The folder of a node that was never started, as often as need be; one with data is somebody's."""
    if (node.directory / "data").exists():
        raise Failure(
            f"{shown(node.directory)} is there already and holds data: move it away, then add the node",
            ExitCode.CONFLICT,
        )
    node.directory.mkdir(exist_ok=True)
    (node.directory / META_PROPERTIES).unlink(missing_ok=True)  # of an addition that was interrupted
    node.config_file.write_text(config_text(cluster, node, settings), encoding="utf-8")
    write_meta_properties(node.directory, MetaProperties(cluster.cluster_id, node.node_id, uuid.uuid4()))
