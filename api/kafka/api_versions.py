"""ApiVersions 0-4: which APIs this node serves, in which versions; the first request of most clients.

0: keys and versions. 1: throttle time. 3: who the client is. 4: features may begin at 0 (none are told).
An unknown version is answered in version 0 with UNSUPPORTED_VERSION (KIP-511); the connection goes on.
"""

import re
from typing import Final

from api.kafka.context import Caller
from wire.errors import ErrorCode
from wire.messages import ApiKey
from wire.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from wire.messages.headers import RequestHeader

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
WHO_SINCE: Final = 3


def handle(caller: Caller, header: RequestHeader, request: ApiVersionsRequest) -> ApiVersionsResponse:
    who = (request.client_software_name, request.client_software_version)
    if header.api_version >= WHO_SINCE and not all(_SOFTWARE.fullmatch(word) for word in who):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    return ApiVersionsResponse(api_keys=_keys(caller))


def unsupported(caller: Caller) -> ApiVersionsResponse:
    """To whoever asks in a version that is not known here: at least how to ask this."""
    versions = caller.door.served[ApiKey.API_VERSIONS]
    only = ApiVersion(ApiKey.API_VERSIONS, versions.start, versions.stop - 1)
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[only])


def _keys(caller: Caller) -> list[ApiVersion]:
    return [ApiVersion(key, versions.start, versions.stop - 1) for key, versions in caller.door.served.items()]
