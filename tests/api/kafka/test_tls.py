"""On a replication listener over TLS a broker is who its certificate says (S9)."""

import asyncio
import ssl

import pytest

from api.kafka.listener import KafkaListener
from api.node_tls import read_node_tls
from broker.config import load_config
from broker.config_values import Listener
from broker.replication.leader_connection import open_connection
from metadata.image import Endpoint
from tests.api.kafka.messages import fetch
from tests.api.kafka.raw_client import RawClient
from tests.api.secure_cluster import Authority
from wire.errors import ErrorCode
from wire.messages import ApiKey


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
async def listener(cluster, authority):
    """Of node 1, as its configuration would have it."""
    files = authority.certify("node-1")
    config, _ = load_config(None, {}, [
        "listeners=SSL://127.0.0.1:9092", f"kafka.ssl.certificate={files.certificate}", f"kafka.ssl.key={files.key}",
        f"kafka.ssl.authorities={authority.file}",
    ])  # fmt: skip
    tls = read_node_tls(config, []).replication
    made = KafkaListener(cluster.context, Listener("SSL", "127.0.0.1", 0, tls=True), is_replication=True, tls=tls)
    await made.start()
    yield made
    await made.stop()


def showing(authority: Authority, name: str) -> ssl.SSLContext:
    files = authority.certify(name)
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("node-1", ErrorCode.NONE),
        ("node-2", ErrorCode.CLUSTER_AUTHORIZATION_FAILED),
        ("client", ErrorCode.CLUSTER_AUTHORIZATION_FAILED),
    ],
)
async def test_a_certificate_speaks_for_its_own_broker_only(cluster, authority, listener, name, code):
    topic = await cluster.create("t")
    client = await RawClient.connect(listener.port, ssl=showing(authority, name))
    epoch = cluster.nodes[0].node.broker_epoch
    assert code == (await client.ask(ApiKey.FETCH, fetch(topic.topic_id, follower=(1, epoch)))).error_code
    assert 0 == (await client.ask(ApiKey.FETCH, fetch(topic.topic_id))).error_code, "it may read as anybody may"


async def test_a_follower_copies_only_from_the_broker_that_it_means(authority, listener):
    at = Endpoint("127.0.0.1", listener.port)
    context = showing(authority, "node-2")
    connection = await open_connection(at, client_id="test", leader_id=1, tls=context)
    connection.close()
    with pytest.raises(ConnectionAbortedError, match="node-3"):
        await open_connection(at, client_id="test", leader_id=3, tls=context)
    await asyncio.sleep(0)
