"""A partition log against a plain list, through any history of appends, cuts, restarts, kills and power cuts.

Upholds: acknowledged (durable) records survive any crash, byte for byte at their offset (S1, S12); a crash keeps a
prefix and nothing else (S15); a crash alone is never taken for damage (S18); epochs never fall (S4).
"""

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append, read_all
from tests.logstore.simulated_storage import SimulatedStorage

CONFIG = LogConfig(segment_bytes=900, index_interval_bytes=150, segment_ms=5_000, retention_ms=3_000)


class Stored(NamedTuple):
    """One appended batch."""

    base_offset: int
    values: tuple[bytes, ...]
    timestamp_ms: int
    epoch: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + len(self.values)


class LogAgainstList(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.storage = SimulatedStorage()
        self.batches: list[Stored] = []
        self.end = 0
        self.start = 0
        self.epoch = 1
        self.clock_ms = 10_000
        self.count = 0
        self.owner = Owner(self.storage).open(CONFIG)
        self.log = self.owner.log(config=CONFIG)

    def records(self):
        return [
            (stored.base_offset + index, value, stored.timestamp_ms + index)
            for stored in self.batches
            for index, value in enumerate(stored.values)
            if stored.base_offset + index >= self.start
        ]

    # ---- what may happen

    @rule(count=st.integers(1, 6), size=st.integers(0, 200), jump_ms=st.integers(-2000, 3000))
    def append(self, count, size, jump_ms):
        self.clock_ms = max(0, self.clock_ms + jump_ms)
        self.count += 1
        values = tuple(b"%d:%d:" % (self.count, index) + bytes(size) for index in range(count))
        appended = append(self.log, list(values), timestamp_ms=self.clock_ms, epoch=self.epoch, now_ms=self.clock_ms)
        assert self.end == appended.base_offset
        self.batches.append(Stored(self.end, values, self.clock_ms, self.epoch))
        self.end += count
        assert self.end == appended.last_offset + 1 == self.log.log_end_offset

    @rule()
    def sync(self):
        self.owner.settle()
        assert self.end == self.log.durable_end_offset

    @rule()
    def run_one_job(self):
        if self.owner.jobs:
            self.owner.jobs.popleft().result()

    @rule()
    def take_in_one_result(self):
        if self.owner.posted:
            self.owner.posted.popleft()()

    @rule(part=st.floats(0, 1))
    def advance_high_watermark(self, part):
        self.log.advance_high_watermark(int(self.log.durable_end_offset * part))

    @rule()
    def checkpoint(self):
        self.owner.directory.checkpoint()

    @rule()
    def new_epoch(self):
        self.epoch += 1
        self.log.leader_epochs.assign(self.epoch, self.end)

    @rule()
    def roll(self):
        if self.log.segments.active is not None:
            self.log.roll()

    @rule(part=st.floats(0, 1))
    def truncate(self, part):
        offset = self.start + int((self.end - self.start) * part)
        if offset >= self.end:
            return
        self.log.truncate_to(offset)
        self.cut_model(offset)
        assert self.end == self.log.log_end_offset

    def cut_model(self, offset):
        if offset <= self.start:
            self.batches, self.start, self.end = [], offset, offset
            return
        self.batches = [stored for stored in self.batches if stored.next_offset <= offset]
        self.end = max(self.start, self.batches[-1].next_offset if self.batches else 0)

    @rule(jump=st.integers(0, 100))
    def start_anew(self, jump):
        self.log.truncate_fully_and_start_at(self.end + jump)
        self.batches, self.start, self.end = [], self.end + jump, self.end + jump

    @rule(part=st.floats(0, 1))
    def delete_records(self, part):
        offset = int(self.log.high_watermark * part)
        self.log.delete_records_before(offset)
        self.start = max(self.start, offset)
        assert self.start == self.log.log_start_offset

    @rule(later_ms=st.integers(0, 6000))
    def retain(self, later_ms):
        before = self.log.log_start_offset
        self.owner.directory.run_retention(self.clock_ms + later_ms)
        assert before <= self.log.log_start_offset <= self.log.high_watermark or before == self.log.log_start_offset
        newest = [stored for stored in self.batches if stored.next_offset > self.log.log_start_offset]
        gone = [stored for stored in self.batches if stored.next_offset <= self.log.log_start_offset]
        assert all(
            stored.timestamp_ms + len(stored.values) - 1 < self.clock_ms + later_ms - 3000
            or stored.base_offset < before
            for stored in gone
        )
        self.batches, self.start = newest, self.log.log_start_offset

    # ---- how a process may end

    @rule()
    def reopen_cleanly(self):
        self.owner.close()
        self.owner.settle()
        self.storage.kill()
        self.reopen()
        assert self.owner.directory.was_clean_shutdown
        assert self.owner.directory.scanned_bytes == 0
        assert self.end == self.log.log_end_offset

    @rule()
    def kill(self):
        """kill -9: the page cache survives, so nothing is lost."""
        self.storage.kill()
        self.reopen()
        assert self.end == self.log.log_end_offset

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed):
        durable, at_start = self.log.durable_end_offset, self.log.log_start_offset
        self.storage.crash(Random(seed))
        self.reopen()
        assert max(durable, at_start) <= self.log.log_end_offset <= self.end, f"seed {seed}"
        self.cut_model(self.log.log_end_offset)
        assert self.end == self.log.log_end_offset

    def reopen(self):
        self.owner = Owner(self.storage).open(CONFIG)
        found = self.owner.directory.logs.get((TOPIC_ID, 0))
        self.log = found if found is not None else self.owner.log(config=CONFIG)
        self.epoch = max(self.epoch, self.log.leader_epochs.latest or 0)

    # ---- what must hold

    @invariant()
    def offsets_are_in_order(self):
        log = self.log
        assert log.log_start_offset <= log.high_watermark <= log.log_end_offset
        assert log.synced_end_offset <= log.durable_end_offset <= log.log_end_offset
        assert self.start == log.log_start_offset
        assert log.damaged_from is None

    @invariant()
    def everything_is_there(self):
        assert [(offset, value) for offset, value, _ in self.records()] == read_all(self.log, max_bytes=700)

    @rule(part=st.floats(0, 1), max_bytes=st.integers(1, 2000))
    def read_anywhere(self, part, max_bytes):
        offset = self.start + int((self.end - self.start) * part)
        expected = [(found, value) for found, value, _ in self.records() if found >= offset]
        assert expected == read_all(self.log, offset, max_bytes=max_bytes)

    @rule(target_ms=st.integers(0, 40_000))
    def look_up_a_time(self, target_ms):
        expected = next(((offset, ms) for offset, _, ms in self.records() if ms >= target_ms), None)
        found = self.log.offset_for_timestamp(target_ms, upper_offset=self.end)
        assert expected == (None if found is None else found[:2])

    @invariant()
    def epochs_tell_where_each_began(self):
        for stored in self.batches:
            if stored.base_offset >= self.start:
                assert stored.epoch == self.log.leader_epochs.epoch_for(stored.base_offset)


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_longer_histories_find_what_the_fast_set_rarely_reaches():
    """Rolls of empty segments, cuts while syncs run: found at a thousand histories, not at a hundred."""
    run_state_machine_as_test(
        LogAgainstList, settings=settings(LogAgainstList.TestCase.settings, max_examples=900, stateful_step_count=60)
    )
