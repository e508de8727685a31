"""Is the cluster well? A question to one image, answered with reasons that an operator can act on at night.

Pure. Owns the words; what makes a partition unwell is Kafka's: leaderless (offline), under-replicated, under or at
`min.insync.replicas`, reassigning. A replica that is being added does not count as missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from metadata import topic_configs
from metadata.image import Image, Partition, Topic

NAMED_MAX: Final = 5
"""So many partitions are named in a reason; the lists have them all."""

NamedPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Health:
    """`healthy` is the absence of reasons. Partitions are (topic name, partition), in this order.

    `at_min_in_sync` and `reassigning` are for information: they are no reason by themselves.
    """

    healthy: bool
    reasons: list[str]
    leaderless: list[NamedPartition]
    under_replicated: list[NamedPartition]
    fenced_brokers: list[int]
    under_min_in_sync: list[NamedPartition]
    at_min_in_sync: list[NamedPartition]
    reassigning: list[NamedPartition]
    offline_replicas: list[tuple[str, int, int]]
    """(topic name, partition, broker id): replicas on brokers that are fenced."""


def health_of(
    image: Image, *, leader_id: int | None, disk_reasons: list[str], broker_defaults: Mapping[str, str] | None = None
) -> Health:
    """The state of the cluster in `image`, and of this node's own directories; cost: all partitions.

    `broker_defaults`: the broker-wide values of topic configs, by topic key.
    """
    found = _Survey(image)
    for topic in sorted(image.topics.values(), key=lambda topic: topic.name):
        minimum = topic_configs.min_in_sync_replicas(topic.configs, broker_defaults or {})
        for index, partition in enumerate(topic.partitions):
            found.look_at(topic, index, partition, minimum)
    reasons = [
        *(["the metadata quorum has no leader: start more of its voters"] if leader_id is None else []),
        *found.reasons(),
        *disk_reasons,
    ]
    return Health(
        not reasons,
        reasons,
        found.leaderless,
        found.under_replicated,
        sorted(found.fenced),
        found.under_min_in_sync,
        found.at_min_in_sync,
        found.reassigning,
        found.offline_replicas,
    )


@dataclass(slots=True)
class _Survey:
    """What a walk over all partitions finds, and the brokers that each kind of trouble waits for."""

    image: Image
    fenced: set[int] = field(init=False)
    holding: set[int] = field(default_factory=set)
    leaderless: list[NamedPartition] = field(default_factory=list)
    lost: list[NamedPartition] = field(default_factory=list)
    under_replicated: list[NamedPartition] = field(default_factory=list)
    under_min_in_sync: list[NamedPartition] = field(default_factory=list)
    at_min_in_sync: list[NamedPartition] = field(default_factory=list)
    reassigning: list[NamedPartition] = field(default_factory=list)
    offline_replicas: list[tuple[str, int, int]] = field(default_factory=list)
    candidates: set[int] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.fenced = {b.broker_id for b in self.image.brokers.values() if b.fenced}

    def look_at(self, topic: Topic, index: int, partition: Partition, min_in_sync_replicas: int) -> None:
        name = (topic.name, index)
        self.holding.update(partition.replicas)
        if self.image.leader_of(topic, index) is None:
            self.leaderless.append(name)
            candidates = {*partition.in_sync_replicas, *partition.eligible_leader_replicas}
            self.candidates |= candidates
            if not candidates:
                self.lost.append(name)
        missing = {*partition.replicas} - {*partition.in_sync_replicas, *partition.adding_replicas}
        if missing:
            self.under_replicated.append(name)
            self.behind |= missing
        spare = len(partition.in_sync_replicas) - partition.in_sync_replicas_needed(min_in_sync_replicas)
        if spare < 0:
            self.under_min_in_sync.append(name)
        elif spare == 0:
            self.at_min_in_sync.append(name)
        if partition.is_reassigning:
            self.reassigning.append(name)
        self.offline_replicas += [(*name, broker_id) for broker_id in partition.replicas if broker_id in self.fenced]

    def reasons(self) -> Iterable[str]:
        if needed := sorted(self.fenced & self.holding):
            yield f"brokers {needed} are fenced: start them"
        if unneeded := sorted(self.fenced - self.holding):
            yield f"brokers {unneeded} are fenced and hold nothing: start them, or unregister those that are gone"
        if self.leaderless:
            yield f"{_counted(self.leaderless, 'has', 'have')} no leader{self._who_could_lead()}"
        if self.lost:
            yield _lost(self.lost)
        if self.under_min_in_sync:
            yield (
                f"{_counted(self.under_min_in_sync, 'has', 'have')} fewer in-sync replicas than min.insync.replicas: "
                "writes with acks=all are refused there until more have caught up"
            )
        if self.under_replicated:
            yield f"{_counted(self.under_replicated, 'is', 'are')} under-replicated{self._who_is_missing()}"

    def _who_could_lead(self) -> str:
        """The fenced among those that hold everything; none: an election is about to be held."""
        waiting_for = sorted(self.candidates & self.fenced)
        return f": waiting for any of the brokers {waiting_for}, start them" if waiting_for else ""

    def _who_is_missing(self) -> str:
        catching_up = sorted(self.behind - self.fenced)
        return f": brokers {catching_up} are catching up" if catching_up else ""


def _counted(partitions: list[NamedPartition], verb_of_one: str, verb_of_many: str) -> str:
    if len(partitions) == 1:
        return f"1 partition ({_names(partitions)}) {verb_of_one}"
    return f"{len(partitions)} partitions ({_names(partitions)}) {verb_of_many}"


def _names(partitions: list[NamedPartition]) -> str:
    named = ", ".join(f"{topic}-{partition}" for topic, partition in partitions[:NAMED_MAX])
    return named + (", ..." if len(partitions) > NAMED_MAX else "")


def _lost(partitions: list[NamedPartition]) -> str:
    """No replica is left that holds all committed records: only an operator may choose what is given up (L2)."""
    return (
        f"{len(partitions)} of them ({_names(partitions)}) lost the directory of their last replica: with its disk back"
        " in place, or to go on without what is lost, say so: `kraft partition transfer-leader "
        f"{partitions[0][0]}-{partitions[0][1]} --unclean`, or unclean.leader.election.enable=true on the topic for a "
        "moment"
    )
