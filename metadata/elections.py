"""Who leads and who is in sync next, given which brokers are in service (KIP-966, reliability rules S3, S10, L2).

Pure functions from an image to partition changes. Owns the order of candidates: in-sync replicas, then eligible leader
replicas, each in the partition's replica order; others only where the topic allows unclean elections.

Invariants: whoever leaves the in-sync replicas stays eligible while the rest are fewer than the minimum (the high
watermark can't move without it); after an unclean stop of a topic with relaxed flush settings it does not, unless
nobody else is left; a restart always ends the leadership of the old broker epoch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from metadata import topic_configs
from metadata.commands import PartitionChange
from metadata.image import Broker, Image, Partition, Topic

Lost = frozenset[int]
NOBODY: Lost = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRules:
    """A topic's settings that elections depend on."""

    min_in_sync_replicas: int
    allows_unclean_election: bool
    counts_unsynced_offsets: bool

    @classmethod
    def of(cls, topic: Topic, broker_defaults: Mapping[str, str]) -> "TopicRules":
        return cls(
            min_in_sync_replicas=topic_configs.min_in_sync_replicas(topic.configs, broker_defaults),
            allows_unclean_election=topic_configs.allows_unclean_election(topic.configs, broker_defaults),
            counts_unsynced_offsets=topic_configs.counts_unsynced_offsets(topic.configs, broker_defaults),
        )


@dataclass(slots=True)
class Election:
    """What should change, and which brokers something is still taken from: those may not be unfenced yet (S10)."""

    changes: list[PartitionChange] = field(default_factory=list)
    demoted: set[int] = field(default_factory=set)


class SettledTopics:
    """The topics of which no partition needs a change, as long as the brokers are the same; found by identity.

    Holds the topics themselves, so an identity can't be taken by another one.
    """

    def __init__(self) -> None:
        self._topics: dict[int, Topic] = {}

    def unknown(self, topics: Collection[Topic]) -> list[Topic]:
        """Those that are not known to be settled."""
        if len(self._topics) > 2 * len(topics) + 1000:
            self._topics.clear()  # mostly topics that have changed or gone since
        return [topic for topic in topics if id(topic) not in self._topics]

    def add(self, topic: Topic) -> None:
        self._topics[id(topic)] = topic


def elect(
    image: Image,
    brokers: Mapping[int, Broker],
    broker_defaults: Mapping[str, str],
    settled: SettledTopics | None = None,
) -> Election:
    """Every change that the state of `brokers` asks for; cost: a glance at each partition of topics not known as
    settled.
    """
    known = SettledTopics() if settled is None else settled
    election = Election()
    leading = {b.broker_id: b.epoch for b in brokers.values() if b.in_service}
    for topic in known.unknown(image.topics.values()):
        unsettled = [(i, p) for i, p in enumerate(topic.partitions) if not _is_settled(p, leading)]
        if not unsettled:
            known.add(topic)
            continue
        rules = TopicRules.of(topic, broker_defaults)
        for index, partition in unsettled:
            change = next_state(topic.topic_id, index, partition, brokers, rules)
            if change is not None:
                election.changes.append(change)
                election.demoted |= _demoted(partition, change)
    return election


def _is_settled(partition: Partition, leading: Mapping[int, int]) -> bool:
    """Led by a broker in service in the epoch of its election, all in-sync replicas in service, nobody else
    eligible.
    """
    return (
        leading.get(partition.leader) == partition.leader_broker_epoch
        and not partition.eligible_leader_replicas
        and leading.keys() >= set(partition.in_sync_replicas)
    )


def _demoted(partition: Partition, change: PartitionChange) -> set[int]:
    was_eligible = {*partition.in_sync_replicas, *partition.eligible_leader_replicas}
    stays_eligible = was_eligible.intersection(change.eligible_leader_replicas) - {*partition.in_sync_replicas}
    return was_eligible - stays_eligible - {*change.in_sync_replicas}


