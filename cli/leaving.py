"""A node of this machine leaves its cluster for good: emptied, stopped, forgotten, its folder deleted; in this order.

Invariant: its folder is deleted only when the cluster has no replica on it and does not know it any more. An
interrupted removal can be repeated: each step finds what the one before has done.
"""

from collections.abc import Sequence

from cli import node_process
from cli.bootstrap import Server
from cli.broker import empty, unregister
from cli.cluster_partitions import list_brokers
from cli.data_directory import HOST, LocalCluster, LocalNode, delete_node, exclusive, require_cluster
from cli.failure import ExitCode, Failure
from cli.http_client import DEFAULT_TIMEOUT_S, HttpClient
from cli.invocation import Invocation
from cli.rendering import nodes_named


def remove_nodes(
    invocation: Invocation,
    cluster: LocalCluster,
    nodes: Sequence[LocalNode],
    *,
    stop_timeout_s: float,
    throttle: int | str | None,
) -> None:
    """Take them out of the cluster; what they hold goes to the other brokers."""
    if voters := [node.node_id for node in nodes if node.is_voter]:
        raise Failure(
            f"{nodes_named(voters)} in the metadata quorum, whose voters are fixed: only nodes that were added "
            "can be removed",
            ExitCode.CONFLICT,
        )
    others = [node for node in cluster.nodes if node not in nodes]
    client = HttpClient(
        [Server("http", HOST, node.http_port) for node in others], timeout_s=invocation.timeout_s or DEFAULT_TIMEOUT_S
    )
    try:
        ids = [node.node_id for node in nodes]
        registered = {broker["broker_id"] for broker in list_brokers(client)} & {*ids}
        if registered:
            empty(invocation, client, sorted(registered), throttle=throttle)
        with exclusive(cluster.directory):
            current = require_cluster(cluster.directory)
            node_process.stop(nodes, timeout_s=stop_timeout_s)
            for broker_id in sorted(registered):
                unregister(client, broker_id, timeout_s=client.timeout_s)
            for node in nodes:
                current = delete_node(current, node)
    finally:
        client.close()
