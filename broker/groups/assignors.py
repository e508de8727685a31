"""How the leader of a classic group divides partitions among its members: Kafka's three ways, by their names.

Pure. `range` and `roundrobin` give what Kafka's own would; `cooperative-sticky` keeps with its owner what that one may
keep, evens out the rest, and holds back what another still owns until that one has given it up and joined again
(KIP-429). Invariants: nothing is given twice; with `range` and `roundrobin` all that anybody reads is given; with
`cooperative-sticky` nothing that another member owns is given before it was revoked.
"""

import bisect
from collections.abc import Callable, Mapping
from typing import Final

from broker.groups.consumer_protocol import NO_GENERATION, Subscription
from broker.groups.offsets import TopicPartition

Subscriptions = Mapping[str, Subscription]
"""By member id."""
PartitionCounts = Mapping[str, int]
"""By topic; a topic that is not there has none."""
Assignments = dict[str, list[TopicPartition]]
"""By member id, of every member."""
Order = list[tuple[int, str]]
"""How many each has, and who; always sorted."""
Assignor = Callable[[Subscriptions, PartitionCounts], Assignments]


def assign_ranges(members: Subscriptions, counts: PartitionCounts) -> Assignments:
    """Of each topic a range to each of its readers, the first ones get one more."""
    assignments: Assignments = {member_id: [] for member_id in members}
    for topic in _topics(members):
        readers = sorted(member_id for member_id, said in members.items() if topic in said.topics)
        each, more = divmod(counts.get(topic, 0), len(readers))
        first = 0
        for position, member_id in enumerate(readers):
            after = first + each + (position < more)
            assignments[member_id] += [TopicPartition(topic, index) for index in range(first, after)]
            first = after
    return assignments


def assign_round_robin(members: Subscriptions, counts: PartitionCounts) -> Assignments:
    """All partitions in turn, passing over whoever does not read the topic."""
    assignments: Assignments = {member_id: [] for member_id in members}
    turn, order = 0, sorted(members)
    for partition in _partitions(members, counts):
        while partition.topic not in members[order[turn % len(order)]].topics:
            turn += 1
        assignments[order[turn % len(order)]].append(partition)
        turn += 1
    return assignments


def assign_sticky(members: Subscriptions, counts: PartitionCounts) -> Assignments:
    """As even as possible, with as few moves as possible, and what moves is held back once."""
    partitions = _partitions(members, counts)
    owners = _owners(members, partitions)
    wanted: Assignments = {member_id: [] for member_id in members}
    for partition, member_id in sorted(owners.items()):
        wanted[member_id].append(partition)
    order = sorted((len(own), member_id) for member_id, own in wanted.items())
    for partition in partitions:
        if partition not in owners:
            _, taker = next(one for one in order if partition.topic in members[one[1]].topics)
            _change(order, wanted, taker, gives=None, takes=partition)
    while (move := _next_move(members, wanted, order)) is not None:
        giver, taker, partition = move
        _change(order, wanted, giver, gives=partition, takes=None)
        _change(order, wanted, taker, gives=None, takes=partition)
    return {
        member_id: [one for one in given if owners.get(one, member_id) == member_id]
        for member_id, given in wanted.items()
    }


def _owners(members: Subscriptions, partitions: list[TopicPartition]) -> dict[TopicPartition, str]:
    """Who owns what by the members' own words; of two that claim one, the one of the later generation."""
    known = set(partitions)
    claims: dict[TopicPartition, tuple[int, str]] = {}
    disputed: set[TopicPartition] = set()
    for member_id, said in members.items():
        for one in said.owned:
            if one not in known or one.topic not in said.topics:
                continue
            claim, other = (said.generation_id, member_id), claims.get(one, (NO_GENERATION - 1, ""))
            if claim[0] > other[0]:
                claims[one] = claim
                disputed.discard(one)
            elif claim[0] == other[0]:
                disputed.add(one)
    return {one: member_id for one, (_, member_id) in claims.items() if one not in disputed}


def _change(
    order: Order, wanted: Assignments, member_id: str, *, gives: TopicPartition | None, takes: TopicPartition | None
) -> None:
    own = wanted[member_id]
    del order[bisect.bisect_left(order, (len(own), member_id))]
    if gives is not None:
        own.remove(gives)
    if takes is not None:
        own.append(takes)
    bisect.insort(order, (len(own), member_id))


def _next_move(members: Subscriptions, wanted: Assignments, order: Order) -> tuple[str, str, TopicPartition] | None:
    """From whoever has most to whoever has at least two fewer and reads the topic, while there is such a pair."""
    for giver_count, giver in reversed(order):
        for taker_count, taker in order:
            if giver_count - taker_count < 2:
                break
            topics = members[taker].topics
            partition = next((one for one in reversed(wanted[giver]) if one.topic in topics), None)
            if partition is not None:
                return giver, taker, partition
    return None


def _topics(members: Subscriptions) -> list[str]:
    return sorted({topic for said in members.values() for topic in said.topics})


def _partitions(members: Subscriptions, counts: PartitionCounts) -> list[TopicPartition]:
    return [TopicPartition(topic, index) for topic in _topics(members) for index in range(counts.get(topic, 0))]


ASSIGNORS: Final[Mapping[str, Assignor]] = {
    "range": assign_ranges,
    "roundrobin": assign_round_robin,
    "cooperative-sticky": assign_sticky,
}
"""In the order in which our own members prefer them."""
