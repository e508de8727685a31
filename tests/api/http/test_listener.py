"""A port is opened, drained and closed as an operator expects."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.http.app import create_app
from api.http.listener import HttpListener
from tests.api.http.conftest import quick, until
from tests.api.http.fake_node import FakeNode
from tests.api.http.raw_connection import RawConnection


async def test_a_port_in_use_is_the_systems_error(cluster):
    with pytest.raises(OSError, match="in use"):
        await HttpListener(cluster.apps[0], "127.0.0.1", cluster.listeners[0].port).start()


async def test_a_drained_listener_takes_no_more_and_finishes_what_it_has(api, cluster):
    await api.topic()
    port = cluster.listeners[0].port
    async with RawConnection(port) as idle:
        await until(lambda: cluster.listeners[0].connections == 2)
        await cluster.listeners[0].drain(5.0)
        assert await idle.is_closed()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


class TestKept:
    @pytest.fixture
    def settings(self):
        return quick(drain_kept_s=60.0)

    async def test_a_kept_connection_is_not_closed_under_a_request_that_is_on_its_way(self, cluster):
        """S15: a node that has not heard yet that this one stops is answered, and told to come by another way."""
        async with RawConnection(cluster.listeners[0].port) as kept:
            assert 200 == (await kept.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))[0]
            draining = asyncio.create_task(cluster.listeners[0].drain(60.0))
            await until(lambda: cluster.context(1).is_draining)
            await kept.send_head("GET", "/healthz")
            head = await kept.read_head()
            assert (200, "close") == (head.status, head.headers["connection"])
            assert await kept.is_closed()
            draining.cancel()


def self_signed(folder) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*encoding))
    return str(paths[0]), str(paths[1])


async def test_a_listener_can_speak_tls(cluster, settings, tmp_path):
    certificate, key = self_signed(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=certificate)
    listener = HttpListener(create_app(FakeNode(cluster, 1), settings), "127.0.0.1", 0, server)
    await listener.start()
    try:
        url = f"https://127.0.0.1:{listener.port}/v3/clusters"
        async with cluster.client.get(url, ssl=client, server_hostname="localhost") as answer:
            document = await answer.json()
        assert document["metadata"]["self"].startswith("https://")
    finally:
        await listener.stop()
