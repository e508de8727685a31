"""SyncGroup: the leader of a classic group hands in the assignments, every member gets its own."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 5, flexible_from=4)


class SyncGroupRequestAssignment(Message, frozen=True):
    member_id: str = ""
    assignment: bytes = b""


class SyncGroupRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    generation_id: Int32 = 0
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(3)] = None
    protocol_type: Annotated[str | None, since(5)] = None
    protocol_name: Annotated[str | None, since(5)] = None
    assignments: list[SyncGroupRequestAssignment] = empty()


class SyncGroupResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    error_code: Int16 = 0
    protocol_type: Annotated[str | None, since(5)] = None
    protocol_name: Annotated[str | None, since(5)] = None
    assignment: bytes = b""


SYNC_GROUP = Api(ApiKey.SYNC_GROUP, SyncGroupRequest, SyncGroupResponse)
