"""The high watermark never promises what some in-sync replica does not hold durably (S2)."""

from hypothesis import given
from hypothesis import strategies as st

from broker.replication.leader import JOINER_AWAITED_MS, Acknowledged, FollowerFetch, PartitionLeader
from metadata.image import Partition


class ListLog:
    """The facts of a log of one epoch."""

    def __init__(self, log_end_offset: int = 0) -> None:
        self.log_start_offset = 0
        self.log_end_offset = log_end_offset
        self.durable_end_offset = log_end_offset
        self.high_watermark = 0


def leader(
    *replicas: int, in_sync: tuple[int, ...] | None = None, high_watermark: int = 0, durable_end_offset: int = 0
) -> PartitionLeader:
    return PartitionLeader(
        broker_id=replicas[0],
        state=Partition(replicas=replicas, in_sync_replicas=in_sync or replicas, leader=replicas[0], leader_epoch=1),
        min_in_sync_replicas=1,
        high_watermark=high_watermark,
        log_end_offset=durable_end_offset,
        durable_end_offset=durable_end_offset,
        lag_time_max_ms=30_000,
        now_ms=0,
        epoch_in_service=lambda _: 1,
    )


def fetched(of: PartitionLeader, broker_id: int, offset: int, *, end: int = 100, now_ms: float = 0) -> bool:
    fetch = FollowerFetch(
        broker_id=broker_id, broker_epoch=1, leader_epoch=1, fetch_offset=offset, last_fetched_epoch=-1
    )
    verdict = of.fetched(fetch, ListLog(end), now_ms=now_ms)
    assert isinstance(verdict, Acknowledged)
    return verdict.high_watermark_moved


def test_alone_the_leaders_own_durable_end_is_the_high_watermark() -> None:
    alone = leader(1, high_watermark=3, durable_end_offset=7)
    assert 7 == alone.high_watermark
    assert alone.durable(9, now_ms=0)
    assert 9 == alone.high_watermark
    assert not alone.durable(9, now_ms=0)


def test_the_slowest_in_sync_replica_holds_the_high_watermark() -> None:
    three = leader(1, 2, 3, durable_end_offset=10)
    assert 0 == three.high_watermark
    assert not fetched(three, 2, 8)
    assert fetched(three, 3, 5)
    assert 5 == three.high_watermark


def test_a_follower_about_to_join_is_waited_for_so_that_it_can() -> None:
    two = leader(1, 2, in_sync=(1,), durable_end_offset=10)
    fetched(two, 2, 10, end=10, now_ms=0)
    assert not two.durable(11, now_ms=1)
    assert fetched(two, 2, 11, end=11, now_ms=2)
    assert 11 == two.high_watermark


def test_writers_do_not_wait_for_a_follower_that_was_away_and_fetches_what_it_missed() -> None:
    two = leader(1, 2, in_sync=(1,), durable_end_offset=10)
    fetched(two, 2, 10, end=10, now_ms=0)
    away_ms = 5_000
    two.durable(1_000, now_ms=away_ms)
    fetched(two, 2, 11, end=1_000, now_ms=away_ms)
    assert two.durable(1_001, now_ms=away_ms + 1)
    assert 1_001 == two.high_watermark


def test_writers_do_not_wait_for_a_follower_that_died_while_it_was_about_to_join() -> None:
    two = leader(1, 2, in_sync=(1,), durable_end_offset=10)
    fetched(two, 2, 10, end=10, now_ms=0)
    assert not two.durable(11, now_ms=JOINER_AWAITED_MS - 1)
    assert two.durable(12, now_ms=JOINER_AWAITED_MS)
    assert 12 == two.high_watermark


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50)), max_size=40))
def test_s2_the_high_watermark_is_the_minimum_and_never_falls(reports: list[tuple[int, int]]) -> None:
    three = leader(1, 2, 3)
    held = {1: 0, 2: 0, 3: 0}
    for broker_id, end_offset in reports:
        before = three.high_watermark
        moved = three.durable(end_offset, now_ms=0) if broker_id == 1 else fetched(three, broker_id, end_offset)
        held[broker_id] = max(held[broker_id], end_offset) if broker_id == 1 else end_offset
        assert max(before, min(held.values())) == three.high_watermark
        assert moved == (three.high_watermark > before)
