"""What the active controller makes of a request: a command that leaves nothing open, an answer, or a refusal.

Owns the validation of everything that a caller may ask of topics, brokers and versions; every refusal is a RefusedError
whose message names the field and the fix.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from metadata import topic_configs
from metadata.answers import AdminAnswer, Done, TopicCreated
from metadata.circumstances import Circumstances, TopicPolicy
from metadata.codec import encode_proposal
from metadata.commands import (
    AllocateProducerIds,
    ChangePartitions,
    Command,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionAssignment,
    Proposal,
    SetMetadataVersion,
    SetReplicationThrottle,
    UnregisterBroker,
)
from metadata.config_changes import alter_broker_configs, alter_topic_configs, of_topic
from metadata.elections import next_state, unchanged
from metadata.image import FIRST_METADATA_VERSION, LATEST_METADATA_VERSION, Image, Topic
from metadata.in_sync_changes import alter_partitions
from metadata.leader_choices import elect_leaders
from metadata.named_partitions import topic_named, topic_of
from metadata.partition_moves import reassign_partitions
from metadata.placement import in_rack_order, spread
from metadata.requests import (
    AllocateProducerIdsRequest,
    AlterBrokerConfigsRequest,
    AlterConfigsRequest,
    AlterPartitionRequest,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteTopicRequest,
    ElectLeadersRequest,
    LostReplicasRequest,
    ReassignPartitionsRequest,
    SetMetadataVersionRequest,
    SetReplicationThrottleRequest,
    UnregisterBrokerRequest,
)
from metadata.topic_names import check_name, check_name_is_free, check_not_internal
from wire.errors import ErrorCode, RefusedError

DecidedRequest = (
    CreateTopicRequest
    | DeleteTopicRequest
    | AlterConfigsRequest
    | AlterBrokerConfigsRequest
    | CreatePartitionsRequest
    | UnregisterBrokerRequest
    | SetMetadataVersionRequest
    | LostReplicasRequest
    | AlterPartitionRequest
    | ReassignPartitionsRequest
    | ElectLeadersRequest
    | AllocateProducerIdsRequest
    | SetReplicationThrottleRequest
)
USE_DEFAULT: Final = -1
"""Kafka's way to leave a count to the broker."""


def decide(request: DecidedRequest, at: Circumstances) -> Command | AdminAnswer:  # noqa: C901, PLR0911, PLR0912 - a line a kind
    """The command to propose, or the answer where there is nothing to propose; raises RefusedError."""
    match request:
        case CreateTopicRequest():
            return _create_topic(request, at)
        case DeleteTopicRequest():
            return _delete_topic(request, at.image)
        case AlterConfigsRequest():
            return alter_topic_configs(request, at)
        case AlterBrokerConfigsRequest():
            return alter_broker_configs(request, at)
        case CreatePartitionsRequest():
            return _create_partitions(request, at)
        case UnregisterBrokerRequest():
            return _unregister(request, at.image)
        case SetMetadataVersionRequest():
            return _set_metadata_version(request, at.image)
        case LostReplicasRequest():
            return _lost_replicas(request, at)
        case AlterPartitionRequest():
            return alter_partitions(request, at)
        case AllocateProducerIdsRequest():
            return AllocateProducerIds(broker_id=request.broker_id, broker_epoch=request.broker_epoch)
        case SetReplicationThrottleRequest():
            return SetReplicationThrottle(bytes_per_s=request.bytes_per_s)
        case ReassignPartitionsRequest():
            return reassign_partitions(request, at)
        case ElectLeadersRequest():
            return elect_leaders(request, at)


def _create_topic(request: CreateTopicRequest, at: Circumstances) -> Command | AdminAnswer:
    check_name(request.name)
    if not request.internal:
        check_not_internal(request.name, "create")
    check_name_is_free(at.image, request.name)
    defaults = at.policy.broker_defaults
    set_configs = of_topic(request.configs, lambda name: topic_configs.in_force(name, {}, defaults)).to_set
    if request.replicas_assignments is None:
        assignments = _placed(request, at)
    else:
        _check_counts_agree(request, request.replicas_assignments)
        assignments = _assigned(request.replicas_assignments, at)
    command = CreateTopic(topic_id=at.new_id, name=request.name, assignments=assignments, configs=set_configs)
    if not request.validate_only:
        return command
    encode_proposal(Proposal(command=command))
    return TopicCreated(
        index=at.image.applied_index,
        topic_id=command.topic_id,
        name=command.name,
        partitions_count=len(assignments),
        replication_factor=len(assignments[0].replicas),
    )


