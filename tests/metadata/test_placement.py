"""New partitions are spread so that no broker leads or follows for more than its share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from metadata.placement import in_rack_order, spread


def test_replicas_lie_as_in_kafkas_own_example():
    """Kafka's documented example: 10 partitions, 5 brokers, 3 replicas, no random start."""
    placed = spread([0, 1, 2, 3, 4], partitions=10, replication_factor=3, start=0, shift=0)
    assert [
        (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 0), (4, 0, 1),
        (0, 2, 3), (1, 3, 4), (2, 4, 0), (3, 0, 1), (4, 1, 2),
    ] == placed  # fmt: skip


@given(st.data())
def test_leaders_are_spread_evenly_and_replicas_never_share_a_broker(data):
    brokers = data.draw(st.lists(st.integers(0, 1000), min_size=1, max_size=9, unique=True))
    partitions = data.draw(st.integers(1, 60))
    factor = data.draw(st.integers(1, len(brokers)))
    placed = spread(
        brokers,
        partitions=partitions,
        replication_factor=factor,
        start=data.draw(st.integers(0, 99)),
        shift=data.draw(st.integers(0, 99)),
        first_partition=data.draw(st.integers(0, 99)),
    )
    assert all(factor == len(set(replicas)) for replicas in placed)
    leaders = Counter(replicas[0] for replicas in placed)
    assert max(leaders.values()) - min(leaders[b] for b in brokers) <= 1


def test_a_topic_that_grows_goes_on_where_it_was():
    whole = spread([1, 2, 3], partitions=9, replication_factor=2, start=1, shift=2)
    tail = spread([1, 2, 3], partitions=5, replication_factor=2, start=1, shift=2, first_partition=4)
    assert whole[4:] == tail


KAFKAS_RACKS = {0: "rack1", 1: "rack3", 2: "rack3", 3: "rack2", 4: "rack2", 5: "rack1"}


def test_racks_take_turns_as_in_kafkas_own_example():
    """Of the comment of `AdminUtils.assignReplicasToBrokers`."""
    assert [0, 3, 1, 5, 4, 2] == in_rack_order(range(6), KAFKAS_RACKS)
    placed = spread(range(6), partitions=12, replication_factor=3, start=0, shift=0, racks=KAFKAS_RACKS)
    assert [
        (0, 3, 1), (3, 1, 5), (1, 5, 4), (5, 4, 2), (4, 2, 0), (2, 0, 3),
        (0, 4, 2), (3, 2, 0), (1, 0, 3), (5, 3, 1), (4, 1, 5), (2, 5, 4),
    ] == placed  # fmt: skip


@given(st.data())
def test_the_replicas_of_a_partition_lie_on_as_many_racks_as_there_are(data):
    brokers = data.draw(st.lists(st.integers(0, 1000), min_size=1, max_size=9, unique=True))
    racks = {broker: data.draw(st.sampled_from([None, "a", "b", "c"])) for broker in brokers}
    factor = data.draw(st.integers(1, len(brokers)))
    placed = spread(
        brokers,
        partitions=data.draw(st.integers(1, 40)),
        replication_factor=factor,
        start=data.draw(st.integers(0, 99)),
        shift=data.draw(st.integers(0, 99)),
        racks=racks,
    )
    for replicas in placed:
        assert factor == len(set(replicas))
        assert min(factor, len(set(racks.values()))) == len({racks[broker] for broker in replicas})
    leaders = Counter(replicas[0] for replicas in placed)
    assert max(leaders.values()) - min(leaders[broker] for broker in brokers) <= 1
