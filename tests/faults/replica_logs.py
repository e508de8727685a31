"""What lies on each node's disk, read from outside: a replica's segment files, without asking the node.

Owns the way from a node's folder to its records. Refuses (ValueError) a broken batch below the end; the file may grow
while it is read, so a batch that is not whole yet ends it.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults.harness import Node, wait_until
from tests.faults.history import Final
from tests.faults.record_batches import decode

LENGTH = struct.Struct(">qi")
BATCH = struct.Struct(">qii")


def read_replica(node_directory: Path, node_id: int, topic: str, partition: int) -> Final | None:
    """Everything that this node holds of the partition; None where it holds no folder of it."""
    folders = list(node_directory.glob(f"data/{topic}-{partition}.*"))
    folders = [folder for folder in folders if not folder.name.endswith(".deleted")]
    if not folders:
        return None
    assert len(folders) == 1, folders
    segments = sorted(folders[0].glob("*.log"))
    records: list[tuple[int, str]] = []
    epochs: list[tuple[int, int]] = []
    for segment in segments:
        content = _whole_batches(segment.read_bytes())
        records += decode(content)
        epochs += (run for run in _epochs(content) if not epochs or run[1] != epochs[-1][1])
    start = int(segments[0].stem) if segments else 0
    return Final(f"{topic}-{partition}", tuple(records), start, f"replica {node_id}", tuple(epochs))


def _epochs(content: bytes) -> Iterator[tuple[int, int]]:
    """(base offset, leader epoch) of each batch."""
    position = 0
    while position < len(content):
        base_offset, length, leader_epoch = BATCH.unpack_from(content, position)
        yield base_offset, leader_epoch
        position += LENGTH.size + length


def _whole_batches(content: bytes) -> bytes:
    position = 0
    while position + LENGTH.size <= len(content):
        _, length = LENGTH.unpack_from(content, position)
        if length <= 0 or position + LENGTH.size + length > len(content):
            break
        position += LENGTH.size + length
    return content[:position]


def equal_replicas(
    nodes: Iterable[Node], topic: str, partition: int, *, replicas: int, timeout_s: float
) -> list[Final]:
    """Each replica's own files, once they are equally long; a follower's last fetch may still be on its way."""
    nodes = list(nodes)
    found: list[Final] = []

    def are_equal() -> bool:
        read = (read_replica(node.directory, node.node_id, topic, partition) for node in nodes)
        found[:] = [final for final in read if final is not None]
        return len(found) == replicas and len({len(final.records) for final in found}) == 1

    wait_until(are_equal, f"the replicas of {topic}-{partition} are equally long", timeout_s=timeout_s)
    return found
