"""IncrementalAlterConfigs 0-1: single settings of a topic or a broker, all of one resource or none (KIP-339).

1: flexible. APPEND and SUBTRACT are for settings that are lists.
"""

import asyncio
from typing import Final, Literal

from api.kafka.admin_calls import AdminCall
from api.kafka.config_resources import alter_each
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
    results = await alter_each(
        AdminCall(caller), request.resources, _changes, replaces=False, validate_only=request.validate_only
    )
    return IncrementalAlterConfigsResponse(responses=[AlterConfigsResourceResponse(*result) for result in results])


def _changes(resource: AlterConfigsResource) -> list[ConfigChange]:
    return [_change(config) for config in resource.configs]


def _change(config: AlterableConfig) -> ConfigChange:
    operation = _OPERATIONS.get(config.config_operation)
    if operation is None:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST, f"config_operation {config.config_operation} is unknown: 0 to 3 are known"
        )
    return ConfigChange(name=config.name, value=None if operation == "DELETE" else config.value, operation=operation)
