"""A snapshot is read back whole or not at all."""

import struct
from contextlib import suppress
from uuid import UUID

import crc32c
import msgspec
import pytest

from kraft.errors import DamagedError
from kraft.snapshot import IncomingSnapshot, Snapshot, decode_snapshot, load_snapshot, store_snapshot
from tests.kraft.simulated_disk import PowerCut, SimulatedDisk

SNAPSHOT = Snapshot(index=42, term=3, directories={1: UUID(int=1), 2: UUID(int=2)}, state=b"\x00state\xff" * 100)


def test_a_snapshot_is_read_back():
    disk = SimulatedDisk()
    assert load_snapshot(disk) is None
    store_snapshot(disk, SNAPSHOT.encode())
    disk.crash()
    assert SNAPSHOT == load_snapshot(disk)


def test_no_flipped_bit_and_no_cut_is_overlooked():
    encoded = SNAPSHOT.encode()
    for position in range(len(encoded)):
        damaged = bytearray(encoded)
        damaged[position] ^= 1 << position % 8
        assert decode_snapshot(bytes(damaged)) is None
        assert decode_snapshot(encoded[:position]) is None


def test_a_damaged_file_is_refused_by_name():
    disk = SimulatedDisk()
    store_snapshot(disk, SNAPSHOT.encode())
    disk.overwrite("snapshot", SNAPSHOT.encode()[:-1])
    with pytest.raises(DamagedError, match="/simulated/snapshot"):
        load_snapshot(disk)


def test_power_failing_at_any_step_leaves_the_old_snapshot_or_the_new():
    newer = Snapshot(index=50, term=3, directories={}, state=b"new")
    for step in range(1, 6):
        disk = SimulatedDisk()
        store_snapshot(disk, SNAPSHOT.encode())
        disk.cut_power_at = disk.operations + step
        with suppress(PowerCut):
            store_snapshot(disk, newer.encode())
        disk.crash()
        assert load_snapshot(disk) in (SNAPSHOT, newer)


def test_chunks_are_taken_in_order_once_and_not_beyond_what_was_announced():
    incoming = IncomingSnapshot((2, 1), total_bytes=10)
    incoming.add(4, b"early")
    incoming.add(0, b"01234")
    incoming.add(0, b"01234")
    assert (5, False) == (incoming.wanted_offset, incoming.is_complete)
    incoming.add(5, b"56789 and more than was announced")
    assert 5 == incoming.wanted_offset
    incoming.add(5, b"56789")
    assert (True, b"0123456789") == (incoming.is_complete, incoming.content())


def test_a_whole_snapshot_of_another_format_is_refused_by_its_name():
    disk = SimulatedDisk()
    for body in (msgspec.msgpack.encode((1, 2, {1: b"short"}, b"")), msgspec.msgpack.encode({"index": 1})):
        header = struct.pack("<8sQI", b"KRFTSNP1", len(body), crc32c.crc32c(body))
        store_snapshot(disk, header + body)
        with pytest.raises(DamagedError, match="snapshot is of another version of Kraft"):
            load_snapshot(disk)
