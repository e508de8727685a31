"""AlterConfigs: replaces all settings of a resource; old clients send it for IncrementalAlterConfigs (KIP-339)."""

from typing import ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 2, flexible_from=2)


class AlterableConfig(Message, frozen=True):
    name: str = ""
    value: str | None = ""


class AlterConfigsResource(Message, frozen=True):
    resource_type: Int8 = 0
    resource_name: str = ""
    configs: list[AlterableConfig] = empty()


class AlterConfigsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    resources: list[AlterConfigsResource] = empty()
    validate_only: bool = False


class AlterConfigsResourceResponse(Message, frozen=True):
    error_code: Int16 = 0
    error_message: str | None = ""
    resource_type: Int8 = 0
    resource_name: str = ""


class AlterConfigsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResourceResponse] = empty()


ALTER_CONFIGS = Api(ApiKey.ALTER_CONFIGS, AlterConfigsRequest, AlterConfigsResponse)
