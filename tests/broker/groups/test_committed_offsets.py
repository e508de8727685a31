"""What a group committed: kept as long as it should be, and never by somebody who has no say any more."""

import pytest

from broker.groups.offsets import TopicPartition
from tests.broker.groups.conversation import SUBSCRIBED_TO_T, Conversation
from wire.errors import ErrorCode

NONE = ErrorCode.NONE
DAY_MS = 24 * 3_600_000
T0, U0 = TopicPartition("t", 0), TopicPartition("u", 0)


def expire_offsets(told: Conversation) -> None:
    told.core.expire_offsets(list(told.core.groups), told.now)
    told.carry_out()


def test_a_commit_is_answered_and_seen_once_it_is_safe_in_the_log():
    told = Conversation(is_prompt=False)
    call = told.commit(5)
    assert (None, False) == (told.offset(), call in told.answers)
    told.commit_log()
    assert (5, NONE) == (told.offset(), told.code(call))


def test_a_commit_that_was_refused_did_not_happen():
    told = Conversation(is_prompt=False)
    told.commit(5)
    told.commit_log()
    call = told.commit(6)
    told.refuse_writes(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert (5, ErrorCode.COORDINATOR_NOT_AVAILABLE) == (told.offset(), told.code(call))


def test_a_commit_in_doubt_counts_when_it_turns_out_to_be_safe():
    told = Conversation(is_prompt=False)
    call = told.commit(5)
    told.in_doubt[0].failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, told.now)
    told.carry_out()
    assert None is told.offset()
    told.commit_log()
    assert 5 == told.offset() == told.successor().offset()
    assert ErrorCode.COORDINATOR_NOT_AVAILABLE is told.code(call), "it was told so before"


def test_commits_take_effect_in_the_order_of_the_log():
    told = Conversation(is_prompt=False)
    for offset in (5, 7, 6):
        told.commit(offset)
    told.commit_log(2)
    assert 7 == told.offset()
    told.commit_log()
    assert 6 == told.offset() == told.successor().offset()


def test_too_much_metadata_is_refused_and_the_rest_is_committed():
    told = Conversation(offset_metadata_bytes_max=4)
    assert ErrorCode.OFFSET_METADATA_TOO_LARGE is told.code(told.commit(5, metadata="five!"))
    assert {} == told.core.groups
    assert NONE is told.code(told.commit(5, metadata="four"))


def test_a_generation_of_a_group_that_nobody_knows():
    told = Conversation()
    assert ErrorCode.GROUP_ID_NOT_FOUND is told.code(told.commit(1, "m", 3))
    assert {} == told.core.groups


# ---- retention


def test_offsets_of_a_group_without_members_are_kept_from_the_day_that_the_last_one_left():
    told = Conversation(offsets_retention_ms=7 * DAY_MS)
    a = told.stable("a")["a"]
    told.commit(3, a.member_id, 1)
    told.now_ms += 30 * DAY_MS  # it reads, and has nothing to commit
    expire_offsets(told)
    assert 3 == told.offset()
    told.leave(a.member_id)
    told.now_ms += 7 * DAY_MS - 1
    expire_offsets(told)
    assert 3 == told.offset() == told.successor().offset()
    told.now_ms += 1
    expire_offsets(told)
    assert ({}, {}) == (told.core.groups, told.successor().core.groups)


def test_whoever_assigns_its_partitions_itself_keeps_its_offsets_from_each_commit():
    told = Conversation(offsets_retention_ms=DAY_MS)
    told.commit(3)
    told.now_ms += DAY_MS - 1
    told.commit(4, topic="u")
    told.now_ms += 1
    expire_offsets(told)
    assert (None, 4) == (told.offset(), told.offset("u"))
    assert (None, 4) == (told.successor().offset(), told.successor().offset("u"))


def test_a_group_forgets_what_its_members_read_no_more():
    told = Conversation(offsets_retention_ms=DAY_MS)
    a = told.stable("a")["a"]
    told.commit(3, a.member_id, 1)
    told.commit(4, a.member_id, 1, topic="u")
    told.now_ms += DAY_MS
    expire_offsets(told)
    assert (3, None) == (told.offset(), told.offset("u"))


def test_a_commit_with_a_retention_of_its_own():
    told = Conversation()
    told.commit(3, retention_ms=1_000)
    told = told.successor()
    told.now_ms += 999
    expire_offsets(told)
    assert 3 == told.offset()
    told.now_ms += 1
    expire_offsets(told)
    assert None is told.offset()


