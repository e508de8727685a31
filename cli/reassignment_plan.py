"""Which brokers shall hold which partitions: computed here, shown to the person, then asked of the cluster.

Pure. `spread_over` deals partitions evenly over brokers that were named, `moved_away` empties brokers that leave.
Both keep a replica where it is as long as that does no harm, since every other one must be copied.

Invariants: a partition's replicas are on different brokers; the preferred leader is the first; as far as the replicas
allow it no broker leads, or holds, two partitions of a topic more than another; racks are not made poorer for balance.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Racks = Mapping[int, str | None]


class Placed(NamedTuple):
    """Where a partition lies; one that is being moved: where it will. The preferred leader comes first."""

    topic: str
    partition: int
    replicas: tuple[int, ...]
    in_sync_replicas: tuple[int, ...]


class Move(NamedTuple):
    """A partition that shall lie elsewhere, or in another order."""

    topic: str
    partition: int
    before: tuple[int, ...]
    replicas: tuple[int, ...]

    @property
    def copied(self) -> tuple[int, ...]:
        """The brokers that must fetch it first."""
        return tuple(replica for replica in self.replicas if replica not in self.before)


class PlanError(ValueError):
    """There are too few brokers; the message says for what."""


@dataclass(slots=True)
class _Draft:
    """One partition while the plan is made."""

    placed: Placed
    replicas: list[int]

    @property
    def move(self) -> Move:
        topic, partition, before, _ = self.placed
        return Move(topic, partition, before, tuple(self.replicas))


def spread_over(
    partitions: Sequence[Placed], brokers: Sequence[int], *, replication_factor: int | None = None, racks: Racks
) -> list[Move]:
    """Put all of `partitions` on `brokers` and on no others, evenly; only those that change are returned.

    Raises PlanError where a partition would need more brokers than there are.
    """
    drafts = []
    load: Counter[int] = Counter()
    for topic, members in _by_topic(partitions):
        dealt = [_dealt(placed, brokers, replication_factor or len(placed.replicas), topic) for placed in members]
        held: Counter[int] = Counter(replica for draft in dealt for replica in draft.replicas)
        for draft in dealt:
            wanted = replication_factor or len(draft.placed.replicas)
            while len(draft.replicas) < wanted:
                chosen = _lightest(brokers, draft.replicas, held, load, racks)
                draft.replicas.append(chosen)
                held[chosen] += 1
        _even_out(dealt, brokers, held, racks)
        load.update(held)
        drafts += dealt
    _even_out(drafts, brokers, load, racks, within_topics=True)
    _choose_leaders(drafts, brokers)
    return [draft.move for draft in drafts if tuple(draft.replicas) != draft.placed.replicas]


def moved_away(
    partitions: Sequence[Placed],
    leaving: Collection[int],
    brokers: Sequence[int],
    *,
    replication_factor: int | None = None,
    racks: Racks,
    everything: Sequence[Placed],
) -> list[Move]:
    """Replace each replica of `partitions` on a broker that leaves by one on the least loaded of `brokers`.

    `everything`: all partitions of the cluster, for what each broker holds. Raises PlanError as `spread_over`.
    """
    stay = [broker for broker in brokers if broker not in leaving]
    load = Counter(replica for placed in everything for replica in placed.replicas)
    leads = Counter(placed.replicas[0] for placed in everything)
    moves = []
    for placed in partitions:
        if not any(replica in leaving for replica in placed.replicas):
            continue
        kept = [replica for replica in placed.replicas if replica not in leaving]
        wanted = replication_factor or len(placed.replicas)
        draft = _Draft(placed, sorted(kept, key=lambda replica: replica not in placed.in_sync_replicas)[:wanted])
        while len(draft.replicas) < wanted:
            if not (free := [broker for broker in stay if broker not in draft.replicas]):
                raise _too_few(placed.topic, wanted, len({*stay, *kept}))
            chosen = _lightest(free, draft.replicas, load, load, racks)
            draft.replicas.append(chosen)
            load[chosen] += 1
        if placed.replicas[0] in leaving:
            leader = min(draft.replicas, key=lambda replica: (leads[replica], replica))
            leads[leader] += 1
            draft.replicas.sort(key=lambda replica: replica != leader)
        moves.append(draft.move)
    return moves


def _by_topic(partitions: Sequence[Placed]) -> Iterator[tuple[str, list[Placed]]]:
    found: dict[str, list[Placed]] = {}
    for placed in partitions:
        found.setdefault(placed.topic, []).append(placed)
    return iter(found.items())


def _dealt(placed: Placed, brokers: Sequence[int], wanted: int, topic: str) -> _Draft:
    """What of a partition may stay; where its factor shrinks, replicas in sync rather than others."""
    if wanted > len(brokers):
        raise _too_few(topic, wanted, len(brokers))
    kept = [replica for replica in placed.replicas if replica in brokers]
    return _Draft(placed, sorted(kept, key=lambda replica: replica not in placed.in_sync_replicas)[:wanted])


def _too_few(topic: str, wanted: int, brokers: int) -> PlanError:
    return PlanError(f"{wanted} replicas of {topic} need {wanted} brokers, and there are {brokers}")


def _lightest(
    brokers: Sequence[int], replicas: Sequence[int], held: Counter[int], load: Counter[int], racks: Racks
) -> int:
    """On a rack that has none of the replicas yet, if there is one; then whoever holds least."""
    used = {racks.get(replica) for replica in replicas} - {None}
    free = [broker for broker in brokers if broker not in replicas]
    return min(free, key=lambda broker: (racks.get(broker) in used, held[broker], load[broker], brokers.index(broker)))


def _even_out(
    drafts: Sequence[_Draft], brokers: Sequence[int], held: Counter[int], racks: Racks, *, within_topics: bool = False
) -> None:
    """Hand replicas from whoever holds most to whoever holds least, until the difference is one.

    `within_topics`: only where that leaves each topic as even as it is.
    """
    topics: dict[str, Counter[int]] = {}
    if within_topics:
        for draft in drafts:
            topics.setdefault(draft.placed.topic, Counter()).update(draft.replicas)
    while (found := _handover(drafts, brokers, held, racks, topics)) is not None:
        draft, most, least = found
        draft.replicas[draft.replicas.index(most)] = least
        for counts in (held, *filter(None, [topics.get(draft.placed.topic)])):
            counts[most] -= 1
            counts[least] += 1


def _handover(
    drafts: Sequence[_Draft],
    brokers: Sequence[int],
    held: Counter[int],
    racks: Racks,
    topics: Mapping[str, Counter[int]],
) -> tuple[_Draft, int, int] | None:
    """The cheapest step: a replica that has to be copied anyway before one that could stay."""
    by_load = sorted(brokers, key=lambda broker: held[broker])
    for least in by_load:
        for most in reversed(by_load):
            if held[most] - held[least] < 2:
                break
            candidates = [
                draft
                for draft in drafts
                if most in draft.replicas
                and least not in draft.replicas
                and not _is_poorer(draft.replicas, most, least, racks)
                and (not topics or topics[draft.placed.topic][most] > topics[draft.placed.topic][least])
            ]
            if candidates:
                return min(candidates, key=lambda draft: most in draft.placed.replicas), most, least
    return None


def _is_poorer(replicas: Sequence[int], lost: int, won: int, racks: Racks) -> bool:
    """On fewer racks than before."""
    after = [won if replica == lost else replica for replica in replicas]
    return len({racks.get(replica) for replica in after}) < len({racks.get(replica) for replica in replicas})


def _choose_leaders(drafts: Sequence[_Draft], brokers: Sequence[int]) -> None:
    """The preferred leaders, evenly in each topic and in all; then the others, in the order of the brokers."""
    leads: Counter[int] = Counter()
    in_topic: dict[str, Counter[int]] = {}
    for draft in drafts:
        mine = in_topic.setdefault(draft.placed.topic, Counter())
        leader = min(draft.replicas, key=lambda replica, mine=mine: (mine[replica], leads[replica]))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        draft.replicas.sort(key=lambda replica, leader=leader: replica != leader)  # type: ignore[misc]  # as above
        mine[leader] += 1
        leads[leader] += 1
    for draft in drafts:
        _improve(draft, in_topic[draft.placed.topic], brokers)


def _improve(draft: _Draft, leads: Counter[int], brokers: Sequence[int]) -> None:
    """Hand the leadership on where another replica leads two less; then put the others into their round."""
    leader = draft.replicas[0]
    other = min(draft.replicas, key=lambda replica: leads[replica])
    if leads[leader] - leads[other] > 1:
        leads[leader] -= 1
        leads[other] += 1
        leader = other
    before = draft.placed.replicas
    if leader == before[0] and {*draft.replicas} == {*before}:
        draft.replicas = [*before]  # another order of the followers would be a change for nothing
        return
    place = brokers.index(leader)
    draft.replicas.sort(key=lambda replica: (brokers.index(replica) - place) % len(brokers))
