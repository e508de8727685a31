"""LeaveGroup 0-5: members leave, and are answered at once.

1: throttle time. 3: many members, also by their instance ids alone, as administrators do (KIP-345). 4: flexible. 5: why
(KIP-800).
"""

from typing import Final

from api.kafka.context import Caller
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse

MANY_SINCE: Final = 3


def handle(caller: Caller, header: RequestHeader, request: LeaveGroupRequest) -> LeaveGroupResponse:
    is_many = header.api_version >= MANY_SINCE
    leaving = (
        [(one.member_id, one.group_instance_id) for one in request.members] if is_many else [(request.member_id, None)]
    )
    groups = caller.door.context.node.groups
    try:
        codes: list[ErrorCode] = groups.tell(
            request.group_id, lambda core, now: core.leave(request.group_id, leaving, now)
        )
    except RefusedError as refused:
        return LeaveGroupResponse(error_code=refused.code)
    if not is_many:
        return LeaveGroupResponse(error_code=codes[0])
    if not request.group_id:
        return LeaveGroupResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    return LeaveGroupResponse(
        members=[
            MemberResponse(member_id, instance_id, code)
            for (member_id, instance_id), code in zip(leaving, codes, strict=True)
        ]
    )
