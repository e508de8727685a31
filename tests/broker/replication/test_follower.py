"""A follower asks only for what it can acknowledge, and acts only on the answer that it waits for."""

import pytest

from broker.replication.divergence import EpochEnd
from broker.replication.follower import (
    Append,
    BackOff,
    Fenced,
    FetchAnswer,
    FetchPosition,
    PartitionFollower,
    Stale,
    StartAt,
    TruncateTo,
)
from tests.broker.replication.model_log import ListLog
from wire.errors import ErrorCode


class Following:
    """A follower's core in leader epoch 7 and its log: records by (epoch, count)."""

    def __init__(self, *runs: tuple[int, int], log_start_offset: int = 0) -> None:
        self.core = PartitionFollower(leader_id=1, leader_epoch=7)
        self.log = ListLog()
        self.log.start_at(log_start_offset)
        for epoch, count in runs:
            self.log.append([(epoch, 0)] * count)
        self.log.synced(self.log.log_end_offset, self.log.generation)

    def ask(self) -> FetchPosition:
        asked = self.core.fetch_position(self.log)
        assert asked is not None
        return asked

    def answered(self, asked: FetchPosition | None = None, **answer: object) -> object:
        return self.core.answered(asked or self.ask(), FetchAnswer(**answer), self.log)


def position(asked: FetchPosition) -> tuple[int, int, int]:
    return asked.leader_epoch, asked.fetch_offset, asked.last_fetched_epoch


def test_it_asks_for_what_follows_its_last_record() -> None:
    assert (7, 5, 4) == position(Following((3, 2), (4, 3)).ask())
    assert (7, 0, -1) == position(Following().ask())
    assert (7, 20, -1) == position(Following(log_start_offset=20).ask())


def test_s2_it_does_not_ask_while_its_own_end_is_not_durable() -> None:
    following = Following((3, 2))
    following.log.append([(3, 0)])
    assert following.core.fetch_position(following.log) is None
    following.log.synced(3, following.log.generation)
    assert 3 == following.ask().fetch_offset


def test_an_epoch_that_this_broker_led_and_wrote_nothing_in_is_not_mentioned() -> None:
    """The leader does not know that epoch, there is nothing to cut, and so the same answer would come forever."""
    following = Following((3, 2))
    following.log.leader_epochs.assign(6, 2)
    assert (7, 2, 3) == position(following.ask())


# ---- answers


def test_what_continues_the_log_is_appended() -> None:
    following = Following((3, 2))
    step = following.answered(high_watermark=2, log_start_offset=1, records=b"records")
    assert Append(b"records", 1) == step


def test_s11_an_answer_is_used_once_and_only_if_nothing_was_asked_since() -> None:
    following = Following((3, 5))
    first = following.ask()
    second = following.ask()
    diverging = EpochEnd(3, 2)
    assert Stale() == following.answered(first, diverging=diverging)
    assert TruncateTo(2, 0) == following.answered(second, diverging=diverging)
    assert Stale() == following.answered(second, diverging=diverging)


def test_s11_an_answer_of_an_earlier_leader_epoch_is_stale() -> None:
    following = Following((3, 5))
    asked = following.ask()
    following.core = PartitionFollower(leader_id=2, leader_epoch=8)
    following.ask()
    assert Stale() == following.answered(asked, diverging=EpochEnd(3, 2))
    assert Stale() == following.core.failed(asked)


def test_s7_fenced_it_asks_no_more() -> None:
    following = Following((3, 5))
    assert Fenced() == following.answered(error_code=ErrorCode.FENCED_LEADER_EPOCH)
    assert following.core.fetch_position(following.log) is None


def test_other_refusals_are_waited_off_longer_and_longer_until_an_answer_comes() -> None:
    following = Following((3, 5))
    refused = {"error_code": ErrorCode.UNKNOWN_LEADER_EPOCH}
    delays = [following.answered(**refused).delay_ms for _ in range(7)]
    assert [50, 100, 200, 400, 800, 1_000, 1_000] == delays
    following.answered()
    assert BackOff(50, ErrorCode.UNKNOWN_LEADER_EPOCH) == following.answered(**refused)
    assert BackOff(100, ErrorCode.NONE) == following.core.failed(following.ask())


