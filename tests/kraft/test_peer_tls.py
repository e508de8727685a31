"""Mutual TLS between nodes: a certificate of the cluster's authority, and of this very node, or no link."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kraft.peer_tls import certificate_speaks_for, names_of
from kraft.peer_transport import PeerTransport
from kraft.quorum_config import PeerTls
from tests.kraft.quorum_harness import quorum_configs, until

NOW = dt.datetime.now(dt.UTC)


class Authority:
    """Signs certificates and writes them where a node finds them."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key, alternative_names=[], is_authority=True)
        self._write(f"{name}.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def node(self, common_name: str, *, alternative_names: tuple[str, ...] = (), trusts: str = "") -> PeerTls:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(common_name, key, alternative_names=alternative_names, is_authority=False)
        stem = f"{self._name}-{common_name}-{'-'.join(alternative_names)}"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return PeerTls(
            certificate_file=self._write(f"{stem}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            key_file=self._write(f"{stem}.key", private),
            ca_file=str(self._directory / f"{trusts or self._name}.pem"),
        )

    def _sign(self, common_name, key, *, alternative_names, is_authority) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(hours=1))
            .not_valid_after(NOW + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if alternative_names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in alternative_names])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> str:
        path = self._directory / name
        path.write_bytes(content)
        return str(path)


@pytest.fixture
async def linked(tmp_path):
    """linked(tls of node 1, tls of node 2) -> what was logged until both were linked or one was turned away."""
    started: list[PeerTransport] = []

    async def link(*tls: PeerTls | None) -> tuple[bool, list[str]]:
        configs = quorum_configs(tmp_path, voters=3, tls=lambda node_id: tls[node_id - 1] if node_id < 3 else None)
        with structlog.testing.capture_logs() as log:
            for node_id in (1, 2):
                transport = PeerTransport(configs[node_id], wake=lambda: None)
                await transport.start()
                started.append(transport)
            one, two = started
            await until(
                lambda: (one.connected_ids() and two.connected_ids()) or any(e["log_level"] == "warning" for e in log)
            )
        return two.connected_ids() == {1}, [entry.get("reason", "") for entry in log]

    yield link
    await asyncio.gather(*(transport.stop() for transport in started))


async def test_nodes_with_their_own_certificates_are_linked(tmp_path, linked):
    authority = Authority(tmp_path)
    is_linked, _ = await linked(authority.node("node-1"), authority.node("any", alternative_names=("h.org", "node-2")))
    assert is_linked


async def test_a_certificate_of_another_node_is_refused_by_name(tmp_path, linked):
    authority = Authority(tmp_path)
    is_linked, reasons = await linked(authority.node("node-1"), authority.node("node-3"))
    assert not is_linked
    assert "the certificate does not carry the name node-2" in reasons


async def test_a_listener_with_another_nodes_certificate_is_refused_too(tmp_path, linked):
    authority = Authority(tmp_path)
    is_linked, reasons = await linked(authority.node("node-3"), authority.node("node-2"))
    assert not is_linked
    assert "the certificate does not carry the name node-1" in reasons


async def test_a_common_name_does_not_count_beside_alternative_names(tmp_path, linked):
    authority = Authority(tmp_path)
    is_linked, _ = await linked(authority.node("node-1"), authority.node("node-2", alternative_names=("node-3",)))
    assert not is_linked


async def test_a_certificate_of_another_authority_is_refused(tmp_path, linked):
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    is_linked, _ = await linked(authority.node("node-1"), other.node("node-2", trusts="authority"))
    assert not is_linked


async def test_a_node_without_tls_does_not_get_in(tmp_path, linked):
    is_linked, _ = await linked(Authority(tmp_path).node("node-1"), None)
    assert not is_linked


def test_a_missing_key_file_is_an_error_before_anything_listens(tmp_path):
    tls = Authority(tmp_path).node("node-1")
    Path(tls.key_file).unlink()
    config = quorum_configs(tmp_path, voters=1, tls=lambda _: tls)[1]
    with pytest.raises(OSError, match="No such file"):
        PeerTransport(config, wake=lambda: None)


def test_names_are_the_alternative_ones_else_the_common_one():
    subject = ((("commonName", "node-1"),),)
    assert ["node-1"] == names_of({"subject": subject})
    assert ["node-2"] == names_of({"subject": subject, "subjectAltName": (("DNS", "node-2"), ("IP Address", "::1"))})
    assert not certificate_speaks_for(None, 1)
    assert not certificate_speaks_for({"subject": subject}, 11)
    assert ssl.HAS_TLSv1_3
