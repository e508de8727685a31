"""One offset for each (producer id, epoch, sequence), whatever is sent again, and in whatever order (S13)."""

from random import Random

import pytest

from logstore.producer_state import (
    ANYTHING_FORGOTTEN,
    BATCHES_REMEMBERED,
    PRODUCERS_MAX,
    ProducedBatch,
    ProducerState,
    SnapshotError,
)
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import SEQUENCE_MAX, RecordBatch, build_batch

SPAN = SEQUENCE_MAX + 1


def a_batch(sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0) -> RecordBatch:
    records = [(None, b"x", (), 1000)] * count
    buffer = build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    return RecordBatch(buffer, 0)


class Leader:
    """A log that only counts its offsets."""

    def __init__(self, state: ProducerState | None = None) -> None:
        self.state = state if state is not None else ProducerState()
        self.end = 0

    def send(self, *batches: RecordBatch) -> tuple[int, int] | str:
        """The offsets, new or as they were; or why not."""
        try:
            duplicates = self.state.check(batches)
        except RefusedError as refusal:
            return refusal.code.name
        if duplicates is not None:
            return duplicates[0].base_offset, duplicates[-1].last_offset
        first = self.end
        for batch in batches:
            last_offset = self.end + batch.last_offset_delta
            if batch.producer_id >= 0:
                placed = ProducedBatch(batch.base_sequence, batch.last_sequence, self.end, last_offset, 1000)
                self.state.learn(batch.producer_id, batch.producer_epoch, placed, now_ms=0)
            self.end = last_offset + 1
        return first, self.end - 1


def test_a_retry_of_any_of_the_last_five_batches_gets_its_first_offsets():
    leader = Leader()
    for sequence in range(0, 20, 2):
        assert (sequence, sequence + 1) == leader.send(a_batch(sequence, 2))
    for sequence in range(10, 20, 2):
        assert (sequence, sequence + 1) == leader.send(a_batch(sequence, 2))
    assert 20 == leader.end


def test_an_older_retry_is_told_that_it_was_written():
    leader = Leader()
    for sequence in range(BATCHES_REMEMBERED + 1):
        leader.send(a_batch(sequence))
    assert "DUPLICATE_SEQUENCE_NUMBER" == leader.send(a_batch(0))
    assert (1, 1) == leader.send(a_batch(1))


@pytest.mark.parametrize("sequence", [6, 7, 1000, SEQUENCE_MAX, SPAN // 2])
def test_what_skips_a_sequence_waits_for_the_one_before(sequence):
    leader = Leader()
    leader.send(a_batch(0, 5))
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(sequence))
    assert (5, 5) == leader.send(a_batch(5))


@pytest.mark.parametrize(("sequence", "count"), [(0, 1), (0, 7), (3, 2), (4, 2), (1, 3), (3, 3)])
def test_a_batch_cut_otherwise_than_the_first_time_is_never_taken_for_it(sequence, count):
    """A client would believe that all of it was written."""
    leader = Leader()
    leader.send(a_batch(0, 3))
    leader.send(a_batch(3, 3))
    expected = (3, 5) if (sequence, count) == (3, 3) else "OUT_OF_ORDER_SEQUENCE_NUMBER"
    assert expected == leader.send(a_batch(sequence, count))


def test_an_older_epoch_is_fenced_and_a_newer_one_begins_with_sequence_0():
    leader = Leader()
    leader.send(a_batch(0, epoch=3))
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(1, epoch=4))
    assert (1, 1) == leader.send(a_batch(0, epoch=5))
    assert "INVALID_PRODUCER_EPOCH" == leader.send(a_batch(1, epoch=3))
    assert "INVALID_PRODUCER_EPOCH" == leader.send(a_batch(0, epoch=4))
    assert (1, 1) == leader.send(a_batch(0, epoch=5))


def test_the_second_of_two_batches_cannot_overtake_a_first_that_was_refused():
    """Kafka would take sequence 1 from a producer that it does not know, and then refuse 0 for ever (KAFKA-14359)."""
    leader = Leader()
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(1))
    assert (0, 0) == leader.send(a_batch(0))
    assert (1, 1) == leader.send(a_batch(1))


def test_a_forgotten_producer_goes_on_where_it_was():
    """KIP-360: it has done nothing wrong."""
    leader = Leader()
    leader.send(a_batch(0, 10))
    assert 1 == leader.state.expire(1)
    assert (10, 10) == leader.send(a_batch(10))
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(5)), "nobody knows whether 5 was written"
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(3, producer_id=8)), "8 never was here"
    assert (11, 11) == leader.send(a_batch(3, producer_id=6)), "6 may have been"


def test_a_log_without_its_beginning_takes_any_first_sequence():
    leader = Leader(ProducerState(forgotten_up_to=ANYTHING_FORGOTTEN))
    assert (0, 0) == leader.send(a_batch(77))
    assert (1, 1) == leader.send(a_batch(78))


