"""Ports of a cluster on this machine: the usual ones, free ones, and who sits on one that is taken."""

import secrets
import socket
from pathlib import Path
from typing import Final

from cli.data_directory import HOST

FIRST_KAFKA_PORT: Final = 9092
FIRST_PEER_PORT: Final = 9093
FIRST_HTTP_PORT: Final = 8082
PORTS_A_NODE: Final = 10
_LISTENING: Final = "0A"
_TRIES_A_PORT: Final = 1000


def usual_ports(node_id: int) -> tuple[int, int, int]:
    """(HTTP, Kafka, peer) of node 1, 2, ...: 8082, 9092, 9093 and ten more for each node."""
    step = PORTS_A_NODE * (node_id - 1)
    return FIRST_HTTP_PORT + step, FIRST_KAFKA_PORT + step, FIRST_PEER_PORT + step


def usual_http_port(port: int) -> int | None:
    """The HTTP port of the node whose Kafka or peer port this usually is."""
    for first in (FIRST_KAFKA_PORT, FIRST_PEER_PORT):
        if 0 <= port - first < 1000 and (port - first) % PORTS_A_NODE == 0:
            return FIRST_HTTP_PORT + port - first
    return None


def is_free(port: int) -> bool:
    """Nobody listens there (a connection that is closing does not count, as for the node itself)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to outgoing connections.

    A port from that range would be free now and somebody's connection when the node is started again.
    """
    try:
        lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        lowest_outgoing = 32768
    candidates = range(10_000, max(lowest_outgoing, 12_000))
    found: list[int] = []
    for _ in range(_TRIES_A_PORT * number):
        port = secrets.choice(candidates)
        if port not in found and is_free(port):
            found.append(port)
        if len(found) == number:
            return found
    raise OSError(f"{number} free ports from {candidates.start} to {candidates.stop} were not to be found")


def holder_of(port: int) -> str | None:
    """`name (pid N)` of whoever listens on a port, where the system tells (Linux; own processes, or as root)."""
    inodes = {inode for file in ("tcp", "tcp6") for inode in _listening_inodes(Path("/proc/net", file), port)}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                return f"{_program_name([word.decode(errors='replace') for word in words])} (pid {process.name})"
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return None


def _listening_inodes(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _program_name(words: list[str]) -> str:
    """What a person calls the program: a node of ours by its configuration file, others by their first word."""
    if "kraft_bundle.server" in words and "-c" in words:
        return f"the node of {words[words.index('-c') + 1]}"
    return Path(words[0]).name or "a process"
