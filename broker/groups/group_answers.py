"""What a member of a classic group is told of its generation. Pure, and decides nothing."""

from typing import TYPE_CHECKING, Final

from broker.groups.member import Joining, Member
from wire.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from broker.groups.group import Group

NO_MEMBER: Final = ""


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
