"""A cluster whose every link is encrypted, as its operator makes it: certificates of a private authority, three files.

What works then, who stays outside, and what each file that can't be right is told.
"""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka
import pytest
from cryptography.hazmat.primitives import serialization

from api.node_tls import NodeTls, read_node_tls
from broker.config import ConfigError, load_config
from kraft.peer_frames import (
    MAX_HELLO_FRAME_BYTES,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    FrameKind,
    FrameReader,
    Hello,
    decode_body,
    encode_frame,
)
from tests.api.secure_cluster import HEADER_TIMEOUT_MS, TOPICS, Authority, SecureCluster, SecureNode, wait_until

KRAFT = Path(sys.executable).parent / "kraft"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    cluster = SecureCluster(tmp_path_factory.mktemp("secure"))
    try:
        yield cluster.start()
    finally:
        cluster.close()


def record(partition: int, text: str) -> dict[str, Any]:
    return {"partition_id": partition, "value": {"type": "STRING", "data": text}}


# -- HTTP ------------------------------------------------------------------------------------------------------------


def test_any_node_takes_any_request_although_only_a_private_authority_vouches_for_the_others(
    cluster: SecureCluster,
) -> None:
    one, two, three = cluster.nodes
    leaders = cluster.create("orders", 3, through=one)
    partition = next(partition for partition, leader in leaders.items() if leader == 1)
    for node in (two, three):
        wait_until(lambda node=node: node.ask("GET", f"{TOPICS}/orders")[0] == 200, "all know the topic")
    status, receipt, headers = two.ask("POST", f"{TOPICS}/orders/records", record(partition, "paid"))
    assert (200, 0) == (status, receipt["offset"]), receipt
    assert one.url == headers["X-Leader-Url"]
    status, fetched, _ = three.ask("GET", f"{TOPICS}/orders/partitions/{partition}/records?offset=0")
    assert (200, ["paid"]) == (status, [each["value"]["data"] for each in fetched["records"]])


def test_who_speaks_plain_http_to_an_https_port_learns_nothing(cluster: SecureCluster) -> None:
    node = cluster.nodes[0]
    before = node.log()
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"" == connection.recv(1024)
    assert node.is_ready()
    assert before == node.log()


def test_a_client_that_never_begins_its_handshake_holds_a_connection_no_longer_than_one_without_a_head(
    cluster: SecureCluster,
) -> None:
    address = ("127.0.0.1", cluster.nodes[0].port)
    patience_s = 30 * HEADER_TIMEOUT_MS / 1000
    with socket.create_connection(address, timeout=patience_s) as silent, contextlib.suppress(ConnectionResetError):
        assert b"" == silent.recv(1)


# -- Kafka -----------------------------------------------------------------------------------------------------------


def test_brokers_copy_from_each_other_and_clients_with_a_certificate_read_it(cluster: SecureCluster) -> None:
    one, two, _ = cluster.nodes
    topic = {"topic_name": "copied", "partitions_count": 1, "replication_factor": 3}
    topic["configs"] = [{"name": "min.insync.replicas", "value": "3"}]
    wait_until(lambda: one.ask("POST", TOPICS, topic)[0] in (201, 400), "topic copied is created")
    wait_until(
        lambda: two.ask("POST", f"{TOPICS}/copied/records?acks=-1", record(0, "safe"))[0] == 200,
        "a record is on all three nodes",
    )
    files = cluster.authority.certify("client")
    client = confluent_kafka.Consumer({
        "bootstrap.servers": f"127.0.0.1:{cluster.kafka_ports[1]}", "group.id": "none",
        "security.protocol": "SSL", "ssl.ca.location": str(cluster.authority.file),
        "ssl.certificate.location": str(files.certificate), "ssl.key.location": str(files.key),
    })  # fmt: skip
    client.assign([confluent_kafka.TopicPartition("copied", 0, 0)])
    message = client.poll(30)
    client.close()
    assert message is not None
    assert (None, b"safe") == (message.error(), message.value())


