"""The cluster as a value: what a node knows after it applied the metadata log up to one index.

Owns the shapes and the questions that readers ask. Refuses to change: `metadata.apply` makes a new image that shares
what did not change, so a reader may hold one image for the length of a request. The mappings are plain dicts that
nobody may write to.

Invariants: `topic_ids` and `dotted_names` hold exactly the names of `topics`; epochs of a partition never fall (S4).
"""

from collections.abc import Iterable, Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from metadata import bounds
from metadata.answers import Answer, AnswerWindow, OutcomeUnknownAnswer

FIRST_METADATA_VERSION = 1
LATEST_METADATA_VERSION = 1
CLUSTER_WIDE = -1
"""In `Image.broker_configs`: what holds for every broker."""

BrokerIds = Annotated[tuple[bounds.BrokerIdField, ...], Meta(max_length=bounds.MAX_REPLICAS)]
DirectoryIds = Annotated[tuple[UUID, ...], Meta(max_length=bounds.MAX_DIRECTORIES)]
Configs = Annotated[Mapping[bounds.ConfigNameField, bounds.ConfigValueField], Meta(max_length=bounds.MAX_CONFIGS)]


class Endpoint(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where something listens: a host name or address, and a TCP port."""

    host: bounds.HostField
    port: bounds.PortField


Listeners = Annotated[Mapping[bounds.ListenerNameField, Endpoint], Meta(max_length=bounds.MAX_LISTENERS)]


class Broker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One registered broker. Its epoch is the log index of its registration, so a restart always has a higher one
    (S10).
    """

    broker_id: bounds.BrokerIdField
    epoch: bounds.EpochField
    incarnation_id: UUID
    directory_ids: DirectoryIds
    http: Endpoint
    peer: Endpoint
    listeners: Listeners = {}
    """The Kafka listeners as advertised, by name."""
    replication_listener: bounds.ListenerNameField | None = None
    """The one of `listeners` that followers fetch from (`inter.broker.listener.name`)."""
    rack: bounds.RackField | None = None
    fenced: bool = True
    in_controlled_shutdown: bool = False
    clean_shutdown: bool = True
    """False while fenced after a stop that flushed nothing: unflushed records of relaxed topics may be missing
    (S10).
    """
    lost_directory_ids: DirectoryIds = ()
    """Directories of an earlier registration that are gone. Before it is unfenced the broker must report the replicas
    that lay there (`LostReplicasRequest`): those whose folder it does not find."""
    lost_everything: bool = False
    """None of the directories of an earlier registration is left: no replica of this broker counts any more."""
    metadata_version_max: bounds.VersionField = LATEST_METADATA_VERSION

    @property
    def in_service(self) -> bool:
        """May lead and may be in sync: neither fenced nor on its way out."""
        return not self.fenced and not self.in_controlled_shutdown


class Partition(Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One partition's replicas and leadership. `leader` -1: none; `leader_broker_epoch` is the leader's at its
    election.

    While a reassignment is in progress (KIP-455) `replicas` are the target's in its order and then those that it
    removes; `original_replicas` are those from before it in their order, for the day that it is cancelled.
    """

    replicas: BrokerIds
    in_sync_replicas: BrokerIds
    eligible_leader_replicas: BrokerIds = ()
    leader: bounds.OptionalBrokerIdField = -1
    leader_epoch: bounds.EpochField = 0
    leader_broker_epoch: bounds.EpochField = -1
    partition_epoch: bounds.EpochField = 0
    last_known_leader: bounds.OptionalBrokerIdField = -1
    adding_replicas: BrokerIds = ()
    removing_replicas: BrokerIds = ()
    original_replicas: BrokerIds = ()

    @property
    def is_reassigning(self) -> bool:
        """A reassignment is in progress."""
        return bool(self.adding_replicas or self.removing_replicas)

    @property
    def target_count(self) -> int:
        """The replication factor that it has, or is moving to."""
        return len(self.replicas) - len(self.removing_replicas)

    @property
    def assigned_count(self) -> int:
        """The replicas without those that are being added: a partition that grows from one to three goes on being
        written meanwhile, whatever `min.insync.replicas` says.
        """
        return len(self.replicas) - len(self.adding_replicas)

    def in_sync_replicas_needed(self, min_in_sync_replicas: int) -> int:
        """How many must be in sync for the high watermark to move and for acks=all (S2): `min.insync.replicas`, capped
        at the number of assigned replicas.

        More than there are while anybody is an eligible leader: the controller found them too few and promised that
        who left holds all that is committed (S3). So a leader whose broker has another default cannot break it.
        """
        needed = min(min_in_sync_replicas, self.assigned_count)
        return max(needed, len(self.in_sync_replicas) + 1) if self.eligible_leader_replicas else needed


class Topic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic. Requests and log folders go by `topic_id`, never by name alone (S17)."""

    topic_id: UUID
    name: bounds.TopicNameField
    partitions: Annotated[tuple[Partition, ...], Meta(min_length=1, max_length=bounds.MAX_PARTITIONS_PER_TOPIC)]
    configs: Configs = {}


class CommandId(Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Who proposed, under which broker epoch, and the how-manyth proposal: a retry carries the same id."""

    broker_id: bounds.BrokerIdField
    broker_epoch: bounds.EpochField
    sequence: bounds.SequenceField


class Image(Struct, frozen=True, kw_only=True):
    """The cluster after the log entry `applied_index`."""

    cluster_id: str
    cluster_metadata_version: int
    applied_index: int
    topics: Mapping[UUID, Topic]
    topic_ids: Mapping[str, UUID]
    dotted_names: Mapping[str, str]
    """Names that contain a dot, by the name with every dot as an underscore: finds colliding metric names."""
    brokers: Mapping[int, Broker]
    answers: Mapping[int, AnswerWindow]
    """The last answers of each registered broker's proposals, by broker id."""
    next_producer_id: int = 0
    """All below have been given to brokers, in blocks, and never come again."""
    replication_throttle_bytes_per_s: int | None = None
    """What one broker may fetch a second for the replicas that are being added to it; None: no limit. It never holds
    back a replica that is assigned already, so one that is forgotten does no harm."""
    broker_configs: Mapping[int, Configs] = {}
    """Settings of brokers that were made while they run, by broker id or `CLUSTER_WIDE` (`metadata.broker_settings`);
    none of them is empty."""

    @classmethod
    def empty(cls, cluster_id: str, *, cluster_metadata_version: int = LATEST_METADATA_VERSION) -> "Image":
        """The image before the first entry."""
        return cls.of(cluster_id, cluster_metadata_version, applied_index=0, topics=(), brokers=(), answers={})

    @classmethod
    def of(
        cls,
        cluster_id: str,
        cluster_metadata_version: int,
        *,
        applied_index: int,
        topics: Iterable[Topic],
        brokers: Iterable[Broker],
        answers: Mapping[int, AnswerWindow],
        next_producer_id: int = 0,
        replication_throttle_bytes_per_s: int | None = None,
        broker_configs: Mapping[int, Configs] | None = None,
    ) -> "Image":
        """An image from its parts; derives the indexes."""
        by_id = {topic.topic_id: topic for topic in topics}
        return cls(
            cluster_id=cluster_id,
            cluster_metadata_version=cluster_metadata_version,
            applied_index=applied_index,
            topics=by_id,
            topic_ids={topic.name: topic.topic_id for topic in by_id.values()},
            dotted_names={t.name.replace(".", "_"): t.name for t in by_id.values() if "." in t.name},
            brokers={broker.broker_id: broker for broker in brokers},
            answers=answers,
            next_producer_id=next_producer_id,
            replication_throttle_bytes_per_s=replication_throttle_bytes_per_s,
            broker_configs=broker_configs or {},
        )

    def topic(self, name: str) -> Topic | None:
        """The topic of that name, or None."""
        topic_id = self.topic_ids.get(name)
        return None if topic_id is None else self.topics[topic_id]

    def partition(self, topic_id: UUID, partition: int) -> Partition | None:
        """One partition by topic id and index, or None where either is unknown."""
        topic = self.topics.get(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def leader_of(self, topic: Topic, partition: int) -> Broker | None:
        """The broker that leads now, or None.

        None unless it is unfenced and still in the broker epoch in which it was elected: a restart voids its
        leaderships by itself, before the controller elected anew (S10).
        """
        state = topic.partitions[partition]
        broker = self.brokers.get(state.leader)
        if broker is None or broker.fenced or broker.epoch != state.leader_broker_epoch:
            return None
        return broker

    def first_answer(self, command_id: CommandId) -> Answer | None:
        """What a proposal of this id was answered, or None where it was never applied: then it may be proposed.

        An id that has left the window, or of a broker epoch that is over, is answered `OutcomeUnknownAnswer`.
        """
        window = self.answers.get(command_id.broker_id)
        if window is None:
            return OutcomeUnknownAnswer(
                index=self.applied_index,
                message=f"broker_id {command_id.broker_id} of the command id is not registered (any more); "
                "look at the cluster to see its outcome",
            )
        return window.first_answer(broker_epoch=command_id.broker_epoch, sequence=command_id.sequence)
