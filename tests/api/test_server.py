"""One node as its operator meets it: a process that starts, says what is wrong in one line, and stops in good order."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cli.ports import free_ports
from kraft import journal
from kraft.disk import PosixDisk
from kraft.entry_kinds import EntryKind
from wire.connection import ClientConnection
from wire.messages import ApiKey
from wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 60.0


class NodeProcess:
    """A `kraft node` with its directory and ports; started as often as the test likes, never left behind."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "node"
        self.http_port, self.peer_port = free_ports(2)
        self._cleanup = ExitStack()
        self.process: subprocess.Popen[str] | None = None

    def arguments(self, *settings: str) -> list[str]:
        own = (
            "node.id=1",
            f"node.directory={self.directory}",
            f"controller.quorum.voters=1@127.0.0.1:{self.peer_port}",
            f"http.listeners=http://127.0.0.1:{self.http_port}",
            "listeners=PLAINTEXT://127.0.0.1:0",
        )
        return [word for setting in (*own, *settings) for word in ("--set", setting)]

    def start(self, *options: str, settings: tuple[str, ...] = ()) -> "NodeProcess":
        command = [sys.executable, "-P", "-m", "kraft_bundle.server", *options, *self.arguments(*settings)]
        log = self._cleanup.enter_context((self.directory.parent / "log").open("a+"))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts" / "bundle")}
        self.process = subprocess.Popen(command, stderr=log, text=True, env=environment, cwd=self.directory.parent)
        return self

    def refused(self, *options: str, settings: tuple[str, ...] = ()) -> tuple[int, str]:
        """The exit code, and the last line that was said."""
        self.start(*options, settings=settings)
        assert self.process is not None
        code = self.process.wait(START_S)
        return code, (self.directory.parent / "log").read_text().splitlines()[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(START_S)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            headers = {"content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def ready(self) -> "NodeProcess":
        assert self.process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            assert self.process.poll() is None, (self.directory.parent / "log").read_text()
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)  # sleeps: between two questions to another process
        raise AssertionError((self.directory.parent / "log").read_text())

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(START_S)
        self._cleanup.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path)
    yield node
    node.close()


TOPICS = "/v3/clusters/-/topics"


def test_a_new_node_serves_and_keeps_what_it_acknowledged_through_kill_9(node: NodeProcess) -> None:
    node.start("--format-directory").ready()
    assert 201 == node.ask("POST", TOPICS, {"topic_name": "pay"})[0]
    sent, receipt = node.ask("POST", f"{TOPICS}/pay/records", {"value": {"type": "STRING", "data": "a"}})
    assert (200, 0) == (sent, receipt["offset"])
    node.stop(signal.SIGKILL)
    node.start().ready()
    status, fetched = node.ask("GET", f"{TOPICS}/pay/partitions/0/records?offset=0")
    assert 200 == status
    assert ["a"] == [record["value"]["data"] for record in fetched["records"]]


def test_sigterm_ends_in_good_order_with_exit_code_0(node: NodeProcess) -> None:
    node.start("--format-directory").ready()
    assert 0 == node.stop()
    log = (node.directory.parent / "log").read_text().splitlines()
    events = [json.loads(line)["event"] for line in log if line.startswith("{")]
    assert "stopped" == events[-1]
    assert (node.directory / "data" / ".kraft_cleanshutdown").exists()


def test_whoever_waits_on_the_kafka_listener_is_answered_before_a_node_stops(node: NodeProcess) -> None:
    (port,) = free_ports(1)
    listens = (f"listeners=PLAINTEXT://127.0.0.1:{port}",)
    node.start("--format-directory", settings=listens).ready()
    assert 201 == node.ask("POST", TOPICS, {"topic_name": "pay"})[0]
    wire = ClientConnection("test")
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as client:
        asked = FetchRequest(max_wait_ms=60_000, min_bytes=1, topics=[FetchTopic("pay", partitions=[FetchPartition()])])
        client.sendall(b"".join(wire.send(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())[1]))
        ((_, versions),) = wire.receive(client.recv(1 << 16))
        assert isinstance(versions, ApiVersionsResponse)
        assert not versions.error_code
        client.sendall(b"".join(wire.send(ApiKey.FETCH, 12, asked)[1]))
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        ((_, fetched),) = wire.receive(client.recv(1 << 16))
        assert isinstance(fetched, FetchResponse)
        assert b"" == client.recv(1), "and its connection is closed"
    assert 0 == node.process.wait(START_S)


