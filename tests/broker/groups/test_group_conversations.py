"""Conversations of members with their coordinator: what each of them hears, and when."""

import pytest

from broker.groups.records import GroupMetadataValue, MemberMetadata, group_record
from tests.broker.groups.conversation import START_MS, Conversation
from wire.errors import ErrorCode

NONE = ErrorCode.NONE


def test_a_member_alone_leads_itself_and_gets_what_it_assigns():
    told = Conversation()
    joined = told.joined(told.join(name="a", version=9))
    assert (ErrorCode.MEMBER_ID_REQUIRED, "a-1") == (joined.error_code, joined.member_id)
    joined = told.joined(told.join("a-1", version=9))
    assert (NONE, 1, "a-1", "range") == (joined.error_code, joined.generation_id, joined.leader, joined.protocol_name)
    assert ["a-1"] == [member.member_id for member in joined.members]
    assert b"all" == told.synced(told.sync(joined, {"a-1": b"all"})).assignment
    assert NONE is told.heartbeat(joined)
    assert "Stable" == told.group.state


def test_a_second_member_makes_the_first_come_again_and_both_share():
    told = Conversation()
    a = told.stable("a")["a"]
    waiting = told.join(name="b")
    assert waiting not in told.answers
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.heartbeat(a)
    again = told.joined(told.join(a.member_id))
    b = told.joined(waiting)
    assert (2, 2) == (again.generation_id, b.generation_id)
    assert again.leader == b.leader == a.member_id
    assert ([a.member_id, b.member_id], []) == ([one.member_id for one in again.members], list(b.members))
    first = told.sync(b)
    assert first not in told.answers, "a follower waits for its leader"
    second = told.sync(again, {a.member_id: b"left", b.member_id: b"right"})
    assert (b"right", b"left") == (told.synced(first).assignment, told.synced(second).assignment)


def test_members_that_start_together_meet_in_one_generation():
    told = Conversation(initial_rebalance_delay_ms=200)
    a = told.join(name="a")
    told.wait(150)
    b = told.join(name="b")
    told.wait(60)
    assert a not in told.answers, "a newcomer puts it off"
    c = told.join(name="c")
    told.wait(400)
    assert [1, 1, 1] == [told.joined(call).generation_id for call in (a, b, c)]


def test_the_wait_for_more_members_ends_with_the_rebalance_timeout():
    told = Conversation(initial_rebalance_delay_ms=200)
    first = told.join(name="a", rebalance_timeout_ms=1_000)
    for number in range(9):
        told.wait(110)
        told.join(name=f"b{number}", rebalance_timeout_ms=1_000)
    assert first not in told.answers
    told.wait(15)
    assert 1 == told.joined(first).generation_id


def test_the_protocol_that_most_members_prefer_of_those_that_all_speak():
    told = Conversation(initial_rebalance_delay_ms=10)
    calls = [
        told.join(name="a", protocols={"old": b"1", "range": b"2", "sticky": b"3"}),
        told.join(name="b", protocols={"sticky": b"4", "range": b"5"}),
        told.join(name="c", protocols={"sticky": b"6", "range": b"7"}),
    ]
    told.wait(100)
    leader = told.joined(calls[0])
    assert "sticky" == leader.protocol_name
    assert [b"3", b"4", b"6"] == [member.metadata for member in leader.members]


@pytest.mark.parametrize(
    "request_",
    [
        {"protocols": {"other": b""}},
        {"protocol_type": "connect"},
        {"protocols": {}},
        {"protocol_type": ""},
    ],
)
def test_who_speaks_nothing_that_the_others_speak_stays_outside(request_):
    told = Conversation()
    a = told.stable("a")["a"]
    assert ErrorCode.INCONSISTENT_GROUP_PROTOCOL is told.code(told.join(name="b", **request_))
    assert NONE is told.heartbeat(a), "nobody else notices"


def test_a_member_that_falls_silent_is_put_out_and_its_work_goes_to_the_others():
    told = Conversation()
    members = told.stable("a", "b")
    for _ in range(3):
        told.wait(4_000)
        told.heartbeat(members["a"])
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.heartbeat(members["a"])
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.heartbeat(members["b"])
    alone = told.joined(told.join(members["a"].member_id))
    assert (3, [members["a"].member_id]) == (alone.generation_id, [one.member_id for one in alone.members])


