"""The journal's file: every cut is either healed without losing a synced byte, or refused by name (S16)."""

import os
import random
from contextlib import suppress
from uuid import UUID

import pytest

from kraft.disk import PosixDisk, write_atomically
from kraft.errors import DamagedError
from kraft.journal import DurableJournal
from kraft.term_and_vote import TermAndVote
from tests.kraft.simulated_disk import PowerCut, SimulatedDisk

BASE = (b"\x01", 1, 0)


def new_journal(disk=None):
    disk = SimulatedDisk() if disk is None else disk
    DurableJournal.create(disk, UUID(int=7), [BASE], 1)
    return disk, reopen(disk)


def reopen(disk):
    return DurableJournal(disk, TermAndVote(disk, 0, None))


def contents(journal):
    return [journal[position] for position in range(len(journal))]


def fill(journal, indexes, *, term=1, sync_each=True):
    for index in indexes:
        journal.add(b"\x00command %d" % index, index, term)
        if sync_each:
            journal.sync()


def test_what_was_synced_is_read_back():
    disk, journal = new_journal()
    fill(journal, range(2, 10), sync_each=False)
    journal.setRaftCommitIndex(5)
    journal.sync()
    again = reopen(disk)
    assert contents(journal) == contents(again)
    assert (9, 9, 5) == (again.last_index, again.durable_index, again.getRaftCommitIndex())
    assert UUID(int=7) == again.directory_id


def test_one_sync_writes_once_however_many_entries():
    disk, journal = new_journal()
    before = disk.operations
    fill(journal, range(2, 1000), sync_each=False)
    journal.sync()
    journal.sync()
    assert before + 2 == disk.operations, "one append, one fdatasync"


def test_an_entry_is_durable_only_after_sync():
    disk, journal = new_journal()
    fill(journal, [2, 3])
    fill(journal, [4], sync_each=False)
    assert (4, 3) == (journal.last_index, journal.durable_index)
    assert 3 == reopen(disk).last_index


@pytest.mark.parametrize("seed", range(10))
def test_what_a_killed_process_had_written_is_durable_once_the_next_one_counts_on_it(seed):
    """S16: it lies in the page cache, and a power cut would take it after it was acknowledged."""
    disk, journal = new_journal(SimulatedDisk(random.Random(seed)))
    fill(journal, range(2, 4), sync_each=False)
    disk.cut_power_at = disk.operations + 2
    with suppress(PowerCut):  # kill -9 between the write and its sync: the machine goes on
        journal.sync()
    disk.cut_power_at = None
    counted_on = reopen(disk).durable_index
    disk.crash()
    assert counted_on <= reopen(disk).durable_index


@pytest.mark.parametrize("seed", range(10))
def test_a_vote_whose_name_was_not_synced_is_durable_once_the_next_process_knows_of_it(seed):
    """S16: else it would be given again, perhaps to another, after a power cut."""
    disk, _ = new_journal(SimulatedDisk(random.Random(seed)))
    TermAndVote(disk, 0, None).store(2, 1)
    disk.cut_power_at = disk.operations + 5
    with pytest.raises(PowerCut):  # kill -9 between the rename and the directory's sync
        TermAndVote(disk, 2, 1).store(3, 2)
    disk.cut_power_at = None
    known = TermAndVote.load(disk)
    assert 3 == known.term
    DurableJournal(disk, known)
    disk.crash()
    assert 3 == TermAndVote.load(disk).term


def test_what_a_failed_sync_lost_is_not_read_from_memory_by_the_next_process():
    """S16: the next fdatasync would say that all is well (fsyncgate)."""
    disk, journal = new_journal()
    fill(journal, range(2, 6))
    disk.sync_fails = True
    with pytest.raises(OSError, match="Input/output"):
        fill(journal, [6])
    disk.sync_fails = False
    assert 5 == reopen(disk).durable_index


def test_a_real_disk_is_read_and_not_the_page_cache(tmp_path, monkeypatch):
    advised = []
    advise = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *of: advised.append(of[1:]) or advise(*of))
    write_atomically(disk := PosixDisk(str(tmp_path)), "file", b"content")
    assert b"content" == disk.read("file")
    assert [(0, 0, os.POSIX_FADV_DONTNEED)] == advised


