"""ListConfigResources: what there is that has settings; version 0 knew of client metrics only (KIP-1142)."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.messages.config_resources import CLIENT_METRICS
from wire.schema import Int8, Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 1, flexible_from=0)


class ListConfigResourcesRequest(Message, frozen=True):
    """No types ask for all."""

    wire_versions: ClassVar = VERSIONS

    resource_types: Annotated[list[Int8], since(1)] = empty()


class ConfigResource(Message, frozen=True):
    resource_name: str = ""
    resource_type: Annotated[Int8, since(1)] = CLIENT_METRICS


class ListConfigResourcesResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    config_resources: list[ConfigResource] = empty()


LIST_CONFIG_RESOURCES = Api(ApiKey.LIST_CONFIG_RESOURCES, ListConfigResourcesRequest, ListConfigResourcesResponse)