def test_a_member_that_leaves_is_missed_at_once():
    told = Conversation()
    members = told.stable("a", "b")
    assert NONE is told.leave(members["b"].member_id)
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.heartbeat(members["a"])
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.leave(members["b"].member_id)


def test_when_the_leader_leaves_another_leads():
    told = Conversation()
    members = told.stable("a", "b")
    told.leave(members["a"].member_id)
    joined = told.joined(told.join(members["b"].member_id))
    assert members["b"].member_id == joined.leader


def test_who_does_not_come_in_time_is_no_member_any_more():
    told = Conversation()
    members = told.stable("a", "b")
    waiting = told.join(name="c")
    told.join(members["a"].member_id)
    for _ in range(8):
        told.wait(4_000)
        told.heartbeat(members["b"])  # alive, but it never joins
    assert 3 == told.joined(waiting).generation_id
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.heartbeat(members["b"])


def test_who_joins_and_never_asks_for_its_assignment_is_put_out():
    told = Conversation()
    a = told.joined(told.join(name="a", rebalance_timeout_ms=20_000))
    for _ in range(4):
        told.wait(4_000)
        assert NONE is told.heartbeat(a)
    told.wait(4_001)
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.heartbeat(a)


def test_a_member_that_asks_twice_is_answered_twice():
    told = Conversation(is_prompt=False)
    a = told.joined(told.join(name="a"))
    told.sync(a, {a.member_id: b"all"})
    told.commit_log()
    told.join(name="b")
    told.join(name="c")
    first, second = told.join("b-2"), told.join("b-2")
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.code(first)
    again = told.joined(told.join(a.member_id))
    assert (2, 3) == (told.joined(second).generation_id, len(again.members))
    first, second = told.sync(again, {}), told.sync(again, {})
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.code(first)
    told.commit_log()
    assert NONE is told.code(second)


def test_a_lost_answer_is_given_again():
    told = Conversation()
    members = told.stable("a", "b")
    again = told.joined(told.join(members["b"].member_id))
    assert (NONE, 2) == (again.error_code, again.generation_id)
    assert b"b" == told.synced(told.sync(again)).assignment
    assert "Stable" == told.group.state


def test_a_leader_that_comes_again_wants_a_rebalance():
    told = Conversation()
    a = told.stable("a")["a"]
    assert 2 == told.joined(told.join(a.member_id)).generation_id


def test_generations_and_members_of_the_past_are_fenced():
    told = Conversation()
    old = told.stable("a")["a"]
    told.join(old.member_id)
    assert ErrorCode.ILLEGAL_GENERATION is told.heartbeat(old)
    assert ErrorCode.ILLEGAL_GENERATION is told.code(told.sync(old, {old.member_id: b"stale"}))
    assert ErrorCode.ILLEGAL_GENERATION is told.code(told.commit(5, old.member_id, old.generation_id))
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.code(told.commit(5, "nobody", 2))
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.code(told.commit(5)), "a group with members takes no commit from outside"
    assert told.offset() is None


def test_a_commit_between_joining_and_the_assignment_has_to_wait():
    told = Conversation()
    joined = told.joined(told.join(name="a"))
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.code(told.commit(5, joined.member_id, joined.generation_id))


def test_a_member_may_commit_what_it_read_while_the_others_rebalance():
    told = Conversation()
    a = told.stable("a")["a"]
    told.join(name="b")
    assert NONE is told.code(told.commit(5, a.member_id, a.generation_id))
    assert 5 == told.offset()


def test_nobody_gets_an_assignment_before_it_is_in_the_log():
    told = Conversation(is_prompt=False)
    joined = told.joined(told.join(name="a"))
    syncing = told.sync(joined, {joined.member_id: b"all"})
    assert syncing not in told.answers
    told.commit_log()
    assert b"all" == told.synced(syncing).assignment


def test_an_assignment_that_cannot_be_written_means_another_round():
    told = Conversation(is_prompt=False)
    joined = told.joined(told.join(name="a"))
    syncing = told.sync(joined, {joined.member_id: b"all"})
    told.refuse_writes(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert ErrorCode.COORDINATOR_NOT_AVAILABLE is told.code(syncing)
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.heartbeat(joined)
    assert 2 == told.joined(told.join(joined.member_id)).generation_id


def test_an_assignment_in_doubt_that_is_written_late_changes_nothing_any_more():
    told = Conversation(is_prompt=False)
    joined = told.joined(told.join(name="a"))
    told.sync(joined, {joined.member_id: b"stale"})
    (late,) = told.in_doubt
    late.failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, told.now)
    told.carry_out()
    again = told.joined(told.join(joined.member_id))
    told.commit_log()
    assert "CompletingRebalance" == told.group.state
    syncing = told.sync(again, {joined.member_id: b"new"})
    told.commit_log()
    assert b"new" == told.synced(syncing).assignment


