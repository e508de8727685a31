"""DescribeConfigs: the settings of topics, brokers and groups, and where each comes from."""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int8, Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(1, 4, flexible_from=4)


class DescribeConfigsResource(Message, frozen=True):
    """Null `configuration_keys` ask for all."""

    resource_type: Int8 = 0
    resource_name: str = ""
    configuration_keys: list[str] | None = empty()


class DescribeConfigsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    resources: list[DescribeConfigsResource] = empty()
    include_synonyms: bool = False
    include_documentation: Annotated[bool, since(3)] = False


class DescribeConfigsSynonym(Message, frozen=True):
    name: str = ""
    value: str | None = ""
    source: Int8 = 0


class DescribeConfigsResourceResult(Message, frozen=True):
    name: str = ""
    value: str | None = ""
    read_only: bool = False
    config_source: Int8 = -1
    is_sensitive: bool = False
    synonyms: list[DescribeConfigsSynonym] = empty()
    config_type: Annotated[Int8, since(3)] = 0
    documentation: Annotated[str | None, since(3)] = ""


class DescribeConfigsResult(Message, frozen=True):
    error_code: Int16 = 0
    error_message: str | None = ""
    resource_type: Int8 = 0
    resource_name: str = ""
    configs: list[DescribeConfigsResourceResult] = empty()


class DescribeConfigsResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    results: list[DescribeConfigsResult] = empty()


DESCRIBE_CONFIGS = Api(ApiKey.DESCRIBE_CONFIGS, DescribeConfigsRequest, DescribeConfigsResponse)
