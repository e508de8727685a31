"""Idempotent producers against a plain model: through retries, cuts, rolls, retention, restarts, kills and power cuts
no (producer id, epoch, sequence) is twice in a log, and every retry is told where its first time lies (S13). A
follower that copies the log knows the same.
"""

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from logstore import log_producers
from logstore.log_config import LogConfig
from logstore.producer_state import BATCHES_REMEMBERED, ProducedBatch
from tests.logstore.owner import TOPIC_ID, Owner, read_all
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import RefusedError
from wire.record_batch import build_batch, check_batches, iterate_batches

CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=100, retention_ms=-1, retention_bytes=-1)


class Written(NamedTuple):
    producer_id: int
    epoch: int
    batch: ProducedBatch


def idempotent(producer_id: int, epoch: int, sequence: int, count: int, *, timestamp_ms: int = 1000) -> bytearray:
    value = b"%d/%d/%d" % (producer_id, epoch, sequence)
    return build_batch(
        [(None, value, (), timestamp_ms)] * count,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


def send(log, *buffers: bytearray, leader_epoch: int = 1):
    buffer = bytearray().join(buffers)
    return log.append(buffer, check_batches(buffer, max_batch_bytes=1 << 20), leader_epoch=leader_epoch, now_ms=0)


def known(log):
    return {
        producer_id: (entry.epoch, entry.batches)
        for producer_id, entry in log.producers.state(log.segments).entries.items()
    }


class ProducersAgainstModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.threshold, log_producers.SNAPSHOT_BATCHES = log_producers.SNAPSHOT_BATCHES, 3
        self.storage = SimulatedStorage()
        self.owner = Owner(self.storage).open(CONFIG)
        self.log = self.owner.log(config=CONFIG)
        self.written: list[Written] = []
        self.lost_from = 0
        self.has_damage = False

    def teardown(self):
        log_producers.SNAPSHOT_BATCHES = self.threshold

    # ---- the model

    def expected(self):
        """The newest epoch of each producer with its last batches, as all that was ever written says."""
        found: dict[int, tuple[int, tuple[ProducedBatch, ...]]] = {}
        for producer_id, epoch, batch in self.written:
            old_epoch, batches = found.get(producer_id, (-1, ()))
            batches = (*batches, batch) if epoch == old_epoch else (batch,)
            found[producer_id] = epoch, batches[-BATCHES_REMEMBERED:]
        return found

    def next_of(self, producer_id):
        epoch, batches = self.expected().get(producer_id, (0, ()))
        return epoch, batches[-1].last_sequence + 1 if batches else 0

    # ---- what producers do

    @rule(producer_id=st.integers(0, 3), count=st.integers(1, 3), new_epoch=st.booleans())
    def produce(self, producer_id, count, new_epoch):
        epoch, sequence = self.next_of(producer_id)
        if new_epoch:
            epoch, sequence = epoch + 1, 0
        end = self.log.log_end_offset
        appended = send(self.log, idempotent(producer_id, epoch, sequence, count))
        assert (end, end + count - 1, False) == (appended.base_offset, appended.last_offset, appended.is_duplicate)
        batch = ProducedBatch(sequence, sequence + count - 1, end, end + count - 1, 1000)
        self.written.append(Written(producer_id, epoch, batch))

    @rule()
    def produce_plain(self):
        send(self.log, build_batch([(None, b"plain", (), 1000)]))

    @rule(producer_id=st.integers(0, 3), back=st.integers(0, BATCHES_REMEMBERED - 1))
    def retry(self, producer_id, back):
        epoch, batches = self.expected().get(producer_id, (0, ()))
        if back < len(batches):
            batch = batches[-1 - back]
            count = batch.last_sequence - batch.base_sequence + 1
            end = self.log.log_end_offset
            appended = send(self.log, idempotent(producer_id, epoch, batch.base_sequence, count))
            assert (batch.base_offset, batch.last_offset, True) == (*appended[:2], appended.is_duplicate)
            assert end == self.log.log_end_offset

    @rule(producer_id=st.integers(0, 3), sequence=st.integers(0, 30), older=st.integers(0, 1))
    def send_anything(self, producer_id, sequence, older):
        """Never a second time."""
        epoch, due = self.next_of(producer_id)
        if sequence == due and (not older or not epoch):
            return
        end = self.log.log_end_offset
        try:
            appended = send(self.log, idempotent(producer_id, max(0, epoch - older), sequence, 1))
        except RefusedError:
            appended = None
        if appended is not None and not appended.is_duplicate:
            # only a producer whose batches are gone for good may begin anywhere
            assert producer_id not in self.expected()
            assert self.lost_from
            self.written.append(
                Written(producer_id, max(0, epoch - older), ProducedBatch(sequence, sequence, end, end, 1000))
            )

    # ---- what happens to the log

    @rule()
    def sync(self):
        self.owner.settle()

    @rule()
    def run_one_job(self):
        if self.owner.jobs:
            self.owner.jobs.popleft().result()

    @rule()
    def take_in_one_result(self):
        if self.owner.posted:
            self.owner.posted.popleft()()

    @rule()
    def checkpoint(self):
        self.owner.directory.checkpoint()

    @rule()
    def roll(self):
        if self.log.segments.active is not None:
            self.log.roll()

    @rule(part=st.floats(0, 1))
    def truncate(self, part):
        """A log that is cut at its start begins anew, and knows nobody."""
        start, end = self.log.log_start_offset, self.log.log_end_offset
        offset = start + int((end - start) * part)
        cut = next((batch.base_offset for batch in self.batches() if batch.next_offset > offset), end)
        self.log.truncate_to(offset)
        self.cut_model()
        if offset < end and (offset <= start or cut < start):
            self.written, self.lost_from = [], self.log.log_start_offset

    @rule(part=st.floats(0, 1))
    def delete_records(self, part):
        """Who wrote them is known all the same."""
        self.owner.settle()
        self.log.advance_high_watermark(self.log.durable_end_offset)
        if not self.has_damage:
            self.log.delete_records_before(int(self.log.high_watermark * part))

    def cut_model(self):
        self.written = [one for one in self.written if one.batch.last_offset < self.log.log_end_offset]

    @rule()
    def reopen_cleanly(self):
        self.owner.close()
        self.owner.settle()
        self.storage.kill()
        self.reopen()

    @rule()
    def kill(self):
        self.storage.kill()
        self.reopen()

    @rule(seed=st.integers(0, 2**32))
    def lose_power(self, seed):
        self.storage.crash(Random(seed))
        self.reopen()
        self.cut_model()

    @rule(position=st.integers(0, 10_000), bit=st.integers(0, 7))
    def damage_a_snapshot(self, position, bit):
        """Costs a longer walk, and nothing else where the log begins at its beginning."""
        paths = self.storage.paths(".snapshot")
        if paths and not self.log.log_start_offset:
            self.has_damage = True
            file = self.storage.file(paths[position % len(paths)])
            for image in (file.live, file.durable):
                if image:
                    image[position % len(image)] ^= 1 << bit

    def reopen(self):
        self.owner = Owner(self.storage).open(CONFIG)
        found = self.owner.directory.logs.get((TOPIC_ID, 0))
        self.log = found if found is not None else self.owner.log(config=CONFIG)

    # ---- what must hold

    @invariant()
    def the_log_knows_what_the_model_knows(self):
        assert self.expected() == known(self.log)

    @invariant()
    def no_snapshot_lies_beyond_the_end(self):
        assert all(int(path[-29:-9]) <= self.log.log_end_offset for path in self.storage.paths(".snapshot"))

    @invariant()
    def no_sequence_is_there_twice(self):
        seen = set()
        for batch in self.batches():
            for index in range(batch.record_count if batch.producer_id >= 0 else 0):
                key = batch.producer_id, batch.producer_epoch, batch.base_sequence + index
                assert key not in seen
                seen.add(key)

    def batches(self):
        offset = self.log.log_start_offset
        while offset < self.log.log_end_offset:
            got = self.log.read(offset, max_bytes=1 << 20, upper_offset=self.log.log_end_offset)
            yield from iterate_batches(got.data)
            offset = got.next_offset

    @rule(max_bytes=st.integers(1, 600))
    def a_follower_knows_the_same(self, max_bytes):
        """Where it has copied the log from its very beginning."""
        if self.log.log_start_offset or self.lost_from:
            return
        owner = Owner(SimulatedStorage()).open(CONFIG)
        follower = owner.log(config=CONFIG)
        while follower.log_end_offset < self.log.log_end_offset:
            offset = follower.log_end_offset
            got = self.log.read(offset, max_bytes=max_bytes, upper_offset=self.log.log_end_offset)
            follower.append_replicated(got.data, now_ms=0)
        assert read_all(self.log) == read_all(follower)
        assert known(self.log) == known(follower)
        state, other = self.log.producers.state(self.log.segments), follower.producers.state(follower.segments)
        assert {key: entry.run for key, entry in state.entries.items()} == {
            key: entry.run for key, entry in other.entries.items()
        }


TestProducersAgainstModel = ProducersAgainstModel.TestCase
TestProducersAgainstModel.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_longer_histories_of_producers():
    run_state_machine_as_test(
        ProducersAgainstModel,
        settings=settings(ProducersAgainstModel.TestCase.settings, max_examples=900, stateful_step_count=60),
    )
