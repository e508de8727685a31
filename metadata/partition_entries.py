"""The entry that changes leadership, in-sync replicas and placement: a compare-and-set for each partition (S9).

Refuses what is stale or breaks an invariant, partition by partition; the others of the same entry are applied.

Invariants (S4): the partition epoch grows by one with every change, the leader epoch exactly when the leader or its
broker epoch changes, so no two leaders ever share a leader epoch and a restarted leader never goes on in its old one
(S10). Nobody becomes eligible or leader that was not in sync or eligible before, but by an election marked unclean
(S3, L2).
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import structs

from metadata import bounds
from metadata.answers import PartitionRefusal, PartitionsChanged
from metadata.applied import Applied
from metadata.commands import ChangePartitions, PartitionChange, Placement
from metadata.delta import NOTHING, Delta
from metadata.image import Broker, Image, Partition
from wire.errors import ErrorCode, RefusedError


def change(image: Image, index: int, command: ChangePartitions) -> Applied:
    partitions: dict[UUID, list[Partition]] = {}
    changed: dict[UUID, set[int]] = {}
    refusals: list[PartitionRefusal] = []
    for one in command.changes:
        try:
            current = partition_of(image, one.topic_id, one.partition)
            if (changing := partitions.get(one.topic_id)) is not None:
                current = changing[one.partition]
            check(image.brokers, current, one)
        except RefusedError as error:
            refusals.append(_refusal(one, error))
            continue
        if one.topic_id not in partitions:
            partitions[one.topic_id] = [*image.topics[one.topic_id].partitions]
        partitions[one.topic_id][one.partition] = _next(current, one)
        changed.setdefault(one.topic_id, set()).add(one.partition)
    answer = PartitionsChanged(
        index=index, changed=len(command.changes) - len(refusals), refusals=(*command.refused, *refusals)
    )
    if not changed:
        return Applied(image, NOTHING, answer)
    throttle = command.replication_throttle_bytes_per_s or image.replication_throttle_bytes_per_s
    topics = {t: structs.replace(image.topics[t], partitions=tuple(states)) for t, states in partitions.items()}
    return Applied(
        structs.replace(image, topics={**image.topics, **topics}, replication_throttle_bytes_per_s=throttle),
        Delta(
            changed_partitions={t: frozenset(indexes) for t, indexes in changed.items()},
            replication_throttle_changed=throttle != image.replication_throttle_bytes_per_s,
        ),
        answer,
    )


def _next(current: Partition, one: PartitionChange) -> Partition:
    elected = (one.leader, one.leader_broker_epoch) != (current.leader, current.leader_broker_epoch)
    placement = placement_after(current, one)
    loses_one = not set(current.replicas) <= set(placement.replicas)
    return Partition(
        replicas=placement.replicas,
        in_sync_replicas=one.in_sync_replicas,
        eligible_leader_replicas=one.eligible_leader_replicas,
        leader=one.leader,
        leader_epoch=current.leader_epoch + (elected or loses_one or one.ends_leader_epoch),
        leader_broker_epoch=one.leader_broker_epoch,
        partition_epoch=current.partition_epoch + 1,
        last_known_leader=one.last_known_leader,
        adding_replicas=placement.adding_replicas,
        removing_replicas=placement.removing_replicas,
        original_replicas=placement.original_replicas,
    )


def placement_after(current: Partition, one: PartitionChange) -> Placement:
    """Where the partition lies after the change."""
    if one.placement is not None:
        return one.placement
    return Placement(
        replicas=current.replicas,
        adding_replicas=current.adding_replicas,
        removing_replicas=current.removing_replicas,
        original_replicas=current.original_replicas,
    )


def _refusal(one: PartitionChange, error: RefusedError) -> PartitionRefusal:
    message = error.message[: bounds.MAX_MESSAGE_CHARACTERS]
    return PartitionRefusal(topic_id=one.topic_id, partition=one.partition, code=error.code, message=message)


def partition_of(image: Image, topic_id: UUID, partition: int) -> Partition:
    """The partition; raises RefusedError(UNKNOWN_TOPIC_ID | UNKNOWN_TOPIC_OR_PARTITION)."""
    topic = image.topics.get(topic_id)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, f"topic_id {topic_id} does not exist (any more)")
    if not 0 <= partition < len(topic.partitions):
        raise RefusedError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            f"partition {partition} of topic {topic.name!r} does not exist: it has {len(topic.partitions)}",
        )
    return topic.partitions[partition]


def check(brokers: Mapping[int, Broker], current: Partition, one: PartitionChange) -> None:
    """Raises RefusedError where the change does not fit the partition as it is."""
    _check_epochs(current, one)
    if one.placement is not None:
        _check_placement(brokers, current, one.placement)
    _check_sets(current, one)
    if one.leader != -1:
        _check_leader(brokers, current, one)
    for broker_id in set(one.in_sync_replicas).difference(current.in_sync_replicas):
        _check_joiner(brokers, broker_id, dict(one.joining_broker_epochs).get(broker_id))


def _check_epochs(current: Partition, one: PartitionChange) -> None:
    if one.expected_leader_epoch > current.leader_epoch:
        raise RefusedError(
            ErrorCode.UNKNOWN_LEADER_EPOCH,
            f"expected_leader_epoch {one.expected_leader_epoch} is above the current {current.leader_epoch}",
        )
    if one.expected_leader_epoch != current.leader_epoch:
        raise RefusedError(
            ErrorCode.FENCED_LEADER_EPOCH,
            f"the partition has moved on to leader epoch {current.leader_epoch}; the change was computed from "
            f"{one.expected_leader_epoch}",
        )
    if one.expected_partition_epoch != current.partition_epoch:
        raise RefusedError(
            ErrorCode.INVALID_UPDATE_VERSION,
            f"the partition has moved on to partition epoch {current.partition_epoch}; the change was computed from "
            f"{one.expected_partition_epoch}",
        )


def _check_placement(brokers: Mapping[int, Broker], current: Partition, placement: Placement) -> None:
    """Sets without repetition; who is new must be added first, and who is added or kept for a cancel is a replica."""
    replicas = set(placement.replicas)
    adding, removing, original = (
        set(some) for some in (placement.adding_replicas, placement.removing_replicas, placement.original_replicas)
    )
    lengths = [len(some) for some in (replicas, adding, removing, original)]
    consistent = (
        lengths == [*map(len, structs.astuple(placement))]
        and adding | removing <= replicas
        and not adding & removing
        and original == (replicas - adding if adding or removing else set())
    )
    if not consistent:
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"replicas {placement.replicas}, adding {placement.adding_replicas}, removing "
            f"{placement.removing_replicas} and original {placement.original_replicas} are no placement",
        )
    unknown = sorted(replicas - brokers.keys())
    if unknown or not adding.issuperset(replicas - {*current.replicas}):
        raise RefusedError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"replicas {placement.replicas} name brokers that are not registered ({unknown}) or not added first",
        )


def _check_sets(current: Partition, one: PartitionChange) -> None:
    in_sync, eligible = one.in_sync_replicas, one.eligible_leader_replicas
    named = {*in_sync, *eligible}
    replicas = placement_after(current, one).replicas
    if len(named) != len(in_sync) + len(eligible) or not named.issubset(replicas):
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"in_sync_replicas {in_sync} and eligible_leader_replicas {eligible} must be disjoint parts of the "
            f"replicas {replicas}",
        )
    if one.last_known_leader not in (-1, *replicas):
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"last_known_leader {one.last_known_leader} is no replica")
    sources = {*current.in_sync_replicas, *current.eligible_leader_replicas}
    last_resort = not in_sync and eligible == (current.last_known_leader,)
    if not sources.issuperset(eligible) and not last_resort:
        raise RefusedError(
            ErrorCode.INELIGIBLE_REPLICA,
            f"eligible_leader_replicas {eligible} must come from those in sync or eligible before: {sorted(sources)}",
        )


def _check_leader(brokers: Mapping[int, Broker], current: Partition, one: PartitionChange) -> None:
    broker = brokers.get(one.leader)
    if broker is None or broker.epoch != one.leader_broker_epoch:
        raise RefusedError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"leader {one.leader} is not registered under broker_epoch {one.leader_broker_epoch}",
        )
    stays = (one.leader, one.leader_broker_epoch) == (current.leader, current.leader_broker_epoch)
    if broker.fenced or not (stays or broker.in_service):
        raise RefusedError(ErrorCode.INELIGIBLE_REPLICA, f"leader {one.leader} is fenced or about to stop")
    if one.leader not in one.in_sync_replicas:
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"leader {one.leader} must be one of in_sync_replicas")
    sources = (*current.in_sync_replicas, *current.eligible_leader_replicas)
    if one.leader not in sources and not one.unclean:
        raise RefusedError(
            ErrorCode.INELIGIBLE_REPLICA,
            f"leader {one.leader} was neither in sync nor eligible: only an unclean election may choose it",
        )


def _check_joiner(brokers: Mapping[int, Broker], broker_id: int, epoch: int | None) -> None:
    broker = brokers.get(broker_id)
    if broker is None or broker.epoch != epoch or not broker.in_service:
        raise RefusedError(
            ErrorCode.INELIGIBLE_REPLICA,
            f"replica {broker_id} can't join in_sync_replicas: not in service under broker_epoch {epoch}",
        )
