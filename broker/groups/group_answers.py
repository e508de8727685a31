"""What a classic group is told to be: its generation to members, its state to others. Pure, decides nothing."""

from typing import TYPE_CHECKING, Final

from broker.groups.group_state import GroupState
from broker.groups.member import NO_BYTES, Joining, Member
from wire.messages.describe_groups import DescribedGroup, DescribedGroupMember
from wire.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from wire.messages.list_groups import ListedGroup
from wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from broker.groups.group import Group

NO_MEMBER: Final = ""
CLASSIC: Final = "classic"


def joined(group: "Group", member: Member) -> JoinGroupResponse:
    """The generation that is about to begin; its leader is told of all members, and assigns."""
    return JoinGroupResponse(
        generation_id=group.generation_id,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=group.leader_id or NO_MEMBER,
        member_id=member.member_id,
        members=_everyone(group) if member.member_id == group.leader_id else [],
    )


def replaced(group: "Group", member: Member, joining: Joining, old_leader: str | None) -> JoinGroupResponse:
    """A static member that came back into a generation that goes on.

    A leader is told so, and that nothing is to be assigned (KIP-814); one that would not understand this is told its
    old id as the leader's, so that it takes itself for a follower.
    """
    is_leader = member.member_id == group.leader_id
    may_skip = joining.may_skip_assignment
    return JoinGroupResponse(
        generation_id=group.generation_id,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=(group.leader_id if may_skip else old_leader) or NO_MEMBER,
        skip_assignment=is_leader and may_skip,
        member_id=member.member_id,
        members=_everyone(group) if is_leader and may_skip else [],
    )


def synced(group: "Group", member: Member) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type, protocol_name=group.protocol_name, assignment=member.assignment
    )


def _everyone(group: "Group") -> list[JoinGroupResponseMember]:
    return [
        JoinGroupResponseMember(one.member_id, one.instance_id, one.metadata_for(group.protocol_name))
        for one in group.members
    ]


def described(group: "Group", authorized_operations: int) -> DescribedGroup:
    """DescribeGroups: what members said and were assigned is told while it holds."""
    is_stable = group.state is GroupState.STABLE
    members = [
        DescribedGroupMember(
            one.member_id,
            one.instance_id,
            one.client_id,
            one.client_host,
            one.metadata_for(group.protocol_name) if is_stable else NO_BYTES,
            one.assignment if is_stable else NO_BYTES,
        )
        for one in group.members
    ]
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol_name or "") if is_stable else "",
        members=members,
        authorized_operations=authorized_operations,
    )


def listed(group: "Group") -> ListedGroup:
    return ListedGroup(group.group_id, group.protocol_type or "", group.state, CLASSIC)