def test_a_truncated_suffix_stays_truncated():
    disk, journal = new_journal()
    fill(journal, range(2, 10))
    journal.truncate_from(5)
    assert 4 == journal.durable_index
    journal.sync()
    assert 4 == reopen(disk).last_index
    fill(journal, [5], term=2)
    assert [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2)] == [(index, term) for _, index, term in contents(reopen(disk))]


def test_truncating_and_appending_between_two_syncs_is_one_frame():
    disk, journal = new_journal()
    fill(journal, range(2, 6))
    fill(journal, [6, 7], sync_each=False)
    journal.truncate_from(4)
    fill(journal, [4, 5], term=2, sync_each=False)
    journal.truncate_from(5)
    fill(journal, [5], term=3, sync_each=False)
    journal.sync()
    assert contents(journal) == contents(reopen(disk))


def test_a_cut_at_any_byte_loses_only_what_was_not_whole():
    """A torn tail is cut at the last valid frame, and what is appended then is read back."""
    disk, journal = new_journal()
    ends = {}
    for index in range(2, 7):
        fill(journal, [index])
        ends[journal.size_bytes] = index
    whole = disk.read("journal")
    start = min(ends)
    for cut in range(start, len(whole)):
        torn = SimulatedDisk()
        write_atomically(torn, "journal", whole[:cut])
        healed = reopen(torn)
        expected = max(index for end, index in ends.items() if end <= cut)
        assert expected == healed.last_index
        fill(healed, [expected + 1], term=9)
        assert [expected + 1, 9] == list(contents(reopen(torn))[-1][1:])


def test_a_tail_of_zeros_or_noise_is_cut():
    disk, journal = new_journal()
    fill(journal, [2, 3])
    whole = disk.read("journal")
    for tail in (bytes(4096), b"\xff" * 100, b"KFRM" * 50, whole[-60:]):
        torn = SimulatedDisk()
        write_atomically(torn, "journal", whole + tail)
        assert 3 == reopen(torn).last_index
        assert whole == torn.read("journal")


def test_any_flipped_bit_before_the_last_frame_refuses_to_start_and_names_file_and_cure():
    disk, journal = new_journal()
    fill(journal, range(2, 6))
    last_frame_bytes = len(disk.read("journal"))
    fill(journal, [6])
    whole = disk.read("journal")
    for position in range(last_frame_bytes):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        bad = SimulatedDisk()
        write_atomically(bad, "journal", bytes(damaged))
        with pytest.raises(DamagedError, match=r"/simulated/journal.*re-join"):
            reopen(bad)


def test_a_frame_copied_elsewhere_is_no_frame():
    """A command may hold the bytes of a journal; they must not pass for one behind a torn tail."""
    disk, journal = new_journal()
    fill(journal, [2, 3])
    whole = disk.read("journal")
    torn = SimulatedDisk()
    write_atomically(torn, "journal", whole + b"\x00\x00torn" + whole)
    assert 3 == reopen(torn).last_index


def test_the_commit_index_is_clamped_to_the_end_of_the_log():
    disk, journal = new_journal()
    fill(journal, [2, 3])
    journal.setRaftCommitIndex(3)
    journal.mark_commit_index()
    journal.sync()
    whole = disk.read("journal")
    journal.setRaftCommitIndex(40)
    journal.mark_commit_index()
    journal.sync()
    assert 3 == reopen(disk).getRaftCommitIndex()
    write_atomically(disk, "journal", whole)
    assert 3 == reopen(disk).getRaftCommitIndex()


def test_compaction_keeps_the_rest_and_the_file_small():
    disk, journal = new_journal()
    fill(journal, range(2, 500))
    before = journal.size_bytes
    journal.compact_to(490)
    assert (490, 499) == (journal.first_index, journal.last_index)
    assert journal.size_bytes < before / 20
    fill(journal, [500])
    again = reopen(disk)
    assert (490, 500) == (again.first_index, again.last_index)


