"""Who leads and who is in sync next, given which brokers are in service (KIP-966, reliability rules S3, S10, L2).

Pure functions from an image to partition changes. Owns the order of candidates: in-sync replicas, then eligible leader
replicas, each in the partition's replica order; others only where the topic allows unclean elections, and then the last
known leader first. A broker that is about to stop gives way wherever another one is in sync, and nowhere else.

Invariants: whoever leaves the in-sync replicas stays eligible while the rest are fewer than the minimum (the high
watermark can't move without it); after an unclean stop of a topic with relaxed flush settings it does not, unless
nobody else is left; a restart always ends the leadership of the old broker epoch. A move (KIP-455) ends only under a
leader of its target.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from msgspec import structs

from metadata import topic_configs
from metadata.commands import PartitionChange, Placement
from metadata.image import Broker, Image, Partition, Topic
from metadata.reassignments import finished, placed, placement_of

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
    eligible, and not on the move.
    """
    return (
        leading.get(partition.leader) == partition.leader_broker_epoch
        and not partition.eligible_leader_replicas
        and not partition.adding_replicas
        and not partition.removing_replicas
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
    placement: Placement | None = None,
) -> PartitionChange | None:
    """The change that one partition needs, or None.

    `lost`: replicas whose data is damaged or gone (S18). `placement`: where it shall lie from now on; without one it
    stays, or arrives where it is moving.
    """
    lost |= _lost_everything(partition, brokers)
    state = partition if placement is None else placed(partition, placement)
    in_sync = _in_sync(state, brokers, lost)
    target = finished(state, [r for r in in_sync if _in_service(brokers, r)], rules.min_in_sync_replicas)
    leaving = -1
    if target is not None and state.leader in target.replicas:
        state, in_sync = placed(state, target), tuple(r for r in in_sync if r in target.replicas)
    elif target is not None:
        leaving = state.leader
    eligible = _eligible(state, in_sync, brokers, rules, lost)
    leader = _leader(state, in_sync, eligible, brokers, leaving=leaving)
    unclean = False
    if leader == -1 and not in_sync and rules.allows_unclean_election:
        leader = last_resort(state, [r for r in state.replicas if _in_service(brokers, r) and r not in lost])
        unclean = leader != -1
    if leader != -1 and leader not in in_sync:
        in_sync = (leader,)
        eligible = () if unclean else _eligible(state, in_sync, brokers, rules, lost)
    change = _change(topic_id, index, partition, state, leader=leader, in_sync=in_sync, brokers=brokers)
    change = structs.replace(
        change, eligible_leader_replicas=eligible, last_known_leader=_last_known(state, leader, lost), unclean=unclean
    )
    return change if _differs(partition, change) else None


def led_by(
    topic_id: UUID, index: int, partition: Partition, leader: int, brokers: Mapping[int, Broker], *, unclean: bool
) -> PartitionChange:
    """The change that makes `leader`, a replica in service, lead.

    It is one of the in-sync replicas, or it is `unclean` and becomes the only one.
    """
    in_sync = (leader,) if unclean else partition.in_sync_replicas
    assert leader in in_sync, (leader, partition)
    change = _change(topic_id, index, partition, partition, leader=leader, in_sync=in_sync, brokers=brokers)
    eligible = () if unclean else partition.eligible_leader_replicas
    return structs.replace(change, eligible_leader_replicas=eligible, last_known_leader=leader, unclean=unclean)


def unchanged(topic_id: UUID, index: int, partition: Partition, brokers: Mapping[int, Broker]) -> PartitionChange:
    """The partition as it is, in a new partition epoch: what was decided before for it is void."""
    change = _change(
        topic_id,
        index,
        partition,
        partition,
        leader=partition.leader,
        in_sync=partition.in_sync_replicas,
        brokers=brokers,
    )
    return structs.replace(
        change,
        leader_broker_epoch=partition.leader_broker_epoch,
        eligible_leader_replicas=partition.eligible_leader_replicas,
        last_known_leader=partition.last_known_leader,
    )


