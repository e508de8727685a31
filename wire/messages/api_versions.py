"""ApiVersions: which APIs in which versions a broker serves; the first request on a connection.

The response always has header v0, so that a client that knows no flexible header can read it (KIP-511). A request of
an unknown version is answered in version 0 with UNSUPPORTED_VERSION.
"""

from typing import Annotated, ClassVar

from wire.messages.api import Api, ApiKey
from wire.schema import Int16, Int32, Int64, Message, Versions, empty, since, tag

VERSIONS = Versions(0, 4, flexible_from=3)


class ApiVersionsRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    client_software_name: Annotated[str, since(3)] = ""
    client_software_version: Annotated[str, since(3)] = ""


class ApiVersion(Message, frozen=True):
    api_key: Int16 = 0
    min_version: Int16 = 0
    max_version: Int16 = 0


class SupportedFeatureKey(Message, frozen=True):
    name: str = ""
    min_version: Int16 = 0
    max_version: Int16 = 0


class FinalizedFeatureKey(Message, frozen=True):
    name: str = ""
    max_version_level: Int16 = 0
    min_version_level: Int16 = 0


class ApiVersionsResponse(Message, frozen=True):
    """Up to version 3 a feature whose min_version is 0 must be left out (KAFKA-17011)."""

    wire_versions: ClassVar = VERSIONS

    error_code: Int16 = 0
    api_keys: list[ApiVersion] = empty()
    throttle_time_ms: Annotated[Int32, since(1)] = 0
    supported_features: Annotated[list[SupportedFeatureKey], since(3), tag(0)] = empty()
    finalized_features_epoch: Annotated[Int64, since(3), tag(1)] = -1
    finalized_features: Annotated[list[FinalizedFeatureKey], since(3), tag(2)] = empty()
    zk_migration_ready: Annotated[bool, since(3), tag(3)] = False


API_VERSIONS = Api(ApiKey.API_VERSIONS, ApiVersionsRequest, ApiVersionsResponse)
