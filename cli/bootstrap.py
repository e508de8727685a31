"""Where the cluster is: which HTTP listeners to try, from `-b`, the environment or the local cluster's folder."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from cli.data_directory import HOST, read_cluster
from cli.failure import ExitCode, Failure
from cli.invocation import DEFAULT_DATA_DIRECTORY, Invocation
from cli.ports import FIRST_HTTP_PORT

_SCHEMES: Final = ("http", "https")


class Server(NamedTuple):
    """One HTTP listener; `host` without brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https://' if self.scheme == 'https' else ''}{host}:{self.port}"


def servers(invocation: Invocation) -> list[Server]:
    """The listeners to try, in this order; never empty."""
    if invocation.bootstrap_servers is not None:
        found = [parse_server(text.strip()) for text in invocation.bootstrap_servers.split(",") if text.strip()]
        if not found:
            raise Failure("-b is empty: name an HTTP listener, such as 127.0.0.1:8082", ExitCode.USAGE)
        return found
    cluster = read_cluster(Path(os.environ.get("KRAFT_DATA_DIR", DEFAULT_DATA_DIRECTORY)))
    if cluster is not None:
        return [Server("http", HOST, node.http_port) for node in cluster.nodes]
    return [Server("http", HOST, FIRST_HTTP_PORT)]


def parse_server(text: str) -> Server:
    """`host`, `host:port`, `[v6]:port`, `http://host:port/` or `https://...`."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    rest = rest.rstrip("/")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, str(FIRST_HTTP_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an address of IPv6 without brackets, or a second port
    if scheme not in _SCHEMES or not host or "/" in host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise Failure(f"-b {text}: expected host[:port] of an HTTP listener, such as 127.0.0.1:8082", ExitCode.USAGE)
    return Server(scheme, host, int(port))