@pytest.mark.parametrize("start", [SEQUENCE_MAX - 7, SEQUENCE_MAX - 6, SEQUENCE_MAX])
def test_sequences_go_on_with_0_after_the_greatest(start):
    leader = Leader(ProducerState(forgotten_up_to=7))
    leader.send(a_batch(start, 3))
    sequence = (start + 3) % SPAN
    for number in range(6):
        assert (3 + 3 * number, 5 + 3 * number) == leader.send(a_batch(sequence, 3))
        assert (3 + 3 * number, 5 + 3 * number) == leader.send(a_batch(sequence, 3))
        sequence = (sequence + 3) % SPAN
    assert "DUPLICATE_SEQUENCE_NUMBER" == leader.send(a_batch(start, 3))


def test_an_old_retry_from_before_the_wrap_is_a_retry():
    leader = Leader(ProducerState(forgotten_up_to=7))
    start = SEQUENCE_MAX - 3
    for number in range(BATCHES_REMEMBERED + 3):
        leader.send(a_batch((start + number) % SPAN))
    assert "DUPLICATE_SEQUENCE_NUMBER" == leader.send(a_batch(start, 3))
    assert "DUPLICATE_SEQUENCE_NUMBER" == leader.send(a_batch(start + 1, 2))
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(start - 1)), "nobody knows whether it was written"
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" == leader.send(a_batch(start, 4)), "the last of them is among the remembered"


def test_several_batches_are_appended_all_or_none():
    leader = Leader()
    assert (0, 5) == leader.send(a_batch(0, 2), a_batch(2, 2), a_batch(4, 2))
    assert (0, 5) == leader.send(a_batch(0, 2), a_batch(2, 2), a_batch(4, 2))
    assert (2, 5) == leader.send(a_batch(2, 2), a_batch(4, 2))
    for batches in (
        [a_batch(6), a_batch(8)],
        [a_batch(4, 2), a_batch(6)],
        [a_batch(6), a_batch(6)],
        [a_batch(6), a_batch(4, 2)],
        [a_batch(4, 2), a_batch(0, 2)],
        [a_batch(6), a_batch(0, producer_id=8), a_batch(0, producer_id=8, epoch=-1 + 1)],
        [a_batch(4, 2), RecordBatch(build_batch([(None, b"plain", (), 1)]), 0)],
        [a_batch(0, epoch=1), a_batch(6)],
    ):
        before = leader.end, dict(leader.state.entries)
        assert leader.send(*batches) in {"OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH"}
        assert before == (leader.end, leader.state.entries)
    assert (6, 9) == leader.send(a_batch(6), a_batch(0, producer_id=8), a_batch(7), a_batch(1, producer_id=8))


def test_a_storm_of_producers_pushes_out_the_silent_ones_first():
    state = ProducerState()
    for producer_id in range(PRODUCERS_MAX):
        state.learn(producer_id, 0, ProducedBatch(0, 0, producer_id, producer_id, 0), now_ms=producer_id)
    state.learn(0, 0, ProducedBatch(1, 1, PRODUCERS_MAX, PRODUCERS_MAX, 0), now_ms=PRODUCERS_MAX)
    state.learn(PRODUCERS_MAX, 0, ProducedBatch(0, 0, 1, 1, 0), now_ms=PRODUCERS_MAX)
    assert len(state.entries) <= PRODUCERS_MAX
    assert {0, PRODUCERS_MAX} <= state.entries.keys()
    assert 1 not in state.entries
    assert PRODUCERS_MAX // 10 == state.forgotten_up_to


def a_state(seed: int) -> ProducerState:
    random = Random(seed)
    leader = Leader(ProducerState(forgotten_up_to=random.randint(-1, 9)))
    for _ in range(60):
        leader.send(a_batch(random.randint(0, 6), producer_id=random.randint(0, 9), epoch=random.randint(0, 1)))
    return leader.state


@pytest.mark.parametrize("seed", range(10))
def test_a_snapshot_says_the_same_again(seed):
    state = a_state(seed)
    found = ProducerState.parse(state.render(), now_ms=0)
    assert (state.entries, state.forgotten_up_to) == (found.entries, found.forgotten_up_to)
    assert state.render() == found.render()


def test_no_damaged_byte_of_a_snapshot_goes_unnoticed():
    data = a_state(1).render()
    for position in range(len(data)):
        with pytest.raises(SnapshotError):
            ProducerState.parse(data[:position], now_ms=0)
        broken = bytearray(data)
        broken[position] ^= 0x10
        with pytest.raises(SnapshotError):
            ProducerState.parse(bytes(broken), now_ms=0)
    with pytest.raises(SnapshotError):
        ProducerState.parse(data + b"\0", now_ms=0)


def test_a_copy_stays_as_it_was():
    state = a_state(2)
    before = state.copy()
    rendered = state.render()
    state.learn(1, 9, ProducedBatch(0, 0, 900, 900, 0), now_ms=0)
    assert rendered == before.render() != state.render()


def test_refusals_name_the_producer_and_what_is_expected():
    state = ProducerState()
    state.learn(7, 2, ProducedBatch(0, 4, 0, 4, 0), now_ms=0)
    with pytest.raises(RefusedError, match=r"producer_id 7, producer_epoch 2, base_sequence 9 .* sequence 5 is next"):
        state.check([a_batch(9, epoch=2)])
    with pytest.raises(RefusedError, match=r"fenced by epoch 2: ask for a new producer id") as refusal:
        state.check([a_batch(5, epoch=1)])
    assert ErrorCode.INVALID_PRODUCER_EPOCH == refusal.value.code
