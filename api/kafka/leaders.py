"""Topics and their leaders as the answers of several APIs name them.

Owns the look-up of a topic by name or id, and what a client is told when another broker leads (KIP-951).
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from api.kafka.context import Caller, Door
from api.kafka.led_replicas import topic_named, topic_of
from broker.replication.replica import Replica
from metadata.image import Image, Topic
from wire.errors import ErrorCode, RefusedError
from wire.messages.leaders import LeaderIdAndEpoch, NodeEndpoint

__all__ = [
    "NOT_LEADING",
    "NO_EPOCH",
    "NO_LEADER",
    "code_by_name",
    "current_leader",
    "led_replica",
    "node_endpoints",
    "topic_named",
    "topic_of",
]

NOT_LEADING: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})
"""With these an answer says who leads instead."""
NO_LEADER: Final = LeaderIdAndEpoch()
NO_EPOCH: Final = -1


def led_replica(caller: Caller, topic: Topic, partition: int, *, current_leader_epoch: int = NO_EPOCH) -> Replica:
    """The replica here, where it leads in the epoch that the client believes in; RefusedError else (S7)."""
    replica = caller.door.context.node.replica(topic.topic_id, partition)
    name, epoch = f"{topic.name}-{partition}", replica.leader_epoch
    if not replica.is_leader:
        raise RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this broker does not lead {name}")
    if NO_EPOCH != current_leader_epoch < epoch:
        raise RefusedError(ErrorCode.FENCED_LEADER_EPOCH, f"leader epoch {current_leader_epoch} of {name} is over")
    if current_leader_epoch > epoch:
        raise RefusedError(
            ErrorCode.UNKNOWN_LEADER_EPOCH, f"leader epoch {current_leader_epoch} of {name} is not known"
        )
    return replica


def code_by_name(code: ErrorCode) -> ErrorCode:
    """For answers that name topics: an id that vanished meanwhile is no word of theirs."""
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if code is ErrorCode.UNKNOWN_TOPIC_ID else code


def current_leader(image: Image, topic_id: UUID | None, partition: int) -> LeaderIdAndEpoch:
    """Who leads by the image, with the epoch; (-1, -1) where nobody is known."""
    state = None if topic_id is None else image.partition(topic_id, partition)
    return NO_LEADER if state is None else LeaderIdAndEpoch(state.leader, state.leader_epoch)


def node_endpoints(door: Door, leaders: Iterable[LeaderIdAndEpoch]) -> list[NodeEndpoint]:
    """Where the named leaders are reached by whoever came through this door, each once."""
    brokers = door.context.node.image.brokers
    found = []
    for broker_id in sorted({leader.leader_id for leader in leaders}):
        broker = brokers.get(broker_id)
        endpoint = None if broker is None else door.endpoint(broker)
        if broker is not None and endpoint is not None:
            found.append(NodeEndpoint(broker_id, endpoint.host, endpoint.port, broker.rack))
    return found
