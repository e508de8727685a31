"""`kraft node --join`: a broker that does not vote comes to a running cluster, from this machine or another one.

Owns what such a node must know and can ask for: the cluster's id, its voters' addresses, the defaults that all nodes
must share. It is written into the node's own file, so that later starts need nobody. Refuses, before anything is
written: a file or directory of another cluster, the id of a voter or of a broker that is in service, a cluster that can
only be reached on its own machine.
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from broker.config import ConfigError, load_config
from broker.config_file import read_config_file
from broker.config_values import format_endpoint, is_loopback, voters
from broker.meta_properties import read_meta_properties
from cli.bootstrap import Server, parse_server
from cli.cluster_partitions import in_service, list_brokers
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, DEFAULT_TIMEOUT_S, HttpClient, segment
from cli.ports import usual_ports

VOTERS: Final = "controller.quorum.voters"
SHARED: Final = ("min.insync.replicas", "unclean.leader.election.enable")
"""Defaults of topics by which a leader acts: with other ones than its fellows it would keep other promises."""


class JoinedCluster(NamedTuple):
    """What a newcomer is told."""

    cluster_id: str
    voters: Mapping[int, tuple[str, int]]
    brokers: Mapping[int, bool]
    """By id: whether it is in service."""
    shared: Mapping[str, str] | None
    """Of `SHARED`, what the nodes' files say; None where nobody could tell."""
    own_address: str
    """Of this machine, as it reaches the cluster."""

    @property
    def voters_text(self) -> str:
        return ",".join(f"{node_id}@{format_endpoint(*at)}" for node_id, at in sorted(self.voters.items()))


def prepare(config_file: Path, servers_text: str, settings: Sequence[str]) -> list[str]:
    """Make the file and learn what is in it from the cluster; returns what to tell the person.

    `settings` (key=value) are written into a file that is made here; into one that exists goes only what it lacks.
    """
    servers = [parse_server(text.strip()) for text in servers_text.split(",") if text.strip()]
    if not servers:
        raise Failure("--join is empty: name HTTP listeners of the cluster, such as 10.0.0.1:8082", ExitCode.USAGE)
    try:
        cluster = ask(servers)
    except Failure as failure:
        if failure.exit_code is ExitCode.UNAVAILABLE and _has_joined(config_file):
            return [f"{failure.message}; this node has joined before and starts with what it knows"]
        raise
    told = []
    if config_file.exists():
        lines = _lacking(config_file, cluster)
    else:
        lines = _new_file(config_file, cluster, settings)
        told = [f"wrote {config_file}"]
        if cluster.shared is None:
            told.append(
                f"the cluster has no topic yet to learn {' and '.join(SHARED)} from: what the other nodes' files say "
                "of them, this one's must say too"
            )
    _check(config_file, cluster, [*lines, *settings])
    _write(config_file, lines)
    return told


def ask(servers: Sequence[Server]) -> JoinedCluster:
    """What the cluster says of itself."""
    client = HttpClient(servers, timeout_s=DEFAULT_TIMEOUT_S)
    try:
        (found,) = client.get_list("/v3/clusters")
        listed = client.get(f"{CLUSTER}/quorum")["voters"]
        brokers = {broker["broker_id"]: in_service(broker) for broker in list_brokers(client)}
        shared = _shared(client)
        address = _own_address(client.server)
    finally:
        client.close()
    at = {voter["node_id"]: (voter["host"], voter["port"]) for voter in listed}
    local = [host for host, _ in at.values() if is_loopback(host)]
    if local and not is_loopback(address):
        raise Failure(
            f"the voters of this cluster are known as {local[0]}, which no other machine reaches: put their real "
            f"addresses into {VOTERS} of every voter first",
            ExitCode.CONFLICT,
        )
    return JoinedCluster(found["cluster_id"], at, brokers, shared, address)


def _shared(client: HttpClient) -> dict[str, str] | None:
    """The nodes' defaults, as any topic shows them."""
    topics = client.get_list(f"{CLUSTER}/topics")
    if not topics:
        return None
    path = f"{CLUSTER}/topics/{segment(topics[0]['topic_name'])}/configs"
    return {
        config["name"]: one["value"]
        for config in client.get_list(path)
        if config["name"] in SHARED
        for one in config["synonyms"]
        if one["source"] == "STATIC_BROKER_CONFIG"
    }


def _own_address(server: Server) -> str:
    """The address of this machine on the way to the cluster."""
    with socket.create_connection((server.host, server.port), timeout=DEFAULT_TIMEOUT_S) as connection:
        return str(connection.getsockname()[0])


# -- the node's file --------------------------------------------------------------------------------------------------


