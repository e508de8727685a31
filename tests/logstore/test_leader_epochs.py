"""The history by which replicas find where they parted (KIP-101, KIP-279, KIP-320; S4)."""

import pytest

from logstore.checkpoints import CheckpointError
from logstore.leader_epochs import EpochStart, LeaderEpochs


def epochs(*entries):
    return LeaderEpochs([EpochStart(*entry) for entry in entries])


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (-1, (-1, -1)),  # no epoch: a follower that has nothing yet
        (0, (0, 5)),  # older than all that are known: what it wrote is deleted, and ends where the first known begins
        (1, (1, 5)),
        (2, (2, 10)),
        (3, (2, 10)),  # unknown here: the largest below it, and its end
        (4, (2, 10)),
        (5, (5, 20)),
        (7, (5, 20)),
        (8, (8, 33)),  # the latest goes on: it ends where the log ends
        (9, (-1, -1)),  # above all that are known: the log cannot say
        (2**31 - 1, (-1, -1)),
    ],
)
def test_an_epoch_ends_where_the_next_one_begins(asked, answer):
    """The rules of OffsetsForLeaderEpoch (KIP-101, KIP-279)."""
    assert answer == epochs((2, 5), (5, 10), (8, 20)).end_offset_for(asked, 33)


def test_an_epoch_in_which_nothing_followed_ends_where_it_began():
    assert (8, 20) == epochs((2, 5), (8, 20)).end_offset_for(8, 20)


def test_without_history_there_is_no_answer():
    assert (-1, -1) == LeaderEpochs().end_offset_for(3, 10)
    assert LeaderEpochs().latest is None


def test_epochs_never_fall():
    """S4: a bug here would give one offset to two records."""
    history = epochs((2, 5))
    with pytest.raises(AssertionError, match="S4"):
        history.assign(1, 9)


def test_an_epoch_without_records_gives_way_to_its_successor():
    history = epochs((2, 5))
    history.assign(3, 9)
    history.assign(4, 9)
    assert [(2, 5), (4, 9)] == list(history.entries)


@pytest.mark.parametrize(("offset", "epoch"), [(4, None), (5, 2), (9, 2), (10, 5), (99, 5)])
def test_every_offset_was_written_in_the_epoch_that_was_in_force(offset, epoch):
    assert epoch == epochs((2, 5), (5, 10)).epoch_for(offset)


def test_cutting_the_end_forgets_what_began_there():
    history = epochs((2, 5), (5, 10), (8, 20))
    history.truncate_from_end(10)
    assert [(2, 5)] == list(history.entries)
    assert history.is_dirty


def test_cutting_the_start_keeps_the_epoch_in_force():
    history = epochs((2, 5), (5, 10), (8, 20))
    history.truncate_from_start(15)
    assert [(5, 15), (8, 20)] == list(history.entries)


def test_the_file_reads_back():
    history = epochs((2, 5), (5, 10))
    assert history.entries == LeaderEpochs.parse(history.render()).entries


@pytest.mark.parametrize(
    "text", [b"", b"0\n2\n1 1\n", b"0\n1\nx 1\n", b"0\n2\n2 5\n1 9\n", b"0\n2\n1 5\n2 5\n", b"9\n0\n"]
)
def test_a_file_that_makes_no_sense_is_refused(text):
    with pytest.raises(CheckpointError):
        LeaderEpochs.parse(text)
