"""The entry that changes leadership and in-sync replicas: a compare-and-set for each partition, each on its own (S9).

Invariants (S4): the partition epoch grows by one with every change, the leader epoch exactly when the leader or its
broker epoch changes, so no two leaders ever share a leader epoch and a restarted leader never goes on in its old one
(S10). Nobody becomes eligible or leader that was not in sync or eligible before, but by an election marked unclean
(S3, L2).
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import structs

from metadata import bounds
from metadata.answers import PartitionRefusal, PartitionsChanged, Refused
from metadata.applied import Applied
from metadata.commands import ChangePartitions, PartitionChange
from metadata.delta import NOTHING, Delta
from metadata.image import Broker, Image, Partition
from wire.errors import ErrorCode, RefusedError


def change(image: Image, index: int, command: ChangePartitions) -> Applied:
    partitions: dict[UUID, list[Partition]] = {}
    changed: dict[UUID, set[int]] = {}
    refusals: list[PartitionRefusal] = []
    for one in command.changes:
        try:
            current = _current(image, partitions, one)
            _check(image.brokers, current, one)
        except RefusedError as error:
            refusals.append(_refusal(one, error))
            continue
        if one.topic_id not in partitions:
            partitions[one.topic_id] = [*image.topics[one.topic_id].partitions]
        partitions[one.topic_id][one.partition] = _next(current, one)
        changed.setdefault(one.topic_id, set()).add(one.partition)
    if not changed:
        first = refusals[0]
        return Applied(image, NOTHING, Refused(index=index, code=first.code, message=first.message))
    topics = {t: structs.replace(image.topics[t], partitions=tuple(states)) for t, states in partitions.items()}
    return Applied(
        structs.replace(image, topics={**image.topics, **topics}),
        Delta(changed_partitions={t: frozenset(indexes) for t, indexes in changed.items()}),
        PartitionsChanged(index=index, changed=len(command.changes) - len(refusals), refusals=tuple(refusals)),
    )


def _next(current: Partition, one: PartitionChange) -> Partition:
    elected = (one.leader, one.leader_broker_epoch) != (current.leader, current.leader_broker_epoch)
    return Partition(
        replicas=current.replicas,
        in_sync_replicas=one.in_sync_replicas,
        eligible_leader_replicas=one.eligible_leader_replicas,
        leader=one.leader,
        leader_epoch=current.leader_epoch + elected,
        leader_broker_epoch=one.leader_broker_epoch,
        partition_epoch=current.partition_epoch + 1,
        last_known_leader=one.last_known_leader,
    )


def _refusal(one: PartitionChange, error: RefusedError) -> PartitionRefusal:
    message = error.message[: bounds.MAX_MESSAGE_CHARACTERS]
    return PartitionRefusal(topic_id=one.topic_id, partition=one.partition, code=error.code, message=message)


def _current(image: Image, partitions: Mapping[UUID, list[Partition]], one: PartitionChange) -> Partition:
    topic = image.topics.get(one.topic_id)
    if topic is None:
        raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, f"topic_id {one.topic_id} does not exist (any more)")
    if one.partition >= len(topic.partitions):
        raise RefusedError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            f"partition {one.partition} of topic {topic.name!r} does not exist: it has {len(topic.partitions)}",
        )
    return partitions.get(one.topic_id, topic.partitions)[one.partition]


def _check(brokers: Mapping[int, Broker], current: Partition, one: PartitionChange) -> None:
    _check_epochs(current, one)
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
    expected = (one.expected_leader_epoch, one.expected_partition_epoch)
    if expected != (current.leader_epoch, current.partition_epoch):
        raise RefusedError(
            ErrorCode.FENCED_LEADER_EPOCH,
            f"the partition has moved on to leader epoch {current.leader_epoch}, partition epoch "
            f"{current.partition_epoch}; the change was computed from {expected[0]}, {expected[1]}",
        )


def _check_sets(current: Partition, one: PartitionChange) -> None:
    in_sync, eligible = one.in_sync_replicas, one.eligible_leader_replicas
    named = {*in_sync, *eligible}
    if len(named) != len(in_sync) + len(eligible) or not named.issubset(current.replicas):
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"in_sync_replicas {in_sync} and eligible_leader_replicas {eligible} must be disjoint parts of the "
            f"replicas {current.replicas}",
        )
    if one.last_known_leader not in (-1, *current.replicas):
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
