"""DeleteGroups: empty groups with all that they committed (KIP-229)."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 2, flexible_from=2)


class DeleteGroupsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    groups_names: list[str] = empty()


class DeletableGroupResult(Message, frozen=True):
    group_id: str = ""
    error_code: Int16 = 0


class DeleteGroupsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    results: list[DeletableGroupResult] = empty()


DELETE_GROUPS = Api(ApiKey.DELETE_GROUPS, DeleteGroupsRequest, DeleteGroupsResponse)
