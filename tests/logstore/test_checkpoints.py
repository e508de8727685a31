"""Checkpoint files are believed whole or not at all: a flipped bit costs a scan, never a record (S1, S12, S18)."""

import pytest

from logstore.checkpoints import CheckpointError, parse_checkpoint, render_checkpoint
from tests.logstore.damaged_logs import CONFIG, a_log, flip, records_around_damage, reopen
from tests.logstore.owner import Owner, append
from tests.logstore.simulated_storage import SimulatedStorage


def test_a_checkpoint_is_read_as_it_was_written():
    for lines in ([], ["one"], ["1 2 3", "4 5 6"]):
        assert lines == parse_checkpoint(render_checkpoint(lines))


def test_a_checkpoint_without_a_checksum_is_read_as_kafka_reads_it():
    assert ["1 2 3"] == parse_checkpoint(b"0\n1\n1 2 3\n")
    with pytest.raises(CheckpointError, match="announces 2 lines"):
        parse_checkpoint(b"0\n2\n1 2 3\n")
    with pytest.raises(CheckpointError, match="version 2"):
        parse_checkpoint(b"2\n1\n1 2 3\n")


def test_no_flipped_bit_and_no_missing_end_goes_unnoticed():
    whole = render_checkpoint(["1 2 3", "4 5 6"])
    for position in range(len(whole)):
        with pytest.raises(CheckpointError):
            parse_checkpoint(whole[:position])
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            with pytest.raises(CheckpointError):
                parse_checkpoint(bytes(flipped))


@pytest.mark.parametrize("name", ["recovery-point", "log-start", "replication"])
def test_s18_a_bit_flipped_in_a_checkpoint_cuts_and_hides_nothing(name):
    path = f"data/{name}-offset-checkpoint"
    size_bytes = len(a_log(12, checkpointed=12)[0].file(path).live)
    for position in range(size_bytes * 8):
        storage, log_path = a_log(12, checkpointed=12)
        before = len(storage.file(log_path).live)
        flip(storage, path, position // 8, position % 8)
        _, log = reopen(storage)
        assert before == len(storage.file(log_path).live), position
        assert [*range(12)] == records_around_damage(log), position
        assert 12 == append(log, [b"another"], epoch=9).base_offset, position


def test_s5_a_bit_flipped_in_the_leader_epochs_changes_no_history():
    def made():
        storage = SimulatedStorage()
        owner = Owner(storage).open(CONFIG)
        log = owner.log(config=CONFIG)
        for index in range(12):
            append(log, [b"record-%02d" % index], epoch=1 if index < 4 else 3)
        owner.settle()
        owner.directory.checkpoint()
        owner.settle()
        storage.kill()
        return storage, f"{log.folder}/leader-epoch-checkpoint"

    storage, path = made()
    for position in range(len(storage.file(path).live) * 8):
        storage, path = made()
        flip(storage, path, position // 8, position % 8)
        _, log = reopen(storage)
        assert [(1, 0), (3, 4)] == list(log.leader_epochs.entries), position
