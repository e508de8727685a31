"""DescribeGroups 0-6: groups with their members.

1: throttle time. 3: authorized operations (without an authorizer all of them). 4: static members (KIP-345). 5:
flexible. 6: GROUP_ID_NOT_FOUND, with a message, for an unknown group, which before was told to be Dead (KIP-1043).
"""

from typing import Final

from api.kafka.context import Caller
from broker.groups.group_answers import described
from broker.groups.group_state import GroupState
from wire.errors import ErrorCode, RefusedError
from wire.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse
from wire.messages.headers import RequestHeader
from wire.messages.metadata import OPERATIONS_NOT_ASKED

NOT_FOUND_SINCE: Final = 6
ALL_GROUP_OPERATIONS: Final = sum(1 << code for code in (3, 6, 8, 10, 11))
"""READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS (Kafka's AclOperation)."""


def handle(caller: Caller, header: RequestHeader, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    operations = ALL_GROUP_OPERATIONS if request.include_authorized_operations else OPERATIONS_NOT_ASKED
    groups = [_describe(caller, header.api_version, group_id, operations) for group_id in request.groups]
    return DescribeGroupsResponse(groups=groups)


def _describe(caller: Caller, version: int, group_id: str, operations: int) -> DescribedGroup:
    try:
        group = caller.door.context.node.groups.shard(group_id).core.known(group_id)
    except RefusedError as refused:
        return DescribedGroup(error_code=refused.code, group_id=group_id)
    if group is not None:
        return described(group, operations)
    if version >= NOT_FOUND_SINCE:
        return DescribedGroup(
            error_code=ErrorCode.GROUP_ID_NOT_FOUND,
            error_message=f"Group {group_id} not found.",
            group_id=group_id,
            group_state=GroupState.DEAD,
            authorized_operations=operations,
        )
    return DescribedGroup(group_id=group_id, group_state=GroupState.DEAD, authorized_operations=operations)
