"""SyncGroup 0-5: the leader hands in the assignments, every member gets its own.

1: throttle time. 3: static members (KIP-345). 4: flexible. 5: the protocol's type and name, which must be the group's.
Answered once the assignments are in the log, so that the next coordinator knows them.
"""

import asyncio
from typing import Final

from api.kafka.context import Caller
from api.kafka.group_calls import respond
from wire.errors import ErrorCode
from wire.messages.headers import RequestHeader
from wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

PROTOCOL_SINCE: Final = 5


def handle(
    caller: Caller, header: RequestHeader, request: SyncGroupRequest
) -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
    if header.api_version >= PROTOCOL_SINCE and (request.protocol_type is None or request.protocol_name is None):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)

    def response(answer: SyncGroupResponse | ErrorCode) -> SyncGroupResponse:
        return answer if isinstance(answer, SyncGroupResponse) else SyncGroupResponse(error_code=answer)

    groups = caller.door.context.node.groups
    return respond(groups.ask(request.group_id, lambda core, call, now: core.sync(call, request, now)), response)