def test_who_hangs_up_while_it_waits_does_not_hold_up_the_others_for_long():
    told = Conversation()
    a = told.stable("a")["a"]
    b = told.join(name="b")
    told.hang_up(b)
    assert 1 == len(told.group.members), "nobody ever knew that member's id"
    assert 2 == told.joined(told.join(a.member_id)).generation_id
    c = told.joined(told.join(name="c", version=4))
    told.hang_up(told.join(c.member_id, version=4))
    told.join(a.member_id)
    told.wait(10_001)
    assert 3 == told.group.generation_id, "after its session timeout, not the rebalance timeout"
    assert [a.member_id] == [member.member_id for member in told.group.members]


def test_an_id_that_was_given_counts_until_it_is_used_or_forgotten():
    told = Conversation()
    a = told.stable("a")["a"]
    b = told.joined(told.join(name="b", version=4))
    again = told.join(a.member_id)
    assert again not in told.answers, "the one that was told its id is on its way"
    told.wait(10_001)
    assert 2 == told.joined(again).generation_id
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.code(told.join(b.member_id, version=4))


def test_a_group_has_room_for_so_many_and_no_more():
    told = Conversation(members_max=2)
    members = told.stable("a", "b")
    assert ErrorCode.GROUP_MAX_SIZE_REACHED is told.code(told.join(name="c"))
    assert NONE is told.heartbeat(members["a"])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"session_timeout_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_timeout_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"member_id": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": {"range": b"x" * (1 << 20)}}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_no_join_at_all_leaves_nothing_behind(request_, code):
    told = Conversation()
    assert code is told.code(told.join(**request_))
    assert {} == told.core.groups
    assert told.core.next_deadline_ms is None


def test_a_group_of_which_nothing_is_left_is_forgotten():
    told = Conversation()
    told.join(name="a", version=4)
    assert ["g"] == list(told.core.groups)
    told.wait(10_001)
    assert [] == list(told.core.groups)


# ---- static members (KIP-345)


def test_a_static_member_that_restarts_finds_its_work_and_nobody_else_notices():
    told = Conversation()
    a = told.joined(told.join(name="a", instance_id="ia"))
    b_call = told.join(name="b", instance_id="ib")
    a = told.joined(told.join(a.member_id, instance_id="ia"))
    b = told.joined(b_call)
    told.sync(a, {a.member_id: b"A", b.member_id: b"B"}, instance_id="ia")
    told.sync(b, instance_id="ib")
    again = told.joined(told.join(name="b", instance_id="ib", version=9))
    assert (NONE, b.generation_id) == (again.error_code, again.generation_id)
    assert again.member_id != b.member_id
    assert b"B" == told.synced(told.sync(again, instance_id="ib")).assignment
    assert NONE is told.heartbeat(a, instance_id="ia")
    assert ErrorCode.FENCED_INSTANCE_ID is told.heartbeat(b, instance_id="ib")
    assert ErrorCode.FENCED_INSTANCE_ID is told.code(told.commit(1, b.member_id, b.generation_id, instance_id="ib"))
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.code(told.commit(1, b.member_id, b.generation_id))


@pytest.mark.parametrize(("version", "skips"), [(8, False), (9, True)])
def test_a_static_leader_that_restarts_assigns_nothing(version, skips):
    told = Conversation()
    a = told.joined(told.join(name="a", instance_id="ia"))
    told.sync(a, {a.member_id: b"A"}, instance_id="ia")
    again = told.joined(told.join(name="a", instance_id="ia", version=version))
    assert (1, skips) == (again.generation_id, again.skip_assignment)
    assert (again.leader == again.member_id) is skips, "who does not know of skipping takes itself for a follower"
    assert skips is bool(again.members)
    assert b"A" == told.synced(told.sync(again, instance_id="ia")).assignment


def test_a_static_member_that_is_away_keeps_its_place_for_its_session():
    told = Conversation()
    a = told.joined(told.join(name="a", instance_id="ia"))
    told.sync(a, {a.member_id: b"A"}, instance_id="ia")
    b = told.join(name="b", rebalance_timeout_ms=3_000)
    told.wait(2_000)
    assert b not in told.answers
    told.wait(28_001)
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.heartbeat(a, instance_id="ia")


