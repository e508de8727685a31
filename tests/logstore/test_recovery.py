"""What a start finds after the worst stops: torn tails are cut, damage is kept and said, nothing acknowledged is lost
(S18, S1), and only what lies beyond the recovery point is read."""

from random import Random

import pytest

from logstore.log_answers import DamagedRangeError
from logstore.log_config import LogConfig
from tests.logstore.damaged_logs import BATCH_BYTES, CONFIG, a_log, cut_file, flip, records_around_damage, reopen
from tests.logstore.owner import TOPIC_ID, Owner, append, batch, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode, RefusedError


def expected(*numbers):
    return [(number, b"record-%02d" % number) for number in numbers]


def readable(log):
    """All records that reads give, going round what is refused as damaged."""
    found, offset = [], log.log_start_offset
    while offset < log.log_end_offset:
        try:
            got = read_all(log, offset)
        except DamagedRangeError as damaged:
            assert ErrorCode.CORRUPT_MESSAGE is damaged.code  # noqa: PT017 - the loop goes on
            assert damaged.offset <= offset < damaged.next_offset  # noqa: PT017 - the loop goes on
            offset = damaged.next_offset
            continue
        found += got
        break
    return found


def test_a_log_cut_at_any_byte_keeps_every_whole_batch_and_takes_appends():
    """The torn tail of a crash at each possible byte, nothing of it acknowledged."""
    storage, path = a_log(4)
    whole = bytes(storage.file(path).live)
    for size_bytes in range(len(whole) + 1):
        storage, path = a_log(4)
        cut_file(storage, path, size_bytes)
        _, log = reopen(storage)
        kept = size_bytes // BATCH_BYTES
        assert expected(*range(kept)) == read_all(log), size_bytes
        assert log.damaged_from is None
        assert kept * BATCH_BYTES == len(storage.file(path).live)
        assert kept == append(log, [b"next"], epoch=9).base_offset


def test_a_log_cut_below_its_recovery_point_is_damaged_whatever_the_byte():
    """S18: synced records are gone; appending over the hole would hide it."""
    whole = 4 * BATCH_BYTES
    for size_bytes in range(whole):
        storage, path = a_log(4, checkpointed=4)
        cut_file(storage, path, size_bytes)
        _, log = reopen(storage)
        kept = size_bytes // BATCH_BYTES
        assert expected(*range(kept)) == readable(log), size_bytes
        assert kept == log.damaged_from
        with pytest.raises(RefusedError, match="damaged from offset"):
            append(log, [b"next"], epoch=9)
        assert size_bytes == len(storage.file(path).live), "nothing is cut from a damaged log"


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x02"])
@pytest.mark.parametrize("length", [1, 16, 61, 100, 5000])
def test_garbage_behind_the_last_batch_is_cut(fill, length):
    """ext4 may lengthen a file before its bytes arrive."""
    storage, path = a_log(4, checkpointed=2)
    storage.file(path).change((4 * BATCH_BYTES, fill * length))
    _, log = reopen(storage)
    assert expected(*range(4)) == read_all(log)
    assert log.damaged_from is None
    assert 4 * BATCH_BYTES == len(storage.file(path).live)


@pytest.mark.parametrize("position", [*range(12), *range(16, BATCH_BYTES)])
def test_a_bit_flipped_in_the_middle_beyond_the_recovery_point_loses_one_batch_and_not_what_follows(position):
    """S18, NATS JetStream #7549: what comes after a flipped bit is not a torn tail.

    Bytes 12 to 15 are the leader epoch, which the CRC does not cover (KIP-98): see the test below.
    """
    storage, path = a_log(6, checkpointed=2)
    flip(storage, path, 3 * BATCH_BYTES + position, bit=position % 8)
    owner, log = reopen(storage)
    assert 3 == log.damaged_from
    assert [0, 1, 2, 4, 5] == records_around_damage(log)
    assert 6 == log.log_end_offset
    with pytest.raises(RefusedError) as refused:
        append(log, [b"x"], epoch=9)
    assert ErrorCode.KAFKA_STORAGE_ERROR is refused.value.code
    with pytest.raises(RefusedError, match="offsets 3 to 3 of access-0 are damaged on disk"):
        log.read(3, max_bytes=1000, upper_offset=6)
    owner.close()
    _, log = reopen(storage)
    assert 3 == log.damaged_from, "a restart does not forget"
    assert [0, 1, 2, 4, 5] == records_around_damage(log)


def test_a_bit_flipped_in_the_last_batch_beyond_the_recovery_point_is_a_torn_tail():
    storage, path = a_log(6, checkpointed=2)
    flip(storage, path, 5 * BATCH_BYTES + 70)
    _, log = reopen(storage)
    assert log.damaged_from is None
    assert expected(0, 1, 2, 3, 4) == read_all(log)


