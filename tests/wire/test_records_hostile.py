"""Bytes made to hurt: only a RefusedError may come out, quickly and without memory."""

import random
import struct

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ErrorCode, RefusedError
from wire.record_batch import Compression, build_batch, check_batches, iterate_batches, read_header
from wire.records import _parse_record, encode_varint, parse_records

SEED = 20_240_607
MIB = 1024 * 1024


def parse(data: bytes, count: int = 1, **options):
    options = {"base_offset": 0, "last_offset_delta": count - 1, "base_timestamp": 0} | options
    return parse_records(data, count=count, **options)


def record(*fields: bytes, length: int | None = None) -> bytes:
    body = b"".join(fields)
    return encode_varint(len(body) if length is None else length) + body


def number(value: int) -> bytes:
    return encode_varint(value)


ATTRIBUTES, NULL, ZERO = b"\0", number(-1), number(0)
PLAIN = (ATTRIBUTES, ZERO, ZERO, NULL)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff" * 12, "more than 5 bytes"),
        (record(*PLAIN, number(1), b"v", ZERO, length=-1), "claims -1 bytes"),
        (record(*PLAIN, number(1), b"v", ZERO, length=2**31 - 1), "claims 2147483647 bytes"),
        (record(*PLAIN, number(1), b"v", ZERO, length=6), "claims"),
        (record(*PLAIN, number(-2), b"v", ZERO), "value claims -2 bytes"),
        (record(*PLAIN, number(100), b"v", ZERO), "value claims 100 bytes"),
        (record(*PLAIN, number(2**33), b"v", ZERO), "value claims 8589934592 bytes"),
        (record(ATTRIBUTES, ZERO, ZERO, number(-2), ZERO, b"v", ZERO), "key claims -2 bytes"),
        (record(ATTRIBUTES, ZERO, ZERO, number(60), ZERO, b"v", ZERO), "key claims 60 bytes"),
        (record(ATTRIBUTES, ZERO, ZERO, number(2**20), ZERO, b"v", ZERO), "key claims 1048576 bytes"),
        (record(ATTRIBUTES, b"\x80" * 9 + b"\x02", ZERO, NULL, NULL, ZERO), "timestamp delta"),
        (record(ATTRIBUTES, b"\x80" * 10 + b"\x01", ZERO, NULL, NULL, ZERO), "more than 10 bytes"),
        (record(ATTRIBUTES, ZERO, number(-1), NULL, NULL, ZERO), "outside of their batch"),
        (record(ATTRIBUTES, ZERO, number(1), NULL, NULL, ZERO), "outside of their batch"),
        (record(ATTRIBUTES, ZERO, number(2**31 - 1), NULL, NULL, ZERO), "outside of their batch"),
        (record(*PLAIN, NULL, number(-1)), "claims -1 headers"),
        (record(*PLAIN, NULL, number(2**31 - 1)), "claims 2147483647 headers"),
        (record(*PLAIN, NULL, number(1), NULL, NULL), "header key is null"),
        (record(*PLAIN, NULL, number(1), number(2), b"\xff\xfe", NULL), "not UTF-8"),
        (record(*PLAIN, NULL, number(1), number(1), b"k", number(-7)), "header value claims -7 bytes"),
        (record(*PLAIN, NULL, number(1), number(50), b"k", NULL), "header key claims 50 bytes"),
        (record(*PLAIN, number(1), b"v", ZERO, b"extra"), "does not end where its fields do"),
        (record(*PLAIN, number(1), b"v", ZERO) + b"tail", "4 bytes remain"),
        (b"\x80", "announces 1 records in 1 bytes"),
        (b"\x80" * 7, "inside a record|more than 5 bytes"),
    ],
)
def test_a_lie_is_named(data, reason):
    with pytest.raises(RefusedError, match=reason) as refusal:
        parse(data)
    assert ErrorCode.INVALID_RECORD == refusal.value.code


@pytest.mark.parametrize("count", [-1, -(2**31), 2, 1000, 2**31 - 1])
def test_a_count_beyond_the_bytes_is_refused_before_anything_is_parsed(count):
    with pytest.raises(RefusedError, match="announces"):
        parse(record(*PLAIN, number(1), b"v", ZERO), count)


@pytest.mark.parametrize("size", [1, 200])
def test_offsets_must_rise_within_a_batch(size):
    twice = record(*PLAIN, number(size), b"v" * size, ZERO) * 2
    with pytest.raises(RefusedError, match="do not rise"):
        parse(twice, 2, last_offset_delta=5)


def test_a_compacted_batch_with_gaps_is_read():
    gaps = [record(ATTRIBUTES, ZERO, number(delta), NULL, number(1), b"v", ZERO) for delta in (3, 70, 9_000, 2_000_000)]
    offsets = [record.offset for record in parse(b"".join(gaps), 4, base_offset=10, last_offset_delta=2_000_000)]
    assert [13, 80, 9_010, 2_000_010] == offsets


def test_a_varint_longer_than_it_needs_to_be_is_still_a_number():
    padded = record(ATTRIBUTES, b"\x80\x00", b"\x80\x80\x00", NULL, b"\x82\x80\x00", b"v", b"\x80\x00")
    assert [(0, 0, None, b"v", ())] == parse(padded)


def test_a_base_timestamp_near_the_end_of_64_bits_is_refused():
    with pytest.raises(RefusedError, match="base timestamp"):
        parse(record(*PLAIN, NULL, ZERO), base_timestamp=2**63 - 1)