def test_two_of_one_instance_id_fence_each_other():
    told = Conversation()
    first = told.join(name="a", instance_id="i")
    a = told.joined(first)
    waiting = told.join(name="b")
    told.join(a.member_id, instance_id="i")
    b = told.joined(waiting)
    told.sync(a, instance_id="i")
    again = told.join(name="a", instance_id="i")
    assert again not in told.answers, "what the leader assigns now would be for the old id"
    told.join(b.member_id)
    assert 3 == told.joined(again).generation_id


def test_an_administrator_removes_a_static_member_by_its_name():
    told = Conversation()
    a = told.joined(told.join(name="a", instance_id="ia"))
    told.sync(a, {a.member_id: b"A"}, instance_id="ia")
    assert ErrorCode.UNKNOWN_MEMBER_ID is told.leave("", "other")
    assert NONE is told.leave("", "ia")
    assert "Empty" == told.group.state


def test_a_replacement_in_doubt_fences_the_old_one_all_the_same():
    """The log may know the new id: if the old one went on, its commits would be those of a stranger."""
    told = Conversation(is_prompt=False)
    a = told.joined(told.join(name="a", instance_id="ia"))
    told.sync(a, {a.member_id: b"A"}, instance_id="ia")
    told.commit_log()
    again = told.join(name="a", instance_id="ia", version=9)
    told.refuse_writes(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert ErrorCode.COORDINATOR_NOT_AVAILABLE is told.code(again)
    assert ErrorCode.FENCED_INSTANCE_ID is told.heartbeat(a, instance_id="ia")
    again = told.join(name="a", instance_id="ia", version=9)
    told.commit_log()
    assert b"A" == told.synced(told.sync(told.joined(again), instance_id="ia")).assignment


# ---- the next coordinator


def test_a_group_goes_on_at_its_next_coordinator():
    told = Conversation()
    members = told.stable("a", "b")
    told.commit(7, members["a"].member_id, 2, metadata="note")
    told = told.successor()
    assert ("Stable", 2, 7) == (told.group.state, told.group.generation_id, told.offset())
    assert NONE is told.heartbeat(members["a"])
    again = told.joined(told.join(members["b"].member_id))
    assert b"b" == told.synced(told.sync(again)).assignment
    told.wait(6_000)
    told.heartbeat(members["a"])
    told.wait(6_000)
    assert ErrorCode.REBALANCE_IN_PROGRESS is told.heartbeat(members["a"]), "b was not heard of here"


def test_a_rebalance_under_way_is_begun_anew_at_the_next_coordinator():
    told = Conversation()
    a = told.stable("a")["a"]
    told.join(name="b")
    again = told.joined(told.join(a.member_id))
    told = told.successor()
    assert ErrorCode.ILLEGAL_GENERATION is told.heartbeat(again)
    assert 2 == told.joined(told.join(a.member_id)).generation_id


def test_a_static_member_is_known_to_the_next_coordinator():
    told = Conversation()
    a = told.joined(told.join(name="a", instance_id="ia"))
    told.sync(a, {a.member_id: b"A"}, instance_id="ia")
    again = told.joined(told.join(name="a", instance_id="ia", version=9))
    told = told.successor()
    assert NONE is told.heartbeat(again, instance_id="ia")
    assert ErrorCode.FENCED_INSTANCE_ID is told.heartbeat(a, instance_id="ia")


def test_an_empty_group_keeps_its_generation_and_since_when_it_is_empty():
    told = Conversation()
    a = told.stable("a")["a"]
    told.commit(3, a.member_id, 1)
    told.wait(5_000)
    told.leave(a.member_id)
    group = told.successor().group
    assert ("Empty", 2, "consumer", START_MS + 5_000) == (
        group.state, group.generation_id, group.protocol_type, group.state_since_ms,
    )  # fmt: skip


def test_a_record_that_names_a_member_twice_stops_nobody():
    twice = GroupMetadataValue("consumer", 3, "range", "m", 0, [MemberMetadata("m", "i"), MemberMetadata("m", "j")])
    same = GroupMetadataValue("consumer", 4, "range", "m", 0, [MemberMetadata("m", "i"), MemberMetadata("n", "i")])
    for value in (twice, same):
        told = Conversation()
        told.log.append(group_record("g", value))
        assert ["m"] == [member.member_id for member in told.successor().group.members]
