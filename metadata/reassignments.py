"""Where a partition lies while it moves (KIP-455): target and present replicas together, until the target is in sync.

Pure rules over placements; who may ask and what becomes of leadership is said elsewhere. Invariants: the original
replicas stay, with whatever they hold, until the move is finished or cancelled; it is finished only when it leaves no
fewer in-sync replicas than there were without it, and enough for `min.insync.replicas`, as far as the target is large
enough. Kafka finishes as soon as the added ones are in sync; that may trade the last good copies for one.
"""

from collections.abc import Collection

from msgspec import structs

from metadata.commands import Placement
from metadata.image import Partition


def placement_of(partition: Partition) -> Placement:
    """Where it lies now."""
    return Placement(
        replicas=partition.replicas,
        adding_replicas=partition.adding_replicas,
        removing_replicas=partition.removing_replicas,
        original_replicas=partition.original_replicas,
    )


def towards(partition: Partition, target: tuple[int, ...]) -> Placement:
    """On the way to `target` (no repetition, not empty); from another move that is in progress: instead of it.

    The target's order comes first, so its preferred leader is the first candidate at once.
    """
    original = partition.original_replicas or partition.replicas
    adding = tuple(r for r in target if r not in original)
    removing = tuple(r for r in original if r not in target)
    moving = bool(adding or removing)
    return Placement(
        replicas=(*target, *removing),
        adding_replicas=adding,
        removing_replicas=removing,
        original_replicas=original if moving else (),
    )


def cancelled(partition: Partition) -> Placement:
    """As it was before the move, also in the order of the replicas."""
    assert partition.is_reassigning, partition
    return Placement(replicas=partition.original_replicas)


def finished(partition: Partition, in_sync: Collection[int], min_in_sync_replicas: int) -> Placement | None:
    """The target alone, None while it may not stand alone yet. `in_sync`: those of them that are in service."""
    if not partition.is_reassigning or not {*partition.adding_replicas}.issubset(in_sync):
        return None
    target = tuple(r for r in partition.replicas if r not in partition.removing_replicas)
    in_sync_before = [r for r in in_sync if r not in partition.adding_replicas]
    needed = min(len(target), max(len(in_sync_before), min_in_sync_replicas))
    if len([r for r in in_sync if r in target]) < needed:
        return None
    return Placement(replicas=target)


def placed(partition: Partition, placement: Placement) -> Partition:
    """The partition there: who is no replica any more is neither in sync nor eligible. Leadership is left as it is."""
    replicas = placement.replicas
    return structs.replace(
        partition,
        replicas=replicas,
        in_sync_replicas=tuple(r for r in partition.in_sync_replicas if r in replicas),
        eligible_leader_replicas=tuple(r for r in partition.eligible_leader_replicas if r in replicas),
        last_known_leader=partition.last_known_leader if partition.last_known_leader in replicas else -1,
        adding_replicas=placement.adding_replicas,
        removing_replicas=placement.removing_replicas,
        original_replicas=placement.original_replicas,
    )
