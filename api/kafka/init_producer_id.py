"""InitProducerId 0-5: an id for an idempotent producer (KIP-98).

2: flexible. 3: the id that the producer has (KIP-360). A producer without a transactional id is simply given a new id,
as Kafka does; transactions are not served, and a transactional id is told so (UNSUPPORTED_VERSION is fatal to clients).
"""

import asyncio

from api.kafka.context import Caller
from wire.errors import ErrorCode, RefusedError
from wire.messages.headers import RequestHeader
from wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

NONE = -1


def handle(
    caller: Caller, _: RequestHeader, request: InitProducerIdRequest
) -> InitProducerIdResponse | asyncio.Future[InitProducerIdResponse]:
    if request.transactional_id == "" or (request.producer_id == NONE) != (request.producer_epoch == NONE):
        return InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_epoch=NONE)
    if request.transactional_id is not None:
        caller.door.context.refusals.tell("transactions are not served", transactional_id=request.transactional_id)
        return InitProducerIdResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, producer_epoch=NONE)
    return asyncio.ensure_future(_new(caller))


async def _new(caller: Caller) -> InitProducerIdResponse:
    context = caller.door.context
    try:
        producer = await context.node.producer_ids.allocate()
    except RefusedError as refused:
        return InitProducerIdResponse(error_code=refused.code, producer_epoch=NONE)
    return InitProducerIdResponse(producer_id=producer.producer_id, producer_epoch=producer.epoch)