def _placed(request: CreateTopicRequest, at: Circumstances) -> tuple[PartitionAssignment, ...]:
    count = _or_default(request.partitions_count, at.policy.default_partitions_count)
    factor = _or_default(request.replication_factor, at.policy.default_replication_factor)
    _check_partitions_count(count, at.policy)
    _check_replication_factor(factor, at)
    start, shift = _chance(at)
    return _spread_over_all(at, partitions=count, factor=factor, start=start, shift=shift)


def _spread_over_all(
    at: Circumstances, *, partitions: int, factor: int, start: int, shift: int, first_partition: int = 0
) -> tuple[PartitionAssignment, ...]:
    """Over the usable brokers; where they are too few, the others come last in each partition, in turns (as KRaft).

    So a topic can be created while a broker is down, and has all its replicas when it is back.
    """
    placed = spread(
        at.usable_brokers,
        partitions=partitions,
        replication_factor=min(factor, len(at.usable_brokers)),
        start=start,
        shift=shift,
        first_partition=first_partition,
        racks=at.racks,
    )
    others = sorted(at.image.brokers.keys() - set(at.usable_brokers))
    absent = range(max(0, factor - len(at.usable_brokers)))
    return tuple(
        _led_by_first((*replicas, *(others[(turn + place) % len(others)] for place in absent)), at)
        for turn, replicas in enumerate(placed, start=first_partition)
    )


def _chance(at: Circumstances) -> tuple[int, int]:
    """A start and a shift from the random bits of the new id."""
    brokers = len(at.usable_brokers)
    return at.new_id.int % brokers, (at.new_id.int >> 64) % brokers


def _led_by_first(replicas: tuple[int, ...], at: Circumstances) -> PartitionAssignment:
    """The first replica in service leads; none: the partition begins without a leader."""
    leader = next((r for r in replicas if at.image.brokers[r].in_service), -1)
    epoch = -1 if leader == -1 else at.image.brokers[leader].epoch
    return PartitionAssignment(replicas=replicas, leader=leader, leader_broker_epoch=epoch)


def _or_default(value: int | None, default: int) -> int:
    return default if value is None or value == USE_DEFAULT else value


def _check_partitions_count(count: int, policy: TopicPolicy) -> None:
    if not 1 <= count <= policy.max_partitions_count:
        raise RefusedError(
            ErrorCode.INVALID_PARTITIONS,
            f"partitions_count {count} must be from 1 to {policy.max_partitions_count} (the limit for one topic)",
        )


def _check_replication_factor(factor: int, at: Circumstances) -> None:
    if factor < 1:
        raise RefusedError(ErrorCode.INVALID_REPLICATION_FACTOR, f"replication_factor {factor} must be at least 1")
    if not at.usable_brokers:
        raise RefusedError(
            ErrorCode.BROKER_NOT_AVAILABLE,
            "no broker is in service that the controller has heard from: try again when one is up",
        )
    if factor > len(at.image.brokers):
        raise RefusedError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replication_factor {factor} is larger than the number of brokers, {len(at.image.brokers)} "
            f"({sorted(at.image.brokers)}): add more, or ask for a smaller one",
        )


def _check_counts_agree(request: CreateTopicRequest, assignments: Sequence[Sequence[int]]) -> None:
    factor = len(assignments[0]) if assignments else 0
    given = {"partitions_count": request.partitions_count, "replication_factor": request.replication_factor}
    for name, implied in (("partitions_count", len(assignments)), ("replication_factor", factor)):
        if given[name] not in (None, USE_DEFAULT, implied):
            raise RefusedError(
                ErrorCode.INVALID_REQUEST,
                f"{name} {given[name]} contradicts replicas_assignments, which says {implied}: leave one of them out",
            )


def _assigned(
    assignments: Sequence[tuple[int, ...]], at: Circumstances, *, first_partition: int = 0, factor: int | None = None
) -> tuple[PartitionAssignment, ...]:
    """A caller's own placement, checked (Kafka's rules for manual assignments)."""
    if not 1 <= len(assignments) <= at.policy.max_partitions_count:
        raise RefusedError(
            ErrorCode.INVALID_PARTITIONS,
            f"replicas_assignments has {len(assignments)} partitions: it must have from 1 to "
            f"{at.policy.max_partitions_count}",
        )
    factor = len(assignments[0]) if factor is None else factor
    for partition, replicas in enumerate(assignments, start=first_partition):
        problem = _assignment_problem(replicas, factor, at)
        if problem is not None:
            raise RefusedError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"replicas_assignments of partition {partition}: {problem}"
            )
    return tuple(_led_by_first(replicas, at) for replicas in assignments)