@pytest.mark.parametrize("position", [0, 7, 8, 11, 16, 20, 25, 65])
@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_bit_flipped_below_the_recovery_point_is_found_by_the_reader_and_remembered(number, position):
    storage, path = a_log(6, checkpointed=6)
    flip(storage, path, number * BATCH_BYTES + position)
    owner, log = reopen(storage)
    assert 0 == owner.directory.scanned_bytes
    assert [offset for offset in range(6) if offset != number] == records_around_damage(log)
    assert number == log.damaged_from
    with pytest.raises(RefusedError, match="damaged"):
        append(log, [b"x"], epoch=9)
    owner.close()
    _, log = reopen(storage)
    assert number == log.damaged_from
    assert [offset for offset in range(6) if offset != number] == records_around_damage(log)


def test_damage_right_before_known_damage_hides_nothing_that_lies_behind():
    storage, path = a_log(6, checkpointed=6)
    flip(storage, path, 4 * BATCH_BYTES + 70)
    _, log = reopen(storage)
    assert [0, 1, 2, 3, 5] == records_around_damage(log)
    flip(storage, path, 3 * BATCH_BYTES + 70)
    assert [0, 1, 2, 5] == records_around_damage(log)
    assert 3 == log.damaged_from


def test_a_zeroed_page_in_the_middle_costs_only_what_it_covers():
    storage, path = a_log(40, checkpointed=40)
    file = storage.file(path)
    file.live[1010:1500] = bytes(490)
    file.sync()
    _, log = reopen(storage)
    lost = {offset for offset in range(40) if offset * BATCH_BYTES < 1500 and (offset + 1) * BATCH_BYTES > 1010}
    assert [offset for offset in range(40) if offset not in lost] == records_around_damage(log)
    assert min(lost) == log.damaged_from


def test_without_its_checkpoint_file_a_directory_never_takes_a_broken_end_for_a_torn_tail():
    """The lost file may have said that this batch was synced."""
    storage, path = a_log(4, checkpointed=4)
    storage.unlink("data/recovery-point-offset-checkpoint")
    flip(storage, path, 3 * BATCH_BYTES + 70)
    _, log = reopen(storage)
    assert 3 == log.damaged_from
    assert expected(0, 1, 2) == readable(log)


@pytest.mark.parametrize("name", ["recovery-point", "log-start", "replication"])
@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"0\n5\nAAAA 0 1\n", b"\xff\xfe"])
def test_a_broken_checkpoint_file_costs_a_scan_and_no_records(name, content):
    storage, _ = a_log(6, checkpointed=6)
    file = storage.file(f"data/{name}-offset-checkpoint")
    file.live[:] = content
    file.sync()
    owner, log = reopen(storage)
    assert expected(*range(6)) == read_all(log)
    assert log.damaged_from is None
    assert 6 == append(log, [b"next"], epoch=9).base_offset
    owner.close()


def test_only_what_lies_beyond_the_recovery_point_is_read():
    storage, _ = a_log(50, checkpointed=45)
    storage.calls.clear()
    owner, log = reopen(storage)
    assert 5 * BATCH_BYTES == owner.directory.scanned_bytes
    assert 50 == log.durable_end_offset
    storage, _ = a_log(50, checkpointed=50)
    storage.calls.clear()
    owner, log = reopen(storage)
    assert 0 == owner.directory.scanned_bytes
    assert [] == [call for call in storage.calls if call[1].endswith(".log")], "not even opened"


def test_recovered_records_count_as_durable_only_after_their_sync():
    """kill -9 leaves them in the page cache; a power cut right after could still take them."""
    storage, _ = a_log(6, checkpointed=2)
    owner = Owner(storage)
    owner.directory.open(lambda topic_id, name: CONFIG)
    log = owner.directory.logs[TOPIC_ID, 0]
    assert (2, 6) == (log.durable_end_offset, log.log_end_offset)
    owner.settle()
    assert 6 == log.durable_end_offset


@pytest.mark.parametrize("seed", range(30))
def test_nothing_acknowledged_is_lost_when_the_power_goes_while_segments_roll(seed):
    random = Random(seed)
    config = LogConfig(segment_bytes=300, index_interval_bytes=100)
    storage = SimulatedStorage()
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for index in range(20):
        append(log, [b"record-%02d" % index])
        if random.random() < 0.2 and owner.jobs:
            owner.jobs.popleft().result()
        if random.random() < 0.2 and owner.posted:
            owner.posted.popleft()()
    durable = log.durable_end_offset
    storage.crash(random)
    owner = Owner(storage).open(config)
    log = owner.directory.logs.get((TOPIC_ID, 0)) or owner.log(config=config)
    assert durable <= log.log_end_offset <= 20
    assert log.damaged_from is None
    assert expected(*range(log.log_end_offset)) == read_all(log)


