"""Is the cluster well? A question to one image, answered with reasons that an operator can act on."""

from dataclasses import dataclass

from metadata.image import Image


@dataclass(frozen=True, slots=True)
class Health:
    """`healthy` is the absence of reasons. Partitions are (topic name, partition)."""

    healthy: bool
    reasons: list[str]
    leaderless: list[tuple[str, int]]
    under_replicated: list[tuple[str, int]]
    fenced_brokers: list[int]


def health_of(image: Image, *, leader_id: int | None, disk_reasons: list[str]) -> Health:
    """The state of the cluster in `image`, and of this node's own directories; cost: all partitions."""
    leaderless = []
    lost = []
    under_replicated = []
    for topic in sorted(image.topics.values(), key=lambda topic: topic.name):
        for index, partition in enumerate(topic.partitions):
            if image.leader_of(topic, index) is None:
                leaderless.append((topic.name, index))
                if not partition.in_sync_replicas and not partition.eligible_leader_replicas:
                    lost.append(f"{topic.name}-{index}")
            if len(partition.in_sync_replicas) < len(partition.replicas):
                under_replicated.append((topic.name, index))
    fenced = sorted(broker.broker_id for broker in image.brokers.values() if broker.fenced)
    reasons = [
        *(["the metadata quorum has no leader: start more of its voters"] if leader_id is None else []),
        *([f"brokers {fenced} are fenced: start them"] if fenced else []),
        *([f"{len(leaderless)} partitions have no leader"] if leaderless else []),
        *([_lost(lost)] if lost else []),
        *([f"{len(under_replicated)} partitions are under-replicated"] if under_replicated else []),
        *disk_reasons,
    ]
    return Health(not reasons, reasons, leaderless, under_replicated, fenced)


def _lost(partitions: list[str]) -> str:
    """No replica is left that holds all committed records: only an operator may choose what is given up (L2)."""
    named = ", ".join(partitions[:5]) + (", ..." if len(partitions) > 5 else "")
    return (
        f"{len(partitions)} of them ({named}) lost the directory of their last replica: with its disk back in place, or"
        " to go on without what is lost, set unclean.leader.election.enable=true on the topic for a moment"
    )
