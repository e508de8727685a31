"""Each network between nodes does what a network does: a cut is silence in one direction, its end brings what was held.

The same sentences for proxies and for packets in namespaces. The latter where this runs in a network namespace of its
own: `test_namespaces.py` runs this file in one.
"""

import contextlib
import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.ports import free_ports
from tests.faults.harness import LOOPBACK, wait_until
from tests.faults.links import Links
from tests.faults.namespaces import Namespaces, why_not
from tests.faults.network import setting
from tests.faults.own_namespace import bring_loopback_up, connected

HERE, THERE, ELSEWHERE = 1, 2, 3
"""This process is node 1; the echo that it talks to counts as node 2."""
SILENCE_S = 0.3
ANSWERED_S = 30.0
ALL_AT_ONCE = 65536
CLONE_NEWNET = 0x40000000


class Proxied:
    """Both ends on one loopback."""

    def __init__(self, cluster: SimpleNamespace) -> None:
        self.network = Links(cluster, seed=7)

    def socket(self, _: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        return socket.socket(socket.AF_INET, kind)


class Spaced:
    """Each end in a namespace of its own: a socket is where it was made, whichever thread uses it."""

    def __init__(self, cluster: SimpleNamespace) -> None:
        self.network = Namespaces(cluster)

    def socket(self, node_id: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        made: list[socket.socket] = []

        def make() -> None:
            with Path(self.network.place(node_id).file).open("rb") as namespace:
                assert 0 == ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET)
            made.append(socket.socket(socket.AF_INET, kind))

        thread = threading.Thread(target=make)  # only this thread is elsewhere
        thread.start()
        thread.join()
        return made[0]


class Wire:
    """Node 1's way to node 2."""

    def __init__(self, site: Proxied | Spaced, cluster: SimpleNamespace) -> None:
        self.site, self.network, self.nodes = site, site.network, cluster.nodes
        there = self.nodes[THERE]
        self.listener = site.socket(THERE)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a connection's end is in the way
        self.listener.bind((there.host, int(setting(there, "http.listeners").rsplit(":", 1)[1])))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        listed = "advertised.http.listeners" if isinstance(site, Proxied) else "http.listeners"
        host, _, port = setting(there, listed).removeprefix("http://").rpartition(":")
        self.address = (host, int(port))
        self.connection = site.socket(HERE)
        self.connection.settimeout(ANSWERED_S)
        self.connection.connect(self.address)

    def say(self, text: bytes) -> None:
        self.connection.sendall(text)

    def hear(self, timeout_s: float = ANSWERED_S, size: int = 1) -> bytes:
        self.connection.settimeout(timeout_s)
        heard = b""
        try:
            while len(heard) < size and (more := self.connection.recv(ALL_AT_ONCE)):
                heard += more
        except TimeoutError:
            return heard or b"silence"
        return heard

    def close(self) -> None:
        self.connection.close()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(ANSWERED_S)
        self.network.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(self.listener.accept()[0],), daemon=True).start()


def echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while heard := connection.recv(ALL_AT_ONCE):
            connection.sendall(heard)


def has_own_network() -> bool:
    bring_loopback_up()
    return not connected() and why_not() is None


SITES = {"proxies": Proxied, **({"namespaces": Spaced} if has_own_network() else {})}


