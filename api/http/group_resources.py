"""Consumer groups and their members as v3 resources (Confluent's bodies, and what Kafka's tools show besides)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from msgspec import Struct

from broker.groups.consumer_protocol import decode_assignment
from broker.groups.group_state import GroupState
from broker.groups.subscription import CONSUMER
from wire.codec import DecodeError

if TYPE_CHECKING:
    from api.http.resources import Links
    from broker.groups.group import Group
    from broker.groups.member import Member
    from broker.groups.offsets import TopicPartition

_STATES: Final = {
    GroupState.EMPTY: "EMPTY",
    GroupState.PREPARING_REBALANCE: "PREPARING_REBALANCE",
    GroupState.COMPLETING_REBALANCE: "COMPLETING_REBALANCE",
    GroupState.STABLE: "STABLE",
    GroupState.DEAD: "DEAD",
}


class GroupFacts(Struct):
    """What a coordinator tells of one of its groups."""

    consumer_group_id: str
    is_simple: bool
    """It never had members: somebody commits offsets who assigns partitions themselves."""
    partition_assignor: str
    state: GroupState
    protocol_type: str
    generation_id: int
    members_count: int
    coordinator_id: int


def facts_of(group: Group, broker_id: int) -> GroupFacts:
    is_simple = group.state is GroupState.EMPTY and not group.protocol_type
    name = group.protocol_name if group.state is GroupState.STABLE else None
    members = len(group.members)
    return GroupFacts(
        group.group_id, is_simple, name or "", group.state, group.protocol_type or "", group.generation_id, members,
        broker_id,
    )  # fmt: skip


def group_path(group_id: str) -> str:
    return f"/consumer-groups/{quote(group_id, safe='')}"


def group_resource(links: Links, facts: GroupFacts) -> dict[str, Any]:
    path = group_path(facts.consumer_group_id)
    return links.resource(
        "KafkaConsumerGroup",
        path,
        consumer_group_id=facts.consumer_group_id,
        is_simple=facts.is_simple,
        partition_assignor=facts.partition_assignor,
        state=_STATES[facts.state],
        type="CLASSIC",
        is_mixed_consumer_group=False,
        protocol_type=facts.protocol_type,
        generation_id=facts.generation_id,
        members_count=facts.members_count,
        coordinator_id=facts.coordinator_id,
        coordinator=links.related(f"/brokers/{facts.coordinator_id}"),
        consumers=links.related(f"{path}/consumers"),
        lags=links.related(f"{path}/lags"),
        lag_summary=links.related(f"{path}/lag-summary"),
    )


def consumer_resource(links: Links, group_id: str, member: Member) -> dict[str, Any]:
    path = f"{group_path(group_id)}/consumers/{quote(member.member_id, safe='')}"
    return links.resource(
        "KafkaConsumer",
        path,
        consumer_group_id=group_id,
        consumer_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        host=member.client_host,
        session_timeout_ms=member.session_timeout_ms,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        assignments=links.related(f"{path}/assignments"),
    )


def assigned_to(group: Group, member: Member) -> tuple[TopicPartition, ...]:
    """What the member reads, as far as that can be told: consumers say so, while the group is stable."""
    if group.state is not GroupState.STABLE or group.protocol_type != CONSUMER:
        return ()
    try:
        return decode_assignment(member.assignment)
    except DecodeError:
        return ()