@given(st.binary(max_size=120), st.integers(-2, 20), st.integers(-1, 30))
def test_noise_is_parsed_or_refused(data, count, last_offset_delta):
    try:
        records = parse(data, count, last_offset_delta=last_offset_delta)
    except RefusedError:
        return
    assert count == len(records)


def a_batch(chance: random.Random) -> bytearray:
    def some_bytes() -> bytes | None:
        return chance.choice([None, b"", chance.randbytes(chance.randrange(100))])

    records = [
        (
            some_bytes() if chance.random() < 0.3 else None,
            some_bytes(),
            [("name", some_bytes())] * chance.randrange(3) if chance.random() < 0.2 else (),
            chance.choice([1000, chance.randrange(2**40)]),
        )
        for _ in range(chance.randrange(1, 40))
    ]
    return build_batch(records, compression=chance.choice(list(Compression)))


def mutated(batch: bytearray, chance: random.Random) -> bytearray:
    """Some bytes changed, cut or doubled; half of the time with a CRC and a length that fit again."""
    batch = bytearray(batch)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(batch))
        kind = chance.randrange(4)
        if kind == 0:
            batch[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif kind == 1:
            batch[at : at + 4] = chance.choice([b"\xff" * 4, b"\x80" * 4, b"\x7f\xff\xff\xff", b"\xff" * 10])
        elif kind == 2:
            del batch[at : at + chance.randrange(1, 9)]
        else:
            batch[at:at] = batch[at : at + chance.randrange(1, 30)]
        if len(batch) < 61:
            return batch
    if chance.random() < 0.8:
        struct.pack_into(">i", batch, 8, len(batch) - 12)
        batch[16] = 2
        struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    return batch


def swallow(batch: bytearray) -> str:
    """Everything that a door does with a stranger's batch."""
    try:
        for view in iterate_batches(batch):
            view.records()
        outcome = "read"
    except RefusedError as refusal:
        outcome = refusal.code.name
    try:
        for view in check_batches(batch, max_batch_bytes=MIB):
            view.records()
    except RefusedError as refusal:
        outcome += "/" + refusal.code.name
    return outcome


def fuzz(seed: int, rounds: int) -> set[str]:
    outcomes = set()
    for round_number in range(rounds):
        print(f"\rseed {seed}, round {round_number}", end="")  # noqa: T201 - shown where a round fails
        chance = random.Random(seed * 1_000_003 + round_number)
        outcomes.add(swallow(mutated(a_batch(chance), chance)))
    return outcomes


def test_mutated_batches_are_read_or_refused():
    outcomes = fuzz(SEED, 6_000)
    assert {"read", "CORRUPT_MESSAGE/CORRUPT_MESSAGE", "INVALID_RECORD/INVALID_RECORD"} <= outcomes


def one_field_at_a_time(data: bytes, count: int):
    records, position = [], 0
    try:
        for _ in range(count):
            record, position = _parse_record(data, position, 0, 0)
            records.append(record)
    except (RefusedError, IndexError):
        return None
    offsets = [record.offset for record in records]
    if position != len(data) or offsets != sorted(set(offsets)) or not 0 <= offsets[0] <= offsets[-1] < 10_000:
        return None
    return records


def test_parsing_in_line_accepts_and_reads_exactly_what_parsing_by_field_does():
    """No shortcut may misread a record, nor refuse one that is unusual but right."""
    accepted = 0
    for round_number in range(4_000):
        chance = random.Random(SEED + round_number)
        count, gap = chance.randrange(1, 30), chance.choice([1, 1, 100])
        data = bytearray(b"".join(unusual_record(chance, offset * gap) for offset in range(count)))
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(data))
            data[at] = chance.choice([0, 1, 2, 0x7F, 0x80, 0xFF, data[at] ^ 1])
        expected = one_field_at_a_time(bytes(data), count)
        try:
            found = parse(bytes(data), count, last_offset_delta=9_999)
        except RefusedError:
            found = None
        assert expected == found, f"seed {SEED}, round {round_number}"
        accepted += found is not None
    assert 1_000 < accepted < 3_500


def unusual_record(chance: random.Random, offset: int) -> bytes:
    """Mostly small, with the odd wide varint, long field, gap or header."""

    def a_field() -> bytes:
        size = chance.choice(
            [-1, 0, 1, chance.randrange(70), chance.randrange(200), 8_200 if chance.random() < 0.1 else 5]
        )
        return number(size) + b"x" * max(0, size)

    delta = chance.choice([0, 0, 0, 5, -5, 9_000, -9_000, 2**40])
    headers = [a_field() if chance.random() < 0.1 else number(2) + b"nm" for _ in range(chance.choice([0, 0, 0, 4]))]
    key = NULL if chance.random() < 0.6 else a_field()
    return record(ATTRIBUTES, number(delta), number(offset), key, a_field(), number(len(headers) // 2), *headers)


@pytest.mark.long
def test_mutated_batches_are_read_or_refused_for_longer():
    fuzz(random.SystemRandom().randrange(2**32), 100_000)


def test_a_small_batch_that_claims_to_be_many_records_costs_nothing():
    batch = build_batch([(None, b"", (), 1)] * 100_000, compression=Compression.ZSTD)
    assert len(batch) < 400_000
    struct.pack_into(">i", batch, 57, 2**31 - 1)
    with pytest.raises(RefusedError, match="announces"):
        read_header(batch).records()
