"""DeleteGroups 0-2: groups without members, with all that they committed (KIP-229).

1: throttle time. 2: flexible. Answered once the log has forgotten them all.
"""

import asyncio

from api.kafka.context import Caller
from wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse
from wire.messages.headers import RequestHeader


def handle(caller: Caller, _: RequestHeader, request: DeleteGroupsRequest) -> asyncio.Future[DeleteGroupsResponse]:
    return asyncio.ensure_future(_deleted(caller, list(dict.fromkeys(request.groups_names))))


async def _deleted(caller: Caller, group_ids: list[str]) -> DeleteGroupsResponse:
    results = await asyncio.gather(*(_delete(caller, group_id) for group_id in group_ids))
    return DeleteGroupsResponse(results=results)


async def _delete(caller: Caller, group_id: str) -> DeletableGroupResult:
    groups = caller.door.context.node.groups
    answer = groups.ask(group_id, lambda core, call, _: core.delete_group(call, group_id))
    return DeletableGroupResult(group_id, await answer if isinstance(answer, asyncio.Future) else answer)