def test_an_unformatted_directory_is_refused_with_what_to_do(node: NodeProcess) -> None:
    code, line = node.refused()
    assert 2 == code
    assert "is not formatted" in line
    assert "--format" in line


def test_a_typo_is_refused_with_the_right_name(node: NodeProcess) -> None:
    code, line = node.refused(settings=("num.partition=3",))
    assert 2 == code
    assert "did you mean num.partitions?" in line


def test_a_port_in_use_is_refused_in_one_line_that_names_it(node: NodeProcess) -> None:
    with socket.create_server(("127.0.0.1", node.http_port)):
        code, line = node.refused("--format-directory")
    assert 1 == code
    assert f"http://127.0.0.1:{node.http_port}" in line
    with socket.create_server(("127.0.0.1", node.peer_port)):
        code, line = node.refused()
    assert 1 == code
    assert str(node.peer_port) in line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kafka = f"PLAINTEXT://127.0.0.1:{taken.getsockname()[1]}"
        code, line = node.refused(settings=(f"listeners={kafka}",))
    assert 1 == code
    assert f"can't open the Kafka listener {kafka}" in line


def test_another_nodes_directory_is_refused(node: NodeProcess) -> None:
    node.start("--format-directory").ready()
    node.stop()
    code, line = node.refused(settings=("node.id=2", f"controller.quorum.voters=2@127.0.0.1:{node.peer_port}"))
    assert 2 == code
    assert "belongs to node 1" in line


def test_s16_a_voter_that_lost_its_journal_does_not_form_the_cluster_again(node: NodeProcess) -> None:
    node.start("--format-directory").ready()
    node.stop()
    for file in (node.directory / "metadata").iterdir():
        file.unlink()
    code, line = node.refused()
    assert 2 == code
    assert "this node was the only voter" in line
    assert (2, line) == node.refused("--format-directory"), "a second cluster under the first one's data is no way out"


def test_metadata_of_another_version_is_refused_in_one_line_that_says_what_to_do(node: NodeProcess) -> None:
    node.start("--format-directory").ready()
    assert 201 == node.ask("POST", TOPICS, {"topic_name": "pay"})[0]
    node.stop()
    written_by_another_version(node.directory / "metadata")
    code, line = node.refused()
    assert 1 == code
    assert "not in the format of this version of Kraft" in line
    assert "Start every node with the version that wrote it" in line
    said = (node.directory.parent / "log").read_text()
    assert "Traceback" not in said


def written_by_another_version(metadata: Path) -> None:
    """The same journal, whole, its commands in a format that this version does not know."""
    disk = PosixDisk(str(metadata))
    data, position = (metadata / journal.FILE_NAME).read_bytes(), journal._FRAMES_START
    entries: list[journal.Entry] = []
    commit_index = 0
    while (frame := journal.read_frame(data, position)) is not None:
        position, commit_index = frame.end, max(commit_index, frame.commit_index)
        entries += frame.entries
    changed = [
        (command[:1] + b"\x63" + command[2:] if command[0] == EntryKind.APPLICATION else command, index, term)
        for command, index, term in entries
    ]
    directory_id = UUID(bytes=journal._FILE_HEADER.unpack_from(data)[1])
    journal.DurableJournal.create(disk, directory_id, changed, commit_index)
    disk.close()


def test_a_listener_beyond_this_machine_needs_the_word_for_it(node: NodeProcess) -> None:
    beyond = (f"http.listeners=http://0.0.0.0:{node.http_port}",)
    code, line = node.refused("--format-directory", settings=beyond)
    assert 2 == code
    assert "insecure" in line
    node.start(
        "--format-directory", "--insecure-listeners", settings=(*beyond, "advertised.http.listeners=http://127.0.0.1:1")
    ).ready()
    warnings = [line for line in (node.directory.parent / "log").read_text().splitlines() if "insecure" in line]
    assert 1 <= len(warnings)


def test_a_log_directory_of_another_cluster_is_refused_in_one_line(node: NodeProcess, tmp_path: Path) -> None:
    node.start("--format-directory").ready()
    node.stop()
    other = tmp_path / "other"
    other.mkdir()
    stranger = NodeProcess(other)
    try:
        code, line = stranger.refused("--format-directory", settings=(f"log.dirs={node.directory / 'data'}",))
    finally:
        stranger.close()
    assert 2 == code
    assert "belongs to cluster" in line


def test_a_log_directory_that_cant_be_made_names_the_key(node: NodeProcess) -> None:
    code, line = node.refused("--format-directory", settings=("log.dirs=/proc/nope",))
    assert 2 == code
    assert "log.dirs: /proc/nope can't be used" in line
