"""What a caller wishes, as it travels to the active controller over the peer link (answers: `metadata.answers`).

A wish leaves choices open (how many partitions, where); the controller turns it into a command that leaves none. The
types bound sizes only; what a value must be is said by `metadata.decisions`, with a message that names the field and
the fix. Unknown fields are skipped, so that a newer node can ask an older controller.
"""

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct

from metadata import bounds
from metadata.image import LATEST_METADATA_VERSION, CommandId, DirectoryIds, Endpoint

RequestedReplicas = Annotated[tuple[bounds.SignedInt32Field, ...], Meta(max_length=bounds.MAX_REPLICAS)]
RequestedConfigs = Annotated[tuple["ConfigChange", ...], Meta(max_length=bounds.MAX_CONFIGS)]


class _Request(Struct, frozen=True, kw_only=True, tag=True, tag_field="request"):
    """What all requests share in their encoding: the tag `request` holds the kind."""


class ConfigChange(Struct, frozen=True, kw_only=True, array_like=True):
    """Set one config to a value, or delete it so that the default is in force again (KIP-339; value None resets)."""

    name: bounds.ConfigNameField
    value: bounds.ConfigValueField | None = None
    operation: Literal["SET", "DELETE"] = "SET"


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
    """Change single configs of a topic, all or none."""

    name: bounds.RequestedNameField
    changes: RequestedConfigs
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
    kafka: Endpoint | None = None
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


AdminRequest: TypeAlias = (
    CreateTopicRequest
    | DeleteTopicRequest
    | AlterConfigsRequest
    | CreatePartitionsRequest
    | UnregisterBrokerRequest
    | SetMetadataVersionRequest
    | LostReplicasRequest
    | RegistrationRequest
    | Heartbeat
)


class Envelope(Struct, frozen=True, kw_only=True):
    """A request and the command id under which its command is to be proposed (none: not safe to retry)."""

    request: AdminRequest
    command_id: CommandId | None = None
