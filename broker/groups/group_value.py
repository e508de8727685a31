"""A classic group as a value for the log, and back: what its next coordinator must know of it.

Pure. Only what was assigned lies in the log: a rebalance that was under way is begun anew by members who find that the
new coordinator knows another generation.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.groups.member import NO_BYTES, Member, Protocol
from broker.groups.records import GroupMetadataValue, MemberMetadata

if TYPE_CHECKING:
    from broker.groups.group import Group


def stored_value(group: "Group", assignments: Mapping[str, bytes]) -> GroupMetadataValue:
    """The group as it is now, with these assignments by member id."""
    members = [
        MemberMetadata(
            one.member_id,
            one.instance_id,
            one.client_id,
            one.client_host,
            one.rebalance_timeout_ms,
            one.session_timeout_ms,
            one.metadata_for(group.protocol_name),
            assignments.get(one.member_id, NO_BYTES),
        )
        for one in group.members
    ]
    return GroupMetadataValue(
        group.protocol_type or "",
        group.generation_id,
        group.protocol_name,
        group.leader_id,
        group.state_since_ms,
        members,
    )


def stored_member(value: GroupMetadataValue, one: MemberMetadata) -> Member:
    """A member as the log has it: of the protocols that it speaks, the one in use."""
    return Member(
        member_id=one.member_id,
        instance_id=one.group_instance_id,
        client_id=one.client_id,
        client_host=one.client_host,
        session_timeout_ms=one.session_timeout,
        rebalance_timeout_ms=one.session_timeout if one.rebalance_timeout < 0 else one.rebalance_timeout,
        protocols=(Protocol(value.protocol or "", one.subscription),),
        assignment=one.assignment,
    )
