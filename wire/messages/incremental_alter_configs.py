"""IncrementalAlterConfigs: changes single settings of a resource (KIP-339)."""

from typing import ClassVar, Final

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Message, Versions, empty

VERSIONS = Versions(0, 1, flexible_from=1)

# The `config_operation`s; the last two for settings that are lists.
SET: Final = 0
DELETE: Final = 1
APPEND: Final = 2
SUBTRACT: Final = 3


class AlterableConfig(Message, frozen=True):
    name: str = ""
    config_operation: Int8 = 0
    value: str | None = ""


class AlterConfigsResource(Message, frozen=True):
    resource_type: Int8 = 0
    resource_name: str = ""
    configs: list[AlterableConfig] = empty()


class IncrementalAlterConfigsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    resources: list[AlterConfigsResource] = empty()
    validate_only: bool = False


class AlterConfigsResourceResponse(Message, frozen=True):
    error_code: Int16 = 0
    error_message: str | None = ""
    resource_type: Int8 = 0
    resource_name: str = ""


class IncrementalAlterConfigsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResourceResponse] = empty()


INCREMENTAL_ALTER_CONFIGS = Api(
    ApiKey.INCREMENTAL_ALTER_CONFIGS, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse
)
