"""From the address of a Kafka listener to the HTTP listeners of the same cluster, for the shims.

`kraft` speaks HTTP; a script that was written for Kafka's tools names port 9092. Tried in this order: the cluster whose
folder is here, the cluster itself (asked over Kafka's protocol what its HTTP listeners are), the usual distance between
the two ports. Refuses, with what to do, an address behind which none of these finds one.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cli.bootstrap import Server, parse_server
from cli.data_directory import HOST, read_cluster
from cli.failure import ExitCode, Failure
from cli.invocation import DEFAULT_DATA_DIRECTORY
from cli.ports import FIRST_HTTP_PORT, FIRST_KAFKA_PORT, usual_http_port

TIMEOUT_S: Final = 3.0
RESPONSE_BYTES_MAX: Final = 1 << 20
METADATA_VERSION: Final = 1
DESCRIBE_CONFIGS_VERSION: Final = 1
BROKER: Final = 4
"""A broker, as a resource of DescribeConfigs."""
HTTP_LISTENERS: Final = ("advertised.http.listeners", "http.listeners")
_LOOPBACK: Final = frozenset({"localhost", HOST, "::1"})
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - read, not bound


def http_servers(bootstrap_servers: str) -> list[Server]:
    """The HTTP listeners behind `host[:port],...` of Kafka listeners; an address with a scheme is one already."""
    given = [text.strip() for text in bootstrap_servers.split(",") if text.strip()]
    if not given:
        raise Failure("--bootstrap-server is empty: name a broker, such as localhost:9092", ExitCode.USAGE)
    found: dict[Server, None] = {}
    for text in given:
        if "://" in text:
            found[parse_server(text)] = None
            continue
        host, port = _kafka_address(text)
        found.update(dict.fromkeys(_behind(host, port)))
    if not found:
        raise Failure(
            f"no HTTP listener of kraft found behind {bootstrap_servers}: is the cluster up? Name one, such as "
            f"--bootstrap-server http://127.0.0.1:{FIRST_HTTP_PORT}",
            ExitCode.UNAVAILABLE,
        )
    return list(found)


def _kafka_address(text: str) -> tuple[str, int]:
    """The port is optional, as nowhere in Kafka; what it must look like is what an HTTP listener must look like."""
    try:
        server = parse_server(text)
    except Failure:
        raise Failure(f"{text}: expected host:port of a broker, such as localhost:9092", ExitCode.USAGE) from None
    return server.host, server.port if text.rpartition(":")[2].isdecimal() else FIRST_KAFKA_PORT


def _behind(host: str, port: int) -> Iterator[Server]:
    known = list(_of_local_cluster(host, port)) or list(_as_told(host, port))
    yield from known
    if not known and (usual := usual_http_port(port)) is not None:
        yield Server("http", host, usual)


def _of_local_cluster(host: str, port: int) -> Iterator[Server]:
    """The node whose Kafka port this is, then the others of its cluster."""
    cluster = read_cluster(Path(os.environ.get("KRAFT_DATA_DIR", DEFAULT_DATA_DIRECTORY)))
    if cluster is None or host not in _LOOPBACK or port not in {node.kafka_port for node in cluster.nodes}:
        return
    for node in sorted(cluster.nodes, key=lambda node: node.kafka_port != port):
        yield Server("http", HOST, node.http_port)


def _as_told(host: str, port: int) -> Iterator[Server]:
    """What the broker says its settings are; nothing where nobody answers, or who answers is no kraft."""
    try:
        told = _http_listeners(host, port)
    except (OSError, ValueError):  # a closed port, another protocol, an API that it does not have
        return
    for text in told.split(","):
        server = parse_server(text.strip())
        yield server._replace(host=host) if server.host in _ANY_ADDRESS else server


def _http_listeners(host: str, port: int) -> str:
    """The first of HTTP_LISTENERS that the broker there has; raises OSError or ValueError where there is none."""
    from wire.messages import ApiKey  # noqa: PLC0415 - only who names a strange port pays for the codec
    from wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource  # noqa: PLC0415 - as above
    from wire.messages.metadata import MetadataRequest  # noqa: PLC0415 - as above

    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        brokers = _ask(connection, ApiKey.METADATA, METADATA_VERSION, MetadataRequest(topics=[])).brokers
        asked = min(brokers, key=lambda broker: broker.port != port).node_id if brokers else 0
        resource = DescribeConfigsResource(
            resource_type=BROKER, resource_name=str(asked), configuration_keys=list(HTTP_LISTENERS)
        )
        request = DescribeConfigsRequest(resources=[resource])
        answer = _ask(connection, ApiKey.DESCRIBE_CONFIGS, DESCRIBE_CONFIGS_VERSION, request)
    values = {entry.name: entry.value for result in answer.results for entry in result.configs}
    for name in HTTP_LISTENERS:
        if value := values.get(name):
            return str(value)
    raise ValueError(f"the broker at {host}:{port} has no {HTTP_LISTENERS[-1]}")


def _ask(connection: socket.socket, api_key: int, version: int, request: Any) -> Any:
    """One request, one answer."""
    from wire.connection import ClientConnection  # noqa: PLC0415 - as above

    wire = ClientConnection("kraft-shims", RESPONSE_BYTES_MAX)
    _, buffers = wire.send(api_key, version, request)
    connection.sendall(b"".join(buffers))
    while data := connection.recv(1 << 16):
        for _, answer in wire.receive(data):
            return answer
    raise ConnectionResetError("the broker closed the connection")
