"""Heartbeat: a member of a classic group is alive, and hears of a rebalance."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, since

VERSIONS = Versions(0, 4, flexible_from=4)


class HeartbeatRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    generation_id: Int32 = 0
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(3)] = None


class HeartbeatResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    error_code: Int16 = 0


HEARTBEAT = Api(ApiKey.HEARTBEAT, HeartbeatRequest, HeartbeatResponse)
