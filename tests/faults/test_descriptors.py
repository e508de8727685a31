"""A node that runs out of file descriptors is slow to answer for a while, and whole again when they are back."""

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, Node, wait_until
from tests.faults.history import Operation, Outcome

SPARE_DESCRIPTORS = 12
CONNECTIONS = 40
PARTITIONS = 4


def descriptors(node: Node) -> int:
    return len(list(Path(f"/proc/{node.pid}/fd").iterdir()))


@contextlib.contextmanager
def crowded(node: Node) -> Iterator[None]:
    """So many idle connections that no descriptor is left for anything else."""
    limit = descriptors(node) + SPARE_DESCRIPTORS
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (limit, resource.prlimit(node.pid, resource.RLIMIT_NOFILE)[1]))
    with contextlib.ExitStack() as connections:
        for _ in range(CONNECTIONS):
            connections.enter_context(contextlib.closing(socket.create_connection((node.host, node.port))))
        wait_until(lambda: descriptors(node) >= limit - 1, "no descriptor is free")
        yield


def exhaust(cluster: Cluster) -> list[Operation]:
    """Write into logs whose files are not open yet while no descriptor is left; what the client was told."""
    node = cluster[1]
    history: list[Operation] = []
    with node.client() as client:
        client.create_topic("orders", PARTITIONS)
        history += [client.send_batch("orders", p, (f"before-{p}",))[0] for p in range(PARTITIONS)]
    node.kill()
    cluster.restart_dead()  # no segment is open
    with node.client(timeout_s=3) as client, crowded(node):
        for partition in range(PARTITIONS):
            client.poll("orders", partition, 0)
            history.append(client.send_batch("orders", partition, (f"during-{partition}",))[0])
    return history


def all_is_there(cluster: Cluster, history: list[Operation]) -> None:
    node = cluster[1]
    wait_until(node.is_ready, "it is ready", timeout_s=10)
    with node.client() as client:
        for partition in range(PARTITIONS):
            send, answer = client.send_batch("orders", partition, (f"after-{partition}",))
            assert send.outcome is Outcome.ACKNOWLEDGED, answer
            history += [send, client.read_all("orders", partition)]
        assert [] == check(history)
        assert [] == client.get("/v3/clusters/-/health").json()["reasons"]


@pytest.mark.long
def test_too_many_connections_do_not_take_the_disk_away(form: Form):
    """EMFILE says nothing about a disk: afterwards the same partitions are written and read (S1, S19)."""
    cluster = form(1)
    all_is_there(cluster, exhaust(cluster))
