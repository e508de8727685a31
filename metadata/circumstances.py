"""What a decision of the active controller depends on, besides the request itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from metadata.bounds import MAX_PARTITIONS_PER_TOPIC
from metadata.elections import TopicRules
from metadata.image import Image, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPolicy:
    """What the cluster says where a request says nothing, and what it allows."""

    default_partitions_count: int = 1
    """Kafka's `num.partitions`."""
    default_replication_factor: int = 1
    """Kafka's `default.replication.factor`."""
    max_partitions_count: int = MAX_PARTITIONS_PER_TOPIC
    """So that a topic fits one command of the metadata log."""
    broker_defaults: Mapping[str, str] = field(default_factory=dict)
    """The broker-wide values of topic configs, by topic key (`retention.ms`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The committed image, who is alive, and one random id in place of chance."""

    image: Image
    usable_brokers: Sequence[int]
    """In service and heard by this controller within the session timeout, ascending."""
    policy: TopicPolicy
    new_id: UUID

    @property
    def racks(self) -> Mapping[int, str | None]:
        """The racks of the brokers that may be given replicas."""
        return {broker_id: self.image.brokers[broker_id].rack for broker_id in self.usable_brokers}

    def rules_of(self, topic: Topic) -> TopicRules:
        """The topic's settings that elections depend on."""
        return TopicRules.of(topic, self.policy.broker_defaults)
