"""Who is in sync: nobody joins who could lack something, and nobody who may have joined is forgotten."""

import pytest
from msgspec import structs

from broker.replication.leader import Acknowledged
from broker.replication.undecided_changes import ChangeInSyncReplicas
from tests.broker.replication.led_partition import LAG_TIME_MAX_MS, LEADER_EPOCH, LedPartition
from wire.errors import ErrorCode

JOIN_WANTED = Acknowledged(high_watermark_moved=False, wants_change=True)


def change(*in_sync_replicas: tuple[int, int], partition_epoch: int = 100) -> ChangeInSyncReplicas:
    return ChangeInSyncReplicas(
        leader_epoch=LEADER_EPOCH, partition_epoch=partition_epoch, in_sync_replicas=in_sync_replicas
    )


# ---- joining


def test_s8_s9_who_has_everything_joins_under_the_epoch_that_fetched() -> None:
    led = LedPartition(1, log_end_offset=10)
    assert JOIN_WANTED == led.fetch(2, 10)
    assert change((1, 11), (2, 12)) == led.wanted()


def test_s8_the_start_of_the_epoch_counts_where_the_watermark_lags_behind() -> None:
    """A new leader's watermark is what the old one told it: records above it may have been acknowledged."""
    led = LedPartition(1, log_end_offset=10, high_watermark=3, min_in_sync_replicas=2)
    assert 3 == led.high_watermark
    led.fetch(2, 9)
    assert led.wanted() is None
    assert JOIN_WANTED == led.fetch(2, 10)
    assert led.wanted() is not None


def test_s3_who_left_the_in_sync_replicas_comes_back_by_a_fetch_of_later_only() -> None:
    """Its disk may have failed since, in the same broker epoch: what it acknowledged before is gone then."""
    led = LedPartition(1, 2, 3, log_end_offset=10)
    led.fetch(2, 10)
    led.fetch(3, 10)
    led.commit(1, 3)
    assert led.wanted() is None
    led.fetch(2, 10, is_read_again=True)  # it waited here while the disk failed
    assert led.wanted() is None
    assert JOIN_WANTED == led.fetch(2, 10)
    assert led.wanted() is not None


def test_s3_who_was_about_to_join_is_heard_anew_after_any_change_of_the_partition() -> None:
    """It may have said that it lost its replica: then nothing changes but the partition epoch."""
    led = LedPartition(1, log_end_offset=10)
    assert JOIN_WANTED == led.fetch(2, 10)
    led.commit(1)
    assert led.wanted() is None
    assert JOIN_WANTED == led.fetch(2, 10)


def test_s8_the_watermark_counts_where_it_has_passed_the_start_of_the_epoch() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.write(5)
    led.now_ms = 10_000
    led.fetch(2, 14)
    assert led.wanted() is None
    led.fetch(2, 15)
    assert led.wanted() is not None


def test_s8_who_was_heard_in_an_earlier_epoch_only_does_not_join() -> None:
    led = LedPartition(1, log_end_offset=0)
    assert led.wanted() is None
    assert JOIN_WANTED == led.fetch(3, 0)
    assert change((1, 11), (3, 13)) == led.wanted()


def test_s9_who_restarted_since_its_fetch_does_not_join() -> None:
    led = LedPartition(1)
    led.fetch(2, 10)
    led.in_service[2] = 20
    assert led.wanted() is None
    led.fetch(2, 10)
    assert change((1, 11), (2, 20)) == led.wanted()


def test_who_is_fenced_or_about_to_stop_does_not_join() -> None:
    led = LedPartition(1)
    del led.in_service[2]
    led.fetch(2, 10, broker_epoch=12)
    assert led.wanted() is None


def test_a_replica_that_is_being_added_joins_like_any_other() -> None:
    led = LedPartition(1, 2, 3)
    led.fetch(2, 10)
    led.fetch(3, 10)
    led.commit(1, 2, 3, replicas=(1, 2, 4, 3), adding_replicas=(4,), removing_replicas=(3,))
    assert JOIN_WANTED == led.fetch(4, 10)
    assert (1, 2, 4, 3) == led.wanted().broker_ids


