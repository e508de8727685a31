"""DescribeGroups: classic groups with their members."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.messages.metadata import OPERATIONS_NOT_ASKED
from wire.schema import Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 6, flexible_from=5)


class DescribeGroupsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    groups: list[str] = empty()
    include_authorized_operations: Annotated[bool, since(3)] = False


class DescribedGroupMember(Message, frozen=True):
    """Metadata and assignment are given for a stable group only."""

    member_id: str = ""
    group_instance_id: Annotated[str | None, since(4)] = None
    client_id: str = ""
    client_host: str = ""
    member_metadata: bytes = b""
    member_assignment: bytes = b""


class DescribedGroup(Message, frozen=True):
    """An unknown group is Dead, from version 6 on GROUP_ID_NOT_FOUND (KIP-1043)."""

    error_code: Int16 = 0
    error_message: Annotated[str | None, since(6)] = None
    group_id: str = ""
    group_state: str = ""
    protocol_type: str = ""
    protocol_data: str = ""
    members: list[DescribedGroupMember] = empty()
    authorized_operations: Annotated[Int32, since(3)] = OPERATIONS_NOT_ASKED


class DescribeGroupsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    groups: list[DescribedGroup] = empty()


DESCRIBE_GROUPS = Api(ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest, DescribeGroupsResponse)
