"""What stands before each request and each response."""

from typing import Annotated, ClassVar

from wire.schema import LEGACY, Int16, Int32, Message, Versions


class RequestHeader(Message, frozen=True):
    """Version 2, the flexible one, keeps client_id as an int16 string: an old server must be able to read it."""

    wire_versions: ClassVar = Versions(1, 2, flexible_from=2)

    api_key: Int16 = 0
    api_version: Int16 = 0
    correlation_id: Int32 = 0
    client_id: Annotated[str | None, LEGACY] = ""


class ResponseHeader(Message, frozen=True):
    wire_versions: ClassVar = Versions(0, 1, flexible_from=1)

    correlation_id: Int32 = 0
