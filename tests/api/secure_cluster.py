"""Nodes whose every link is encrypted: a private authority, its certificates, and three processes that use them.

Owns the processes and kills them in `close`; everything lies in the folder that the test gives.
"""

import datetime as dt
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.meta_properties import format_directory, new_cluster_id
from cli.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
READY_S = 60.0
HEADER_TIMEOUT_MS = 1000
TOPICS = "/v3/clusters/-/topics"


def wait_until(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < until, f"after {READY_S} s still not: {what}"
        time.sleep(0.02)  # sleeps: between two questions to another process


# -- certificates ----------------------------------------------------------------------------------------------------


class Files(NamedTuple):
    certificate: Path
    key: Path


class Authority:
    """Signs certificates and writes them as PEM; `file` is what others trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_agreement=False,
            key_encipherment=False, data_encipherment=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            self._begin(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self._write(f"{name}.pem", certificate)

    def certify(self, name: str) -> Files:
        """A certificate for the node of this name, reachable as 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            self._begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
            .add_extension(names, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{self._name.rfc4514_string().removeprefix('CN=')}-{name}"
        key_file = self._folder / f"{stem}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Files(self._write(f"{stem}.pem", certificate), key_file)

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1),
            not_valid_after=now + dt.timedelta(days=1),
        ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


# -- nodes -----------------------------------------------------------------------------------------------------------


class SecureNode:
    """A `kraft node` with a server.properties; started as often as a test likes, with other settings if it likes."""

    def __init__(self, node_id: int, directory: Path, port: int, trusted: Path) -> None:
        self.node_id = node_id
        self.directory = directory
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._trusts = ssl.create_default_context(cafile=str(trusted))
        self._log_start = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.directory / "kraft.log"

    def log(self) -> str:
        """What it said since its last start."""
        return self.log_file.read_bytes()[self._log_start :].decode()

    def reasons(self) -> list[str]:
        """Why peers were not connected, in the order of its log."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line["reason"] for line in lines if line["event"] == "peer not connected"]

    def start(self, *settings: str) -> "SecureNode":
        overrides = [word for setting in settings for word in ("--set", setting)]
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kraft_bundle.server", "-c", "server.properties", *overrides],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts" / "bundle")},
            )
        return self

    def refused(self, *settings: str) -> tuple[int, str]:
        """The exit code, and all that it said."""
        self.start(*settings)
        assert self.process is not None
        return self.process.wait(READY_S), self.log()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(READY_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(READY_S)

    def wait_ready(self) -> None:
        wait_until(lambda: self.is_ready() or self.ended, f"node {self.node_id} is ready")
        assert not self.ended, self.log()

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=15, context=self._trusts)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None, dict(answer.headers)


class SecureCluster:
    """Three voters with certificates of one authority."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "authority")
        ports = free_ports(9)
        voters = ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in enumerate(ports[:3], start=1))
        self.peer_ports = dict(enumerate(ports[:3], start=1))
        self.cluster_id = new_cluster_id()
        directories = {node_id: uuid.uuid4() for node_id in (1, 2, 3)}
        self.nodes = [
            SecureNode(node_id, folder / f"node-{node_id}", port, self.authority.file)
            for node_id, port in enumerate(ports[3:6], start=1)
        ]
        self.kafka_ports = dict(enumerate(ports[6:], start=1))
        for node in self.nodes:
            format_directory(
                node.directory, cluster_id=self.cluster_id, node_id=node.node_id, voter_directories=directories
            )
            files = self.authority.certify(f"node-{node.node_id}")
            properties = [
                f"node.id={node.node_id}", "node.directory=.", f"controller.quorum.voters={voters}",
                f"http.listeners={node.url}", f"listeners=SSL://127.0.0.1:{self.kafka_ports[node.node_id]}",
                f"kafka.ssl.certificate={files.certificate}", f"kafka.ssl.key={files.key}",
                f"kafka.ssl.authorities={self.authority.file}",
                f"http.ssl.certificate={files.certificate}", f"http.ssl.key={files.key}",
                f"peer.ssl.certificate={files.certificate}", f"peer.ssl.key={files.key}",
                f"peer.ssl.authorities={self.authority.file}",
                f"http.header.timeout.ms={HEADER_TIMEOUT_MS}",
            ]  # fmt: skip
            (node.directory / "server.properties").write_text("\n".join(properties))

    def start(self) -> "SecureCluster":
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready()
        return self

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def create(self, topic: str, partitions: int, *, through: SecureNode) -> dict[int, int]:
        """A new topic; which node leads each of its partitions."""
        wait_until(  # a cluster that has just lost a node may be electing
            lambda: through.ask("POST", TOPICS, {"topic_name": topic, "partitions_count": partitions})[0] in (201, 400),
            f"topic {topic} is created",
        )
        _, listed, _ = through.ask("GET", f"{TOPICS}/{topic}/partitions")
        replicas = [
            through.ask("GET", f"{TOPICS}/{topic}/partitions/{each['partition_id']}/replicas")[1]["data"]
            for each in listed["data"]
        ]
        return {each["partition_id"]: each["broker_id"] for found in replicas for each in found if each["is_leader"]}
