"""`POST C/producers`: the id and epoch under which an idempotent producer writes (KIP-98, KIP-360).

A producer that knows its id asks for the next epoch of it: its sequences begin at 0 again, and what it sent in an older
epoch is refused wherever the new one has written. Nothing is kept of that here: as with Kafka's own idempotent
producers the epoch is the producer's to count, and the partitions' to hold it to.
"""

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import Context, context_of
from api.http.errors import RETRIABLE, UNKNOWN_PRODUCER, ApiError, bad_request
from api.http.idempotence import MAX_EPOCH
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.routing import check_cluster
from metadata.answers import ProducerIdsAllocated
from metadata.bounds import MAX_INT64
from metadata.requests import AllocateProducerIdsRequest


class KnownProducer(Struct, forbid_unknown_fields=True):
    """Both or none."""

    producer_id: Annotated[int, Meta(ge=0, le=MAX_INT64)] | None = None
    producer_epoch: Annotated[int, Meta(ge=0, le=MAX_EPOCH)] | None = None


_decoder: Final = msgspec.json.Decoder(KnownProducer)


async def post_producers(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    known = json_guard.decode(_decoder, await read_body(request, context.settings) or b"{}")
    if (known.producer_id is None) != (known.producer_epoch is None):
        raise bad_request("producer_id and producer_epoch belong together: give both to raise the epoch, or neither")
    producer_id, epoch = known.producer_id, known.producer_epoch
    if producer_id is None or epoch is None or epoch >= MAX_EPOCH - 1:
        producer_id, epoch = await _new_id(context), 0
    else:
        if producer_id >= context.node.image.next_producer_id:
            message = f"producer_id {producer_id} was never given to anybody: ask without a body for one"
            raise ApiError(409, UNKNOWN_PRODUCER, message)
        epoch += 1
    answer = {"kind": "KraftProducer", "cluster_id": context.node.cluster_id}
    return json_reply({**answer, "producer_id": producer_id, "producer_epoch": epoch})


async def _new_id(context: Context) -> int:
    node = context.node
    if node.broker_epoch is None:
        raise ApiError(503, RETRIABLE, f"node {node.broker_id} is starting: try again soon")
    asked = AllocateProducerIdsRequest(broker_id=node.broker_id, broker_epoch=node.broker_epoch)
    answer = await context.admin(asked)
    assert isinstance(answer, ProducerIdsAllocated), answer
    return answer.first_producer_id