def _assignment_problem(replicas: tuple[int, ...], factor: int, at: Circumstances) -> str | None:
    if not replicas:
        return "it is empty: name at least one broker"
    if len(set(replicas)) != len(replicas):
        return f"{list(replicas)} names a broker twice"
    if len(replicas) != factor:
        return f"{list(replicas)} has {len(replicas)} replicas, the topic {factor}: give all partitions as many"
    unknown = [r for r in replicas if r not in at.image.brokers]
    if unknown:
        return f"broker {unknown[0]} is not registered; registered are {sorted(at.image.brokers)}"
    if not any(r in at.usable_brokers for r in replicas):
        return f"none of the brokers {list(replicas)} is in service"
    return None


def _delete_topic(request: DeleteTopicRequest, image: Image) -> Command:
    topic = topic_of(image, name=request.name, topic_id=request.topic_id)
    check_not_internal(topic.name, "delete")
    return DeleteTopic(topic_id=topic.topic_id)


def _create_partitions(request: CreatePartitionsRequest, at: Circumstances) -> Command | AdminAnswer:
    topic = topic_named(at.image, request.name)
    check_not_internal(topic.name, "add partitions to")
    count = len(topic.partitions)
    _check_partitions_count(request.partitions_count, at.policy)
    if request.partitions_count <= count:
        raise RefusedError(
            ErrorCode.INVALID_PARTITIONS,
            f"partitions_count {request.partitions_count} must be above the {count} that topic {topic.name!r} has: "
            "partitions can only be added",
        )
    added = request.partitions_count - count
    if request.replicas_assignments is None:
        assignments = _continued(topic, added, at)
    else:
        if len(request.replicas_assignments) != added:
            raise RefusedError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"replicas_assignments has {len(request.replicas_assignments)} partitions: it must have one for each "
                f"of the {added} new ones",
            )
        factor = topic.partitions[0].target_count
        assignments = _assigned(request.replicas_assignments, at, first_partition=count, factor=factor)
    command = CreatePartitions(topic_id=topic.topic_id, expected_partitions_count=count, assignments=assignments)
    if not request.validate_only:
        return command
    encode_proposal(Proposal(command=command))
    return Done(index=at.image.applied_index)


def _continued(topic: Topic, added: int, at: Circumstances) -> tuple[PartitionAssignment, ...]:
    """New partitions go on in the round that the topic's first partition began."""
    factor = topic.partitions[0].target_count
    _check_replication_factor(factor, at)
    start, shift = _chance(at)
    first_leader = topic.partitions[0].replicas[0]
    if first_leader in at.usable_brokers:
        start = in_rack_order(at.usable_brokers, at.racks).index(first_leader)
    count = len(topic.partitions)
    return _spread_over_all(at, partitions=added, factor=factor, start=start, shift=shift, first_partition=count)


def _unregister(request: UnregisterBrokerRequest, image: Image) -> Command:
    broker = image.brokers.get(request.broker_id)
    if broker is None:
        raise RefusedError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker_id {request.broker_id} is not registered")
    return UnregisterBroker(broker_id=broker.broker_id, broker_epoch=broker.epoch)


def _set_metadata_version(request: SetMetadataVersionRequest, image: Image) -> Command | AdminAnswer:
    if request.version == image.cluster_metadata_version:
        return Done(index=image.applied_index)
    if not FIRST_METADATA_VERSION <= request.version <= LATEST_METADATA_VERSION:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"version {request.version} must be from {FIRST_METADATA_VERSION} to {LATEST_METADATA_VERSION}",
        )
    return SetMetadataVersion(expected_version=image.cluster_metadata_version, version=request.version)


def _lost_replicas(request: LostReplicasRequest, at: Circumstances) -> Command | AdminAnswer:
    broker = at.image.brokers.get(request.broker_id)
    if broker is None or broker.epoch != request.broker_epoch:
        raise RefusedError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"broker_epoch {request.broker_epoch} of broker {request.broker_id} is not its current one",
        )
    changes = []
    for topic_id, index in dict.fromkeys(request.replicas):
        partition = at.image.partition(topic_id, index)
        if partition is None or broker.broker_id not in partition.replicas:
            continue  # deleted meanwhile, or never ours: there is nothing to leave
        if request.loss == "DAMAGED" and len(partition.replicas) == 1:
            continue  # S18: with no other copy, what is intact goes on being served
        rules = at.rules_of(at.image.topics[topic_id])
        lost = frozenset((broker.broker_id,))
        change = next_state(topic_id, index, partition, at.image.brokers, rules, lost=lost)
        # Where nothing else changes its epochs do, so that no leader makes it in sync as it saw it before.
        change = change or unchanged(topic_id, index, partition, at.image.brokers)
        changes.append(structs.replace(change, ends_leader_epoch=True))
    if not changes:
        return Done(index=at.image.applied_index)
    return ChangePartitions(cause=f"broker {broker.broker_id} lost replicas", changes=tuple(changes))
