"""What a caller wishes, as it travels to the active controller over the peer link (answers: `metadata.answers`).

A wish leaves choices open (how many partitions, where); the controller turns it into a command that leaves none. The
types bound sizes only; what a value must be is said by `metadata.decisions`, with a message that names the field and
the fix. Unknown fields are skipped, so that a newer node can ask an older controller.
"""

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct

from metadata import bounds
from metadata.image import LATEST_METADATA_VERSION, CommandId, DirectoryIds, Endpoint, Listeners

RequestedReplicas = Annotated[tuple[bounds.SignedInt32Field, ...], Meta(max_length=bounds.MAX_REPLICAS)]
RequestedConfigs = Annotated[tuple["ConfigChange", ...], Meta(max_length=bounds.MAX_CONFIGS)]


class _Request(Struct, frozen=True, kw_only=True, tag=True, tag_field="request"):
    """What all requests share in their encoding: the tag `request` holds the kind."""


class ConfigChange(Struct, frozen=True, kw_only=True, array_like=True):
    """Set one config to a value, or delete it so that the default is in force again (KIP-339; value None resets)."""

    name: bounds.ConfigNameField
    value: bounds.ConfigValueField | None = None
    operation: Literal["SET", "DELETE", "APPEND", "SUBTRACT"] = "SET"
    """The last two add to a setting that is a list, or take from it."""


class CreateTopicRequest(_Request, frozen=True, kw_only=True):
    """Create a topic. None leaves the choice to the cluster's defaults; assignments exclude both counts.

    `replicas_assignments`: one tuple of broker ids per partition, the preferred leader first. `internal` is for the
    node's own topics and never comes from a client.
    """

    name: bounds.RequestedNameField
    partitions_count: bounds.SignedInt32Field | None = None
    replication_factor: bounds.SignedInt32Field | None = None
    replicas_assignments: (
        Annotated[tuple[RequestedReplicas, ...], Meta(max_length=bounds.MAX_PARTITIONS_PER_TOPIC)] | None
    ) = None
    configs: RequestedConfigs = ()
    validate_only: bool = False
    internal: bool = False


class DeleteTopicRequest(_Request, frozen=True, kw_only=True):
    """Delete a topic by name or by id; where both are given they must agree (S17)."""

    name: bounds.RequestedNameField | None = None
    topic_id: UUID | None = None


class AlterConfigsRequest(_Request, frozen=True, kw_only=True):
    """Change single configs of a topic, all or none; `replaces`: what is not named goes back to its default."""

    name: bounds.RequestedNameField
    changes: RequestedConfigs
    replaces: bool = False
    validate_only: bool = False


class AlterBrokerConfigsRequest(_Request, frozen=True, kw_only=True):
    """The same of one broker, or of all (`broker_id` -1), for settings that can be changed while brokers run."""

    broker_id: bounds.SignedInt32Field
    changes: RequestedConfigs
    replaces: bool = False
    validate_only: bool = False


class CreatePartitionsRequest(_Request, frozen=True, kw_only=True):
    """Raise a topic's partition count to `partitions_count`; assignments, if given, are those of the new partitions."""

    name: bounds.RequestedNameField
    partitions_count: bounds.SignedInt32Field
    replicas_assignments: (
        Annotated[tuple[RequestedReplicas, ...], Meta(max_length=bounds.MAX_PARTITIONS_PER_TOPIC)] | None
    ) = None
    validate_only: bool = False


class UnregisterBrokerRequest(_Request, frozen=True, kw_only=True):
    """Forget a broker that is gone for good."""

    broker_id: bounds.SignedInt32Field


class SetMetadataVersionRequest(_Request, frozen=True, kw_only=True):
    """Finish a rolling upgrade: allow the commands of a newer version."""

    version: bounds.SignedInt32Field


class RegistrationRequest(_Request, frozen=True, kw_only=True):
    """A broker that has started, recovered its log directories and wants an epoch.

    `clean_shutdown`: the marker of a clean stop was found in every log directory.
    """

    broker_id: bounds.BrokerIdField
    cluster_id: bounds.ClusterIdField
    incarnation_id: UUID
    directory_ids: DirectoryIds
    http: Endpoint
    peer: Endpoint
    listeners: Listeners = {}
    replication_listener: bounds.ListenerNameField | None = None
    rack: bounds.RackField | None = None
    clean_shutdown: bool = False
    metadata_version_max: bounds.VersionField = LATEST_METADATA_VERSION


class Heartbeat(_Request, frozen=True, kw_only=True):
    """A registered broker is alive and has applied the metadata log up to `applied_index`.

    `wants_fence`: not ready to serve yet (still recovering, or has lost replicas to report). `wants_shutdown`: hand my
    leaderships over, then tell me that I may stop. `reported_lost_replicas`: whatever lay in the `lost_directory_ids`
    of my registration has been reported as MISSING; a broker that lost some directories is not unfenced before it
    says so.
    """

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField
    applied_index: bounds.LogIndexField
    wants_fence: bool = False
    wants_shutdown: bool = False
    reported_lost_replicas: bool = False


