"""The high watermark never promises what some in-sync replica does not hold durably (S2)."""

from hypothesis import given
from hypothesis import strategies as st

from broker.replication.leader import PartitionLeader


def leader(*replicas: int, high_watermark: int = 0, durable_end_offset: int = 0) -> PartitionLeader:
    return PartitionLeader(
        broker_id=replicas[0],
        leader_epoch=1,
        in_sync_replicas=replicas,
        high_watermark=high_watermark,
        durable_end_offset=durable_end_offset,
    )


def test_alone_the_leaders_own_durable_end_is_the_high_watermark() -> None:
    alone = leader(1, high_watermark=3, durable_end_offset=7)
    assert 7 == alone.high_watermark
    assert alone.durable(1, 9)
    assert 9 == alone.high_watermark
    assert not alone.durable(1, 9)


def test_the_slowest_in_sync_replica_holds_the_high_watermark() -> None:
    three = leader(1, 2, 3, durable_end_offset=10)
    assert 0 == three.high_watermark
    assert not three.durable(2, 8)
    assert three.durable(3, 5)
    assert 5 == three.high_watermark
    assert not three.durable(4, 99), "a stranger does not count"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50)), max_size=40))
def test_s2_the_high_watermark_is_the_minimum_and_never_falls(reports: list[tuple[int, int]]) -> None:
    three = leader(1, 2, 3)
    held = {1: 0, 2: 0, 3: 0}
    for broker_id, end_offset in reports:
        before = three.high_watermark
        moved = three.durable(broker_id, end_offset)
        held[broker_id] = max(held[broker_id], end_offset)
        assert min(held.values()) == three.high_watermark
        assert moved == (three.high_watermark > before)
