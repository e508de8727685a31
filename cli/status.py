"""`kraft status`: the local cluster at a glance, from its processes and from whichever node answers."""

from pathlib import Path
from typing import Any

from cli import node_process, readiness
from cli.bootstrap import Server
from cli.data_directory import HOST, LocalCluster, LocalNode, require_cluster, shown
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient
from cli.invocation import command, current, data_directory_option
from cli.rendering import Column, count, nodes_named, print_document, table_lines

TIMEOUT_S = 5.0
COLUMNS = (
    Column("NODE", "node_id"),
    Column("STATE", "state"),
    Column("ROLE", "role"),
    Column("PID", "pid"),
    Column("HTTP", "http"),
    Column("PEER", "peer"),
    Column("LOG", "log_file", wide=True),
)


@command()
@data_directory_option
def status(data_directory: str) -> None:
    """Show the nodes of the cluster on this machine, the quorum's leader, and what the cluster holds.

    Ends with exit code 5 when a node is not ready.
    """
    invocation = current()
    cluster = require_cluster(Path(data_directory))
    nodes = [_node_row(node) for node in cluster.nodes]
    answering = [
        Server("http", HOST, node.http_port) for node, row in zip(cluster.nodes, nodes, strict=True) if row["pid"]
    ]
    document: dict[str, Any] = {
        "cluster_id": cluster.cluster_id,
        "data_dir": str(cluster.directory),
        "nodes": nodes,
        "leader_id": None,
        "topics_count": None,
        "partitions_count": None,
    }
    if answering:
        client = HttpClient(answering, timeout_s=invocation.timeout_s or TIMEOUT_S)
        _add_cluster_facts(document, client)
        client.close()
    print_document(invocation, document, _lines(cluster, document, wide=invocation.format == "wide"))
    lacking = [row["node_id"] for row in nodes if row["state"] != "ready"]
    if lacking:
        raise Failure(f"{nodes_named(lacking)} not ready", ExitCode.UNAVAILABLE)


def _node_row(node: LocalNode) -> dict[str, Any]:
    pid = node_process.running_pid(node)
    found = readiness.ask(node) if pid is not None else None
    state = "down" if found is None else "ready" if found.ready else "not ready"
    return {
        "node_id": node.node_id,
        "state": state,
        "reasons": list(found.reasons) if found is not None else [],
        "role": "voter" if node.is_voter else "observer",
        "pid": pid,
        "http": node.http_url,
        "kafka": node.kafka,
        "peer": node.peer,
        "log_file": str(node.log_file),
    }


def _add_cluster_facts(document: dict[str, Any], client: HttpClient) -> None:
    """Leader and counts; a cluster that can't tell them now still has a status."""
    try:
        document["leader_id"] = leader = client.get(f"{CLUSTER}/quorum").get("leader_id")
        topics = client.get_list(f"{CLUSTER}/topics")
    except Failure:
        return
    document["topics_count"] = len(topics)
    document["partitions_count"] = sum(topic["partitions_count"] for topic in topics)
    for row in document["nodes"]:
        if row["node_id"] == leader and row["state"] != "down":
            row["role"] = "leader"


def _lines(cluster: LocalCluster, document: dict[str, Any], *, wide: bool) -> list[str]:
    nodes = document["nodes"]
    columns = [column for column in COLUMNS if wide or not column.wide]
    ready = sum(row["state"] == "ready" for row in nodes)
    lines = list(table_lines([c.heading for c in columns], [[c.text(row) for c in columns] for row in nodes]))
    lines += [
        f"node {row['node_id']}: {reason}" for row in nodes for reason in row["reasons"] if row["state"] != "ready"
    ]
    summary = f"{ready} of {count(len(nodes), 'node')} ready"
    if document["leader_id"] is not None:
        summary += f", node {document['leader_id']} leads" if document["leader_id"] >= 0 else ", no leader"
    if document["topics_count"] is not None:
        summary += f", {count(document['topics_count'], 'topic')}"
        summary += f" with {count(document['partitions_count'], 'partition')}" if document["topics_count"] else ""
    return [*lines, "", f"{summary}.  Data: {shown(cluster.directory)}  Cluster: {cluster.cluster_id}"]
