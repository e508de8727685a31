"""What the controller makes of a leader's wish to change its in-sync replicas (AlterPartition, KIP-497, KIP-903).

Pure. Refuses, partition by partition, a wish that was made from another state than the present one, by somebody who
does not lead, or for somebody who must not join (S9). Whoever leaves becomes an eligible leader while too few stay for
the high watermark to move (S3).
"""

from metadata.answers import PartitionsChanged
from metadata.broker_entries import registered
from metadata.circumstances import Circumstances
from metadata.commands import ChangePartitions, PartitionChange
from metadata.elections import eligible_after
from metadata.image import Partition
from metadata.named_partitions import gather
from metadata.partition_entries import check, partition_of
from metadata.requests import AlterPartitionRequest, InSyncReplicasChange
from wire.errors import ErrorCode, RefusedError


def alter_partitions(request: AlterPartitionRequest, at: Circumstances) -> ChangePartitions | PartitionsChanged:
    """The command, or the answer where every wish is refused; raises RefusedError(STALE_BROKER_EPOCH, ...)."""
    registered(at.image, request.broker_id, request.broker_epoch)
    changes, refusals = gather(at.image, request.changes, lambda wish: _change(request, wish, at))
    if not changes:
        return PartitionsChanged(index=at.image.applied_index, changed=0, refusals=tuple(refusals))
    return ChangePartitions(
        cause=f"leader {request.broker_id} changed its in-sync replicas",
        changes=tuple(changes),
        refused=tuple(refusals),
    )


def _change(request: AlterPartitionRequest, wish: InSyncReplicasChange, at: Circumstances) -> PartitionChange:
    image = at.image
    current = partition_of(image, wish.topic_id, wish.partition)
    epochs = dict(wish.in_sync_replicas)
    in_sync = _in_replica_order(current, [broker_id for broker_id, _ in wish.in_sync_replicas])
    change = PartitionChange(
        topic_id=wish.topic_id,
        partition=wish.partition,
        expected_partition_epoch=wish.partition_epoch,
        expected_leader_epoch=wish.leader_epoch,
        leader=request.broker_id,
        leader_broker_epoch=request.broker_epoch,
        in_sync_replicas=in_sync,
        eligible_leader_replicas=eligible_after(
            current, in_sync, image.brokers, at.rules_of(image.topics[wish.topic_id])
        ),
        joining_broker_epochs=tuple((r, epochs[r]) for r in in_sync if r not in current.in_sync_replicas),
        last_known_leader=request.broker_id,
    )
    check(image.brokers, current, change)
    if (current.leader, current.leader_broker_epoch) != (request.broker_id, request.broker_epoch):
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"broker {request.broker_id} does not lead in leader epoch {current.leader_epoch}: only the leader changes "
            "the in-sync replicas",
        )
    return change


def _in_replica_order(current: Partition, in_sync: list[int]) -> tuple[int, ...]:
    """In the order of the replicas; a stranger stays, to be refused by name."""
    order = {broker_id: position for position, broker_id in enumerate(current.replicas)}
    return tuple(sorted(in_sync, key=lambda broker_id: order.get(broker_id, len(order))))