def last_resort(partition: Partition, candidates: Collection[int]) -> int:
    """Who leads uncleanly: the last known leader has the most of what can be saved; -1 where there is no candidate."""
    if partition.last_known_leader in candidates:
        return partition.last_known_leader
    return next((r for r in partition.replicas if r in candidates), -1)


def _change(
    topic_id: UUID,
    index: int,
    before: Partition,
    after: Partition,
    *,
    leader: int,
    in_sync: tuple[int, ...],
    brokers: Mapping[int, Broker],
) -> PartitionChange:
    placement = placement_of(after)
    return PartitionChange(
        topic_id=topic_id,
        partition=index,
        expected_partition_epoch=before.partition_epoch,
        expected_leader_epoch=before.leader_epoch,
        leader=leader,
        leader_broker_epoch=-1 if leader == -1 else brokers[leader].epoch,
        in_sync_replicas=in_sync,
        eligible_leader_replicas=(),
        last_known_leader=-1,
        joining_broker_epochs=tuple((r, brokers[r].epoch) for r in in_sync if r not in before.in_sync_replicas),
        placement=None if placement == placement_of(before) else placement,
    )


def _in_sync(partition: Partition, brokers: Mapping[int, Broker], lost: Lost) -> tuple[int, ...]:
    """Those in service; where there is none, those that are about to stop: nobody is there to take over from them."""
    members = [r for r in partition.in_sync_replicas if r in brokers and not brokers[r].fenced and r not in lost]
    in_service = tuple(r for r in members if brokers[r].in_service)
    return in_service or tuple(members)


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
        if partition.leader == -1 and partition.leader_epoch == 0:
            return tuple(r for r in partition.replicas if r in before)  # it was never led, so it is empty
        last = _last_known(partition, -1, lost)
        return () if last == -1 else (last,)
    return _without_settled(partition, in_sync, trusted - {*in_sync}, rules)


def _without_settled(
    partition: Partition, in_sync: tuple[int, ...], eligible: set[int], rules: TopicRules
) -> tuple[int, ...]:
    """Nobody is eligible while enough are in sync: the high watermark moves on without the others."""
    if len(in_sync) >= min(rules.min_in_sync_replicas, partition.assigned_count):
        return ()
    return tuple(r for r in partition.replicas if r in eligible)


def _leader(
    partition: Partition,
    in_sync: tuple[int, ...],
    eligible: tuple[int, ...],
    brokers: Mapping[int, Broker],
    *,
    leaving: int,
) -> int:
    """The leader stays while it is in sync (in another broker epoch that is an election too); else the first
    candidate, or -1. `leaving`: a leader that is to hand over to a replica that stays.

    A last known leader that becomes eligible again with this very change is elected by the next one: an entry never
    elects whom the image before it did not count.
    """
    if partition.leader in in_sync and partition.leader != leaving:
        return partition.leader
    before = (*partition.in_sync_replicas, *partition.eligible_leader_replicas)
    in_service = [r for r in in_sync if _in_service(brokers, r)]
    candidates = in_service or [r for r in eligible if _in_service(brokers, r) and r in before]
    staying = [r for r in candidates if leaving == -1 or r not in partition.removing_replicas]
    return next((r for r in partition.replicas if r in staying), -1)


def _last_known(partition: Partition, leader: int, lost: Lost) -> int:
    last = leader if leader != -1 else partition.leader if partition.leader != -1 else partition.last_known_leader
    return -1 if last in lost or last not in partition.replicas else last


def _differs(partition: Partition, change: PartitionChange) -> bool:
    before = (partition.leader, partition.leader_broker_epoch, partition.last_known_leader)
    after = (change.leader, change.leader_broker_epoch, change.last_known_leader)
    return (
        before != after
        or partition.in_sync_replicas != change.in_sync_replicas
        or partition.eligible_leader_replicas != change.eligible_leader_replicas
        or change.placement is not None
    )


def _in_service(brokers: Mapping[int, Broker], broker_id: int) -> bool:
    broker = brokers.get(broker_id)
    return broker is not None and broker.in_service


def _stopped_uncleanly(brokers: Mapping[int, Broker], broker_id: int) -> bool:
    broker = brokers.get(broker_id)
    return broker is not None and broker.fenced and not broker.clean_shutdown
