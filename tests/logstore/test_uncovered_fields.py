"""What no CRC covers in Kafka's format: a batch's base offset and its leader epoch. A bit that turns there is told by
the batches around it, to whoever reads (S5, S6, S12, S18)."""

import contextlib
from dataclasses import replace

import pytest

from broker.replication.divergence import EpochEnd, parted_from
from logstore.log_answers import DamagedRangeError
from logstore.log_config import LogConfig
from tests.logstore.damaged_logs import BATCH_BYTES, CONFIG, a_log, flip, records_around_damage, reopen
from tests.logstore.owner import Owner, append
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import RefusedError

COMPACTED = replace(CONFIG, cleanup_policy="compact")


def slices(log, start=0):
    """(base offset, value) of what a consumer gets that asks for one batch at a time from `start` on."""
    offset, found = start, []
    while offset < log.log_end_offset:
        try:
            got = log.read(offset, max_bytes=1, upper_offset=log.log_end_offset)
        except DamagedRangeError as damaged:
            offset = damaged.next_offset
            continue
        assert got.next_offset > offset, "a reader is stuck"
        found.append((got.base_offset, bytes(got.data)[-10:-1]))
        offset = got.next_offset
    return found


def expected(*numbers):
    return [(number, b"record-%02d" % number) for number in numbers]


# ---- base offsets


@pytest.mark.parametrize("policy", ["delete", "compact"])
@pytest.mark.parametrize("bit", range(63))
def test_s12_no_record_is_served_at_a_flipped_base_offset(policy, bit):
    config = replace(CONFIG, cleanup_policy=policy)
    storage, path = a_log(16, checkpointed=16, config=config)
    flip(storage, path, 8 * BATCH_BYTES + 7 - bit // 8, bit=bit % 8)
    _, log = reopen(storage, config)
    assert expected(*range(8), *range(9, 16)) == slices(log)
    assert 8 == log.damaged_from


@pytest.mark.parametrize("start", [9, 10, 11])
def test_s12_a_reader_who_begins_behind_a_flipped_base_offset_skips_nothing(start):
    config = LogConfig(cleanup_policy="compact")
    storage, path = a_log(16, checkpointed=16, config=config)
    flip(storage, path, 8 * BATCH_BYTES + 7, bit=2)
    _, log = reopen(storage, config)
    assert expected(*range(start, 16)) == slices(log, start)


def test_s6_no_follower_copies_a_flipped_base_offset():
    storage, path = a_log(16, checkpointed=16)
    flip(storage, path, 8 * BATCH_BYTES + 7, bit=2)
    _, leader = reopen(storage)
    follower = Owner(SimulatedStorage()).open(CONFIG).log(config=CONFIG)
    for _ in range(16):
        if leader.damaged_from is not None:
            break
        with contextlib.suppress(RefusedError):
            data = leader.read(follower.log_end_offset, max_bytes=BATCH_BYTES, upper_offset=16, check_crc=True).data
            follower.append_replicated(bytearray(data), now_ms=0)
    assert expected(*range(8)) == slices(follower)
    assert 8 == leader.damaged_from


@pytest.mark.parametrize("bit", range(2, 62))
def test_s18_in_a_compacted_log_a_flipped_base_offset_is_told_by_the_batch_after_it(bit):
    """No CRC covers a base offset, and holes are allowed there: what follows is neither damage nor a torn tail."""
    storage, path = a_log(6, checkpointed=2, config=COMPACTED)
    flip(storage, path, 3 * BATCH_BYTES + 7 - bit // 8, bit=bit % 8)
    owner, log = reopen(storage, COMPACTED)
    assert (3, 6) == (log.damaged_from, log.log_end_offset)
    assert [0, 1, 2, 4, 5] == records_around_damage(log)
    owner.close()
    _, log = reopen(storage, COMPACTED)
    assert [0, 1, 2, 4, 5] == records_around_damage(log)


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("bit", [3, 40])
def test_s18_a_flipped_base_offset_in_a_compacted_log_is_damage_to_its_readers(number, bit):
    storage, path = a_log(6, checkpointed=6, config=COMPACTED)
    flip(storage, path, number * BATCH_BYTES + 7 - bit // 8, bit=bit % 8)
    _, log = reopen(storage, COMPACTED)
    with contextlib.suppress(DamagedRangeError):
        log.read(0, max_bytes=1 << 20, upper_offset=6, check_crc=True)
        log.read(number, max_bytes=1 << 20, upper_offset=6, check_crc=True)
    assert number == log.damaged_from
    assert [offset for offset in range(6) if offset != number] == records_around_damage(log)


@pytest.mark.parametrize("bit", range(31, 63))
def test_the_last_base_offset_of_a_compacted_log_is_not_raised_beyond_what_an_index_can_say(bit):
    """Nothing follows that could tell; a smaller rise is believed."""
    storage, path = a_log(6, checkpointed=2, config=COMPACTED)
    flip(storage, path, 5 * BATCH_BYTES + 7 - bit // 8, bit=bit % 8)
    owner, log = reopen(storage, COMPACTED)
    assert 5 == log.log_end_offset
    owner.directory.checkpoint()
    owner.settle()
    owner.close()


# ---- leader epochs


@pytest.mark.parametrize("bit", range(31))
def test_a_flipped_leader_epoch_is_outvoted_by_the_batches_after_it(bit):
    storage, path = a_log(6, checkpointed=1)
    flip(storage, path, 2 * BATCH_BYTES + 15 - bit // 8, bit=bit % 8)
    _, log = reopen(storage)
    assert 2 == log.leader_epochs.latest
    assert 2 == log.leader_epochs.epoch_for(5)
    append(log, [b"next"], epoch=3)


def test_a_flipped_sign_of_a_leader_epoch_does_not_keep_a_node_from_starting():
    storage, path = a_log(6, checkpointed=1)
    flip(storage, path, 3 * BATCH_BYTES + 12, bit=7)
    _, log = reopen(storage)
    assert [(1, 0), (2, 4)] == list(log.leader_epochs.entries), "the last one before, until another is borne out"


@pytest.mark.parametrize("has_file", [True, False])
def test_s5_a_leader_epoch_that_seems_to_fall_moves_no_epochs_start(has_file):
    """A follower with records 3 and 4 of epoch 1, where the leader's are of epoch 3, is told that it parted."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(10):
        append(log, [b"record-%02d" % index], epoch=1 if index < 3 else 3)
    owner.settle()
    if not has_file:
        owner.close()
        storage.unlink(f"{log.folder}/leader-epoch-checkpoint")
    storage.kill()
    flip(storage, log.segments[0].file.path, 5 * BATCH_BYTES + 15, bit=1)
    _, log = reopen(storage)
    assert [(1, 0), (3, 3)] == list(log.leader_epochs.entries)
    end = EpochEnd(*log.leader_epochs.end_offset_for(1, log.log_end_offset))
    assert parted_from(end, fetch_offset=5, last_fetched_epoch=1)
