"""What `kraft up` says when all nodes are ready: where they are, and three commands to try."""

import os
import shutil
import sys
from pathlib import Path

from cli import node_process
from cli.data_directory import HOST, LocalCluster, shown
from cli.invocation import DEFAULT_DATA_DIRECTORY, Invocation
from cli.rendering import Column, count, nodes_named, print_document, table_lines

_COLUMNS = (
    Column("NODE", "node_id"),
    Column("HTTP", "http"),
    Column("KAFKA", "kafka"),
    Column("PEER", "peer", wide=True),
    Column("PID", "pid"),
)


def report(
    invocation: Invocation, cluster: LocalCluster, directory: Path, *, started: int, added: int, seconds: float
) -> None:
    """Print the cluster: for a program its nodes, for a person also what to do next."""
    nodes = [
        {
            "node_id": node.node_id,
            "http": node.http_url,
            "kafka": node.kafka,
            "peer": node.peer,
            "pid": node_process.running_pid(node),
        }
        for node in cluster.nodes
    ]
    document = {"cluster_id": cluster.cluster_id, "data_dir": str(cluster.directory), "nodes": nodes}
    columns = [column for column in _COLUMNS if not column.wide or invocation.format == "wide"]
    rows = [[column.text(node) for column in columns] for node in nodes]
    lines = [
        _headline(cluster, started, added, seconds),
        "",
        *table_lines([column.heading for column in columns], rows, indent="  "),
        "",
        f"Data and logs: {shown(cluster.directory)}   Cluster: {cluster.cluster_id}",
    ]
    print_document(invocation, document, lines)
    if not invocation.is_machine_readable:
        for line in _what_next_grown(cluster, directory, added) if added else _what_next(cluster, directory):
            invocation.notice(line)


def _headline(cluster: LocalCluster, started: int, added: int, seconds: float) -> str:
    nodes = count(len(cluster.nodes), "node")
    if added:
        new = nodes_named([node.node_id for node in cluster.nodes[-added:]], verb=False)
        return f"Added {new} in {seconds:.1f} s; {nodes} in all."
    if started == 0:
        return f"{nodes} already running."
    if started < len(cluster.nodes):
        return f"Started {started} of {nodes} in {seconds:.1f} s; all are ready."
    return f"{nodes} ready in {seconds:.1f} s."


def _what_next_grown(cluster: LocalCluster, directory: Path, added: int) -> list[str]:
    kraft, server, _ = _ways(cluster, directory)
    ids = ",".join(str(node.node_id) for node in cluster.nodes)
    new = ",".join(str(node.node_id) for node in cluster.nodes[-added:])
    return [
        "",
        f"{'It holds' if added == 1 else 'They hold'} no partitions yet. Give some to {new}, while all goes on:",
        f"  {kraft} partition move TOPIC --to {ids}{server}",
    ]


def _ways(cluster: LocalCluster, directory: Path) -> tuple[str, str, str]:
    """How to call us, and how to name the cluster to commands that ask it and to those that look at its folder."""
    is_default = str(directory) == DEFAULT_DATA_DIRECTORY
    server = "" if is_default else f" -b {HOST}:{cluster.nodes[0].http_port}"
    return _own_name(), server, "" if is_default else f" --data-dir {directory}"


def _what_next(cluster: LocalCluster, directory: Path) -> list[str]:
    kraft, server, folder = _ways(cluster, directory)
    return [
        "",
        "Try:",
        f"  {kraft} topic create events -p 6{server}",
        f"  echo hello | {kraft} produce events{server}",
        f"  {kraft} consume events --from-beginning -n 1{server}",
        "",
        f"Kafka clients: {','.join(node.kafka for node in cluster.nodes[:3])}",
        f"Look: {kraft} status{folder}   Stop: {kraft} down{folder}",
    ]


def _own_name() -> str:
    """How this person can call us: by name where the name is found, else by the path that was used."""
    used = Path(sys.argv[0])
    found = shutil.which("kraft")
    if found is not None and os.path.realpath(found) == os.path.realpath(used):
        return "kraft"
    return shown(used).removeprefix("./") if used.name == "kraft" else "kraft"
