"""AlterConfigs 0-2: all settings of a topic or a broker at once; what is not named goes back to its default.

1: throttle time. 2: flexible. Old clients and old tools; newer ones change single settings (IncrementalAlterConfigs).
"""

import asyncio

from api.kafka.admin_calls import AdminCall
from api.kafka.config_resources import alter_each
from api.kafka.context import Caller
from metadata.requests import ConfigChange
from wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from wire.messages.headers import RequestHeader


def handle(caller: Caller, _: RequestHeader, request: AlterConfigsRequest) -> asyncio.Future[AlterConfigsResponse]:
    return asyncio.ensure_future(_altered(caller, request))


async def _altered(caller: Caller, request: AlterConfigsRequest) -> AlterConfigsResponse:
    results = await alter_each(
        AdminCall(caller), request.resources, _changes, replaces=True, validate_only=request.validate_only
    )
    return AlterConfigsResponse(responses=[AlterConfigsResourceResponse(*result) for result in results])


def _changes(resource: AlterConfigsResource) -> list[ConfigChange]:
    return [ConfigChange(name=config.name, value=config.value) for config in resource.configs]
