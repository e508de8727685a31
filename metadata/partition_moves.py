"""What the controller makes of a wish to move partitions, or to cancel moves (ReassignPartitions, KIP-455).

Pure. Refuses, partition by partition: targets that name a broker twice, one that is unknown, or one that would have to
be added but is not in service; and to leave a partition without the leader that it has.
"""

from metadata.answers import PartitionsChanged
from metadata.circumstances import Circumstances
from metadata.commands import ChangePartitions, PartitionChange, Placement
from metadata.elections import next_state
from metadata.image import Partition
from metadata.named_partitions import gather, partition_meant
from metadata.reassignments import cancelled, placed, placement_of, towards
from metadata.requests import PartitionReassignment, ReassignPartitionsRequest
from wire.errors import ErrorCode, RefusedError


def reassign_partitions(request: ReassignPartitionsRequest, at: Circumstances) -> ChangePartitions | PartitionsChanged:
    """The command, or the answer where there is nothing to change."""
    changes, refusals = gather(
        at.image,
        request.assignments,
        lambda wish: _change(wish, at, may_resize=request.allow_replication_factor_change),
    )
    if not changes or request.validate_only:
        return PartitionsChanged(index=at.image.applied_index, changed=len(changes), refusals=tuple(refusals))
    return ChangePartitions(
        cause="an operator moves partitions",
        changes=tuple(changes),
        refused=tuple(refusals),
        replication_throttle_bytes_per_s=request.throttle_bytes_per_s,
    )


def _change(wish: PartitionReassignment, at: Circumstances, *, may_resize: bool) -> PartitionChange | None:
    topic, partition = partition_meant(at.image, wish)
    if wish.replicas and not may_resize and len(wish.replicas) != partition.target_count:
        raise RefusedError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replicas {list(wish.replicas)} would change the replication factor from {partition.target_count}, "
            "which the request forbids",
        )
    placement = _wished(wish, partition, at)
    if placement == placement_of(partition):
        return None
    _check_somebody_is_left(partition, placement)
    change = next_state(
        topic.topic_id, wish.partition, partition, at.image.brokers, at.rules_of(topic), placement=placement
    )
    if change is not None and change.leader == -1 and partition.leader != -1:
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"partition {wish.partition} of topic {topic.name!r} would have no leader: of the replicas "
            f"{list(placement.replicas)} none is in service and in sync; wait until one is",
        )
    return change


def _wished(wish: PartitionReassignment, partition: Partition, at: Circumstances) -> Placement:
    if wish.replicas is None:
        if not partition.is_reassigning:
            raise RefusedError(
                ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
                f"partition {wish.partition} is not being moved: nothing to cancel",
            )
        return cancelled(partition)
    _check_target(wish.replicas, at)
    placement = towards(partition, wish.replicas)
    absent = [r for r in placement.adding_replicas if r not in at.usable_brokers]
    if absent:
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"broker {absent[0]} is not in service and could never catch up: start it first; in service are "
            f"{list(at.usable_brokers)}",
        )
    return placement


def _check_target(replicas: tuple[int, ...], at: Circumstances) -> None:
    problem = None
    if not replicas:
        problem = "replicas is empty: name at least one broker, or cancel the move"
    elif len(set(replicas)) != len(replicas):
        problem = f"replicas {list(replicas)} name a broker twice"
    elif unknown := [r for r in replicas if r not in at.image.brokers]:
        problem = f"broker {unknown[0]} is not registered; registered are {sorted(at.image.brokers)}"
    if problem is not None:
        raise RefusedError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, problem)


def _check_somebody_is_left(partition: Partition, placement: Placement) -> None:
    """S3: those that hold all that was acknowledged are not given up together, even if none of them is there."""
    after = placed(partition, placement)
    held_by = {*partition.in_sync_replicas, *partition.eligible_leader_replicas}
    if held_by and not (after.in_sync_replicas or after.eligible_leader_replicas):
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"only {sorted(held_by)} hold all acknowledged records and none of them is among {list(after.replicas)}: "
            "wait until one of those is in sync",
        )
