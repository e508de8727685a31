"""A partition and its replicas as v3 resources, made of what the image says and of what its leader knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from metadata.topic_configs import min_in_sync_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.http.partition_states import PartitionState
    from api.http.resources import Links
    from metadata.image import Image, Partition, Topic


class Condition(NamedTuple):
    """What an operator looks at first."""

    leader_id: int | None
    """Who leads now; None where nobody does, whatever was elected last."""
    in_sync_replicas_needed: int
    is_under_replicated: bool
    is_under_min_isr: bool
    is_reassigning: bool
    is_preferred_leader: bool


def condition_of(image: Image, topic: Topic, index: int, broker_defaults: Mapping[str, str]) -> Condition:
    partition = topic.partitions[index]
    leader = image.leader_of(topic, index)
    needed = partition.in_sync_replicas_needed(min_in_sync_replicas(topic.configs, broker_defaults))
    in_sync = partition.in_sync_replicas
    expected = [broker_id for broker_id in partition.replicas if broker_id not in partition.adding_replicas]
    return Condition(
        leader_id=None if leader is None else leader.broker_id,
        in_sync_replicas_needed=needed,
        is_under_replicated=any(broker_id not in in_sync for broker_id in expected),
        is_under_min_isr=len(in_sync) < needed,
        is_reassigning=partition.is_reassigning,
        is_preferred_leader=leader is not None and leader.broker_id == partition.replicas[0],
    )


def partition_resource(
    links: Links, topic: Topic, index: int, condition: Condition, state: PartitionState | None
) -> dict[str, Any]:
    partition = topic.partitions[index]
    path = f"/topics/{topic.name}/partitions/{index}"
    leader_id = condition.leader_id
    return links.resource(
        "KafkaPartition",
        path,
        topic_name=topic.name,
        partition_id=index,
        leader_id=leader_id,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        replica_ids=partition.replicas,
        in_sync_replica_ids=partition.in_sync_replicas,
        eligible_leader_replica_ids=partition.eligible_leader_replicas,
        adding_replica_ids=partition.adding_replicas,
        removing_replica_ids=partition.removing_replicas,
        min_in_sync_replicas=condition.in_sync_replicas_needed,
        is_under_replicated=condition.is_under_replicated,
        is_under_min_isr=condition.is_under_min_isr,
        is_preferred_leader=condition.is_preferred_leader,
        **offsets_of(state),
        size_bytes=None if state is None else state.size_bytes,
        followers=None if state is None else state.followers,
        leader=None if leader_id is None else links.related(f"{path}/replicas/{leader_id}"),
        replicas=links.related(f"{path}/replicas"),
        reassignment=links.related(f"{path}/reassignment"),
    )


def offsets_of(state: PartitionState | None) -> dict[str, int | None]:
    return {
        "log_start_offset": None if state is None else state.log_start_offset,
        "high_watermark": None if state is None else state.high_watermark,
        "log_end_offset": None if state is None else state.log_end_offset,
    }


def replica_resource(
    links: Links, topic: Topic, index: int, broker_id: int, *, leader_id: int | None, state: PartitionState | None
) -> dict[str, Any]:
    """One replica; of a follower only the leader knows anything, and no more than its log end and its lag."""
    partition = topic.partitions[index]
    path = f"/topics/{topic.name}/partitions/{index}/replicas"
    return links.resource(
        "KafkaReplica",
        f"{path}/{broker_id}",
        topic_name=topic.name,
        partition_id=index,
        broker_id=broker_id,
        is_leader=broker_id == leader_id,
        is_in_sync=broker_id in partition.in_sync_replicas,
        is_adding=broker_id in partition.adding_replicas,
        is_removing=broker_id in partition.removing_replicas,
        leader_epoch=partition.leader_epoch,
        **_progress(partition, broker_id, leader_id, state),
        broker=links.related(f"/brokers/{broker_id}"),
    )


def _progress(
    partition: Partition, broker_id: int, leader_id: int | None, state: PartitionState | None
) -> dict[str, int | None]:
    assert broker_id in partition.replicas
    if broker_id == leader_id:
        lag = None if state is None else 0
        return {**offsets_of(state), "lag": lag, "caught_up_ms_ago": lag}
    followers = {follower.broker_id: follower for follower in state.followers} if state is not None else {}
    follower = followers.get(broker_id)
    return {
        **offsets_of(None),
        "log_end_offset": None if follower is None else follower.log_end_offset,
        "lag": None if follower is None else follower.lag,
        "caught_up_ms_ago": None if follower is None else follower.caught_up_ms_ago,
    }
