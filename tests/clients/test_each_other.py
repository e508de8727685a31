"""What one client writes, every other reads, byte for byte; over HTTP too."""

import contextlib

import pytest

from tests.clients.features import CLIENTS, CODECS
from tests.clients.records import contents, odd
from tests.clients.test_produce import produce, read

pytestmark = pytest.mark.long


@pytest.fixture(scope="session")
def written(all_clients):
    """Client -> (topic, what it wrote): with as many codecs and as odd records as it can; made when first asked for."""
    return {}


def write_all(clients, topics, written):
    for number, name in enumerate(CLIENTS):
        if name in written:
            continue
        written[name] = None
        with contextlib.suppress(pytest.skip.Exception):  # a client that is not here
            client = clients.usual(name)
            topic, sent = topics.new(), []
            for codec in CODECS:
                for records in (odd(), odd(null_headers=False), odd(headers=False, nulls=False)):
                    with contextlib.suppress(pytest.skip.Exception):  # a codec or a null that it has not
                        produce(client, topic, records, compression=codec, idempotent=bool(number % 2))
                        sent += records
                        break
            written[name] = topic, sent, client.sets_time


@pytest.mark.feature("each other")
def test_every_client_reads_what_all_others_wrote(name, client, clients, topics, written):
    write_all(clients, topics, written)
    for writer, found in written.items():
        if found is not None:
            topic, sent, has_times = found
            whole = {"times": has_times, "headers": client.reads_headers}
            expected = contents(sent, **whole)
            assert expected == contents(read(client, topic, len(sent)), **whole), f"{name} reads what {writer} wrote"
            assert contents(sent, times=has_times) == contents(topics.read(topic, len(sent)), times=has_times), writer
