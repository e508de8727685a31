"""ListGroups 0-5: the groups that this broker coordinates.

1: throttle time. 3: flexible. 4: states, and only those asked for (KIP-518). 5: types (KIP-848): all are classic here.
COORDINATOR_LOAD_IN_PROGRESS while a partition's groups are being read: a list that lacks some would mislead.
"""

from api.kafka.context import Caller
from broker.groups.group_answers import CLASSIC, listed
from broker.groups.group_state import GroupState
from wire.errors import RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse


def handle(caller: Caller, _: RequestHeader, request: ListGroupsRequest) -> ListGroupsResponse:
    try:
        shards = caller.door.context.node.groups.shards()
    except RefusedError as refused:
        return ListGroupsResponse(error_code=refused.code)
    states = {state.lower() for state in request.states_filter}
    types = {kind.lower() for kind in request.types_filter}
    if types and CLASSIC not in types:
        return ListGroupsResponse()
    return ListGroupsResponse(
        groups=[
            listed(group)
            for shard in shards
            for group in shard.core.groups.values()
            if group.state is not GroupState.DEAD and (not states or group.state.lower() in states)
        ]
    )
