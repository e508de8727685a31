"""What lies on the disks is read as it is: what is broken is told, and hides nothing of the rest."""

from pathlib import Path

import pytest

from tests.faults.harness import Deadline, Node
from tests.faults.record_batches import decode, encode
from tests.faults.replica_logs import read_replica, settled_replicas


def write(folder: Path, node_id: int, *batches: bytes) -> Node:
    """A node's folder with one partition, t-0; batches of one record each."""
    partition = folder / f"node-{node_id}" / "data" / "t-0.topicid"
    partition.mkdir(parents=True)
    placed = b"".join(offset.to_bytes(8, "big") + batch[8:] for offset, batch in enumerate(batches))
    (partition / f"{0:020}.log").write_bytes(placed)
    return Node(node_id, folder / f"node-{node_id}", 0, 0)


def batch(value: str) -> bytes:
    return encode((value,), timestamp_ms=0)


def broken(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


def test_a_broken_batch_is_told_and_what_lies_behind_it_is_read(tmp_path: Path):
    node = write(tmp_path, 1, batch("a"), broken(batch("b")), batch("c"))
    final = read_replica(node.directory, 1, "t", 0)
    assert ((0, "a"), (2, "c")) == final.records
    assert f"{0:020}.log: the batch at offset 1 is broken" == final.damage


def test_a_batch_that_is_still_being_written_is_no_damage(tmp_path: Path):
    node = write(tmp_path, 1, batch("a"), batch("b")[:-1])
    final = read_replica(node.directory, 1, "t", 0)
    assert (((0, "a"),), "") == (final.records, final.damage)


def test_bytes_that_are_too_few_for_a_batch_are_refused_as_such():
    with pytest.raises(ValueError, match="20 bytes are no batch"):
        list(decode(bytes(20)))


def test_replicas_that_stay_different_are_handed_over_as_they_are(tmp_path: Path):
    nodes = [write(tmp_path, 1, batch("a")), write(tmp_path, 2, batch("a")), write(tmp_path, 3)]
    finals = settled_replicas(nodes, "t", 0, replicas=3, deadline=Deadline(0.1))
    assert [((0, "a"),), ((0, "a"),), ()] == [final.records for final in finals]


def test_a_second_folder_of_the_same_partition_is_told(tmp_path: Path):
    node = write(tmp_path, 1, batch("a"))
    (node.directory / "data" / "t-0.zzz").mkdir()
    final = read_replica(node.directory, 1, "t", 0)
    assert (((0, "a"),), "there is t-0.zzz too") == (final.records, final.damage)