class LostReplicasRequest(_Request, frozen=True, kw_only=True):
    """Replicas that this broker can't vouch for: they leave the in-sync and the eligible replicas (S18, S19).

    `DAMAGED`: a part below the recovery point can't be read. A partition with no other replica keeps it and serves what
    is intact. `MISSING`: the directory that held it is gone or offline. `replicas`: (topic id, partition) each, at most
    2,000 a request.
    """

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField
    loss: Literal["DAMAGED", "MISSING"]
    replicas: Annotated[
        tuple[tuple[UUID, bounds.PartitionIndexField], ...],
        Meta(min_length=1, max_length=bounds.MAX_CHANGES_PER_COMMAND),
    ]


class InSyncReplicasChange(Struct, frozen=True, kw_only=True, array_like=True):
    """What a leader wants its partition's in-sync replicas to be, from the state that it saw (S9).

    `in_sync_replicas`: (broker id, broker epoch) each, itself among them. Only the epochs of those that join are looked
    at (KIP-903): a member that restarted has left by that.
    """

    topic_id: UUID
    partition: bounds.PartitionIndexField
    leader_epoch: bounds.EpochField
    partition_epoch: bounds.EpochField
    in_sync_replicas: Annotated[
        tuple[tuple[bounds.BrokerIdField, bounds.EpochField], ...], Meta(max_length=bounds.MAX_REPLICAS)
    ]


class AlterPartitionRequest(_Request, frozen=True, kw_only=True):
    """A leader changes the in-sync replicas of partitions that it leads (KIP-497); answered `PartitionsChanged`.

    Each change stands alone. Refusals: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION; FENCED_LEADER_EPOCH: it leads no
    more; INVALID_UPDATE_VERSION: the partition has changed since; INELIGIBLE_REPLICA: a joiner is fenced, about to stop
    or restarted since. The whole: STALE_BROKER_EPOCH. Safe to repeat without a command id.
    """

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField
    changes: Annotated[tuple[InSyncReplicasChange, ...], Meta(min_length=1, max_length=bounds.MAX_CHANGES_PER_COMMAND)]


class PartitionReassignment(Struct, frozen=True, kw_only=True):
    """Where one partition shall lie, the preferred leader first; `replicas` None cancels what is in progress.

    The topic by name or by id; where both are given they must agree (S17).
    """

    name: bounds.RequestedNameField | None = None
    topic_id: UUID | None = None
    partition: bounds.SignedInt32Field
    replicas: RequestedReplicas | None


class ReassignPartitionsRequest(_Request, frozen=True, kw_only=True):
    """Move partitions while they are written and read (KIP-455); answered `PartitionsChanged` when they have begun.

    Progress: `Partition.adding_replicas` and `removing_replicas` in the image. Each stands alone; at most 2,000 a
    request. A throttle, if given, becomes the cluster's (see `Image.replication_throttle_bytes_per_s`).
    """

    assignments: Annotated[
        tuple[PartitionReassignment, ...], Meta(min_length=1, max_length=bounds.MAX_CHANGES_PER_COMMAND)
    ]
    throttle_bytes_per_s: bounds.BytesPerSecondField | None = None
    validate_only: bool = False
    allow_replication_factor_change: bool = True
    """False: a target of another size than the partition's present one is refused (KIP-860)."""


class PartitionName(Struct, frozen=True, kw_only=True):
    """One partition, its topic by name or by id; where both are given they must agree (S17)."""

    name: bounds.RequestedNameField | None = None
    topic_id: UUID | None = None
    partition: bounds.SignedInt32Field


class ElectLeadersRequest(_Request, frozen=True, kw_only=True):
    """Elect leaders by an operator's wish (KIP-460); answered `PartitionsChanged`.

    `PREFERRED`: the first replica, if it is in sync. `DESIGNATED`: `leader`, or any other than the current one where
    that is None; it must be in sync. `UNCLEAN`: partitions without a leader get one that may lack acknowledged records
    (the way out of L2): `leader`, or the last known leader, or the first replica that is there.
    `partitions` None: all that need it, without refusals for the others, at most 2,000: ask again while `changed` is
    that many.
    """

    partitions: (
        Annotated[tuple[PartitionName, ...], Meta(min_length=1, max_length=bounds.MAX_CHANGES_PER_COMMAND)] | None
    ) = None
    election: Literal["PREFERRED", "UNCLEAN", "DESIGNATED"] = "PREFERRED"
    leader: bounds.SignedInt32Field | None = None


class AllocateProducerIdsRequest(_Request, frozen=True, kw_only=True):
    """A broker needs producer ids to hand out; answered `ProducerIdsAllocated`. Repeated, it gets other ones."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField


class SetReplicationThrottleRequest(_Request, frozen=True, kw_only=True):
    """Bound what a broker fetches a second for the replicas that are being added to it; None lifts the bound."""

    bytes_per_s: bounds.BytesPerSecondField | None


AdminRequest: TypeAlias = (
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
    | RegistrationRequest
    | Heartbeat
)


class Envelope(Struct, frozen=True, kw_only=True):
    """A request and the command id under which its command is to be proposed (none: not safe to retry)."""

    request: AdminRequest
    command_id: CommandId | None = None
