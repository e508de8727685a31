"""`kraft up`: from nothing to N ready nodes, or an existing cluster's missing nodes, from one command.

What takes time is imported late: a cluster that exists is started before anything else is looked at.
"""

import importlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import click

from cli import node_process
from cli.data_directory import (
    LocalCluster,
    delete_cluster,
    exclusive,
    make_directory,
    read_cluster,
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
def up(*, nodes: int | None, data_directory: str, any_port: bool, settings: tuple[str, ...], fresh: bool) -> None:
    """Start a cluster on this machine, or the nodes of it that are down, and wait until all are ready.

    Node 1 listens on 127.0.0.1:8082 (HTTP) and 9093 (other nodes), node 2 on 8092 and 9103, and so on. The first 1, 3
    or 5 nodes vote in the metadata quorum. The nodes go on running in the background, each with its log in the folder.
    An existing cluster is started with what it has: its nodes, its ports, its data.
    """
    invocation = current()
    directory = Path(data_directory)
    was_made = make_directory(directory)
    try:
        with exclusive(directory), StatusLine(invocation) as status_line:
            _up(invocation, directory, nodes, settings, status_line, any_port=any_port, fresh=fresh)
    except BaseException:
        if was_made and not any(directory.iterdir()):
            directory.rmdir()
        raise


def _up(
    invocation: Invocation,
    directory: Path,
    nodes: int | None,
    settings: Sequence[str],
    status_line: StatusLine,
    *,
    any_port: bool,
    fresh: bool,
) -> None:
    began_s = time.monotonic()
    cluster = read_cluster(directory)
    if cluster is not None and fresh:
        _refuse_running(cluster)
        if settings:
            _check_settings(invocation, settings)
        delete_cluster(cluster, keep_folder=True)
        cluster = None
    is_new = cluster is None
    if cluster is None:
        cluster = _form(invocation, directory, nodes or 1, settings, any_port=any_port)
        overrides: Sequence[str] = ()
    else:
        _check_wish(cluster, nodes, directory)
        overrides = _overrides(invocation, cluster, settings)
    down = [node for node in cluster.nodes if node_process.running_pid(node) is None]
    if not is_new:
        check_ports(down, advice="stop it: this cluster keeps its ports for life", patience_s=1.0)
    start_all(
        cluster,
        down,
        overrides,
        _environment(),
        timeout_s=invocation.timeout_s or TIMEOUT_S,
        all_or_none=is_new,
        status_line=status_line,
    )
    status_line.clear()
    report(invocation, cluster, directory, started=len(down), seconds=time.monotonic() - began_s)


def _form(
    invocation: Invocation, directory: Path, nodes: int, settings: Sequence[str], *, any_port: bool
) -> LocalCluster:
    formation = _formation()
    require_empty(directory)
    _check_settings(invocation, settings)
    cluster: LocalCluster = formation.plan(directory, nodes, any_port=any_port)
    check_ports(cluster.nodes, advice="stop it, or let kraft choose: --any-port")
    formation.form(cluster, formation.normalised(settings))
    return cluster


def _check_wish(cluster: LocalCluster, nodes: int | None, directory: Path) -> None:
    if nodes is not None and nodes != len(cluster.nodes):
        raise Failure(
            f"{shown(directory)} holds a cluster of {len(cluster.nodes)}, not {nodes}: leave out -n to start it, "
            "take another --data-dir, or delete it first with --fresh",
            ExitCode.CONFLICT,
        )


def _overrides(invocation: Invocation, cluster: LocalCluster, settings: Sequence[str]) -> Sequence[str]:
    """What an existing cluster's nodes are told beyond their files, for this start only."""
    if not all((node.directory / "metadata").exists() for node in cluster.nodes):
        formation = _formation()
        if not formation.is_formed(cluster):
            formation.form(cluster, formation.normalised(settings))
            return ()
    if settings:
        _check_settings(invocation, settings)
        files = f"{shown(cluster.directory)}/node-*/server.properties"
        invocation.notice(f"kraft: --set counts for this start of the stopped nodes; to keep it, write it to {files}")
    return settings


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