def test_without_a_certificate_nobody_gets_to_where_brokers_replicate(cluster: SecureCluster) -> None:
    context = ssl.create_default_context(cafile=cluster.authority.file)
    address = ("127.0.0.1", cluster.kafka_ports[1])
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(address, timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as stranger,
    ):
        stranger.sendall(bytes(100))  # in TLS 1.3 a client learns that it is refused from what comes back
        assert b"" == stranger.recv(1)


# -- the command line ------------------------------------------------------------------------------------------------


def kraft(*arguments: str, trusted: Path | None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if trusted is not None:
        environment["SSL_CERT_FILE"] = str(trusted)
    return subprocess.run(
        [KRAFT, *arguments], input=stdin, capture_output=True, text=True, timeout=30, env=environment, check=False
    )


def test_the_command_line_speaks_https_and_trusts_who_ssl_cert_file_names(cluster: SecureCluster) -> None:
    cluster.create("shell", 1, through=cluster.nodes[0])
    where = ("-b", cluster.nodes[1].url)
    sent = kraft("produce", "shell", *where, trusted=cluster.authority.file, stdin="a\nb\n")
    assert 0 == sent.returncode, sent.stderr
    received = kraft("consume", "shell", "-o", "start", "-n", "2", *where, trusted=cluster.authority.file)
    assert (0, "a\nb\n") == (received.returncode, received.stdout), received.stderr


def test_the_command_line_says_how_to_trust_a_private_authority(cluster: SecureCluster, tmp_path: Path) -> None:
    url = cluster.nodes[0].url
    unknown = kraft("topic", "list", "-b", url, trusted=None)
    assert 1 == unknown.returncode
    assert f"the certificate at {url} is not trusted" in unknown.stderr
    assert "SSL_CERT_FILE=ca.pem" in unknown.stderr
    assert 1 == len(unknown.stderr.splitlines())
    missing = kraft("topic", "list", "-b", url, trusted=tmp_path / "none.pem")
    assert f"SSL_CERT_FILE={tmp_path / 'none.pem'} is no file" in missing.stderr
    other_name = kraft(
        "topic", "list", "-b", f"https://localhost:{cluster.nodes[0].port}", trusted=cluster.authority.file
    )
    assert "Hostname mismatch" in other_name.stderr
    assert "SSL_CERT_FILE" not in other_name.stderr


def test_the_command_line_that_was_told_http_is_told_https(cluster: SecureCluster) -> None:
    node = cluster.nodes[0]
    ended = kraft("topic", "list", "-b", f"127.0.0.1:{node.port}", trusted=None)
    assert 5 == ended.returncode
    assert f"if that is an HTTPS listener: -b {node.url}" in ended.stderr


# -- the peer link ---------------------------------------------------------------------------------------------------


def test_a_node_whose_certificate_another_authority_signed_stays_outside_and_the_others_go_on(
    cluster: SecureCluster, tmp_path: Path
) -> None:
    one, two, three = cluster.nodes
    foreign = Authority(tmp_path, "foreign").certify("node-2")
    two.stop()
    two.start(f"peer.ssl.certificate={foreign.certificate}", f"peer.ssl.key={foreign.key}")
    try:
        wait_until(lambda: two.reasons() and any("certificate" in reason for reason in three.reasons()), "both told")
        cluster.create("without-two", 1, through=one)
        time.sleep(1.0)  # sleeps: a dozen further attempts, each of which could be logged or let in
        assert not two.is_ready()
        assert 1 == len([reason for reason in three.reasons() if "certificate verify failed" in reason])
        assert 1 == len(set(two.reasons()))
        assert 1 == two.log().count(f"peer.ssl.certificate={foreign.certificate}: ")
        assert 0 == two.stop()
    finally:
        two.close()
        two.start().wait_ready()
    assert 200 == two.ask("GET", f"{TOPICS}/without-two")[0]


def test_nobody_gets_in_with_the_certificate_of_another_node(cluster: SecureCluster) -> None:
    one = cluster.nodes[0]
    other = cluster.authority.certify("node-2")
    context = ssl.create_default_context(cafile=str(cluster.authority.file))
    context.load_cert_chain(other.certificate, other.key)
    hello = Hello(
        protocol="kraft-peer", version=PROTOCOL_VERSION, oldest_version=OLDEST_PROTOCOL_VERSION,
        cluster_id=cluster.cluster_id, node_id=3, directory_id=uuid.uuid4().bytes, voters=(1, 2, 3),
    )  # fmt: skip
    log_start = len(one.log())
    reason = "the certificate does not carry the name node-3"
    for _ in range(10):
        with (
            socket.create_connection(("127.0.0.1", cluster.peer_ports[1]), timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1") as link,
        ):
            link.sendall(encode_frame(FrameKind.HELLO, hello))
            reader = FrameReader(MAX_HELLO_FRAME_BYTES)
            while received := link.recv(4096):
                reader.feed(received)
            frame = reader.next_frame()
        assert frame is not None
        assert FrameKind.REFUSAL == frame[0]
        assert reason == decode_body(*frame).reason
    said = one.log()[log_start:]
    assert 1 == said.count(reason)
    assert "disconnected" not in said, "the real node 3 noticed nothing"


# -- files that can't be right ---------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """A node's TLS settings in order, to be spoilt one by one."""

    values: dict[str, object]

    def read(self, **changed: object) -> tuple[NodeTls, list[str]]:
        """`read_node_tls` of these settings; `changed` with underscores for dots, None leaves a key out."""
        values = self.values | {key.replace("_", "."): value for key, value in changed.items()}
        overrides = [f"{key}={value}" for key, value in values.items() if value is not None]
        config, warnings = load_config(None, {}, overrides)
        return read_node_tls(config, warnings), warnings

    def refusal(self, **changed: object) -> str:
        with pytest.raises(ConfigError) as caught:
            self.read(**changed)
        return str(caught.value)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def settings(authority: Authority) -> Settings:
    files = authority.certify("node-1")
    return Settings({
        "http.listeners": "https://127.0.0.1:8082",
        "http.ssl.certificate": files.certificate, "http.ssl.key": files.key,
        "peer.ssl.certificate": files.certificate, "peer.ssl.key": files.key,
        "peer.ssl.authorities": authority.file,
        "listeners": "SSL://127.0.0.1:9092",
        "kafka.ssl.certificate": files.certificate, "kafka.ssl.key": files.key,
        "kafka.ssl.authorities": authority.file,
    })  # fmt: skip


FILE_KEYS = (
    "http.ssl.certificate", "http.ssl.key", "http.ssl.authorities",
    "peer.ssl.certificate", "peer.ssl.key", "peer.ssl.authorities",
    "kafka.ssl.certificate", "kafka.ssl.key", "kafka.ssl.authorities",
)  # fmt: skip


@pytest.mark.parametrize("key", FILE_KEYS)
def test_a_file_of_something_else_is_refused_by_its_key(settings: Settings, tmp_path: Path, key: str) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN NONSENSE-----\n")
    assert settings.refusal(**{key: nonsense}).startswith(f"{key}={nonsense}: ")
    assert settings.refusal(**{key: tmp_path / "none"}).startswith(f"{key}={tmp_path / 'none'} ")


@pytest.mark.parametrize("link", ["http", "peer", "kafka"])
def test_the_key_of_another_certificate_is_refused(settings: Settings, authority: Authority, link: str) -> None:
    key = authority.certify("node-2").key
    message = settings.refusal(**{f"{link}.ssl.key": key})
    assert message.startswith(f"{link}.ssl.key={key}: is not the key of {link}.ssl.certificate=")


@pytest.mark.parametrize("link", ["http", "peer", "kafka"])
def test_a_passphrase_is_refused_and_never_asked_for(settings: Settings, tmp_path: Path, link: str) -> None:
    plain = serialization.load_pem_private_key(Path(str(settings.values["http.ssl.key"])).read_bytes(), None)
    secret = tmp_path / "secret.key"
    encryption = serialization.BestAvailableEncryption(b"opensesame")
    secret.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    assert "without a passphrase" in settings.refusal(**{f"{link}.ssl.key": secret})


def test_a_peer_certificate_of_another_node_is_refused_with_the_names_it_has(
    settings: Settings, authority: Authority
) -> None:
    other = authority.certify("node-2")
    message = settings.refusal(peer_ssl_certificate=other.certificate, peer_ssl_key=other.key)
    assert message.startswith(f"peer.ssl.certificate={other.certificate}: ")
    assert "does not carry the name node-1 (its names: node-2)" in message
    message = settings.refusal(kafka_ssl_certificate=other.certificate, kafka_ssl_key=other.key)
    assert message.startswith(f"kafka.ssl.certificate={other.certificate}: ")
    assert "does not carry the name node-1 (its names: node-2)" in message


def test_clients_need_no_certificate_where_brokers_do_not_replicate(settings: Settings) -> None:
    two = "PLAINTEXT://127.0.0.1:9092,SSL://127.0.0.1:9094"
    tls, _ = settings.read(listeners=two)
    assert (None, None) == (tls.replication, tls.fetcher)
    assert tls.kafka is not None
    assert ssl.CERT_NONE == tls.kafka.verify_mode
    tls, _ = settings.read(listeners=two, inter_broker_listener_name="SSL")
    assert tls.replication is not None
    assert ssl.CERT_REQUIRED == tls.replication.verify_mode


def test_a_wrong_file_stops_the_process_with_one_line(cluster: SecureCluster, tmp_path: Path) -> None:
    spare = SecureNode(1, tmp_path, 0, cluster.authority.file)
    (tmp_path / "server.properties").write_text((cluster.nodes[0].directory / "server.properties").read_text())
    code, said = spare.refused(f"peer.ssl.authorities={tmp_path / 'server.properties'}")
    assert 2 == code
    assert 1 == len(said.splitlines()), said
    assert f"peer.ssl.authorities={tmp_path / 'server.properties'}: holds no certificate" in said


# -- whom the proxy trusts -------------------------------------------------------------------------------------------


def trusted_names(context: ssl.SSLContext | None) -> list[str]:
    assert context is not None
    found: list[Mapping[str, Any]] = context.get_ca_certs()
    return [value for each in found for part in each["subject"] for key, value in part if key == "commonName"]


def test_the_proxy_trusts_http_ssl_authorities_alone_else_those_of_the_peer_link_too(
    settings: Settings, tmp_path: Path
) -> None:
    outside = Authority(tmp_path, "outside").file
    assert ["outside"] == trusted_names(settings.read(http_ssl_authorities=outside)[0].proxy)
    assert "authority" in trusted_names(settings.read()[0].proxy)
    behind_a_gateway = {"http_listeners": "http://127.0.0.1:8082", "http_ssl_certificate": None, "http_ssl_key": None}
    tls, _ = settings.read(**behind_a_gateway, advertised_http_listeners="https://kraft.example:443")
    assert tls.listener is None
    assert "authority" in trusted_names(tls.proxy)


def test_http_ssl_authorities_without_https_are_told_to_have_no_effect(settings: Settings) -> None:
    plain = {"http_listeners": "http://127.0.0.1:8082", "http_ssl_certificate": None, "http_ssl_key": None}
    tls, warnings = settings.read(**plain, http_ssl_authorities=settings.values["peer.ssl.authorities"])
    assert (NodeTls(None, None), 1) == (tls._replace(kafka=None, replication=None, fetcher=None), len(warnings))
    assert "http.ssl.authorities has no effect" in warnings[0]


def test_a_node_that_does_not_trust_the_leader_says_so_and_ends_in_good_order(
    cluster: SecureCluster, tmp_path: Path
) -> None:
    one, two, _ = cluster.nodes
    leaders = cluster.create("distrust", 3, through=one)
    partition = next(partition for partition, leader in leaders.items() if leader == 1)
    two.stop()
    try:
        two.start(f"http.ssl.authorities={Authority(tmp_path, 'outside').file}").wait_ready()
        status, refusal, _ = two.ask("POST", f"{TOPICS}/distrust/records?timeout=300", record(partition, "x"))
        assert (503, "not_written") == (status, refusal["outcome"])
        assert "broker 1 shows a certificate" in refusal["message"]
        assert "http.ssl.authorities" in refusal["message"]
        with (
            socket.create_connection(("127.0.0.1", two.port)) as connection,
            ssl.create_default_context(cafile=str(cluster.authority.file)).wrap_socket(
                connection, server_hostname="127.0.0.1"
            ),
        ):
            assert 0 == two.stop(), "an idle client that never says goodbye delays nothing"
    finally:
        two.close()
        two.start().wait_ready()
