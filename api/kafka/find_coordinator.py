"""FindCoordinator 0-6: the broker that coordinates a group.

1: kinds of keys, throttle time. 3: flexible. 4: many keys at once (KIP-699). 5: an error for transactions that clients
know. 6: share groups (KIP-932). Groups only: transactions are not served (UNSUPPORTED_VERSION, which is fatal to
clients, as it should be), share groups neither. The offsets topic is made on first use; until there are as many brokers
as it needs copies the answer is COORDINATOR_NOT_AVAILABLE, and clients ask again.
"""

import asyncio
from typing import Final

from api.kafka.context import Caller
from metadata.image import Endpoint
from wire.errors import ErrorCode, RefusedError
from wire.messages.find_coordinator import (
    GROUP,
    TRANSACTION,
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from wire.messages.headers import RequestHeader

MANY_SINCE: Final = 4
NOBODY: Final = -1


def handle(
    caller: Caller, header: RequestHeader, request: FindCoordinatorRequest
) -> FindCoordinatorResponse | asyncio.Future[FindCoordinatorResponse]:
    if request.key_type == GROUP and not caller.door.context.node.groups.has_topic:
        return asyncio.ensure_future(_made(caller, header.api_version, request))
    return _answer(caller, header.api_version, request, None)


async def _made(caller: Caller, version: int, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    try:
        await caller.door.context.node.groups.make_topic()
    except RefusedError as refused:
        return _answer(caller, version, request, refused)
    return _answer(caller, version, request, None)


def _answer(
    caller: Caller, version: int, request: FindCoordinatorRequest, refused: RefusedError | None
) -> FindCoordinatorResponse:
    keys = request.coordinator_keys if version >= MANY_SINCE else [request.key]
    found = [_refusal(key, refused) if refused else _find(caller, request.key_type, key) for key in keys]
    if version >= MANY_SINCE:
        return FindCoordinatorResponse(coordinators=found)
    (one,) = found
    return FindCoordinatorResponse(
        error_code=one.error_code, error_message=one.error_message, node_id=one.node_id, host=one.host, port=one.port
    )


def _find(caller: Caller, key_type: int, key: str) -> Coordinator:
    try:
        _check_kind(key_type)
        endpoint, broker_id = _coordinator(caller, key)
    except RefusedError as refused:
        return _refusal(key, refused)
    return Coordinator(key, broker_id, endpoint.host, endpoint.port, 0, None)


def _check_kind(key_type: int) -> None:
    if key_type == TRANSACTION:
        raise RefusedError(ErrorCode.UNSUPPORTED_VERSION, "transactions are not served")
    if key_type != GROUP:
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"coordinators of kind {key_type} are not served")


def _coordinator(caller: Caller, group_id: str) -> tuple[Endpoint, int]:
    broker = caller.door.context.node.groups.coordinator_of(group_id)
    endpoint = caller.door.endpoint(broker)
    if endpoint is None:
        raise RefusedError(
            ErrorCode.COORDINATOR_NOT_AVAILABLE, f"broker {broker.broker_id} has no listener {caller.door.name}"
        )
    return endpoint, broker.broker_id


def _refusal(key: str, refused: RefusedError) -> Coordinator:
    return Coordinator(key, NOBODY, "", NOBODY, refused.code, refused.message)