# ---- leaving


def test_who_is_silent_for_the_lag_time_leaves_and_the_watermark_goes_on_without_it() -> None:
    led = LedPartition(1, 2, 3)
    led.fetch(3, 10)
    led.fetch(2, 10)
    led.write(5)
    led.now_ms = LAG_TIME_MAX_MS
    led.fetch(2, 15)
    assert led.wanted() is None
    led.now_ms += 1
    assert change((1, 11), (2, 12)) == led.wanted()
    assert 10 == led.high_watermark, "not before it is committed"
    led.commit(1, 2)
    assert 15 == led.high_watermark


def test_who_holds_everything_is_in_sync_however_long_nothing_is_written() -> None:
    led = LedPartition(1, 2)
    led.fetch(2, 10)
    led.now_ms = 100 * LAG_TIME_MAX_MS
    assert led.wanted() is None


def test_who_always_reaches_what_the_end_was_at_its_fetch_before_is_caught_up() -> None:
    led = LedPartition(1, 2)
    for _ in range(5):
        led.fetch(2, led.log.log_end_offset)
        led.now_ms += LAG_TIME_MAX_MS - 1
        led.append(3)
    assert led.wanted() is None


def test_who_fetches_but_never_catches_up_leaves() -> None:
    led = LedPartition(1, 2, log_end_offset=100)
    for offset in range(10, 60, 10):
        led.fetch(2, offset)
        led.now_ms += LAG_TIME_MAX_MS / 4
        led.append(20)
    led.now_ms += 1
    assert change((1, 11)) == led.wanted()


def test_s2_with_too_few_in_sync_nothing_is_admitted_and_nothing_committed() -> None:
    led = LedPartition(1, 2, 3, min_in_sync_replicas=2)
    led.fetch(2, 10)
    led.fetch(3, 10)
    assert led.core.has_enough_in_sync
    led.commit(1)
    led.write(3)
    assert not led.core.has_enough_in_sync
    assert 10 == led.high_watermark
    led.fetch(2, 13)
    led.commit(1, 2)
    assert led.core.has_enough_in_sync
    assert 13 == led.high_watermark


def test_s2_a_joiner_alone_does_not_make_them_enough() -> None:
    led = LedPartition(1, min_in_sync_replicas=2, log_end_offset=10)
    led.fetch(2, 10)
    assert led.wanted() is not None
    assert not led.core.has_enough_in_sync
    assert 0 == led.high_watermark


def test_s2_more_than_there_are_replicas_are_never_needed() -> None:
    led = LedPartition(1, replicas=(1,), min_in_sync_replicas=2)
    assert led.core.has_enough_in_sync
    assert 10 == led.high_watermark


def test_a_changed_minimum_counts_from_its_image_on() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.min_in_sync_replicas = 2
    led.see(led.state)
    assert not led.core.has_enough_in_sync


# ---- what nobody knows yet


def test_s2_who_may_have_joined_holds_the_watermark() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.now_ms = 10_000
    led.write(5)
    assert 10 == led.high_watermark
    led.fetch(2, 15)
    assert 15 == led.high_watermark


def test_s2_a_refusal_ends_the_wait() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.now_ms = 10_000
    led.write(5)
    led.core.change_refused(ErrorCode.INELIGIBLE_REPLICA, partition_epoch=100)
    assert 15 == led.high_watermark
    assert {1} == led.core.maximal_in_sync_replicas


@pytest.mark.parametrize("code", [ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.FENCED_LEADER_EPOCH])
def test_s2_a_refusal_that_says_that_the_partition_moved_on_ends_nothing(code: ErrorCode) -> None:
    """It may have moved on by the first copy of this very request."""
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.core.change_refused(code, partition_epoch=100)
    led.now_ms = 10_000
    led.write(5)
    assert 10 == led.high_watermark
    led.commit(1)
    assert 15 == led.high_watermark


