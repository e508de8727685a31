"""What lies on each node's disk, read from outside: a replica's segment files, without asking the node.

Owns the way from a node's folder to its records. A broken batch is noted as damage and the ones behind it are read; the
file may grow while it is read, so a batch that is not whole yet ends it.
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults.harness import Deadline, Node
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
    folder, *others = sorted(folders)
    segments = sorted(folder.glob("*.log"))
    records: list[tuple[int, str]] = []
    epochs: list[tuple[int, int]] = []
    damage = [f"there is {other.name} too" for other in others]
    for segment in segments:
        for batch in _whole_batches(segment.read_bytes()):
            try:
                records += list(decode(batch))
            except (ValueError, IndexError) as error:
                damage.append(f"{segment.name}: {error}")
                continue
            base_offset, _, leader_epoch = BATCH.unpack_from(batch)
            if not epochs or epochs[-1][1] != leader_epoch:
                epochs.append((base_offset, leader_epoch))
    start = int(segments[0].stem) if segments else 0
    source = f"replica {node_id}"
    return Final(f"{topic}-{partition}", tuple(records), start, source, tuple(epochs), "; ".join(damage))


def _whole_batches(content: bytes) -> Iterator[bytes]:
    position = 0
    while position + LENGTH.size <= len(content):
        _, length = LENGTH.unpack_from(content, position)
        end = position + LENGTH.size + length
        if length <= 0 or end > len(content):
            break
        yield content[position:end]
        position = end


def read_replicas(nodes: Iterable[Node], topic: str, partition: int) -> list[Final]:
    """Each replica's own files as they are now. OSError where one was changed under the reader's hands."""
    read = (read_replica(node.directory, node.node_id, topic, partition) for node in nodes)
    return [final for final in read if final is not None]


def settled_replicas(
    nodes: Iterable[Node], topic: str, partition: int, *, replicas: int, deadline: Deadline
) -> list[Final]:
    """Each replica's own files, once they are equally long and intact; a follower's last fetch may still be on its way.

    At the deadline as they are then: whether they are what they must be is the checker's to say.
    """
    nodes = list(nodes)

    def are_equal() -> bool:
        with contextlib.suppress(OSError):
            found = read_replicas(nodes, topic, partition)
            is_intact = not any(final.damage for final in found)
            return is_intact and len(found) == replicas and len({len(final.records) for final in found}) == 1
        return False

    with contextlib.suppress(AssertionError):
        deadline.wait_until(are_equal, f"the replicas of {topic}-{partition} are equally long and intact")
    return read_replicas(nodes, topic, partition)
