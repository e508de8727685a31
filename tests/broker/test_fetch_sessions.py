"""Fetch sessions: a client that loses one begins anew, brokers come before clients, and there are only so many."""

import itertools

import pytest

from broker.fetch_sessions import EPOCH_MAX, STALE_AFTER_S, FetchSessions, Named, must_tell, note_told
from broker.partition_fetches import Answered, FetchedPartition, FetchSet, Follower, Wanted
from broker.replication.replica import Fetched
from broker.waiting_room import WaitingRoom
from logstore.log_answers import LogSlice
from wire.errors import ErrorCode, RefusedError

BROKER = Follower(2, 20)


class Sessions(FetchSessions):
    """Two slots; time is what the test says."""

    def __init__(self, slots: int = 2) -> None:
        self.time_s = 1000.0
        ids = itertools.count(1)
        super().__init__(slots=slots, new_id=lambda: next(ids), now_s=lambda: self.time_s)

    def begin(self, size: int = 1, *, follower: Follower | None = None):
        fetched = FetchSet(WaitingRoom(None), follower=follower)
        fetched.want("t", [(index, Wanted(0, 1)) for index in range(size)])
        return self.open(fetched, uses_topic_ids=False)

    def refusal(self, session_id: int, epoch: int, *, follower=None, uses_topic_ids=False) -> ErrorCode:
        with pytest.raises(RefusedError) as caught:
            self.resume(Named(session_id, epoch), follower=follower, uses_topic_ids=uses_topic_ids)
        return caught.value.code

    def resumed(self, session, epoch: int):
        return self.resume(Named(session.session_id, epoch), follower=session.follower, uses_topic_ids=False)


def test_each_request_has_the_next_epoch():
    sessions = Sessions()
    session = sessions.begin()
    assert session is sessions.resumed(session, 1)
    assert session is sessions.resumed(session, 2)
    assert ErrorCode.INVALID_FETCH_SESSION_EPOCH == sessions.refusal(session.session_id, 2)
    assert ErrorCode.INVALID_FETCH_SESSION_EPOCH == sessions.refusal(session.session_id, 4)
    assert session is sessions.resumed(session, 3)


def test_after_the_last_epoch_comes_the_first():
    sessions = Sessions()
    session = sessions.begin()
    session.epoch = EPOCH_MAX
    sessions.resumed(session, EPOCH_MAX)
    assert session is sessions.resumed(session, 1)


def test_nobody_gets_into_the_session_of_another():
    """S9: a consumer that guesses a follower's session acknowledges nothing in its name."""
    sessions = Sessions()
    session = sessions.begin(follower=BROKER)
    for other in (None, Follower(3, 30), Follower(2, 19)):
        assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(session.session_id, 1, follower=other)
        sessions.close(session.session_id, follower=other)
    assert session is sessions.resumed(session, 1)


def test_an_unknown_session_and_one_of_names_spoken_to_by_ids_are_refused():
    sessions = Sessions()
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(77, 1)
    session = sessions.begin()
    assert ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR == sessions.refusal(session.session_id, 1, uses_topic_ids=True)
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(session.session_id, 1)


def test_without_room_a_client_fetches_fully_each_time():
    sessions = Sessions(slots=2)
    assert [True, True, False] == [sessions.begin() is not None for _ in range(3)]
    assert 2 == len(sessions)
    assert Sessions(slots=0).begin() is None


def test_a_session_that_nobody_uses_makes_room():
    sessions = Sessions()
    stale, used = sessions.begin(), sessions.begin()
    sessions.time_s += STALE_AFTER_S
    sessions.resumed(used, 1)
    assert sessions.begin() is not None
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(stale.session_id, 1)
    assert used is sessions.resumed(used, 2)


def test_a_broker_takes_the_place_of_the_smallest_client_and_never_that_of_a_broker():
    sessions = Sessions()
    large, small = sessions.begin(9), sessions.begin(2)
    assert sessions.begin(follower=BROKER) is not None
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(small.session_id, 1)
    assert sessions.begin(follower=Follower(3, 30)) is not None
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(large.session_id, 1)
    assert sessions.begin(follower=Follower(4, 40)) is None
    sessions.time_s += STALE_AFTER_S
    assert sessions.begin(1000) is None


def test_a_larger_client_takes_the_place_of_a_smaller_one_that_has_had_its_time():
    sessions = Sessions()
    small, other = sessions.begin(1), sessions.begin(5)
    assert sessions.begin(9) is None, "a new session is safe for a while"
    sessions.time_s += STALE_AFTER_S
    sessions.resumed(small, 1)
    sessions.resumed(other, 1)
    assert sessions.begin(1) is None
    assert sessions.begin(3) is not None
    assert ErrorCode.FETCH_SESSION_ID_NOT_FOUND == sessions.refusal(small.session_id, 2)


def test_an_incremental_answer_tells_only_what_is_new():
    partition = FetchedPartition(FetchSet(WaitingRoom(None), follower=None), "t", 0, Wanted(0, 1))

    def answered(data: bytes = b"", high_watermark: int = 5, log_start_offset: int = 0) -> Answered:
        return Answered(Fetched(LogSlice(data, 0, 0), high_watermark, log_start_offset, 9), None)

    assert must_tell(partition, answered())
    note_told(partition, answered())
    assert not must_tell(partition, answered())
    assert must_tell(partition, answered(b"records"))
    assert must_tell(partition, answered(high_watermark=6))
    assert must_tell(partition, answered(log_start_offset=1))
    refused = Answered(None, RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "no"))
    assert must_tell(partition, refused)
    note_told(partition, refused)
    assert must_tell(partition, refused), "an error is told until it is over"
    assert must_tell(partition, answered()), "and so is that it is over"