@pytest.fixture(params=SITES)
def wire(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    nodes = {}
    for node_id, pid in ((HERE, os.getpid()), (THERE, 0), (ELSEWHERE, 0)):
        config = tmp_path / f"{node_id}.properties"
        peer, kafka, http = (f"{LOOPBACK}:{port}" for port in free_ports(3))
        config.write_text(f"peer.listeners={peer}\nlisteners=PLAINTEXT://{kafka}\nhttp.listeners=http://{http}\n"
                          f"controller.quorum.voters={HERE}@{peer}\n")  # fmt: skip
        nodes[node_id] = SimpleNamespace(
            node_id=node_id, pid=pid, config_file=config, is_running=lambda: False, host=LOOPBACK, within=()
        )
    cluster = SimpleNamespace(nodes=nodes)
    site = SITES[request.param](cluster)
    with contextlib.ExitStack() as stack:
        stack.callback(site.network.close)
        site.network.know(nodes.values())
        wire = Wire(site, cluster)
        stack.pop_all()
    yield wire
    wire.close()


def packets(test: Callable[..., None]) -> Callable[..., None] | None:
    """Proxies work on bytes: where there are only they, there is no such test."""
    return pytest.mark.parametrize("wire", ["namespaces"], indirect=True)(test) if "namespaces" in SITES else None


def test_what_is_said_arrives(wire: Wire):
    wire.say(b"hello")
    assert b"hello" == wire.hear()


@pytest.mark.parametrize("direction", [(HERE, THERE), (THERE, HERE)])
def test_a_cut_direction_is_silent_and_its_end_brings_what_was_held(wire: Wire, direction: tuple[int, int]):
    wire.say(b"before")
    assert b"before" == wire.hear()
    wire.network.cut([direction])
    wire.say(b"during")
    assert b"silence" == wire.hear(SILENCE_S)
    wire.network.heal()
    assert b"during" == wire.hear()


def test_a_cut_between_others_is_not_felt(wire: Wire):
    wire.network.cut([(HERE, ELSEWHERE), (ELSEWHERE, THERE), (THERE, ELSEWHERE)])
    wire.say(b"hello")
    assert b"hello" == wire.hear()


def test_a_reset_ends_the_connections_of_the_link(wire: Wire):
    wire.say(b"before")
    assert b"before" == wire.hear()
    wire.network.reset([(HERE, THERE)])

    def is_over() -> bool:
        try:
            return wire.hear(SILENCE_S) == b""
        except ConnectionError:
            return True

    wait_until(is_over, "the connection has ended")


def test_a_reset_of_the_other_direction_leaves_it(wire: Wire):
    """A connection belongs to who opened it."""
    wire.network.reset([(THERE, HERE)])
    wire.say(b"still")
    assert b"still" == wire.hear()


def test_a_slow_link_is_slow_until_it_is_whole(wire: Wire):
    text = bytes(16384)
    wire.say(text)
    assert text == wire.hear(size=len(text))
    wire.network.slow(0.2)
    began_s = time.monotonic()
    wire.say(text)
    assert text == wire.hear(size=len(text))
    assert time.monotonic() - began_s > 0.2
    wire.network.heal()
    wire.say(b"quick")
    assert b"quick" == wire.hear()


def test_a_link_carries_so_many_bytes_a_second(wire: Wire):
    text = bytes(20_000)
    wire.network.slow(0.0, 50_000)
    began_s = time.monotonic()
    wire.say(text)
    assert text == wire.hear(size=len(text))
    assert time.monotonic() - began_s > 0.3


def test_packets_that_are_lost_come_when_they_are_sent_again(wire: Wire):
    wire.network.lose(1.0)
    wire.say(b"lost")
    assert b"silence" == wire.hear(SILENCE_S)
    wire.network.heal()
    assert b"lost" == wire.hear()


def test_faults_come_together_and_go_together(wire: Wire):
    wire.network.slow(0.05)
    wire.network.cut([(THERE, HERE)])
    wire.say(b"during")
    assert b"silence" == wire.hear(SILENCE_S)
    wire.network.cut([])
    assert b"during" == wire.hear()


# --- packets only ----------------------------------------------------------------------------------------------------


@packets
def test_about_so_many_packets_are_lost_as_were_asked_for(wire: Wire):
    wire.network.lose(0.3)
    with wire.site.socket(HERE, socket.SOCK_DGRAM) as speaker, wire.site.socket(THERE, socket.SOCK_DGRAM) as ear:
        ear.bind((wire.nodes[THERE].host, 0))
        arrived = 0
        for _ in range(20):
            for _ in range(50):  # no more than fit into what a socket holds
                speaker.sendto(b"heard?", ear.getsockname())
            ear.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while ear.recv(16):
                    arrived += 1
    assert 600 <= arrived <= 800


@packets
def test_clients_feel_nothing_of_it(wire: Wire):
    """Nor do those that a node's own namespace holds: what it says to itself is not on the wire."""
    wire.network.cut([(HERE, THERE), (THERE, HERE)])
    wire.network.lose(1.0)
    wire.network.slow(1.0, 1000)
    text = bytes(16384)
    began_s = time.monotonic()
    for client in (socket.socket(), wire.site.socket(THERE)):
        wire.connection.close()
        wire.connection = client
        client.settimeout(ANSWERED_S)
        client.connect(wire.address)
        wire.say(text)
        assert text == wire.hear(size=len(text))
    assert time.monotonic() - began_s < 16.0, "16 KiB at 1000 bytes a second"


@packets
def test_a_namespace_is_gone_with_its_network(wire: Wire):
    holder = wire.network.place(HERE).file
    wire.close()
    assert not Path(holder).exists()
    assert [] == connected()
    Namespaces(SimpleNamespace(nodes={})).close()
