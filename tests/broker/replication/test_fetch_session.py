"""What a leader is told of a follower's wishes is always what the follower wishes."""

import random
from uuid import UUID

from broker.replication.fetch_session import NO_SESSION, SESSION_EPOCH_MAX, FetchSession, Key
from broker.replication.follower import FetchPosition

A, B, C = ((UUID(int=n), 0) for n in (1, 2, 3))


def at(offset: int) -> FetchPosition:
    return FetchPosition(leader_epoch=1, fetch_offset=offset, last_fetched_epoch=1, log_start_offset=0)


def test_a_leader_without_sessions_is_asked_for_everything_each_time() -> None:
    session = FetchSession()
    for _ in range(3):
        session.want(A, at(0))
        session.want(B, at(0))
        asked = session.next_request()
        assert (NO_SESSION, 0, {A, B}) == (asked.session_id, asked.session_epoch, set(asked.changed))
        session.answered(NO_SESSION)


def test_a_session_is_told_changes_only() -> None:
    session = FetchSession()
    session.want(A, at(0))
    session.want(B, at(0))
    session.next_request()
    session.answered(7)
    session.want(A, at(5))
    session.drop(B)
    asked = session.next_request()
    assert (7, 1, [A], [B]) == (asked.session_id, asked.session_epoch, list(asked.changed), asked.forgotten)
    session.answered(7)
    asked = session.next_request()
    assert (7, 2, {}, []) == (asked.session_id, asked.session_epoch, asked.changed, asked.forgotten)


def test_the_epoch_begins_again_at_1() -> None:
    session = FetchSession()
    session.answered(7)
    session._epoch = SESSION_EPOCH_MAX
    session.answered(7)
    assert 1 == session.next_request().session_epoch


def test_what_was_just_fetched_waits_behind_the_others() -> None:
    session = FetchSession()
    for key in (A, B, C):
        session.want(key, at(0))
    session.want(A, at(9))
    assert [B, C, A] == list(session.next_request().changed)


def test_an_error_of_the_session_means_a_full_request() -> None:
    session = FetchSession()
    session.want(A, at(0))
    session.next_request()
    session.answered(7)
    session.next_request()
    session.reset()
    asked = session.next_request()
    assert (NO_SESSION, 0, {A}) == (asked.session_id, asked.session_epoch, set(asked.changed))


def test_the_leader_always_knows_what_is_wanted() -> None:
    chance = random.Random(20)
    session = FetchSession()
    known: dict[Key, int] = {}
    for step in range(2_000):
        for _ in range(chance.randrange(4)):
            key = chance.choice((A, B, C))
            if chance.random() < 0.3:
                session.drop(key)
            else:
                session.want(key, at(step))
        if chance.random() < 0.05:
            session.reset()
        asked = session.next_request()
        if asked.session_epoch == 0:
            known.clear()
        for key in asked.forgotten:
            known.pop(key, None)
        known.update({key: position.fetch_offset for key, position in asked.changed.items()})
        assert {key: position.fetch_offset for key, position in session.wanted.items()} == known
        session.answered(chance.choice((7, 7, 7, NO_SESSION)))
