"""Whatever happens to a compacted log or to one that is being compacted: no last value is lost, no hole is damage."""

import contextlib
import errno
from dataclasses import replace
from random import Random

import pytest

from logstore.cleaner import cleanable, note_damage_found, take_in
from logstore.cleaning import DamagedSegmentError
from logstore.inspection import verify_directory
from logstore.segment_swap import CleanedSegment
from tests.logstore.cleaning_harness import (
    COMPACT,
    append_keyed,
    as_map,
    begin,
    clean,
    commit,
    read_batches,
    read_keyed,
)
from tests.logstore.owner import Owner
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError


class PowerCutError(Exception):
    pass


class FragileStorage(SimulatedStorage):
    """Loses power before the n-th change from now on."""

    changes_left = -1

    def _enter(self, operation, path):
        if operation in {"pwrite", "rename", "unlink", "fdatasync", "fsync_directory", "truncate", "open"}:
            if self.changes_left == 0:
                raise PowerCutError
            self.changes_left -= 1
        super()._enter(operation, path)


def filled(owner, rounds=24, config=COMPACT, epochs=1):
    log = owner.log(config=config)
    for number in range(rounds):
        value = None if number % 7 == 6 else b"v%d" % number
        epoch = 1 + number * epochs // rounds
        append_keyed(log, [(b"k%d" % (number % 4), value)], timestamp_ms=1000 + number, epoch=epoch)
    log.roll()
    append_keyed(log, [(b"active", b"1")], timestamp_ms=5000, epoch=epochs)
    commit(owner, log)
    return log


@pytest.mark.parametrize("seed", range(2))
def test_power_may_fail_at_every_step_of_a_cleaning(seed):
    left = 0
    while True:
        storage = FragileStorage()
        log = filled(Owner(storage).open(COMPACT))
        expected = read_keyed(log)
        storage.changes_left = left
        try:
            clean(log, now_ms=10_000)
        except PowerCutError:
            is_over = False
        else:
            is_over = True
        storage.changes_left = -1
        storage.crash(Random(seed * 1000 + left))
        owner = Owner(storage).open(COMPACT)
        log = owner.log(config=COMPACT)
        found = read_keyed(log)
        assert log.damaged_from is None, f"step {left}"
        assert set(found) <= set(expected), f"step {left}"
        assert as_map(expected) == as_map(found), f"step {left}"
        assert 25 == log.log_end_offset
        commit(owner, log)
        clean(log, now_ms=10_000)
        assert as_map(expected) == as_map(read_keyed(log))
        assert not storage.paths(".cleaned")
        assert not storage.paths(".swap")
        if is_over:
            break
        left += 1
    assert left > 20


def test_a_full_disk_leaves_the_log_as_it_was():
    storage = SimulatedStorage()
    owner = Owner(storage, reserved_bytes=0).open(COMPACT)
    log = filled(owner)
    expected = read_keyed(log)
    storage.fail("pwrite", errno.ENOSPC, path=".cleaned")
    with pytest.raises(OSError, match="No space"):
        clean(log)
    assert expected == read_keyed(log)
    assert not storage.paths(".cleaned")
    storage.capacity_bytes = storage.capacity_bytes - storage.free_bytes("")
    with pytest.raises(RefusedError, match=r"below log\.dir\.reserved\.bytes"):
        clean(log)
    assert not owner.failures


@pytest.mark.parametrize("position", [70, 7, 0], ids=["CRC", "offset within the segment", "offset beyond its end"])
def test_a_broken_batch_stops_the_cleaning_and_nothing_is_removed(position):
    storage = SimulatedStorage()
    log = filled(Owner(storage).open(COMPACT))
    size_bytes = log.size_bytes
    file = storage.file(log.segments[1].file.path)
    file.live[position] ^= 64
    cleaning = begin(log)
    with pytest.raises(DamagedSegmentError) as caught:
        list(iter(cleaning.step, None))
    assert note_damage_found(log, cleaning.plan, caught.value)
    assert log.segments[1].base_offset == log.damaged_from
    assert size_bytes == log.size_bytes
    assert cleanable(log, 0, drops_tombstones=True) is None
    assert b"active" == read_keyed(log, log.damaged_from + 1)[-1][1]


def test_a_log_that_changed_meanwhile_keeps_what_it_has():
    log = filled(Owner(SimulatedStorage()).open(COMPACT))
    cleaning = begin(log)
    found = cleaning.step()
    while not isinstance(found, CleanedSegment):
        found = cleaning.step()
    log.truncate_to(20)
    expected = read_keyed(log)
    assert not take_in(log, cleaning.plan, found)
    cleaning.discard()
    assert expected == read_keyed(log)


