"""JoinGroup: enter a classic consumer group and wait for its next generation.

From version 4 on a member without an id is answered MEMBER_ID_REQUIRED with one, and asks again (KIP-394).
"""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Message, Versions, empty, nullable, since

VERSIONS = Versions(0, 9, flexible_from=6)


class JoinGroupRequestProtocol(Message, frozen=True):
    name: str = ""
    metadata: bytes = b""


class JoinGroupRequest(Message, frozen=True):
    """Where there is no `rebalance_timeout_ms`, in version 0, `session_timeout_ms` stands for it."""

    wire_versions: ClassVar = VERSIONS

    group_id: str = ""
    session_timeout_ms: Int32 = 0
    rebalance_timeout_ms: Annotated[Int32, since(1)] = -1
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(5)] = None
    protocol_type: str = ""
    protocols: list[JoinGroupRequestProtocol] = empty()
    reason: Annotated[str | None, since(8)] = None


class JoinGroupResponseMember(Message, frozen=True):
    member_id: str = ""
    group_instance_id: Annotated[str | None, since(5)] = None
    metadata: bytes = b""


class JoinGroupResponse(Message, frozen=True):
    """`members` is filled for the leader only."""

    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(2)] = 0
    error_code: Int16 = 0
    generation_id: Int32 = -1
    protocol_type: Annotated[str | None, since(7)] = None
    protocol_name: Annotated[str | None, nullable(since=7)] = ""
    leader: str = ""
    skip_assignment: Annotated[bool, since(9)] = False
    member_id: str = ""
    members: list[JoinGroupResponseMember] = empty()


JOIN_GROUP = Api(ApiKey.JOIN_GROUP, JoinGroupRequest, JoinGroupResponse)
