"""Two logs that parted become one again, and what they share is never cut (S5, S6)."""

from hypothesis import given
from hypothesis import strategies as st

from broker.replication.divergence import end_of_epoch, last_record_epoch, parted_from, truncation_point
from tests.broker.replication.model_log import ListLog, Record

LEADER_EPOCH = 9


def log_of(records: list[Record]) -> ListLog:
    log = ListLog()
    log.append(records)
    return log


def common_prefix(one: ListLog, other: ListLog) -> int:
    offset = 0
    while offset < min(one.log_end_offset, other.log_end_offset) and one.record(offset) == other.record(offset):
        offset += 1
    return offset


@st.composite
def parted_logs(draw: st.DrawFn) -> tuple[ListLog, ListLog]:
    """A history of leaders, each of which wrote to one branch or to both: in one epoch there is one writer."""
    branches: tuple[list[Record], list[Record]] = ([], [])
    have_parted = False
    for epoch in draw(st.lists(st.integers(0, LEADER_EPOCH - 1), unique=True, max_size=6).map(sorted)):
        records = [(epoch, value) for value in range(draw(st.integers(1, 4)))]
        writes = draw(st.sampled_from([0, 1] if have_parted else [0, 1, 2]))
        if writes == 2:
            shared = draw(st.integers(0, len(records)))
            branches[0].extend(records)
            branches[1].extend(records[:shared])
            have_parted = shared < len(records)
        else:
            branches[writes].extend(records)
            have_parted = True
    return log_of(branches[0]), log_of(branches[1])


@given(parted_logs())
def test_s5_the_follower_ends_at_the_point_where_they_parted(logs: tuple[ListLog, ListLog]) -> None:
    leader, follower = logs
    shared = common_prefix(leader, follower)
    start_offset = leader.log_end_offset
    for _ in range(20):
        epoch = last_record_epoch(follower)
        if epoch == -1:
            break
        end = end_of_epoch(leader, epoch, leader_epoch=LEADER_EPOCH, epoch_start_offset=start_offset)
        if not parted_from(end, fetch_offset=follower.log_end_offset, last_fetched_epoch=epoch):
            break
        cut = truncation_point(follower, end)
        assert shared <= cut < follower.log_end_offset
        follower.truncate_to(cut)
    assert shared == follower.log_end_offset
