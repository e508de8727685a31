"""What the controller makes of an operator's wish to change leaders (ElectLeaders, KIP-460).

Pure. Refuses, partition by partition, a leader that is not in service, or not in sync unless the election is unclean;
and an unclean election where a leader is there or about to be (L2: it is the way out only where there is no other).
"""

from collections.abc import Iterator

from metadata.answers import PartitionRefusal, PartitionsChanged
from metadata.bounds import MAX_CHANGES_PER_COMMAND
from metadata.circumstances import Circumstances
from metadata.commands import ChangePartitions, PartitionChange
from metadata.elections import last_resort, led_by
from metadata.image import Image, Partition, Topic
from metadata.leader_balance import may_take_over
from metadata.named_partitions import gather, partition_meant
from metadata.requests import ElectLeadersRequest, PartitionName
from wire.errors import ErrorCode, RefusedError


def elect_leaders(request: ElectLeadersRequest, at: Circumstances) -> ChangePartitions | PartitionsChanged:
    """The command, or the answer where there is nothing to change; raises RefusedError(INVALID_REQUEST)."""
    if request.partitions is None:
        if request.election == "DESIGNATED" or request.leader is not None:
            raise RefusedError(
                ErrorCode.INVALID_REQUEST, "partitions is missing: a leader is named for named partitions"
            )
        return _answer(request, list(_everywhere(request, at)), [], at)
    changes, refusals = gather(at.image, request.partitions, lambda wish: _change(request, wish, at))
    return _answer(request, changes, refusals, at)


def newly_led(before: Image, after: Image) -> Iterator[tuple[Topic, int]]:
    """The partitions, as they are afterwards, that somebody else leads: what an election of all has changed."""
    for topic_id, topic in after.topics.items():
        old = before.topics.get(topic_id)
        if old is None or old is topic:
            continue
        for index, (was, is_now) in enumerate(zip(old.partitions, topic.partitions, strict=False)):
            if is_now.leader not in (-1, was.leader):
                yield topic, index


def _answer(
    request: ElectLeadersRequest, changes: list[PartitionChange], refusals: list[PartitionRefusal], at: Circumstances
) -> ChangePartitions | PartitionsChanged:
    if not changes:
        return PartitionsChanged(index=at.image.applied_index, changed=0, refusals=tuple(refusals))
    return ChangePartitions(
        cause=f"an operator's {request.election.lower()} election", changes=tuple(changes), refused=tuple(refusals)
    )


def _everywhere(request: ElectLeadersRequest, at: Circumstances) -> Iterator[PartitionChange]:
    left = MAX_CHANGES_PER_COMMAND
    for topic in at.image.topics.values():
        for index, partition in enumerate(topic.partitions):
            try:
                leader = _chosen(request, topic, index, partition, at)
            except RefusedError:
                continue
            if left == 0:
                return
            left -= 1
            yield _led_by(request, topic, index, leader, at)


def _change(request: ElectLeadersRequest, wish: PartitionName, at: Circumstances) -> PartitionChange:
    topic, partition = partition_meant(at.image, wish)
    leader = _chosen(request, topic, wish.partition, partition, at)
    return _led_by(request, topic, wish.partition, leader, at)


def _led_by(request: ElectLeadersRequest, topic: Topic, index: int, leader: int, at: Circumstances) -> PartitionChange:
    partition = topic.partitions[index]
    unclean = request.election == "UNCLEAN"
    return led_by(topic.topic_id, index, partition, leader, at.image.brokers, unclean=unclean)


def _chosen(request: ElectLeadersRequest, topic: Topic, index: int, partition: Partition, at: Circumstances) -> int:
    match request.election:
        case "PREFERRED":
            return _preferred(partition, at)
        case "DESIGNATED":
            return _designated(partition, request.leader, at)
        case "UNCLEAN":
            if at.image.leader_of(topic, index) is not None:
                raise RefusedError(ErrorCode.ELECTION_NOT_NEEDED, f"broker {partition.leader} leads already")
            return _uncleanly(partition, request.leader, at)


def _preferred(partition: Partition, at: Circumstances) -> int:
    first = partition.replicas[0]
    if partition.leader == first:
        raise RefusedError(ErrorCode.ELECTION_NOT_NEEDED, f"the preferred replica {first} leads already")
    if first not in at.usable_brokers or not may_take_over(partition, first):
        raise RefusedError(
            ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
            f"the preferred replica {first} is not in service and in sync; in sync are "
            f"{list(partition.in_sync_replicas)}",
        )
    return first


def _designated(partition: Partition, leader: int | None, at: Circumstances) -> int:
    able = [r for r in partition.replicas if r in at.usable_brokers and may_take_over(partition, r)]
    if leader is None:
        if not able:
            raise RefusedError(
                ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
                f"no other replica than the leader {partition.leader} is in service and in sync",
            )
        return able[0]
    if leader == partition.leader:
        raise RefusedError(ErrorCode.ELECTION_NOT_NEEDED, f"broker {leader} leads already")
    if leader not in partition.replicas:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST, f"broker {leader} is no replica: the replicas are {list(partition.replicas)}"
        )
    if leader not in able:
        raise RefusedError(
            ErrorCode.INELIGIBLE_REPLICA,
            f"broker {leader} is not in service and in sync: it could lack acknowledged records; able are {able}",
        )
    return leader


def _uncleanly(partition: Partition, leader: int | None, at: Circumstances) -> int:
    clean = {*partition.in_sync_replicas, *partition.eligible_leader_replicas}
    if awaited := sorted(clean.intersection(at.usable_brokers)):
        raise RefusedError(
            ErrorCode.ELECTION_NOT_NEEDED,
            f"brokers {awaited} are in service and lack nothing: one of them leads in a moment",
        )
    there = [r for r in partition.replicas if r in at.usable_brokers]
    chosen = last_resort(partition, there) if leader is None else leader
    if chosen not in there:
        raise RefusedError(
            ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
            f"of the replicas {list(partition.replicas)} only {there} are in service"
            if leader is not None
            else f"none of the replicas {list(partition.replicas)} is in service: start one",
        )
    return chosen
