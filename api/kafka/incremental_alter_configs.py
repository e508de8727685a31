"""IncrementalAlterConfigs 0-1: single settings of a topic or a broker, all of one resource or none (KIP-339).

1: flexible. APPEND and SUBTRACT are for settings that are lists.
"""

import asyncio
from typing import Final, Literal

from api.kafka.admin_calls import AdminCall, Failure, repeated
from api.kafka.config_resources import alteration, check_named_once
from api.kafka.context import Caller
from metadata.requests import ConfigChange
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.incremental_alter_configs import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

_OPERATIONS: Final[dict[int, Literal["SET", "DELETE", "APPEND", "SUBTRACT"]]] = {
    SET: "SET",
    DELETE: "DELETE",
    APPEND: "APPEND",
    SUBTRACT: "SUBTRACT",
}


def handle(
    caller: Caller, _: RequestHeader, request: IncrementalAlterConfigsRequest
) -> asyncio.Future[IncrementalAlterConfigsResponse]:
    return asyncio.ensure_future(_altered(caller, request))


async def _altered(caller: Caller, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse:
    call = AdminCall(caller)
    twice = repeated((one.resource_type, one.resource_name) for one in request.resources)
    wanted = {(one.resource_type, one.resource_name): one for one in request.resources}

    async def alter(resource: AlterConfigsResource) -> None:
        key = (resource.resource_type, resource.resource_name)
        check_named_once(key, twice)
        changes = [_change(config) for config in resource.configs]
        await call.ask(alteration(key, changes, replaces=False, validate_only=request.validate_only))

    results = await call.each(wanted.values(), alter)
    return IncrementalAlterConfigsResponse(
        responses=[_result(key, result) for key, result in zip(wanted, results, strict=True)]
    )


def _change(config: AlterableConfig) -> ConfigChange:
    operation = _OPERATIONS.get(config.config_operation)
    if operation is None:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST, f"config_operation {config.config_operation} is unknown: 0 to 3 are known"
        )
    return ConfigChange(name=config.name, value=None if operation == "DELETE" else config.value, operation=operation)


def _result(key: tuple[int, str], result: Failure | None) -> AlterConfigsResourceResponse:
    code, message = (0, None) if result is None else result
    return AlterConfigsResourceResponse(code, message, *key)
