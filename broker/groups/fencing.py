"""Who may still speak for a group: members by id and instance, of this generation only.

Pure. A member that was replaced (KIP-345), was thrown out or missed a rebalance hears the code by which its client
gives up what it thought its own; so nobody commits offsets of partitions that are another's by now.
"""

from typing import TYPE_CHECKING

from broker.groups.group_state import GroupState
from broker.groups.member import Member
from wire.errors import ErrorCode

if TYPE_CHECKING:
    from broker.groups.group import Group


def known_member(group: "Group", member_id: str, instance_id: str | None) -> tuple[Member | None, ErrorCode]:
    """The member that has both ids; where there is none, the code that says why."""
    if instance_id is None:
        return group.members.get(member_id), ErrorCode.UNKNOWN_MEMBER_ID
    static = group.members.of_instance(instance_id)
    if static is not None and static.member_id != member_id:
        return None, ErrorCode.FENCED_INSTANCE_ID
    return static, ErrorCode.UNKNOWN_MEMBER_ID


def present_member(
    group: "Group", member_id: str, instance_id: str | None, generation_id: int
) -> tuple[Member | None, ErrorCode]:
    """As `known_member`, and of the group's present generation; NONE with a member."""
    member, refusal = known_member(group, member_id, instance_id)
    if member is None:
        return None, refusal
    if generation_id != group.generation_id:
        return None, ErrorCode.ILLEGAL_GENERATION
    return member, ErrorCode.NONE


def commit_refusal(group: "Group", member_id: str, instance_id: str | None, generation_id: int) -> ErrorCode:
    """NONE where whoever says to be this may commit offsets now; else why not.

    Without member and generation (-1) comes a consumer that assigns its partitions itself, or an administrator: only
    while the group has no members.
    """
    is_empty = group.state is GroupState.EMPTY
    if generation_id < 0 and is_empty:
        return ErrorCode.NONE
    if generation_id < 0 and not member_id and instance_id is None:
        return ErrorCode.UNKNOWN_MEMBER_ID
    _, refusal = present_member(group, member_id, instance_id, generation_id)
    if refusal is ErrorCode.NONE and group.state is GroupState.COMPLETING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS  # it has joined the generation and does not know yet what is its own
    return refusal
