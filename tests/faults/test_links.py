"""The proxies between nodes do what a network does: a cut is silence in one direction, its end brings what was held."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.harness import wait_until
from tests.faults.links import Links, setting

HERE, THERE = 1, 2
"""This process is node 1; the echo that it talks to counts as node 2."""
SILENCE_S = 0.3
ANSWERED_S = 30.0


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says everything again; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(ANSWERED_S)


def answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while heard := connection.recv(4096):
            connection.sendall(heard)


class Wire:
    """Node 1's way to node 2, through the proxy."""

    def __init__(self, links: Links, port: int) -> None:
        self.links = links
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_S)

    def say(self, text: bytes) -> None:
        self.connection.sendall(text)

    def hear(self, timeout_s: float = ANSWERED_S) -> bytes:
        self.connection.settimeout(timeout_s)
        try:
            return self.connection.recv(4096)
        except TimeoutError:
            return b"silence"


@pytest.fixture
def wire(tmp_path: Path, echo: int) -> Iterator[Wire]:
    nodes = {}
    for node_id, pid in ((HERE, os.getpid()), (THERE, 0)):
        config = tmp_path / f"{node_id}.properties"
        config.write_text(f"peer.listeners=127.0.0.1:{echo}\nlisteners=PLAINTEXT://127.0.0.1:{echo}\n"
                          f"http.listeners=http://127.0.0.1:{echo}\n")  # fmt: skip
        nodes[node_id] = SimpleNamespace(node_id=node_id, pid=pid, config_file=config, is_running=lambda: False)
    links = Links(SimpleNamespace(nodes=nodes), seed=7)
    links.know(nodes.values())
    wire = Wire(links, int(setting(nodes[THERE], "advertised.http.listeners").rsplit(":", 1)[1]))
    yield wire
    wire.connection.close()
    links.close()


def test_what_is_said_arrives(wire: Wire):
    wire.say(b"hello")
    assert b"hello" == wire.hear()


@pytest.mark.parametrize("direction", [(HERE, THERE), (THERE, HERE)])
def test_a_cut_direction_is_silent_and_its_end_brings_what_was_held(wire: Wire, direction: tuple[int, int]):
    wire.say(b"before")
    assert b"before" == wire.hear()
    wire.links.cut([direction])
    wire.say(b"during")
    assert b"silence" == wire.hear(SILENCE_S)
    wire.links.heal()
    assert b"during" == wire.hear()


def test_a_cut_between_others_is_not_felt(wire: Wire):
    wire.links.cut([(HERE, 3), (3, THERE)])
    wire.say(b"hello")
    assert b"hello" == wire.hear()


def test_a_reset_ends_the_connections_of_the_link(wire: Wire):
    wire.say(b"before")
    assert b"before" == wire.hear()
    wire.links.reset([(HERE, THERE)])

    def is_over() -> bool:
        try:
            return wire.hear(SILENCE_S) == b""
        except ConnectionResetError:
            return True

    wait_until(is_over, "the connection has ended")


def test_a_slow_link_is_slow_in_both_directions(wire: Wire):
    wire.say(b"before")
    assert b"before" == wire.hear()
    wire.links.slow(0.2)
    began_s = time.monotonic()
    wire.say(b"slow")
    assert b"slow" == wire.hear()
    assert time.monotonic() - began_s > 0.2


def test_packets_that_are_lost_come_when_they_are_sent_again(wire: Wire):
    wire.links.lose(1.0)
    wire.say(b"lost")
    assert b"silence" == wire.hear(SILENCE_S)
    wire.links.heal()
    assert b"lost" == wire.hear()
