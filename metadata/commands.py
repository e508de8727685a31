"""The entries of the metadata log: facts with preconditions.

Whatever needs choice, time or chance was decided by the active controller before it proposed, and travels in the
command. Applying one only checks its preconditions against the committed image and changes it or refuses, alike on
every node. So a deposed controller's late command is refused by its precondition, and a retry under the same command
id gets the first answer.

Unknown fields are refused here, unlike in requests: a node that skipped one would apply something else than its peers.
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct

from metadata import bounds
from metadata.answers import PartitionRefusal
from metadata.image import BrokerIds, CommandId, Configs, DirectoryIds, Endpoint, Listeners

JoiningEpochs = Annotated[
    tuple[tuple[bounds.BrokerIdField, bounds.EpochField], ...], Meta(max_length=bounds.MAX_REPLICAS)
]


class _Command(Struct, frozen=True, kw_only=True, tag=True, tag_field="command", forbid_unknown_fields=True):
    """What all commands share in their encoding: the tag `command` holds the kind."""


class RegisterBroker(_Command, frozen=True, kw_only=True):
    """Register an incarnation, fenced; its broker epoch becomes the index of this entry.

    Precondition: the broker is registered under `expected_broker_epoch` (-1: not at all), or as this incarnation
    already (then nothing changes).
    """

    broker_id: bounds.BrokerIdField
    expected_broker_epoch: bounds.EpochField
    incarnation_id: UUID
    directory_ids: DirectoryIds
    http: Endpoint
    peer: Endpoint
    listeners: Listeners
    replication_listener: bounds.ListenerNameField | None
    rack: bounds.RackField | None
    clean_shutdown: bool
    metadata_version_max: bounds.VersionField


class UnregisterBroker(_Command, frozen=True, kw_only=True):
    """Forget a broker. Precondition: its epoch, fenced, and no partition is assigned to it."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class FenceBroker(_Command, frozen=True, kw_only=True):
    """Take a silent or stopping broker out of service. Precondition: its epoch."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class UnfenceBroker(_Command, frozen=True, kw_only=True):
    """Take a broker into service. Precondition: its epoch, and no partition still counts it as in sync (S10)."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class BeginControlledShutdown(_Command, frozen=True, kw_only=True):
    """A broker wants to stop: it leads nothing more from the next elections on. Precondition: its epoch."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class PartitionAssignment(Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Where a new partition lies and who leads it first: all replicas in service are in sync: the log is empty."""

    replicas: Annotated[BrokerIds, Meta(min_length=1)]
    leader: bounds.OptionalBrokerIdField
    leader_broker_epoch: bounds.EpochField


Assignments = Annotated[tuple[PartitionAssignment, ...], Meta(min_length=1, max_length=bounds.MAX_PARTITIONS_PER_TOPIC)]


class CreateTopic(_Command, frozen=True, kw_only=True):
    """Precondition: the name (also as a metric name) and the id are free, and all replicas are registered brokers."""

    topic_id: UUID
    name: bounds.TopicNameField
    assignments: Assignments
    configs: Configs


class DeleteTopic(_Command, frozen=True, kw_only=True):
    """Precondition: the id exists."""

    topic_id: UUID


class AlterTopicConfigs(_Command, frozen=True, kw_only=True):
    """Set and delete single configs. Precondition: the topic exists.

    `min_in_sync_replicas` is the value in force after the change where the change touches it: partitions whose in-sync
    replicas now suffice advance their high watermark without the eligible leader replicas, which must leave at once
    (S3).
    """

    topic_id: UUID
    set_configs: Configs
    deleted_configs: Annotated[tuple[bounds.ConfigNameField, ...], Meta(max_length=bounds.MAX_CONFIGS)]
    min_in_sync_replicas: Annotated[int, Meta(ge=1, le=bounds.MAX_INT32)] | None


class CreatePartitions(_Command, frozen=True, kw_only=True):
    """Append partitions. Precondition: the topic exists and has `expected_partitions_count`."""

    topic_id: UUID
    expected_partitions_count: bounds.CountField
    assignments: Assignments


