"""What `kraft log` can say about a directory without a node: every batch, every fault, nothing changed."""

from logstore.inspection import (
    Severity,
    iterate_folder,
    iterate_segment,
    list_logs,
    segment_paths,
    verify_directory,
)
from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append
from tests.logstore.simulated_storage import SimulatedStorage

CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=100)


def a_directory(*, is_closed=True):
    storage = SimulatedStorage()
    owner = Owner(storage).open(CONFIG)
    log = owner.log(3, CONFIG)
    for index in range(20):
        append(log, [b"record-%02d" % index, b"second"], epoch=1 + index // 10)
    owner.settle()
    log.advance_high_watermark(30)
    log.delete_records_before(5)
    if is_closed:
        owner.close()
    return storage, log


def flip(storage, path, position):
    storage.file(path).live[position] ^= 1


def damage(verified):
    return [finding for finding in verified.findings if finding.severity is Severity.DAMAGE]


def test_a_sound_directory_has_nothing_to_say():
    storage, _ = a_directory()
    (verified,) = verify_directory(storage, "data")
    assert [] == verified.findings
    assert (20, 40, 40) == (verified.batches, verified.records, verified.log_end_offset)


def test_a_running_nodes_directory_can_be_listed_and_changes_nothing():
    storage, log = a_directory(is_closed=False)
    before = {path: bytes(storage.file(path).live) for path in storage.paths()}
    handles = storage.open_handles
    (found,) = list_logs(storage, "data")
    assert (TOPIC_ID, "access", 3) == (found.topic_id, found.topic_name, found.partition)
    assert (5, 40, log.size_bytes) == (found.log_start_offset, found.log_end_offset, found.size_bytes)
    list(verify_directory(storage, "data"))
    assert before == {path: bytes(storage.file(path).live) for path in storage.paths()}
    assert handles == storage.open_handles


def test_every_batch_is_listed_from_an_offset_on():
    storage, log = a_directory()
    found = list(iterate_folder(storage, log.folder, from_offset=13))
    assert list(range(12, 40, 2)) == [one.batch.base_offset for one in found]
    assert {1, 2} == {one.batch.partition_leader_epoch for one in found}


def test_a_flipped_bit_is_found_with_its_place_and_the_rest_is_listed():
    storage, log = a_directory()
    path = segment_paths(storage, log.folder)[1]
    batches = list(iterate_segment(storage, path))
    flip(storage, path, batches[1].position + 70)
    around = list(iterate_segment(storage, path))
    assert [False, True, False] == [one.batch is None for one in around[:3]]
    (verified,) = verify_directory(storage, "data")
    (finding,) = damage(verified)
    assert (path, batches[1].position) == (finding.path, finding.position)
    assert batches[1].batch.base_offset == finding.offset
    assert 19 == verified.batches


def test_an_unfinished_batch_at_the_end_is_no_damage():
    storage, log = a_directory()
    path = segment_paths(storage, log.folder)[-1]
    storage.file(path).live += b"half a batch"
    (verified,) = verify_directory(storage, "data")
    assert [] == damage(verified)
    assert ["note"] == [finding.severity for finding in verified.findings]


def test_records_missing_below_the_recovery_point_are_damage():
    storage, log = a_directory()
    path = segment_paths(storage, log.folder)[-1]
    del storage.file(path).live[-10:]
    (verified,) = verify_directory(storage, "data")
    assert damage(verified)


def test_a_missing_segment_is_damage():
    storage, log = a_directory()
    storage.unlink(segment_paths(storage, log.folder)[2])
    (verified,) = verify_directory(storage, "data")
    assert any("missing" in finding.message for finding in damage(verified))


def test_a_wrong_index_is_a_note_since_it_is_rebuilt():
    storage, _ = a_directory()
    flip(storage, storage.paths(".index")[0], 7)
    (verified,) = verify_directory(storage, "data")
    assert [] == damage(verified)
    assert any(finding.path.endswith(".index") for finding in verified.findings)
