"""LeaveGroup: members leave a classic group; one up to version 2, many from version 3 on (KIP-345)."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty, since, until

VERSIONS = Versions(0, 5, flexible_from=4)


class MemberIdentity(Message, frozen=True):
    member_id: str = ""
    group_instance_id: str | None = None
    reason: Annotated[str | None, since(5)] = None


class LeaveGroupRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    member_id: Annotated[str, until(2)] = ""
    members: Annotated[list[MemberIdentity], since(3)] = empty()


class MemberResponse(Message, frozen=True):
    member_id: str = ""
    group_instance_id: str | None = ""
    error_code: Int16 = 0


class LeaveGroupResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    error_code: Int16 = 0
    members: Annotated[list[MemberResponse], since(3)] = empty()


LEAVE_GROUP = Api(ApiKey.LEAVE_GROUP, LeaveGroupRequest, LeaveGroupResponse)