def test_s2_a_lost_answer_ends_nothing_until_the_image_tells() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.core.change_in_doubt(partition_epoch=100)
    led.now_ms = 10_000
    led.write(5)
    assert 10 == led.high_watermark
    led.commit(1)
    assert 15 == led.high_watermark


def test_s2_a_copy_in_doubt_outlives_the_refusal_of_the_next_one() -> None:
    """The first request may lie somewhere on its way, and be accepted when the joiner is in service again: so the
    joiner counts, and the leader asks, until the partition epoch that the request names is over.
    """
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.core.change_in_doubt(partition_epoch=100)
    assert change((1, 11), (2, 12)) == led.wanted()
    del led.in_service[2]
    led.core.change_refused(ErrorCode.INELIGIBLE_REPLICA, partition_epoch=100)
    led.now_ms = 10_000
    led.write(5)
    assert 10 == led.high_watermark
    assert change((1, 11)) == led.wanted(), "as it is, only to make the doubtful request void"
    led.commit(1)
    assert 15 == led.high_watermark
    assert led.wanted() is None


def test_a_late_answer_about_an_epoch_that_is_over_undoes_nothing() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.fetch(2, 10)
    led.wanted()
    led.commit(1, 2)
    led.fetch(3, 10)
    assert change((1, 11), (2, 12), (3, 13), partition_epoch=101) == led.wanted()
    led.core.change_refused(ErrorCode.INELIGIBLE_REPLICA, partition_epoch=100)
    assert {1, 2, 3} == led.core.maximal_in_sync_replicas


def test_one_change_is_asked_for_at_a_time() -> None:
    led = LedPartition(1)
    assert JOIN_WANTED == led.fetch(2, 10)
    assert led.wanted() is not None
    assert Acknowledged(high_watermark_moved=False, wants_change=False) == led.fetch(3, 10)
    assert led.wanted() is None


def test_a_stale_image_changes_nothing() -> None:
    led = LedPartition(1, log_end_offset=10)
    old = led.state
    led.fetch(2, 10)
    led.commit(1, 2)
    led.write(5)
    led.see(old)
    led.see(structs.replace(old, leader_epoch=LEADER_EPOCH - 1))
    assert (1, 2) == led.core.in_sync_replicas
    assert 10 == led.high_watermark


def test_s4_another_leader_epoch_is_another_leader() -> None:
    led = LedPartition(1)
    later = structs.replace(led.state, leader_epoch=LEADER_EPOCH + 1, partition_epoch=101)
    with pytest.raises(AssertionError, match="S4"):
        led.see(later)


# ---- full disks


def test_s19_who_lacks_records_and_can_take_none_leaves_at_once_and_counts_until_then() -> None:
    led = LedPartition(1, 2, 3, log_end_offset=10, high_watermark=10, min_in_sync_replicas=2)
    led.write(5)
    led.fetch(3, 15)
    assert Acknowledged(high_watermark_moved=False, wants_change=True) == led.fetch(2, 10, takes_records=False)
    assert change((1, 11), (3, 13)) == led.wanted()
    assert 10 == led.high_watermark, "S2: it is in sync until the image says that it is not"
    assert Acknowledged(high_watermark_moved=False, wants_change=False) == led.fetch(2, 10, takes_records=False)
    led.commit(1, 3)
    led.fetch(3, 15)
    assert 15 == led.high_watermark


def test_s19_who_has_everything_stays_with_a_full_disk_and_nobody_joins_with_one() -> None:
    led = LedPartition(1, 2, log_end_offset=10)
    led.fetch(2, 10, takes_records=False)
    led.fetch(3, 10, takes_records=False)
    assert led.wanted() is None
    assert JOIN_WANTED == led.fetch(3, 10)
    assert change((1, 11), (2, 12), (3, 13)) == led.wanted()