def next_state(
    topic_id: UUID,
    index: int,
    partition: Partition,
    brokers: Mapping[int, Broker],
    rules: TopicRules,
    *,
    lost: Lost = NOBODY,
) -> PartitionChange | None:
    """The change that one partition needs, or None. `lost`: replicas whose data is damaged or gone (S18)."""
    lost |= _lost_everything(partition, brokers)
    in_sync = tuple(r for r in partition.in_sync_replicas if _in_service(brokers, r) and r not in lost)
    eligible = _eligible(partition, in_sync, brokers, rules, lost)
    leader = _leader(partition, in_sync, eligible, brokers)
    unclean = False
    if leader == -1 and rules.allows_unclean_election:
        leader = next((r for r in partition.replicas if _in_service(brokers, r) and r not in lost), -1)
        unclean = leader != -1
    if leader != -1 and leader not in in_sync:
        in_sync = (leader,)
        eligible = () if unclean else _without_settled(partition, in_sync, set(eligible) - {leader}, rules)
    change = PartitionChange(
        topic_id=topic_id,
        partition=index,
        expected_partition_epoch=partition.partition_epoch,
        expected_leader_epoch=partition.leader_epoch,
        leader=leader,
        leader_broker_epoch=-1 if leader == -1 else brokers[leader].epoch,
        in_sync_replicas=in_sync,
        eligible_leader_replicas=eligible,
        joining_broker_epochs=tuple((r, brokers[r].epoch) for r in in_sync if r not in partition.in_sync_replicas),
        last_known_leader=_last_known(partition, leader, lost),
        unclean=unclean,
    )
    return change if _differs(partition, change) else None


def eligible_after(
    partition: Partition, in_sync: tuple[int, ...], brokers: Mapping[int, Broker], rules: TopicRules
) -> tuple[int, ...]:
    """Who is eligible when the leader makes `in_sync` the in-sync replicas (S3)."""
    return _eligible(partition, in_sync, brokers, rules, _lost_everything(partition, brokers))


def _lost_everything(partition: Partition, brokers: Mapping[int, Broker]) -> Lost:
    return frozenset(r for r in partition.replicas if r in brokers and brokers[r].lost_everything)


def _eligible(
    partition: Partition,
    in_sync: tuple[int, ...],
    brokers: Mapping[int, Broker],
    rules: TopicRules,
    lost: Lost,
) -> tuple[int, ...]:
    before = {*partition.in_sync_replicas, *partition.eligible_leader_replicas} - lost
    trusted = {r for r in before if not (rules.counts_unsynced_offsets and _stopped_uncleanly(brokers, r))}
    if before and not trusted and not in_sync:
        last = _last_known(partition, -1, lost)
        return (last,) if last != -1 else tuple(r for r in partition.replicas if r in before)
    return _without_settled(partition, in_sync, trusted - {*in_sync}, rules)


def _without_settled(
    partition: Partition, in_sync: tuple[int, ...], eligible: set[int], rules: TopicRules
) -> tuple[int, ...]:
    """Nobody is eligible while enough are in sync: the high watermark moves on without the others."""
    if len(in_sync) >= partition.in_sync_replicas_needed(rules.min_in_sync_replicas):
        return ()
    return tuple(r for r in partition.replicas if r in eligible)


def _leader(
    partition: Partition, in_sync: tuple[int, ...], eligible: tuple[int, ...], brokers: Mapping[int, Broker]
) -> int:
    """The leader stays while it is in sync (in another broker epoch that is an election too); else the first
    candidate, or -1.

    A last known leader that becomes eligible again with this very change is elected by the next one: an entry never
    elects whom the image before it did not count.
    """
    current = partition.leader
    before = (*partition.in_sync_replicas, *partition.eligible_leader_replicas)
    if current in in_sync:
        return current
    candidates = in_sync or tuple(r for r in eligible if _in_service(brokers, r) and r in before)
    return next((r for r in partition.replicas if r in candidates), -1)


def _last_known(partition: Partition, leader: int, lost: Lost) -> int:
    last = leader if leader != -1 else partition.leader if partition.leader != -1 else partition.last_known_leader
    return -1 if last in lost else last


def _differs(partition: Partition, change: PartitionChange) -> bool:
    before = (partition.leader, partition.leader_broker_epoch, partition.last_known_leader)
    after = (change.leader, change.leader_broker_epoch, change.last_known_leader)
    return (
        before != after
        or partition.in_sync_replicas != change.in_sync_replicas
        or partition.eligible_leader_replicas != change.eligible_leader_replicas
    )


def _in_service(brokers: Mapping[int, Broker], broker_id: int) -> bool:
    broker = brokers.get(broker_id)
    return broker is not None and broker.in_service


def _stopped_uncleanly(brokers: Mapping[int, Broker], broker_id: int) -> bool:
    broker = brokers.get(broker_id)
    return broker is not None and broker.fenced and not broker.clean_shutdown
