"""AlterConfigs 0-2: all settings of a topic or a broker at once; what is not named goes back to its default.

1: throttle time. 2: flexible. Old clients and old tools; newer ones change single settings (IncrementalAlterConfigs).
"""

import asyncio

from api.kafka.admin_calls import AdminCall, Failure, repeated
from api.kafka.config_resources import alteration, check_named_once
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
    call = AdminCall(caller)
    twice = repeated((one.resource_type, one.resource_name) for one in request.resources)
    wanted = {(one.resource_type, one.resource_name): one for one in request.resources}

    async def alter(resource: AlterConfigsResource) -> None:
        key = (resource.resource_type, resource.resource_name)
        check_named_once(key, twice)
        changes = [ConfigChange(name=config.name, value=config.value) for config in resource.configs]
        await call.ask(alteration(key, changes, replaces=True, validate_only=request.validate_only))

    results = await call.each(wanted.values(), alter)
    return AlterConfigsResponse(responses=[_result(key, result) for key, result in zip(wanted, results, strict=True)])


def _result(key: tuple[int, str], result: Failure | None) -> AlterConfigsResourceResponse:
    code, message = (0, None) if result is None else result
    return AlterConfigsResourceResponse(code, message, *key)
