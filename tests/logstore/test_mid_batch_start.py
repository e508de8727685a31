"""A leader's log may begin in the middle of a batch; a follower that begins there can copy it all the same."""

import pytest

from logstore.storage import PosixStorage
from tests.logstore.owner import Owner, append, read_all
from wire.errors import RefusedError


@pytest.fixture
def logs(tmp_path):
    leading, following = (Owner(PosixStorage(), str(tmp_path / name), reserved_bytes=0).open() for name in "lf")
    yield leading, following
    leading.close()
    following.close()


def test_a_follower_begins_where_the_first_batch_that_it_is_given_begins(logs):
    leading, following = logs
    leader, follower = leading.log(), following.log()
    append(leader, [b"a", b"b", b"c", b"d"])
    append(leader, [b"e"])
    leading.settle()
    leader.advance_high_watermark(5)
    leader.delete_records_before(2)
    follower.truncate_fully_and_start_at(2)
    fetched = leader.read(2, max_bytes=1 << 20, upper_offset=5).data
    follower.append_replicated(fetched, now_ms=0)
    following.settle()
    assert (0, 5, 5) == (follower.log_start_offset, follower.log_end_offset, follower.durable_end_offset)
    follower.advance_high_watermark(5)
    follower.delete_records_before(2)
    assert read_all(leader) == read_all(follower)


def test_a_log_with_records_never_begins_anew_for_a_batch_that_it_has_a_part_of(logs):
    leading, following = logs
    leader, follower = leading.log(), following.log()
    append(leader, [b"a", b"b", b"c"])
    append(follower, [b"a", b"b"])
    fetched = leader.read(2, max_bytes=1 << 20, upper_offset=3).data
    with pytest.raises(RefusedError, match="not at offset 2"):
        follower.append_replicated(fetched, now_ms=0)
    assert [(0, b"a"), (1, b"b")] == read_all(follower)
