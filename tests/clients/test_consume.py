"""A real client reads from where it wishes."""

import pytest

from tests.clients.records import numbered, record, values
from tests.clients.test_produce import produce, read

pytestmark = pytest.mark.long
BEGAN_MS = 1_900_000_000_000


@pytest.mark.feature("seek")
def test_reading_begins_at_any_offset(client, topics):
    topic = topics.new()
    for part in range(5):
        produce(client, topic, numbered(range(100 * part, 100 * part + 100)), compression="gzip")
    for offset in (0, 1, 99, 100, 250, 499):
        found = read(client, topic, min(120, 500 - offset), offset=offset)
        assert list(range(offset, offset + len(found))) == values(found)
        assert list(range(offset, offset + len(found))) == [one["o"] for one in found]


@pytest.mark.feature("times")
def test_offsets_are_found_by_time(client, topics):
    if not client.sets_time:
        pytest.skip("cannot: writes no times of its own; it finds offsets by time")
    topic = topics.new()
    times = [BEGAN_MS + 1000 * number for number in range(50)]
    produce(client, topic, [record(b"v", timestamp=timestamp) for timestamp in times])
    assert [0, 50] == client.call("ends", topic=topic, partition=0)

    def offset_at(timestamp):
        return client.call("offset_for_time", topic=topic, partition=0, timestamp=timestamp)

    assert [0, 20, 21] == [offset_at(timestamp) for timestamp in (BEGAN_MS, times[20], times[20] + 1)]


@pytest.mark.feature("pause")
def test_a_paused_partition_is_silent_until_it_is_resumed(client, topics):
    topic = topics.new(partitions=2)
    for partition in (0, 1):
        produce(client, topic, numbered(range(200), partition=partition))
    found = client.call("read_paused", topic=topic, count=200)
    assert [(1, number) for number in range(200)] == [(one["p"], one["o"]) for one in found["while_paused"]]
    assert [(0, number) for number in range(200)] == [(one["p"], one["o"]) for one in found["after_resume"]]