@pytest.mark.parametrize("is_checkpoint_lost", [False, True])
def test_holes_are_no_damage_in_a_log_that_is_compacted_no_more(is_checkpoint_lost):
    """Nor where the cleaner's checkpoint, which says so, is lost."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(COMPACT)
    log = filled(owner)
    clean(log)
    expected = read_keyed(log)
    commit(owner, log)
    owner.close()
    storage.kill()
    assert [[]] == [verified.findings for verified in verify_directory(storage, "data")]
    if is_checkpoint_lost:
        storage.unlink("data/cleaner-offset-checkpoint")
    config = replace(COMPACT, cleanup_policy="delete")
    log = Owner(storage).open(config).log(config=config)
    assert expected == read_keyed(log)
    assert log.damaged_from is None


def test_holes_are_no_damage_in_a_log_that_was_compacted_for_a_while_and_copied_them_later():
    """Its line in the cleaner's checkpoint stays: nobody writes it again before the holes are written."""
    leader_owner = Owner(SimulatedStorage()).open(COMPACT)
    leader = filled(leader_owner)
    clean(leader)
    delete = replace(COMPACT, cleanup_policy="delete")
    storage = SimulatedStorage()
    owner = Owner(storage).open(delete)
    log = owner.log(config=delete)
    for config in (COMPACT, delete):
        log.config = config
        owner.directory.checkpoint()
        owner.settle()
    while log.log_end_offset < leader.log_end_offset:
        data = leader.read(log.log_end_offset, max_bytes=200, upper_offset=leader.log_end_offset).data
        with contextlib.suppress(RefusedError):  # a hole is believed when it comes twice
            log.append_replicated(bytearray(data), now_ms=0)
    owner.settle()
    storage.kill()
    log = Owner(storage).open(delete).log(config=delete)
    assert log.damaged_from is None
    assert read_keyed(leader) == read_keyed(log)


def test_compact_and_delete_does_both():
    config = replace(COMPACT, cleanup_policy="compact,delete", retention_ms=1000)
    owner = Owner(SimulatedStorage()).open(config)
    log = filled(owner, config=config)
    clean(log)
    assert len(read_keyed(log)) < 10
    assert owner.directory.run_retention(5500) > 0
    assert [(24, b"active", b"1")] == read_keyed(log)
    assert 24 == log.log_start_offset


# ---- followers


def copied(leader, follower, *, max_bytes=200):
    while follower.log_end_offset < leader.log_end_offset:
        offset = follower.log_end_offset
        data = leader.read(offset, max_bytes=max_bytes, upper_offset=leader.log_end_offset).data
        follower.append_replicated(bytearray(data), now_ms=0)


def test_a_follower_takes_a_compacted_log_with_its_holes_and_epochs():
    leader = filled(Owner(SimulatedStorage()).open(COMPACT), epochs=4)
    starts = leader.leader_epochs.entries
    clean(leader)
    assert starts == leader.leader_epochs.entries
    storage = SimulatedStorage()
    owner = Owner(storage).open(COMPACT)
    follower = owner.log(config=COMPACT)
    copied(leader, follower)
    assert read_keyed(leader) == read_keyed(follower)
    for start in starts:
        end_offset = leader.leader_epochs.end_offset_for(start.epoch, 25)[1]
        assert follower.leader_epochs.end_offset_for(start.epoch, 25)[1] <= end_offset
    known = follower.leader_epochs.entries
    owner.settle()
    storage.kill()
    again = Owner(storage).open(COMPACT).log(config=COMPACT)
    assert read_keyed(leader) == read_keyed(again)
    assert known[1:] == again.leader_epochs.entries[1:]


def test_a_hole_in_a_topic_that_is_not_compacted_is_believed_when_it_comes_twice():
    leader = filled(Owner(SimulatedStorage()).open(COMPACT))
    clean(leader)
    config = replace(COMPACT, cleanup_policy="delete")
    storage = SimulatedStorage()
    owner = Owner(storage).open(config)
    follower = owner.log(config=config)
    with pytest.raises(RefusedError) as caught:
        copied(leader, follower)
    assert ErrorCode.CORRUPT_MESSAGE == caught.value.code
    assert follower.log_end_offset < leader.log_end_offset
    copied(leader, follower)
    assert read_keyed(leader) == read_keyed(follower)
    owner.settle()
    storage.crash(Random(1))
    again = Owner(storage).open(config).log(config=config)
    assert again.damaged_from is None
    assert read_keyed(leader) == read_keyed(again)


def test_the_last_batches_of_a_producer_stay_without_their_records():
    """S13: whoever copies the compacted log knows the producer's retries as well."""
    leader = Owner(SimulatedStorage()).open(COMPACT)
    log = leader.log(config=COMPACT)
    for number in range(8):
        append_keyed(log, [(b"k", b"%d" % number)], producer_id=5, producer_epoch=0, base_sequence=number)
    append_keyed(log, [(b"k", b"last")])
    log.roll()
    append_keyed(log, [(b"other", b"1")])
    commit(leader, log)
    clean(log)
    assert [(8, b"k", b"last"), (9, b"other", b"1")] == read_keyed(log)
    assert [3, 4, 5, 6, 7, 8, 9] == [batch.base_offset for batch in read_batches(log)]
    follower = Owner(SimulatedStorage()).open(COMPACT).log(config=COMPACT)
    copied(log, follower)
    for number in range(3, 8):
        retried = append_keyed(follower, [(b"k", b"x")], producer_id=5, producer_epoch=0, base_sequence=number)
        assert (True, number) == (retried.is_duplicate, retried.base_offset)
    assert 10 == append_keyed(follower, [(b"k", b"8")], producer_id=5, producer_epoch=0, base_sequence=8).base_offset
    stranger = append_keyed(follower, [(b"k", b"9")], producer_id=4, producer_epoch=0, base_sequence=77)
    assert 11 == stranger.base_offset  # all that it wrote may have been superseded