def test_offsets_of_a_deleted_topic_are_not_for_the_next_of_that_name():
    told = Conversation()
    told.commit(3)
    told.commit(4, topic="u")
    told.core.forget_topics(["t"])
    told.carry_out()
    assert (None, 4) == (told.offset(), told.offset("u")) == (told.successor().offset(), told.successor().offset("u"))


def test_what_is_being_committed_anew_is_not_dropped_for_its_age():
    """The deletion would lie behind the commit in the log, and take it back once it was acknowledged."""
    told = Conversation(offsets_retention_ms=DAY_MS)
    told.commit(3)
    told.now_ms += 2 * DAY_MS
    told.is_prompt = False
    call = told.commit(7)
    expire_offsets(told)
    told.commit_log()
    assert (NONE, 7, 7) == (told.code(call), told.offset(), told.successor().offset())
    told.now_ms += 2 * DAY_MS
    expire_offsets(told)
    told.commit_log()
    assert None is told.offset()


@pytest.mark.parametrize("is_late", [False, True])
def test_s17_what_is_being_committed_of_a_deleted_topic_goes_with_it(is_late):
    told = Conversation(is_prompt=False)
    told.commit(7)
    told.commit(4, topic="u")
    if is_late:
        told.in_doubt[0].failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, told.now)
    told.core.forget_topics(["t"])
    told.carry_out()
    told.commit_log()
    assert (None, 4) == (told.offset(), told.offset("u")) == (told.successor().offset(), told.successor().offset("u"))


def test_offsets_of_a_topic_that_was_deleted_while_nobody_coordinated():
    told = Conversation()
    told.commit(3)
    told.commit(4, topic="gone")
    told = told.successor()
    assert (3, None) == (told.offset(), told.offset("gone"))


# ---- deleting


def test_a_deleted_group_is_gone_for_the_next_coordinator_too():
    told = Conversation()
    a = told.stable("a")["a"]
    told.commit(3, a.member_id, 1)
    assert ErrorCode.NON_EMPTY_GROUP is told.code(told.delete_group())
    told.leave(a.member_id)
    assert NONE is told.code(told.delete_group())
    assert ({}, {}) == (told.core.groups, told.successor().core.groups)
    assert ErrorCode.GROUP_ID_NOT_FOUND is told.code(told.delete_group())


def test_a_group_that_is_being_deleted_takes_nothing():
    told = Conversation(is_prompt=False)
    told.commit(3)
    told.commit_log()
    deleting = told.delete_group()
    for call in (told.commit(4), told.join(name="a")):
        assert ErrorCode.COORDINATOR_NOT_AVAILABLE is told.code(call)
    told.commit_log()
    assert (NONE, {}) == (told.code(deleting), told.core.groups)


def test_a_deletion_that_cannot_be_written_did_not_happen():
    told = Conversation(is_prompt=False)
    told.commit(3)
    told.commit_log()
    deleting = told.delete_group()
    told.refuse_writes(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert ErrorCode.COORDINATOR_NOT_AVAILABLE is told.code(deleting)
    told.commit(4)
    told.commit_log()
    assert 4 == told.offset()


def test_a_commit_after_a_deletion_in_doubt_outlives_it():
    told = Conversation(is_prompt=False)
    told.commit(3)
    told.commit_log()
    told.delete_group()
    told.in_doubt[0].failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, told.now)
    told.carry_out()
    told.commit(4)
    told.commit_log()
    assert 4 == told.offset() == told.successor().offset()


@pytest.mark.parametrize(("topic", "code"), [("t", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC), ("u", NONE)])
def test_offsets_in_use_are_not_deleted(topic, code):
    told = Conversation()
    a = told.stable("a")["a"]
    told.commit(3, a.member_id, 1, topic=topic)
    assert code is told.code(told.delete_offsets(TopicPartition(topic, 0)))
    assert (None if code is NONE else 3) == told.offset(topic) == told.successor().offset(topic)


def test_what_members_of_another_kind_use_nobody_can_tell():
    told = Conversation()
    told.stable("a", protocol_type="connect", protocols={"x": SUBSCRIBED_TO_T})
    assert ErrorCode.NON_EMPTY_GROUP is told.code(told.delete_offsets(T0))


def test_deleting_offsets_of_nobody():
    told = Conversation()
    assert ErrorCode.GROUP_ID_NOT_FOUND is told.code(told.delete_offsets(T0))
    told.commit(3)
    assert NONE is told.code(told.delete_offsets(U0)), "there is none any more"
