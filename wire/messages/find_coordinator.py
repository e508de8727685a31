"""FindCoordinator: the broker that coordinates a group or a transactional id; many from version 4 on (KIP-699)."""

from typing import Annotated, ClassVar, Final

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Message, Versions, between, empty, since, until

VERSIONS = Versions(0, 6, flexible_from=3)

GROUP: Final = 0
TRANSACTION: Final = 1
SHARE: Final = 2  # its keys are "groupId:topicId:partition" (KIP-932)


class FindCoordinatorRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    key: Annotated[str, until(3)] = ""
    key_type: Annotated[Int8, since(1)] = GROUP
    coordinator_keys: Annotated[list[str], since(4)] = empty()


class Coordinator(Message, frozen=True):
    key: str = ""
    node_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = ""


class FindCoordinatorResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Annotated[Int32, since(1)] = 0
    error_code: Annotated[Int16, until(3)] = 0
    error_message: Annotated[str | None, between(1, 3)] = ""
    node_id: Annotated[Int32, until(3)] = 0
    host: Annotated[str, until(3)] = ""
    port: Annotated[Int32, until(3)] = 0
    coordinators: Annotated[list[Coordinator], since(4)] = empty()


FIND_COORDINATOR = Api(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest, FindCoordinatorResponse)
