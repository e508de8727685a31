"""The high watermark never promises what some in-sync replica does not hold durably (S2)."""

from hypothesis import given
from hypothesis import strategies as st

from broker.replication.leader import FollowerFetch, PartitionLeader
from metadata.image import Partition


class ListLog:
    """The facts of a log of one epoch."""

    def __init__(self, log_end_offset: int = 0) -> None:
        self.log_start_offset = 0
        self.log_end_offset = log_end_offset
        self.durable_end_offset = log_end_offset
        self.high_watermark = 0


def leader(*replicas: int, high_watermark: int = 0, durable_end_offset: int = 0) -> PartitionLeader:
    return PartitionLeader(
        broker_id=replicas[0],
        state=Partition(replicas=replicas, in_sync_replicas=replicas, leader=replicas[0], leader_epoch=1),
        min_in_sync_replicas=1,
        high_watermark=high_watermark,
        log_end_offset=durable_end_offset,
        durable_end_offset=durable_end_offset,
        lag_time_max_ms=30_000,
        now_ms=0,
    )


def fetched(of: PartitionLeader, broker_id: int, offset: int) -> bool:
    fetch = FollowerFetch(
        broker_id=broker_id, broker_epoch=1, leader_epoch=1, fetch_offset=offset, last_fetched_epoch=-1
    )
    return of.fetched(fetch, ListLog(100), now_ms=0).high_watermark_moved


def test_alone_the_leaders_own_durable_end_is_the_high_watermark() -> None:
    alone = leader(1, high_watermark=3, durable_end_offset=7)
    assert 7 == alone.high_watermark
    assert alone.durable(9)
    assert 9 == alone.high_watermark
    assert not alone.durable(9)


def test_the_slowest_in_sync_replica_holds_the_high_watermark() -> None:
    three = leader(1, 2, 3, durable_end_offset=10)
    assert 0 == three.high_watermark
    assert not fetched(three, 2, 8)
    assert fetched(three, 3, 5)
    assert 5 == three.high_watermark


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50)), max_size=40))
def test_s2_the_high_watermark_is_the_minimum_and_never_falls(reports: list[tuple[int, int]]) -> None:
    three = leader(1, 2, 3)
    held = {1: 0, 2: 0, 3: 0}
    for broker_id, end_offset in reports:
        before = three.high_watermark
        moved = three.durable(end_offset) if broker_id == 1 else fetched(three, broker_id, end_offset)
        held[broker_id] = max(held[broker_id], end_offset) if broker_id == 1 else end_offset
        assert max(before, min(held.values())) == three.high_watermark
        assert moved == (three.high_watermark > before)