class Placement(Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The replicas of a partition, and of the reassignment that is in progress, if one is (see `image.Partition`)."""

    replicas: Annotated[BrokerIds, Meta(min_length=1)]
    adding_replicas: BrokerIds = ()
    removing_replicas: BrokerIds = ()
    original_replicas: BrokerIds = ()


class PartitionChange(Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The next state of one partition, valid only on the state that it was computed from (compare-and-set, S9).

    Refused unless the partition epoch and leader epoch are the expected ones, the leader (if any) is in service under
    `leader_broker_epoch` and comes from the old in-sync or eligible replicas (or `unclean`), and whoever joins the
    in-sync replicas is in service under the epoch given in `joining_broker_epochs` (KIP-903). The leader epoch grows
    by one where the leader or its broker epoch changes, a replica is taken away, or the change `ends_leader_epoch`;
    the partition epoch always (S4). Without a `placement` the replicas stay.

    `ends_leader_epoch`: a replica lost what it had, in the same life of its broker. A fetch that it sent before may
    arrive after this change, and must not count for it (S3, S8): it names the leader epoch that has ended (S7). So does
    one of a replica that was taken away and comes back.
    """

    topic_id: UUID
    partition: bounds.PartitionIndexField
    expected_partition_epoch: bounds.EpochField
    expected_leader_epoch: bounds.EpochField
    leader: bounds.OptionalBrokerIdField
    leader_broker_epoch: bounds.EpochField
    in_sync_replicas: BrokerIds
    eligible_leader_replicas: BrokerIds
    last_known_leader: bounds.OptionalBrokerIdField
    joining_broker_epochs: JoiningEpochs = ()
    unclean: bool = False
    placement: Placement | None = None
    ends_leader_epoch: bool = False


class ChangePartitions(_Command, frozen=True, kw_only=True):
    """Elections, changes of the in-sync replicas, reassignments; each stands alone, those that are stale are left out.

    `refused`: partitions of the same request that the controller refused already, for the answer. Where a throttle is
    given it becomes that of the cluster, if any change is made.
    """

    cause: Annotated[str, Meta(max_length=128)]
    changes: Annotated[tuple[PartitionChange, ...], Meta(min_length=1, max_length=bounds.MAX_CHANGES_PER_COMMAND)]
    refused: Annotated[tuple[PartitionRefusal, ...], Meta(max_length=bounds.MAX_CHANGES_PER_COMMAND)] = ()
    replication_throttle_bytes_per_s: bounds.BytesPerSecondField | None = None


class AllocateProducerIds(_Command, frozen=True, kw_only=True):
    """Give a broker the next block of producer ids (KIP-730). Precondition: its epoch."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class SetReplicationThrottle(_Command, frozen=True, kw_only=True):
    """Bound what a broker fetches for the replicas that are being added to it; None lifts the bound."""

    bytes_per_s: bounds.BytesPerSecondField | None


class AlterBrokerConfigs(_Command, frozen=True, kw_only=True):
    """Set and delete settings of one broker, or of all (-1), that take effect while they run.

    Precondition: the broker is registered, and no more than `MAX_CONFIGS` are set afterwards.
    """

    broker_id: bounds.OptionalBrokerIdField
    set_configs: Configs
    deleted_configs: Annotated[tuple[bounds.ConfigNameField, ...], Meta(max_length=bounds.MAX_CONFIGS)]


class SetMetadataVersion(_Command, frozen=True, kw_only=True):
    """Raise the version that gates command kinds. Precondition: the version, and that every broker supports the new
    one.
    """

    expected_version: bounds.VersionField
    version: bounds.VersionField


Command: TypeAlias = (
    RegisterBroker
    | UnregisterBroker
    | FenceBroker
    | UnfenceBroker
    | BeginControlledShutdown
    | CreateTopic
    | DeleteTopic
    | AlterTopicConfigs
    | CreatePartitions
    | ChangePartitions
    | AllocateProducerIds
    | SetReplicationThrottle
    | AlterBrokerConfigs
    | SetMetadataVersion
)

COMMAND_VERSIONS: Final[Mapping[type[Struct], int]] = {
    RegisterBroker: 1,
    UnregisterBroker: 1,
    FenceBroker: 1,
    UnfenceBroker: 1,
    BeginControlledShutdown: 1,
    CreateTopic: 1,
    DeleteTopic: 1,
    AlterTopicConfigs: 1,
    CreatePartitions: 1,
    ChangePartitions: 1,
    AllocateProducerIds: 1,
    SetReplicationThrottle: 1,
    AlterBrokerConfigs: 1,
    SetMetadataVersion: 0,
}
"""The cluster_metadata_version from which on a kind may be applied: below it some node might not know it."""


class Proposal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One log entry. Without a command id (the controller's own) a retry is harmless by the command's precondition
    alone.
    """

    command: Command
    command_id: CommandId | None = None
