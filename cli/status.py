"""`kraft status`: is the cluster well, and if not, what is the matter and what helps; at 3 a.m., at one glance.

Gathers: the processes and readiness of this machine's nodes, and from whichever node answers the cluster's health, its
brokers and the partitions in trouble. How it looks is cli/status_report.py's.
"""

from pathlib import Path
from typing import Any, Final

from cli import node_process, readiness
from cli.bootstrap import Server
from cli.cluster_partitions import PARTITIONS, TROUBLES, Row, key_of, list_brokers, without_links
from cli.data_directory import HOST, LocalCluster, LocalNode, require_cluster
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient
from cli.invocation import command, current, data_directory_option
from cli.rendering import print_document
from cli.status_report import lines

TIMEOUT_S: Final = 5.0
SHOWN_MAX: Final = 10
"""So many partitions of each trouble are named; the counts are of all."""
COUNTS: Final = ("topics_count", "partitions_count", *(trouble.counted_in for trouble in TROUBLES))


@command()
@data_directory_option
def status(data_directory: str) -> None:
    """Show whether the cluster is well: its nodes, who leads and holds what, who is behind, and what to do.

    Of partitions only those in trouble are listed, the worst first; kraft partition list has them all. --format wide
    adds addresses and log files. Ends with exit code 5 where something is the matter.
    """
    invocation = current()
    cluster = require_cluster(Path(data_directory))
    document = gather(cluster, timeout_s=invocation.timeout_s or TIMEOUT_S)
    print_document(invocation, document, lines(cluster, document, wide=invocation.format == "wide"))
    if not document["healthy"]:
        # a person has read it above
        raise Failure(document["reasons"][0] if invocation.is_machine_readable else "", ExitCode.UNAVAILABLE)


def gather(cluster: LocalCluster, *, timeout_s: float) -> dict[str, Any]:
    """Everything that is shown; what nobody could tell is None."""
    nodes = [_node_row(node) for node in cluster.nodes]
    answering = [
        Server("http", HOST, node.http_port) for node, row in zip(cluster.nodes, nodes, strict=True) if row["pid"]
    ]
    document: dict[str, Any] = {
        "cluster_id": cluster.cluster_id,
        "data_dir": str(cluster.directory),
        "healthy": None,
        "reasons": [],
        "nodes": nodes,
        "leader_id": None,
        **dict.fromkeys(COUNTS),
        "troubled_partitions": [],
    }
    if answering:
        client = HttpClient(answering, timeout_s=timeout_s)
        try:
            _add_cluster_facts(document, client)
        except Failure as failure:
            document["reasons"].append(failure.message)
        finally:
            client.close()
    document["reasons"] = [*_local_reasons(nodes), *document["reasons"]]
    document["healthy"] = not document["reasons"]
    return document


def _node_row(node: LocalNode) -> dict[str, Any]:
    pid = node_process.running_pid(node)
    found = readiness.ask(node) if pid is not None else None
    return {
        "node_id": node.node_id,
        "state": "down" if found is None else "ready" if found.ready else "not ready",
        "reasons": list(found.reasons) if found is not None else [],
        "role": "voter" if node.is_voter else "observer",
        "is_local": True,
        "pid": pid,
        "http": node.http_url,
        "kafka": node.kafka,
        "peer": node.peer,
        "log_file": str(node.log_file),
        **_holdings({}),
    }


def _local_reasons(nodes: list[dict[str, Any]]) -> list[str]:
    """What this machine sees by itself: at once, not only when the controller has missed a node."""
    down = [row["node_id"] for row in nodes if row["state"] == "down"]
    told = []
    if down:
        named = ", ".join(map(str, down))
        told.append(f"node{'s' if len(down) > 1 else ''} {named} {'are' if len(down) > 1 else 'is'} down: kraft up")
    return told + [
        f"node {row['node_id']} is not ready: {'; '.join(row['reasons']) or 'starting'}"
        for row in nodes
        if row["state"] == "not ready"
    ]


def _add_cluster_facts(document: dict[str, Any], client: HttpClient) -> None:
    document["leader_id"] = leader = client.get(f"{CLUSTER}/quorum").get("leader_id")
    health = client.get(f"{CLUSTER}/health?limit=1")
    away = {row["node_id"] for row in document["nodes"] if row["state"] in ("down", "not ready")}
    fenced = health.get("fenced_brokers") or []
    said = f"brokers {fenced} are fenced" if {*fenced} <= away else None  # why they are is said already
    document["reasons"] += [text for text in health.get("reasons", ()) if said is None or not text.startswith(said)]
    document |= {name: health.get(name) for name in COUNTS}
    nodes = document["nodes"]
    for broker in list_brokers(client, with_lag=True):
        row = next((row for row in nodes if row["node_id"] == broker["broker_id"]), None)
        if row is None:
            nodes.append(row := _remote_row(broker))
        row |= _holdings(broker)
        if row["state"] == "ready":
            row["state"] = _state_of(broker)
    for row in nodes:
        if row["node_id"] == leader and row["state"] != "down":
            row["role"] = "leader"
    document["troubled_partitions"] = _troubled(document, client)
    _mark_draining(nodes, document["troubled_partitions"])


def _remote_row(broker: Row) -> dict[str, Any]:
    """A broker that was not started here: only the cluster knows of it."""
    kafka = next(iter(broker["listeners"].values()), None)
    return {
        "node_id": broker["broker_id"],
        "state": "fenced" if broker["is_fenced"] else "ready",
        "reasons": [],
        "role": "observer",
        "is_local": False,
        "pid": None,
        "http": f"http://{broker['http']['host']}:{broker['http']['port']}",
        "kafka": None if kafka is None else f"{kafka['host']}:{kafka['port']}",
        "peer": f"{broker['peer']['host']}:{broker['peer']['port']}",
        "log_file": None,
    }


def _state_of(broker: Row) -> str:
    return "fenced" if broker["is_fenced"] else "stopping" if broker["is_draining"] else "ready"


def _holdings(broker: Row) -> dict[str, Any]:
    names = ("leaders_count", "replicas_count", "out_of_sync_replicas_count", "lag_offsets_total")
    return {name: broker.get(name) for name in names}


def _troubled(document: dict[str, Any], client: HttpClient) -> list[Row]:
    """The first partitions of each trouble, the worst trouble first."""
    found: dict[tuple[str, int], Row] = {}
    for trouble in TROUBLES:
        if document[trouble.counted_in]:
            page = client.get(f"{PARTITIONS}?state={trouble.state}&limit={SHOWN_MAX}")["data"]
            found |= {key_of(row): without_links(row) for row in page}
    return sorted(found.values(), key=_severity)


def _severity(row: Row) -> tuple[int, str, int]:
    worst = 0 if row["leader_id"] is None else 1 if row["is_under_min_isr"] else 2 if row["is_under_replicated"] else 3
    return worst, row["topic_name"], row["partition_id"]


def _mark_draining(nodes: list[dict[str, Any]], troubled: list[Row]) -> None:
    """A broker of which everything is being moved away is about to leave."""
    for row in nodes:
        leaving = [one for one in troubled if row["node_id"] in one["removing_replica_ids"]]
        if row["state"] == "ready" and leaving and (len(leaving) >= min(row["replicas_count"], SHOWN_MAX)):
            row["state"] = "draining"