def test_power_failing_at_any_step_of_a_rewrite_leaves_the_old_file_or_the_new():
    for step in range(1, 6):
        disk, journal = new_journal()
        fill(journal, range(2, 100))
        disk.cut_power_at = disk.operations + step
        with suppress(PowerCut):
            journal.compact_to(90)
        disk.crash()
        again = reopen(disk)
        assert again.first_index in {1, 90}
        assert 99 == again.last_index


def test_a_snapshot_whose_last_entry_is_in_the_log_keeps_everything():
    disk, journal = new_journal()
    fill(journal, range(2, 20))
    journal.align(10, 1)
    assert (1, 19) == (journal.first_index, journal.last_index)
    assert (1, 19) == (reopen(disk).first_index, reopen(disk).last_index)


@pytest.mark.parametrize(("index", "term"), [(10, 2), (30, 1)])
def test_a_log_that_diverges_from_the_snapshot_or_ends_before_it_starts_anew_at_it(index, term):
    disk, journal = new_journal()
    fill(journal, range(2, 20))
    journal.align(index, term)
    for each in (journal, reopen(disk)):
        assert [(index, term)] == [(entry[1], entry[2]) for entry in contents(each)]
        assert index == each.getRaftCommitIndex()


def test_a_log_that_starts_after_the_snapshot_is_refused():
    _, journal = new_journal()
    fill(journal, range(2, 20))
    journal.compact_to(15)
    with pytest.raises(DamagedError, match="a later one is lost"):
        journal.align(10, 1)


def test_entries_are_read_by_index_and_by_size():
    _, journal = new_journal()
    fill(journal, range(2, 12))
    size = len(journal[1][0])
    assert [5, 6, 7] == [entry[1] for entry in journal.entries_between(5, 7)]
    assert [5, 6] == [entry[1] for entry in journal.entries_from(5, max_bytes=2 * size)]
    assert [5] == [entry[1] for entry in journal.entries_from(5, max_bytes=1)]
    assert [] == journal.entries_from(12, max_bytes=100)
    assert (None, None, 1) == (journal.term_at(0), journal.term_at(12), journal.term_at(11))


def test_the_last_agreement_skips_whole_terms():
    _, journal = new_journal()
    fill(journal, range(2, 5), term=1)
    fill(journal, range(5, 9), term=3)
    assert 4 == journal.last_agreement(8, 2)
    assert 8 == journal.last_agreement(100, 3)
    assert 1 == journal.last_agreement(8, 0)


def test_on_a_real_disk_files_are_synced_before_their_name_and_the_directory_after(tmp_path, monkeypatch):
    calls = []
    for name in ("fdatasync", "fsync", "rename"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, o=original: (calls.append(n), o(*a))[1])
    original_rename = type(tmp_path).rename
    monkeypatch.setattr(type(tmp_path), "rename", lambda *a: (calls.append("rename"), original_rename(*a))[1])
    disk = PosixDisk(str(tmp_path / "metadata"))
    assert ["fsync"] == calls, "the new directory's own name"
    calls.clear()
    write_atomically(disk, "file", b"content")
    assert ["fdatasync", "rename", "fsync"] == [call for i, call in enumerate(calls) if call != calls[i - 1] or i == 0]
    assert b"content" == disk.read("file")


def test_on_a_real_disk_a_journal_is_written_compacted_torn_and_read_back(tmp_path):
    disk, journal = new_journal(PosixDisk(str(tmp_path)))
    fill(journal, range(2, 50))
    journal.compact_to(40)
    fill(journal, [50])
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"KFRM torn")
    again = reopen(disk)
    assert (40, 50) == (again.first_index, again.last_index)
    fill(again, [51])
    assert 51 == reopen(disk).last_index
    assert (tmp_path / "journal").stat().st_size == again.size_bytes


def test_one_directory_is_one_process(tmp_path):
    disk, other = PosixDisk(str(tmp_path)), PosixDisk(str(tmp_path))
    disk.lock()
    with pytest.raises(OSError, match="another process"):
        other.lock()
    disk.close()
    other.lock()
    other.close()
