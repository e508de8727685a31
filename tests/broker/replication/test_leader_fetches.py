"""Which fetches count: only those of a living replica of this leader epoch whose log is a prefix of the leader's."""

import pytest

from broker.replication.divergence import EpochEnd
from broker.replication.leader import Acknowledged, Diverging, OutOfRange
from tests.broker.replication.led_partition import LEADER_EPOCH, LedPartition
from wire.errors import ErrorCode, RefusedError


@pytest.mark.parametrize(
    ("leader_epoch", "code"),
    [
        (LEADER_EPOCH - 1, ErrorCode.FENCED_LEADER_EPOCH),
        (LEADER_EPOCH + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
        (-1, ErrorCode.FENCED_LEADER_EPOCH),
    ],
)
def test_s7_a_fetch_of_another_leader_epoch_counts_for_nothing(leader_epoch: int, code: ErrorCode) -> None:
    led = LedPartition(1, 2)
    with pytest.raises(RefusedError) as refused:
        led.fetch(2, 10, leader_epoch=leader_epoch)
    assert code == refused.value.code
    assert 0 == led.high_watermark
    assert -1 == led.core.follower_states()[0].log_end_offset


def test_a_broker_without_a_replica_here_is_sent_away() -> None:
    led = LedPartition(1, 2)
    with pytest.raises(RefusedError) as refused:
        led.fetch(4, 10)
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER == refused.value.code


def test_a_replica_that_was_taken_away_counts_no_longer() -> None:
    led = LedPartition(1, 2, 3)
    led.fetch(2, 10)
    assert 0 == led.high_watermark
    led.commit(1, 2, replicas=(1, 2))
    assert 10 == led.high_watermark
    with pytest.raises(RefusedError):
        led.fetch(3, 10)


def test_s9_a_fetch_of_an_earlier_life_counts_for_nothing() -> None:
    led = LedPartition(1, 2)
    led.in_service[2] = 20
    with pytest.raises(RefusedError) as refused:
        led.fetch(2, 10, broker_epoch=12)
    assert ErrorCode.STALE_BROKER_EPOCH == refused.value.code
    led.fetch(2, 10, broker_epoch=20)
    del led.in_service[2]
    with pytest.raises(RefusedError):
        led.fetch(2, 10, broker_epoch=12)
    with pytest.raises(RefusedError):
        led.fetch(2, 10, broker_epoch=-1)


def test_s2_a_fetch_acknowledges_what_lies_below_it_and_not_more() -> None:
    led = LedPartition(1, 2, log_end_offset=10)
    assert Acknowledged(high_watermark_moved=True, wants_change=False) == led.fetch(2, 7)
    assert 7 == led.high_watermark


def test_s7_what_the_leader_does_not_have_is_told_and_not_counted() -> None:
    led = LedPartition(1, 2, log_end_offset=10)
    led.write(5)
    assert Diverging(EpochEnd(LEADER_EPOCH - 1, 10)) == led.fetch(2, 12, epoch=LEADER_EPOCH - 1)
    assert Diverging(EpochEnd(LEADER_EPOCH, 15)) == led.fetch(2, 16, epoch=LEADER_EPOCH)
    assert -1 == led.core.follower_states()[0].log_end_offset


def test_an_epoch_that_the_leader_never_saw_diverges_also_before_its_first_record() -> None:
    """The leader's own epoch began where its log ended, whether something was written in it or not."""
    led = LedPartition(1, 2, log_end_offset=10)
    led.log.leader_epochs.truncate_from_end(0)
    led.log.leader_epochs.assign(2, 0)
    assert Diverging(EpochEnd(2, 10)) == led.fetch(2, 10, epoch=3)
    assert Acknowledged(high_watermark_moved=True, wants_change=False) == led.fetch(2, 10, epoch=2)


@pytest.mark.parametrize("offset", [2, 11])
def test_outside_of_the_log_both_ends_are_told(offset: int) -> None:
    led = LedPartition(1, 2, log_end_offset=10, high_watermark=10)
    led.log.high_watermark = 10
    led.log.delete_records_before(3)
    assert OutOfRange(3, 10) == led.fetch(2, offset, epoch=-1)


def test_s5_what_the_leader_deleted_is_not_taken_for_what_the_follower_has() -> None:
    """At the log start an older epoch says nothing: the deleted record there may have been of either."""
    led = LedPartition(1, 2, log_end_offset=10, high_watermark=10)
    led.log.high_watermark = 10
    led.log.delete_records_before(3)
    assert OutOfRange(3, 10) == led.fetch(2, 3, epoch=LEADER_EPOCH - 2)
    assert isinstance(led.fetch(2, 3, epoch=LEADER_EPOCH - 1), Acknowledged)
    assert isinstance(led.fetch(2, 3, epoch=-1), Acknowledged)


def test_the_end_of_an_epoch_is_that_of_the_largest_one_known() -> None:
    led = LedPartition(1, log_end_offset=10)
    led.write(2)
    assert EpochEnd(LEADER_EPOCH, 12) == led.core.end_of_epoch(led.log, LEADER_EPOCH)
    assert EpochEnd(LEADER_EPOCH - 1, 10) == led.core.end_of_epoch(led.log, LEADER_EPOCH - 1)
    assert EpochEnd(1, 0) == led.core.end_of_epoch(led.log, 1)
    assert EpochEnd(-1, -1) == led.core.end_of_epoch(led.log, LEADER_EPOCH + 1)
    assert EpochEnd(-1, -1) == led.core.end_of_epoch(led.log, -1)
