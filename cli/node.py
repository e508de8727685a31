"""`kraft node`: this process becomes one node, so that whoever started it (systemd, a container) holds it directly."""

import os
from pathlib import Path

import click

from cli import node_process
from cli.data_directory import LocalNode, read_cluster
from cli.failure import ExitCode, Failure
from cli.invocation import CONTEXT_SETTINGS


# Without the options of every command: it prints no data, and its --format prepares a directory.
@click.command(context_settings=CONTEXT_SETTINGS)
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="server.properties or node.toml; without it: node 1 with the usual ports.",
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Overrides environment and file.")
@click.option("--format", "format_directory", is_flag=True, help="Prepare an empty data directory first.")
@click.option(
    "--join",
    "servers",
    metavar="HOST:PORT[,...]",
    help="Join the running cluster with these HTTP listeners, as a broker that does not vote.",
)
@click.option(
    "--insecure-listeners", is_flag=True, help="Listen beyond this machine although anybody could do anything."
)
def node(
    *,
    config_file: str | None,
    settings: tuple[str, ...],
    format_directory: bool,
    servers: str | None,
    insecure_listeners: bool,
) -> None:
    """Run one node in the foreground until SIGTERM or Ctrl-C.

    With --join the node asks the cluster for what it must know and keeps it in FILE, which is written where there is
    none: node.id (unless --set says it), the cluster's id and voters, listeners on the address that reaches the
    cluster. Its empty directory becomes the node's; one of another cluster is refused. Later starts need no --join.

    \b
    A setting counts from the first of these that has it:
      --set key=value
      the environment: KAFKA_NUM_PARTITIONS for num.partitions
      the file: Kafka's properties, or TOML
      the default
    """  # noqa: D301 - click's mark for "keep these lines"
    arguments: list[str] = []
    if servers is not None:
        settings = _join(config_file, servers, settings, insecure=insecure_listeners)
        format_directory = True
    if config_file is not None:
        path = Path(config_file).absolute()
        if not path.exists():
            raise Failure(f"{config_file}: no such configuration file", ExitCode.NOT_FOUND)
        arguments += ["-c", str(path)]
        _write_down_pid(path)
    for setting in settings:
        arguments += ["--set", setting]
    if format_directory:
        arguments.append("--format-directory")
    if insecure_listeners:
        arguments.append("--insecure-listeners")
    program = node_process.node_command(arguments)
    os.execv(program[0], program)  # noqa: S606 - no shell is the point


def _join(config_file: str | None, servers: str, settings: tuple[str, ...], *, insecure: bool) -> tuple[str, ...]:
    """What is left to override when the node's file has all that it must know."""
    if config_file is None:
        raise click.UsageError("--join keeps what it learns in a file: name it with -c.")
    from cli.join import prepare  # noqa: PLC0415 - only who joins pays for it

    path = Path(config_file).absolute()
    is_new = not path.exists()
    allowed = ["insecure.listeners=true"] if insecure else []
    for line in prepare(path, servers, [*settings, *allowed]):
        click.echo(f"kraft node: {line}", err=True)
    return () if is_new else settings


def _write_down_pid(config_file: Path) -> None:
    """A node of a local cluster that is run by hand is still seen by `kraft status` and `kraft down`."""
    cluster = read_cluster(config_file.parent.parent)
    for candidate in cluster.nodes if cluster is not None else ():
        if candidate.config_file == config_file:
            _refuse_second(candidate)
            node_process.write_pid(candidate, os.getpid())


def _refuse_second(candidate: LocalNode) -> None:
    if (pid := node_process.running_pid(candidate)) is not None and pid != os.getpid():
        raise Failure(f"node {candidate.node_id} is running already (pid {pid})", ExitCode.CONFLICT)
