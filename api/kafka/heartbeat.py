"""Heartbeat 0-4: a member is alive, and hears of a rebalance.

1: throttle time. 3: static members (KIP-345). 4: flexible.
"""

from api.kafka.context import Caller
from wire.errors import RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


def handle(caller: Caller, _: RequestHeader, request: HeartbeatRequest) -> HeartbeatResponse:
    try:
        code = caller.door.context.node.groups.heartbeat(
            request.group_id, request.member_id, request.group_instance_id, request.generation_id
        )
    except RefusedError as refused:
        code = refused.code
    return HeartbeatResponse(error_code=code)
