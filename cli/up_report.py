"""What `kraft up` says when all nodes are ready: where they are, and three commands to try."""

import os
import shutil
import sys
from pathlib import Path

from cli import node_process
from cli.data_directory import HOST, LocalCluster, shown
from cli.invocation import DEFAULT_DATA_DIRECTORY, Invocation
from cli.rendering import Column, count, print_document, table_lines

_COLUMNS = (
    Column("NODE", "node_id"),
    Column("HTTP", "http"),
    Column("PEER", "peer"),
    Column("PID", "pid"),
)


def report(invocation: Invocation, cluster: LocalCluster, directory: Path, *, started: int, seconds: float) -> None:
    """Print the cluster: for a program its nodes, for a person also what to do next."""
    nodes = [
        {
            "node_id": node.node_id,
            "http": node.http_url,
            "kafka": None,  # no Kafka listener yet; its port is kept in cluster.json
            "peer": f"{HOST}:{node.peer_port}",
            "pid": node_process.running_pid(node),
        }
        for node in cluster.nodes
    ]
    document = {"cluster_id": cluster.cluster_id, "data_dir": str(cluster.directory), "nodes": nodes}
    rows = [[column.text(node) for column in _COLUMNS] for node in nodes]
    lines = [
        _headline(cluster, started, seconds),
        "",
        *table_lines([column.heading for column in _COLUMNS], rows, indent="  "),
        "",
        f"Data and logs: {shown(cluster.directory)}   Cluster: {cluster.cluster_id}",
    ]
    print_document(invocation, document, lines)
    if not invocation.is_machine_readable:
        for line in _what_next(cluster, directory):
            invocation.notice(line)


def _headline(cluster: LocalCluster, started: int, seconds: float) -> str:
    nodes = count(len(cluster.nodes), "node")
    if started == 0:
        return f"{nodes} already running."
    if started < len(cluster.nodes):
        return f"Started {started} of {nodes} in {seconds:.1f} s; all are ready."
    return f"{nodes} ready in {seconds:.1f} s."


def _what_next(cluster: LocalCluster, directory: Path) -> list[str]:
    kraft = _own_name()
    is_default = str(directory) == DEFAULT_DATA_DIRECTORY
    server = "" if is_default else f" -b {HOST}:{cluster.nodes[0].http_port}"
    folder = "" if is_default else f" --data-dir {directory}"
    return [
        "",
        "Try:",
        f"  {kraft} topic create events -p 6{server}",
        f"  echo hello | {kraft} produce events{server}",
        f"  {kraft} consume events --from-beginning -n 1{server}",
        "",
        f"Look: {kraft} status{folder}   Stop: {kraft} down{folder}",
    ]


def _own_name() -> str:
    """How this person can call us: by name where the name is found, else by the path that was used."""
    used = Path(sys.argv[0])
    found = shutil.which("kraft")
    if found is not None and os.path.realpath(found) == os.path.realpath(used):
        return "kraft"
    return shown(used).removeprefix("./") if used.name == "kraft" else "kraft"
