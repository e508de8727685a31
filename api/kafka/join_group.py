"""JoinGroup 0-9: enter a group and wait for its next generation.

1: a rebalance timeout of its own. 4: members get their id first (KIP-394). 5: static members (KIP-345). 6: flexible.
7: the protocol's type. 8: why (KIP-800). 9: a leader that has nothing to assign (KIP-814).
If the connection ends before the answer, the member must be heard of again, or is forgotten at once where it was never
told its id.
"""

import asyncio
import uuid
from typing import Final

from api.kafka.context import Caller
from api.kafka.group_calls import respond
from broker.groups.member import Joining
from wire.errors import ErrorCode
from wire.messages.headers import RequestHeader
from wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

MEMBER_ID_FIRST_SINCE: Final = 4
SKIPPING_SINCE: Final = 9
NAME_LENGTH_MAX: Final = 249
"""Of what a member id is made from; Kafka's for instance ids."""


def handle(
    caller: Caller, header: RequestHeader, request: JoinGroupRequest
) -> JoinGroupResponse | asyncio.Future[JoinGroupResponse]:
    instance_id = request.group_instance_id
    if instance_id is not None and not 0 < len(instance_id) <= NAME_LENGTH_MAX:
        return JoinGroupResponse(error_code=ErrorCode.INVALID_REQUEST, member_id=request.member_id)
    client_id = header.client_id or ""
    name = client_id[:NAME_LENGTH_MAX] if instance_id is None else instance_id
    joining = Joining(
        request,
        client_id=client_id,
        client_host=f"/{caller.address}",
        new_member_id=f"{name}-{uuid.uuid4()}",
        requires_member_id=header.api_version >= MEMBER_ID_FIRST_SINCE,
        may_skip_assignment=header.api_version >= SKIPPING_SINCE,
    )

    def response(answer: JoinGroupResponse | ErrorCode) -> JoinGroupResponse:
        if isinstance(answer, JoinGroupResponse):
            return answer
        return JoinGroupResponse(error_code=answer, member_id=request.member_id)

    groups = caller.door.context.node.groups
    return respond(groups.ask(request.group_id, lambda core, call, now: core.join(call, joining, now)), response)
