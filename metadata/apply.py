"""Apply one entry of the metadata log to an image: the same result on every node, now and after every upgrade.

Refuses, as an answer and never as an exception, what fails its precondition, what was applied before (the first
answer is given again), and kinds that the cluster's version does not allow yet.

Invariants: the image that came in is not touched; the new one has `applied_index == index`; a refusal changes nothing
else.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import structs

from metadata import bounds, broker_entries, partition_entries, topic_entries
from metadata.answers import Answer, Done, ProducerIdsAllocated, Refused
from metadata.applied import Applied
from metadata.commands import (
    COMMAND_VERSIONS,
    AllocateProducerIds,
    AlterBrokerConfigs,
    AlterTopicConfigs,
    BeginControlledShutdown,
    ChangePartitions,
    Command,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    FenceBroker,
    Proposal,
    RegisterBroker,
    SetMetadataVersion,
    SetReplicationThrottle,
    UnfenceBroker,
    UnregisterBroker,
)
from metadata.delta import NOTHING, Delta
from metadata.image import CommandId, Image
from wire.errors import ErrorCode, RefusedError


def apply(image: Image, index: int, proposal: Proposal) -> Applied:
    """The next image, what changed, and the answer. `index`: the entry's place in the log, above all before it."""
    assert index > image.applied_index, f"entry {index} applied to an image that is at {image.applied_index}"
    command_id = proposal.command_id
    if command_id is not None:
        first = image.first_answer(command_id)
        if first is not None:
            return Applied(structs.replace(image, applied_index=index), NOTHING, first)
    try:
        _check_version(image, proposal.command)
        applied = _HANDLERS[type(proposal.command)](image, index, proposal.command)
    except RefusedError as error:
        applied = Applied(image, NOTHING, Refused.of(error, index=index))
    after = structs.replace(applied.image, applied_index=index)
    if command_id is not None:
        after = _remember(after, command_id, applied.answer)
    return Applied(after, applied.delta, applied.answer)


def _check_version(image: Image, command: Command) -> None:
    needed = COMMAND_VERSIONS[type(command)]
    if image.cluster_metadata_version < needed:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"{type(command).__name__} needs cluster_metadata_version {needed}, the cluster is at "
            f"{image.cluster_metadata_version}: upgrade all nodes, then raise the version",
        )


def _remember(image: Image, command_id: CommandId, answer: Answer) -> Image:
    window = image.answers.get(command_id.broker_id)
    if window is None:
        return image  # the command was the proposer's own end: it unregistered the broker that proposed it
    kept = {**image.answers, command_id.broker_id: window.with_answer(command_id.sequence, answer)}
    return structs.replace(image, answers=kept)


def _set_metadata_version(image: Image, index: int, command: SetMetadataVersion) -> Applied:
    if image.cluster_metadata_version != command.expected_version:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"the cluster is at metadata version {image.cluster_metadata_version}, not at the expected "
            f"{command.expected_version}: look again",
        )
    if command.version <= command.expected_version:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"version {command.version} is not above {command.expected_version}: metadata versions only rise",
        )
    behind = sorted(b.broker_id for b in image.brokers.values() if b.metadata_version_max < command.version)
    if behind:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"brokers {behind} do not support metadata version {command.version}: upgrade them first",
        )
    after = structs.replace(image, cluster_metadata_version=command.version)
    return Applied(after, Delta(metadata_version_changed=True), Done(index=index))


def _allocate_producer_ids(image: Image, index: int, command: AllocateProducerIds) -> Applied:
    broker_entries.registered(image, command.broker_id, command.broker_epoch)
    first = image.next_producer_id
    after = structs.replace(image, next_producer_id=first + bounds.PRODUCER_IDS_A_BLOCK)
    return Applied(after, NOTHING, ProducerIdsAllocated(index=index, first_producer_id=first))


def _set_replication_throttle(image: Image, index: int, command: SetReplicationThrottle) -> Applied:
    if image.replication_throttle_bytes_per_s == command.bytes_per_s:
        return Applied(image, NOTHING, Done(index=index))
    after = structs.replace(image, replication_throttle_bytes_per_s=command.bytes_per_s)
    return Applied(after, Delta(replication_throttle_changed=True), Done(index=index))


_HANDLERS: Final[dict[type, Callable[[Image, int, Any], Applied]]] = {
    RegisterBroker: broker_entries.register,
    UnregisterBroker: broker_entries.unregister,
    FenceBroker: broker_entries.fence,
    UnfenceBroker: broker_entries.unfence,
    BeginControlledShutdown: broker_entries.begin_controlled_shutdown,
    CreateTopic: topic_entries.create,
    DeleteTopic: topic_entries.delete,
    AlterTopicConfigs: topic_entries.alter_configs,
    CreatePartitions: topic_entries.create_partitions,
    ChangePartitions: partition_entries.change,
    SetMetadataVersion: _set_metadata_version,
    AllocateProducerIds: _allocate_producer_ids,
    SetReplicationThrottle: _set_replication_throttle,
    AlterBrokerConfigs: broker_entries.alter_configs,
}
