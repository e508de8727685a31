"""What the options of Kafka's tools have in common, and how the shims read them."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.bootstrap import Server, servers
from cli.http_client import CLUSTER, HttpClient
from cli.invocation import Invocation
from cli.shims_bootstrap import http_servers


def bootstrap_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--bootstrap-server`, by its old name too, and `--zookeeper`, which nothing needs any more."""
    by_broker = click.option(
        "--bootstrap-server",
        "--broker-list",
        "bootstrap_server",
        metavar="HOST:PORT[,...]",
        help="Kafka listeners of the cluster, or http://host:port.",
    )
    by_zookeeper = click.option("--zookeeper", metavar="ANYTHING", help="Not needed: the usual cluster is taken.")
    return by_broker(by_zookeeper(function))


def chosen_servers(bootstrap_server: str | None, zookeeper: str | None) -> list[Server] | None:
    """The HTTP listeners that were asked for; None: those that `kraft` finds by itself."""
    if zookeeper is not None:
        instead = "the cluster of --bootstrap-server" if bootstrap_server is not None else "the usual cluster"
        click.echo(f"kraft: there is no ZooKeeper here: --zookeeper {zookeeper} means {instead}.", err=True)
    return None if bootstrap_server is None else http_servers(bootstrap_server)


def bootstrap_arguments(chosen: Sequence[Server] | None) -> list[str]:
    """The same as arguments of `kraft`."""
    return [] if chosen is None else ["-b", ",".join(f"{server.scheme}://{_address(server)}" for server in chosen)]


def matching_topics(chosen: Sequence[Server] | None, pattern_text: str, *, exclude_internal: bool = False) -> list[str]:
    """The topics whose whole name matches, sorted: a regular expression in which a comma means "or", as in Kafka."""
    try:
        pattern = re.compile(pattern_text.strip("'\"").replace(",", "|"))
    except re.error as error:
        raise click.UsageError(f"{pattern_text}: no regular expression: {error}") from None
    usual = Invocation(bootstrap_servers=os.environ.get("KRAFT_BOOTSTRAP_SERVER") or None)
    client = HttpClient(chosen or servers(usual))
    try:
        found = client.get_list(f"{CLUSTER}/topics")
    finally:
        client.close()
    names = (str(entry["topic_name"]) for entry in found if not (exclude_internal and entry.get("is_internal")))
    return sorted(name for name in names if pattern.fullmatch(name))


def properties(option: str, texts: Sequence[str]) -> dict[str, str]:
    """`--property key=value`, given several times."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option} {text}: expected key=value.")
        found[key.strip()] = value
    return found


def refuse_unknown(option: str, given: dict[str, str], known: Sequence[str]) -> None:
    """A property that would be ignored is one that somebody relies on."""
    for key in given:
        if key not in known:
            raise click.UsageError(f"{option} {key}: not known here. There are {', '.join(sorted(known))}.")


def _address(server: Server) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"
