"""ListGroups: the groups that a broker coordinates, by state (KIP-518) and type (KIP-848) where asked."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 5, flexible_from=3)


class ListGroupsRequest(Message, frozen=True):
    """An empty filter lets all through."""

    wire_versions: ClassVar = VERSIONS

    states_filter: Annotated[list[str], since(4)] = empty()
    types_filter: Annotated[list[str], since(5)] = empty()


class ListedGroup(Message, frozen=True):
    group_id: str = ""
    protocol_type: str = ""
    group_state: Annotated[str, since(4)] = ""
    group_type: Annotated[str, since(5)] = ""


class ListGroupsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    error_code: Int16 = 0
    groups: list[ListedGroup] = empty()


LIST_GROUPS = Api(ApiKey.LIST_GROUPS, ListGroupsRequest, ListGroupsResponse)
