"""`kraft up`: from nothing to N ready nodes, or an existing cluster's missing nodes, from one command.

What takes time is imported late: a cluster that exists is started before anything else is looked at.
"""

import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click

from cli import node_process
from cli.data_directory import (
    LocalCluster,
    add_kafka_listener,
    delete_cluster,
    exclusive,
    make_directory,
    nodes_of,
    read_cluster,
    require_cluster,
    require_empty,
    shown,
)
from cli.failure import ExitCode, Failure
from cli.invocation import Invocation, command, current, data_directory_option
from cli.progress import StatusLine
from cli.rendering import nodes_named
from cli.startup import check_ports, start_all
from cli.up_report import report

NODES_MAX = 50
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for."""

    nodes: int | None
    settings: Sequence[str]
    any_port: bool
    fresh: bool
    added: int | None
    node_ids: Sequence[int]


@command()
@click.option(
    "-n", "--nodes", type=click.IntRange(1, NODES_MAX), help="How many nodes a new cluster has.  [default: 1]"
)
@data_directory_option
@click.option(
    "--any-port", is_flag=True, help="Give a new cluster free ports instead of the usual ones; it keeps them."
)
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="A setting for every node, such as num.partitions=3."
)
@click.option("--fresh", is_flag=True, help="Delete what the folder holds, then start a new cluster.")
@click.option(
    "--add", "added", type=click.IntRange(1, NODES_MAX), metavar="N", help="Add N nodes to the cluster that is there."
)
@click.option(
    "--node", "node_ids", type=int, multiple=True, metavar="ID", help="Start this node only; may be repeated."
)
def up(
    *,
    nodes: int | None,
    data_directory: str,
    any_port: bool,
    settings: tuple[str, ...],
    fresh: bool,
    added: int | None,
    node_ids: tuple[int, ...],
) -> None:
    """Start a cluster on this machine, or the nodes of it that are down, and wait until all are ready.

    Node 1 listens on 127.0.0.1:8082 (HTTP), 9092 (Kafka) and 9093 (other nodes), node 2 on 8092, 9102 and 9103, and so
    on. The first 1, 3 or 5 nodes vote in the metadata quorum. The nodes go on running in the background, each with its
    log in the folder. An existing cluster is started with what it has: its nodes, its ports, its data.

    With 3 nodes or more a topic has 3 replicas and a write needs 2 of them, unless --set
    default.replication.factor=... and min.insync.replicas=... say otherwise; with 2 nodes 2 and 1, with one 1 and 1.

    --add starts nodes more in a running cluster. They don't vote, and get partitions when you say so:
    kraft partition move TOPIC --to 2,3,4
    """
    if added is not None and (nodes is not None or fresh or node_ids):
        raise click.UsageError("--add is about the cluster that is there: leave out -n, --fresh and --node.")
    invocation = current()
    directory = Path(data_directory)
    wish = _Wish(nodes, settings, any_port, fresh, added, node_ids)
    was_made = make_directory(directory)
    try:
        with exclusive(directory), StatusLine(invocation) as status_line:
            _up(invocation, directory, wish, status_line)
    except BaseException:
        if was_made and not any(directory.iterdir()):
            directory.rmdir()
        raise


def _up(invocation: Invocation, directory: Path, wish: _Wish, status_line: StatusLine) -> None:
    began_s = time.monotonic()
    cluster = read_cluster(directory)
    if cluster is None and (wish.added is not None or wish.node_ids):
        cluster = require_cluster(directory)
    if cluster is not None and wish.fresh:
        _delete(invocation, cluster, wish.settings)
        cluster = None
    is_new = cluster is None
    overrides: Sequence[str] = ()
    if cluster is None:
        cluster = _form(invocation, directory, wish)
    else:
        _check_nodes(cluster, wish.nodes, directory)
        overrides = _overrides(invocation, cluster, wish)
    wanted = nodes_of(cluster, wish.node_ids)
    down = [node for node in wanted if node_process.running_pid(node) is None]
    if not is_new:
        for node in down:
            add_kafka_listener(node)
        check_ports(down, advice="stop it: this cluster keeps its ports for life", patience_s=1.0)
    timeout_s = invocation.timeout_s or TIMEOUT_S
    environment = _environment()
    start_all(wanted, down, overrides, environment, timeout_s=timeout_s, all_or_none=is_new, status_line=status_line)
    if wish.added is not None:
        growth = importlib.import_module("cli.growth")
        cluster = growth.grow(
            cluster,
            wish.added,
            wish.settings,
            environment,
            any_port=wish.any_port,
            timeout_s=timeout_s,
            status_line=status_line,
        )
    assert cluster is not None, "grow returns it"
    status_line.clear()
    seconds = time.monotonic() - began_s
    report(
        invocation, cluster, directory, started=len(down) + (wish.added or 0), added=wish.added or 0, seconds=seconds
    )


def _delete(invocation: Invocation, cluster: LocalCluster, settings: Sequence[str]) -> None:
    _refuse_running(cluster)
    if settings:
        _check_settings(invocation, settings)
    delete_cluster(cluster, keep_folder=True)


def _form(invocation: Invocation, directory: Path, wish: _Wish) -> LocalCluster:
    formation = _formation()
    require_empty(directory)
    _check_settings(invocation, wish.settings)
    cluster: LocalCluster = formation.plan(directory, wish.nodes or 1, any_port=wish.any_port)
    check_ports(cluster.nodes, advice="stop it, or let kraft choose: --any-port")
    formation.form(cluster, wish.settings)
    return cluster


def _check_nodes(cluster: LocalCluster, nodes: int | None, directory: Path) -> None:
    have = len(cluster.nodes)
    if nodes is None or nodes == have:
        return
    way_out = f"kraft up --add {nodes - have} gives it more, " if nodes > have else ""
    raise Failure(
        f"{shown(directory)} holds a cluster of {have}, not {nodes}: leave out -n to start it, {way_out}"
        "take another --data-dir, or delete it first with --fresh",
        ExitCode.CONFLICT,
    )


def _overrides(invocation: Invocation, cluster: LocalCluster, wish: _Wish) -> Sequence[str]:
    """What an existing cluster's nodes are told beyond their files, for this start only; added ones keep it."""
    if not all((node.directory / "metadata").exists() for node in cluster.nodes):
        formation = _formation()
        if not formation.is_formed(cluster):
            formation.form(cluster, wish.settings)
            return ()
    if wish.settings:
        _check_settings(invocation, wish.settings)
    if wish.settings and wish.added is None:
        files = f"{shown(cluster.directory)}/node-*/server.properties"
        invocation.notice(f"kraft: --set counts for this start of the stopped nodes; to keep it, write it to {files}")
    return () if wish.added is not None else wish.settings


def _check_settings(invocation: Invocation, settings: Sequence[str]) -> None:
    for warning in _formation().check_settings(settings, _environment()):
        invocation.notice(f"kraft: {warning}")


def _refuse_running(cluster: LocalCluster) -> None:
    running = [node.node_id for node in cluster.nodes if node_process.running_pid(node) is not None]
    if running:
        message = f"--fresh deletes all data, but {nodes_named(running)} running: kraft down first"
        raise Failure(message, ExitCode.CONFLICT)


def _environment() -> dict[str, str]:
    """The nodes' environment; sorting out settings in it is only needed where there are any."""
    if any(name.startswith("KAFKA_") for name in os.environ):
        environment: dict[str, str] = _formation().node_environment()
        return environment
    return dict(os.environ)


def _formation() -> ModuleType:
    """Only a new cluster and new settings need the configuration's grammar."""
    return importlib.import_module("cli.formation")
