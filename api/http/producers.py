"""`POST C/producers`: the id and epoch under which an idempotent producer writes (KIP-98, KIP-360).

A producer that knows its id asks for the next epoch of it: its sequences begin at 0 again, and what it sent in an older
epoch is refused wherever the new one has written.
"""

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import context_of
from api.http.errors import bad_request
from api.http.idempotence import MAX_EPOCH
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.routing import check_cluster
from metadata.bounds import MAX_INT64


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
    producer_ids, timeout_s = context.node.producer_ids, context.settings.admin_timeout_s
    if known.producer_id is None or known.producer_epoch is None:
        producer = await producer_ids.allocate(timeout_s=timeout_s)
    else:
        producer = await producer_ids.renew(known.producer_id, known.producer_epoch, timeout_s=timeout_s)
    return json_reply(
        {
            "kind": "KraftProducer",
            "cluster_id": context.node.cluster_id,
            "producer_id": producer.producer_id,
            "producer_epoch": producer.epoch,
        }
    )