def _has_joined(config_file: Path) -> bool:
    return config_file.exists() and VOTERS in _settings(config_file)


def _settings(config_file: Path) -> dict[str, str]:
    try:
        return {setting.key: setting.value for setting in read_config_file(config_file)}
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from None


def _lacking(config_file: Path, cluster: JoinedCluster) -> list[str]:
    """What an existing file has to be told; refuses one that says something else."""
    found = _settings(config_file)
    if found.get("cluster.id", cluster.cluster_id) != cluster.cluster_id:
        raise Failure(
            f"{config_file}: cluster.id={found['cluster.id']}, but the cluster that answers is {cluster.cluster_id}",
            ExitCode.CONFLICT,
        )
    if VOTERS in found and _voters(found[VOTERS]) != dict(cluster.voters):
        raise Failure(
            f"{config_file}: {VOTERS}={found[VOTERS]}, but the cluster says {cluster.voters_text}: correct the file",
            ExitCode.CONFLICT,
        )
    learned = {"cluster.id": cluster.cluster_id, VOTERS: cluster.voters_text, **(cluster.shared or {})}
    return [f"{key}={value}" for key, value in learned.items() if key not in found]


def _voters(text: str) -> dict[int, tuple[str, int]]:
    try:
        return voters(text)
    except ValueError:
        return {}


def _new_file(config_file: Path, cluster: JoinedCluster, settings: Sequence[str]) -> list[str]:
    """Everything that a node needs which was told nothing but what stands in `settings`."""
    if config_file.suffix == ".toml":
        raise Failure(f"{config_file}: no such file; name one that ends in .properties to have it written")
    given = dict(setting.partition("=")[::2] for setting in settings)
    node_id = given.get("node.id") or given.get("broker.id") or str(1 + max(*cluster.brokers, *cluster.voters))
    is_here = is_loopback(cluster.own_address)
    http, kafka, peer = usual_ports(int(node_id) if is_here and node_id.isdecimal() and int(node_id) else 1)
    host = cluster.own_address
    defaults = {
        "node.id": node_id,
        "cluster.id": cluster.cluster_id,
        VOTERS: cluster.voters_text,
        "peer.listeners": format_endpoint(host, peer),
        "http.listeners": f"http://{format_endpoint(host, http)}",
        "listeners": f"PLAINTEXT://{format_endpoint(host, kafka)}",
        "node.directory": ".",
        "log.dirs": "data",
        **(cluster.shared or {}),
    }
    return [f"{key}={value}" for key, value in (defaults | given).items()]


def _check(config_file: Path, cluster: JoinedCluster, settings: Sequence[str]) -> None:
    """Refuse what could not join, while nothing is written yet."""
    existing = config_file if config_file.exists() else None
    given = [_from_folder(text, config_file.parent) if existing is None else text for text in settings]
    try:
        config, _ = load_config(existing, os.environ, given)
        identity = read_meta_properties(config.node_directory)
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    if config.is_voter:
        raise Failure(
            f"node {config.node_id} is a voter of the cluster, --join is for those that are none; a voter that lost "
            "its directory: kraft node --format",
            ExitCode.CONFLICT,
        )
    if identity is not None and identity.cluster_id != cluster.cluster_id:
        raise Failure(
            f"{config.node_directory} belongs to cluster {identity.cluster_id}, not to {cluster.cluster_id}: give this "
            "node another node.directory and log.dirs",
            ExitCode.CONFLICT,
        )
    if identity is None and cluster.brokers.get(config.node_id):
        raise Failure(
            f"broker {config.node_id} is in service already: give this node a node.id of its own", ExitCode.CONFLICT
        )


def _from_folder(setting: str, folder: Path) -> str:
    """Paths of the file that will be written count from its folder."""
    key, _, value = setting.partition("=")
    return f"{key}={folder / value}" if key in ("node.directory", "log.dirs") else setting


def _write(config_file: Path, lines: Sequence[str]) -> None:
    """Add the lines; in TOML they come first, where no table has begun yet."""
    if not lines:
        return
    config_file.parent.mkdir(parents=True, exist_ok=True)
    before = config_file.read_text(encoding="utf-8") if config_file.exists() else ""
    if config_file.suffix == ".toml":
        pairs = (line.partition("=") for line in lines)
        text = "\n".join(["# learned by kraft node --join", *(f'"{k}" = {json.dumps(v)}' for k, _, v in pairs), before])
    else:
        ended = "" if not before or before.endswith("\n") else "\n"
        text = f"{before}{ended}# {'learned' if before else 'written'} by kraft node --join\n" + "\n".join([*lines, ""])
    temporary = config_file.with_name(config_file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(config_file)