def test_s19_records_that_cannot_be_appended_are_not_fetched_again_at_once() -> None:
    """A follower whose disk is full would otherwise load its leader as long as that lasts."""
    following = Following((3, 5))
    delays = []
    for _ in range(6):
        asked = following.ask()
        assert isinstance(following.answered(asked, records=b"records"), Append)
        delays.append(following.core.failed(asked).delay_ms)
    assert [50, 100, 200, 400, 800, 1_000] == delays
    assert isinstance(following.answered(records=b"records"), Append)  # there is space again
    following.log.append([(3, 0)])
    following.log.synced(6, following.log.generation)
    assert isinstance(following.answered(records=b"records"), Append)
    assert BackOff(50, ErrorCode.NONE) == following.core.failed(following.ask())


# ---- where to cut


def test_s5_it_cuts_where_the_leaders_epoch_ended() -> None:
    following = Following((3, 4), (4, 4))
    assert TruncateTo(6, 0) == following.answered(diverging=EpochEnd(4, 6))


def test_s5_it_cuts_where_its_own_epoch_ended_when_the_leaders_went_on() -> None:
    following = Following((3, 4), (5, 4))
    assert TruncateTo(4, 0) == following.answered(diverging=EpochEnd(3, 6))


def test_s5_an_epoch_unknown_here_is_cut_back_to_a_smaller_one_and_asked_again() -> None:
    """KIP-279: two fast leader changes; one round of questions is not enough."""
    following = Following((2, 4), (5, 4))
    assert TruncateTo(4, 0) == following.answered(diverging=EpochEnd(4, 7))
    following.log.truncate_to(4)
    assert (7, 4, 2) == position(following.ask())


def test_s5_a_cut_of_what_was_committed_is_said() -> None:
    following = Following((3, 8))
    following.log.high_watermark = 6
    assert TruncateTo(5, 1) == following.answered(diverging=EpochEnd(3, 5))


@pytest.mark.parametrize("end", [EpochEnd(3, 8), EpochEnd(3, 9), EpochEnd(3, -1), EpochEnd(-1, -1)])
def test_an_answer_that_would_cut_nothing_or_makes_no_sense_is_waited_off(end: EpochEnd) -> None:
    assert BackOff(50, ErrorCode.NONE) == Following((3, 8)).answered(diverging=end)


# ---- out of range


@pytest.mark.parametrize("leader_start", [8, 9, 100])
def test_what_the_leader_has_deleted_goes_here_too(leader_start: int) -> None:
    out_of_range = {"error_code": ErrorCode.OFFSET_OUT_OF_RANGE, "log_start_offset": leader_start}
    assert StartAt(leader_start) == Following((3, 8)).answered(**out_of_range)


def test_s5_records_above_the_leaders_end_are_not_dropped_by_offsets() -> None:
    out_of_range = {"error_code": ErrorCode.OFFSET_OUT_OF_RANGE, "log_start_offset": 2}
    assert BackOff(50, ErrorCode.OFFSET_OUT_OF_RANGE) == Following((3, 8)).answered(**out_of_range)


def test_an_empty_log_moves_to_where_the_leaders_begins() -> None:
    out_of_range = {"error_code": ErrorCode.OFFSET_OUT_OF_RANGE, "log_start_offset": 2}
    assert StartAt(2) == Following(log_start_offset=8).answered(**out_of_range)


def test_without_the_leaders_log_start_nothing_is_dropped() -> None:
    out_of_range = {"error_code": ErrorCode.OFFSET_OUT_OF_RANGE}
    assert BackOff(50, ErrorCode.OFFSET_OUT_OF_RANGE) == Following(log_start_offset=8).answered(**out_of_range)


# ---- watermarks


def test_s2_its_high_watermark_is_durable_here_and_never_falls() -> None:
    following = Following((3, 5))
    following.answered(high_watermark=9)
    assert 5 == following.core.high_watermark(following.log)
    following.log.append([(3, 0)] * 3)
    assert 5 == following.core.high_watermark(following.log)
    following.log.synced(8, following.log.generation)
    assert 8 == following.core.high_watermark(following.log)
    following.log.high_watermark = 8
    following.answered(high_watermark=2)
    assert 8 == following.core.high_watermark(following.log)


def test_its_log_start_follows_the_leaders_as_far_as_it_is_committed_here() -> None:
    following = Following((3, 5))
    step = following.answered(high_watermark=5, log_start_offset=4)
    assert isinstance(step, Append)
    following.log.high_watermark = 3
    assert 3 == following.core.log_start_offset(step, following.log)
    following.log.high_watermark = 5
    assert 4 == following.core.log_start_offset(step, following.log)