def test_a_missing_segment_in_the_middle_is_damage():
    config = LogConfig(segment_bytes=2 * BATCH_BYTES)
    storage, path = a_log(8, config=config)
    storage.unlink(path.replace("0.log", "4.log"))
    _, log = reopen(storage, config)
    assert 4 == log.damaged_from
    assert [0, 1, 2, 3, 6, 7] == records_around_damage(log)


@pytest.mark.parametrize("what", ["missing", "broken"])
@pytest.mark.parametrize("checkpointed", [3, 8])
def test_leader_epochs_are_learned_from_the_batches_when_their_file_is_gone(what, checkpointed):
    storage, path = a_log(8, checkpointed=checkpointed)
    file = path.rpartition("/")[0] + "/leader-epoch-checkpoint"
    if what == "missing":
        storage.unlink(file)
    else:
        storage.file(file).live[:] = b"0\n1\nx y\n"
    _, log = reopen(storage)
    assert [(1, 0), (2, 3), (3, 6)] == list(log.leader_epochs.entries)


def test_records_of_another_batch_inside_a_value_are_not_taken_for_what_follows_a_flipped_bit():
    """A record may carry a whole batch with plausible offsets as its value."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    inner = batch([b"inner"])
    inner[0:8] = (2).to_bytes(8, "big")
    append(log, [b"first"])
    append(log, [bytes(inner)])
    append(log, [b"third"])
    owner.settle()
    owner.directory.checkpoint()
    owner.settle()
    storage.kill()
    path = log.segments[0].file.path
    flip(storage, path, len(batch([b"first"])) + 62)
    _, log = reopen(storage)
    assert [0, 2] == records_around_damage(log)
    assert (2, b"third") == read_all(log, 2)[0]


def test_damage_that_retention_deletes_is_forgotten():
    config = LogConfig(segment_bytes=2 * BATCH_BYTES, retention_ms=1)
    storage, path = a_log(8, checkpointed=8, config=config)
    flip(storage, path.replace("0.log", "2.log"), 70)
    owner, log = reopen(storage, config)
    assert [0, 1, 3, 4, 5, 6, 7] == records_around_damage(log)
    log.advance_high_watermark(8)
    log.apply_retention(10**9)
    assert log.damaged_from is None
    assert 8 == append(log, [b"next"], epoch=9).base_offset
    owner.settle()
    owner.close()
    _, log = reopen(storage, config)
    assert log.damaged_from is None


def test_damage_is_forgotten_when_the_log_is_fetched_anew():
    storage, path = a_log(6, checkpointed=2)
    flip(storage, path, 3 * BATCH_BYTES + 70)
    owner, log = reopen(storage)
    log.truncate_fully_and_start_at(4)
    assert log.damaged_from is None
    assert 4 == append(log, [b"again"], epoch=9).base_offset
    owner.settle()
    owner.close()
    _, log = reopen(storage)
    assert log.damaged_from is None
    assert [(4, b"again")] == read_all(log)


@pytest.mark.parametrize("log_start_offset", [0, 5])
def test_a_checkpoint_of_a_relaxed_topic_makes_nothing_readable_before_it_is_synced(log_start_offset):
    """S2: opened with the default settings, the watermark waits for recovery's sync; S12: then all is there again."""
    storage = SimulatedStorage()
    relaxed = LogConfig(flush_messages=1000)
    owner = Owner(storage).open(relaxed)
    log = owner.log(config=relaxed)
    for index in range(6):
        append(log, [b"record-%02d" % index])
    log.advance_high_watermark(6)
    log.delete_records_before(log_start_offset)
    owner.directory.checkpoint()
    owner.settle()
    storage.kill()
    owner = Owner(storage)
    owner.directory.open()
    log = owner.directory.logs[TOPIC_ID, 0]
    assert log_start_offset == log.high_watermark == log.durable_end_offset
    log.on_durable = lambda durable: durable.advance_high_watermark(durable.durable_end_offset)
    owner.settle()
    assert 6 == log.high_watermark == log.durable_end_offset
    assert expected(*range(log_start_offset, 6)) == [one for one in read_all(log) if one[0] >= log_start_offset]


@pytest.mark.parametrize(("how", "lost"), [("one batch", 7), ("all batches", 4), ("the file", 4)])
def test_s18_a_sealed_segment_that_lost_what_was_synced_is_damage_to_its_readers(how, lost):
    config = LogConfig(segment_bytes=4 * BATCH_BYTES)
    storage, path = a_log(12, checkpointed=12, config=config)
    middle = path.replace("0.log", "4.log")
    if how == "the file":
        storage.unlink(middle)
    else:
        cut_file(storage, middle, 3 * BATCH_BYTES if how == "one batch" else 0)
    owner, log = reopen(storage, config)
    kept = [*range(lost), *range(8, 12)]
    assert kept == records_around_damage(log)
    assert lost == log.damaged_from
    owner.close()
    _, log = reopen(storage, config)
    assert lost == log.damaged_from
    assert kept == records_around_damage(log)
