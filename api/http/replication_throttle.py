"""`C/replication-throttle`: what a broker may fetch a second for the replicas that are being added to it.

Assigned replicas are never held back, so one that is forgotten does no harm.
"""

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import Context, context_of
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_cluster
from metadata.bounds import MAX_INT64
from metadata.requests import SetReplicationThrottleRequest


class Throttle(Struct, forbid_unknown_fields=True):
    bytes_per_s: Annotated[int, Meta(ge=1, le=MAX_INT64)] | None
    """null: no limit."""


_decoder: Final = msgspec.json.Decoder(Throttle)


async def get_throttle(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    return _answer(request, context)


async def put_throttle(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    wanted = json_guard.decode(_decoder, await read_body(request, context.settings))
    await context.admin(SetReplicationThrottleRequest(bytes_per_s=wanted.bytes_per_s))
    return _answer(request, context)


def _answer(request: web.Request, context: Context) -> web.Response:
    bytes_per_s = context.node.image.replication_throttle_bytes_per_s
    return json_reply(
        Links(request).resource("KraftReplicationThrottle", "/replication-throttle", bytes_per_s=bytes_per_s)
    )
