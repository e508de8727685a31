"""A compacted log against a plain list, through any history of appends, cleanings half done, cuts and crashes.

Upholds: wherever a reader begins, it ends with the last value of each key that was written from there on; no record
changes its offset or its value (S12); what was durable is not lost (S1); a crash is never taken for damage (S18).
"""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from logstore.cleaner import complete, note_damage_found, take_in
from logstore.cleaning import DamagedSegmentError
from logstore.segment_swap import CleanedSegment
from tests.logstore.cleaning_harness import COMPACT, append_keyed, as_map, begin, commit, read_keyed
from tests.logstore.owner import Owner
from tests.logstore.simulated_storage import SimulatedStorage
from wire.compression import Compression

CONFIG = replace(COMPACT, segment_bytes=500, delete_retention_ms=2000)


class CompactedLogAgainstList(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.storage = SimulatedStorage()
        self.records: list[tuple[int, bytes, bytes | None]] = []
        self.sequence = self.count = 0
        self.batches: list[tuple[int, int, int]] = []
        self.settled: set[tuple[int, int, int]] = set()
        self.clock_ms = 10_000
        self.cleaning = None
        self.is_damaged = False
        self.cleaned_end = 0
        self.open()

    def open(self):
        self.owner = Owner(self.storage).open(CONFIG)
        self.log = self.owner.log(config=CONFIG)
        self.cleaning = None

    # ---- what may happen

    @rule(
        keys=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=4),
        is_idempotent=st.booleans(),
        compression=st.sampled_from([Compression.NONE, Compression.GZIP]),
    )
    def append(self, keys, is_idempotent, compression):
        self.write(keys, is_idempotent, compression)

    def write(self, keys, is_idempotent, compression):
        records = []
        for key, is_tombstone in keys:
            self.count += 1
            records.append((b"key%d" % key, None if is_tombstone else b"value%d" % self.count))
        options = {"producer_id": 7, "producer_epoch": 0, "base_sequence": self.sequence} if is_idempotent else {}
        found = append_keyed(self.log, records, timestamp_ms=self.clock_ms, compression=compression, **options)
        if is_idempotent:
            self.batches.append((self.sequence, len(records), found.base_offset))
            self.sequence += len(records)
        self.records += [(found.base_offset + index, *record) for index, record in enumerate(records)]

    @rule(seed=st.integers(0, 99), is_idempotent=st.booleans())
    def append_many(self, seed, is_idempotent):
        """Enough for several segments, and all of them ready to be cleaned."""
        if self.log.log_end_offset > 150:
            return
        random = Random(seed)
        for _ in range(12):
            keys = [(random.randint(0, 5), random.random() < 0.2) for _ in range(random.randint(1, 3))]
            self.write(keys, is_idempotent, Compression.NONE)
        self.log.roll()
        commit(self.owner, self.log)

    @rule(later_ms=st.integers(0, 3000))
    def wait(self, later_ms):
        self.clock_ms += later_ms

    @rule()
    def roll(self):
        if self.log.segments.active is not None:
            self.log.roll()

    @rule()
    def commit(self):
        commit(self.owner, self.log)

    @rule()
    def checkpoint(self):
        self.owner.directory.checkpoint()

    @rule()
    def settle(self):
        self.owner.settle()

    @rule(buffer_bytes=st.sampled_from([100, 10_000]))
    def begin_cleaning(self, buffer_bytes):
        self.begin_to_clean(buffer_bytes)

    def begin_to_clean(self, buffer_bytes):
        if self.cleaning is None:
            self.cleaning = begin(self.log, now_ms=self.clock_ms, buffer_bytes=buffer_bytes)
            self.settled |= {*self.batches[:-5]}

    @rule()
    def clean_all(self):
        self.begin_to_clean(10_000)
        self.go_on_cleaning(1000)

    @rule(steps=st.integers(1, 9))
    def go_on(self, steps):
        self.go_on_cleaning(steps)

    def go_on_cleaning(self, steps):
        for _ in range(steps):
            if self.cleaning is None:
                return
            try:
                done = self.cleaning.step()
            except DamagedSegmentError as damaged:  # its end was cut meanwhile
                self.is_damaged = note_damage_found(self.log, self.cleaning.plan, damaged)
                self.cleaning = None
                return
            self.cleaned_end = max(self.cleaned_end, self.cleaning.end_offset)
            if done is None:
                complete(self.log, self.cleaning)
                self.cleaning = None
            elif isinstance(done, CleanedSegment) and not take_in(self.log, self.cleaning.plan, done):
                self.cleaning.discard()
                self.cleaning = None

    @rule(part=st.floats(0, 1))
    def truncate(self, part):
        """Never below what was committed and cleaned (S5): who cleans there says that nobody takes it back."""
        offset = int(self.log.log_end_offset * part)
        if offset >= self.log.log_end_offset or offset <= self.cleaned_end:
            return
        self.log.truncate_to(offset)
        self.lost_end()

    def lost_end(self):
        end = self.log.log_end_offset
        self.records = [record for record in self.records if record[0] < end]
        self.batches = [batch for batch in self.batches if batch[2] < end]
        self.settled &= {*self.batches}
        self.sequence = sum(self.batches[-1][:2]) if self.batches else 0

    # ---- how a process may end

    @rule()
    def kill(self):
        end = self.log.log_end_offset
        self.storage.kill()
        self.open()
        assert end == self.log.log_end_offset

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed):
        durable = self.log.durable_end_offset
        self.storage.crash(Random(seed))
        self.open()
        assert durable <= self.log.log_end_offset, f"seed {seed}"
        self.lost_end()

    @rule()
    def lose_snapshots(self):
        """Then only the batches themselves say what their producers wrote."""
        self.storage.kill()
        for path in self.storage.paths(".snapshot"):
            self.storage.unlink(path)
        self.open()

    # ---- what must hold

    @invariant()
    def a_reader_ends_with_the_last_value_of_each_key(self):
        assert self.log.damaged_from is None
        assert not self.is_damaged
        found = read_keyed(self.log, 0, max_bytes=1 << 20)
        assert set(found) <= set(self.records)
        assert as_map(self.records) == as_map(found)
        clean_end_offset = self.log.compaction.clean_end_offset
        assert clean_end_offset <= self.log.log_end_offset
        clean = [key for offset, key, _ in found if offset < clean_end_offset]
        assert len(set(clean)) == len(clean)

    @rule(part=st.floats(0, 1), max_bytes=st.integers(1, 600))
    def read_from_anywhere(self, part, max_bytes):
        start = int(self.log.log_end_offset * part)
        found = read_keyed(self.log, start, max_bytes=max_bytes)
        assert as_map([record for record in self.records if record[0] >= start]) == as_map(found)

    @invariant()
    def retries_are_known(self):
        """S13: the last five batches of a producer, also where all of their records were superseded.

        Less where later ones were cut since the log was cleaned: no producer has more than five in flight, so it had
        heard of those before.
        """
        known = self.log.producers.state(self.log.segments).entries.get(7)
        found = [] if known is None else [(batch.base_sequence, batch.base_offset) for batch in known.batches]
        due = [batch for batch in self.batches[-5:] if batch not in self.settled]
        expected = [(sequence, offset) for sequence, _, offset in due]
        assert expected == [one for one in found if one in expected]


TestCompactedLogAgainstList = CompactedLogAgainstList.TestCase
TestCompactedLogAgainstList.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_longer_histories_of_a_compacted_log():
    """Cleanings that a crash interrupts between two segments, and those after them."""
    run_state_machine_as_test(
        CompactedLogAgainstList,
        settings=settings(TestCompactedLogAgainstList.settings, max_examples=500, stateful_step_count=50),
    )
