"""Indexes are caches of the log: whatever happens to them, reads and lookups give what the log holds (S18)."""

from random import Random

import pytest

from logstore.log_config import LogConfig
from logstore.offset_index import OffsetIndex
from logstore.time_index import TimeIndex
from tests.logstore.damaged_logs import BATCH_BYTES, a_log, flip, reopen
from tests.logstore.owner import TOPIC_ID, Owner, append, read_all
from tests.logstore.simulated_storage import SimulatedStorage

CONFIG = LogConfig(index_interval_bytes=200, segment_bytes=4000)
RECORDS = 120


@pytest.fixture
def stored():
    """A closed directory with one log of several indexed segments; (storage, paths of its index files)."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(config=CONFIG)
    for index in range(RECORDS):
        append(log, [b"record-%03d" % index], timestamp_ms=1000 + 10 * index)
    owner.settle()
    owner.close()
    assert len(log.segments) > 2
    return storage, storage.paths(".index") + storage.paths(".timeindex")


def check_everything(storage):
    log = Owner(storage).open(CONFIG).directory.logs[TOPIC_ID, 0]
    random = Random(7)
    for offset in random.sample(range(RECORDS), 40):
        assert (offset, b"record-%03d" % offset) == read_all(log, offset)[0]
        found = log.offset_for_timestamp(1000 + 10 * offset - 5, upper_offset=RECORDS)
        assert (offset, 1000 + 10 * offset) == (found.offset, found.timestamp_ms)
    assert RECORDS == append(log, [b"next"], timestamp_ms=9000).base_offset
    assert (RECORDS, b"next") == read_all(log, RECORDS)[0]
    return log


def test_an_intact_index_finds_every_record(stored):
    storage, paths = stored
    assert len(paths) > 4
    check_everything(storage)


def test_without_any_index_file_everything_is_found_and_the_files_come_back(stored):
    storage, paths = stored
    for path in paths:
        storage.unlink(path)
    log = check_everything(storage)
    log.roll()
    for path in paths:
        if path.endswith(".index") and len(storage.file(path.replace(".index", ".log")).live) > 1000:
            assert storage.status(path) is not None, path


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x7f", b"\x01"])
def test_an_index_full_of_nonsense_is_rebuilt(stored, fill):
    storage, paths = stored
    for path in paths:
        file = storage.file(path)
        file.live[:] = fill * len(file.live)
    check_everything(storage)


@pytest.mark.parametrize("seed", range(30))
def test_an_index_with_any_bytes_changed_misleads_nobody(stored, seed):
    storage, paths = stored
    random = Random(seed)
    for path in paths:
        file = storage.file(path)
        if file.live:
            for _ in range(random.randint(1, 4)):
                file.live[random.randrange(len(file.live))] = random.randrange(256)
    check_everything(storage)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 12, 13, 24])
def test_a_short_or_torn_index_is_completed(stored, kept):
    storage, paths = stored
    for path in paths:
        del storage.file(path).live[kept:]
    check_everything(storage)


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("entries", [0, 1, 3])
def test_either_index_may_be_short_alone(stored, suffix, entries):
    storage, paths = stored
    for path in paths:
        if path.endswith(suffix):
            del storage.file(path).live[entries * (8 if suffix == ".index" else 12) :]
    check_everything(storage)


def test_indexes_of_another_log_are_not_believed(stored):
    storage, paths = stored
    for suffix in (".index", ".timeindex"):
        same = [path for path in paths if path.endswith(suffix)]
        contents = [bytes(storage.file(path).live) for path in same]
        for path, content in zip(same, contents[1:] + contents[:1], strict=True):
            storage.file(path).live[:] = content
    check_everything(storage)


@pytest.mark.parametrize("flush_at", [None, 0, 1, 300, 700, 1500])
def test_the_floor_is_found_in_the_file_and_in_memory(flush_at):
    storage = SimulatedStorage()
    index = OffsetIndex(storage, "segment")
    for number in range(1500):
        if number == flush_at:
            index.flush()
        index.append(number * 10, number * 100)
    if flush_at == 1500:
        index.flush()
    assert index.floor(-1) is None
    for key in (0, 5, 10, 2999, 3000, 7001, 14_989, 14_990, 99_999):
        number = min(key // 10, 1499)
        assert (number * 10, number * 100) == index.floor(key)
    assert 1500 == len(index)
    index.keep(20)
    assert (190, 1900) == index.floor(99_999) == index.last()
    index.append(200, 2000)
    index.flush()
    assert 21 == len(OffsetIndex(storage, "segment"))


def test_an_index_costs_no_descriptor():
    storage = SimulatedStorage()
    index = TimeIndex(storage, "segment")
    index.append(5, 5)
    index.flush()
    assert (5, 5) == index.floor(9)
    assert 0 == storage.open_handles


def test_timestamps_in_the_index_only_grow():
    """S20: a clock that jumps back must not make later lookups skip records."""
    index = TimeIndex(SimulatedStorage(), "segment")
    for timestamp, offset in ((10, 0), (30, 1), (20, 2), (30, 3), (31, 4), (-1, 5)):
        index.append_if_later(timestamp, offset)
    assert [(10, 0), (30, 1), (31, 4)] == index.entries()


@pytest.mark.parametrize("bit", range(32))
def test_a_flipped_bit_in_the_index_of_a_compacted_log_hides_nothing(bit):
    """Where offsets may have holes, only the key itself says that the entry is another batch's."""
    config = LogConfig(cleanup_policy="compact", index_interval_bytes=300, segment_bytes=20 * BATCH_BYTES)
    storage, path = a_log(30, checkpointed=30, config=config)
    index = path.replace(".log", ".index")
    entries = len(storage.file(index).live) // 8
    assert entries >= 3
    for position in range(entries * 2):
        storage, path = a_log(30, checkpointed=30, config=config)
        flip(storage, index, position * 4 + 3 - bit // 8, bit % 8)
        _, log = reopen(storage, config)
        assert [*range(20)] == [log.read(start, max_bytes=1, upper_offset=30).base_offset for start in range(20)]
