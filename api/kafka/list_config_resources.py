"""ListConfigResources 0-1: what there is that has settings (KIP-1142).

0: client metrics only, of which there are none. 1: by type; no types ask for all.
"""

from collections.abc import Iterable
from typing import Final

from api.kafka.context import Caller
from metadata.image import Image
from wire.errors import ErrorCode
from wire.messages.config_resources import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC
from wire.messages.headers import RequestHeader
from wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

TYPES: Final = (TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP)


def handle(caller: Caller, header: RequestHeader, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse:
    asked = dict.fromkeys(request.resource_types or TYPES) if header.api_version else (CLIENT_METRICS,)
    if any(kind not in TYPES for kind in asked):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    image = caller.door.context.node.image
    return ListConfigResourcesResponse(
        config_resources=[ConfigResource(name, kind) for kind in asked for name in _names(image, kind)]
    )


def _names(image: Image, kind: int) -> Iterable[str]:
    if kind == TOPIC:
        return sorted(image.topic_ids)
    return map(str, sorted(image.brokers)) if kind in (BROKER, BROKER_LOGGER) else ()
