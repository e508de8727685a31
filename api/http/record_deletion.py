"""`POST .../partitions/{p}/records:trim`: the oldest records of a partition go, in all of its replicas (KIP-107).

Any node takes it and hands it to the leader. Twice done it does no harm: the beginning of a log only moves forward.
"""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import context_of
from api.http.forwarding import Relayed
from api.http.leading import Target, at_leader
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.routing import TOPIC_ID, find_partition, find_topic, is_forwarded, leader_headers
from broker.record_deletion import UP_TO_HIGH_WATERMARK, delete_records
from broker.replication.replica import Replica
from metadata.bounds import MAX_INT64
from metadata.image import Broker
from wire.identifiers import uuid_to_text

GRACE_S: Final = 1.0


class Trim(Struct, forbid_unknown_fields=True):
    before_offset: Annotated[int, Meta(ge=0, le=MAX_INT64)] | None
    """null: all that can be read now."""


_decoder: Final = msgspec.json.Decoder(Trim)


async def post_trim(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    partition = find_partition(request, topic)
    Parameters(request).done()
    body = await read_body(request, context.settings)
    wanted = json_guard.decode(_decoder, body)
    before_offset = UP_TO_HIGH_WATERMARK if wanted.before_offset is None else wanted.before_offset
    node, timeout_s = context.node, context.settings.admin_timeout_s

    async def here(replica: Replica, leader: Broker) -> tuple[dict[str, Any], Broker]:
        reached = await delete_records(
            replica, before_offset, image=lambda: node.image, room=node.waiting_room, timeout_s=timeout_s
        )
        told = {"topic_name": topic.name, "partition_id": partition, "log_start_offset": reached}
        return {**told, "high_watermark": replica.high_watermark}, leader

    async def there(leader: Broker) -> tuple[dict[str, Any], Broker]:
        path = f"/v3/clusters/{node.cluster_id}/topics/{topic.name}/partitions/{partition}/records:trim"
        headers = {"Content-Type": "application/json", TOPIC_ID: uuid_to_text(topic.topic_id)}
        relayed = Relayed("POST", path, headers, bytes(body), timeout_s + GRACE_S, is_repeatable=True)
        answer = await context.forwarder.relay(leader, relayed)
        return msgspec.json.decode(answer.body, type=dict[str, Any]), leader

    target = Target(context, topic, partition, may_forward=not is_forwarded(request))
    told, leader = await at_leader(target, here=here, there=there, wait_s=context.settings.admin_timeout_s)
    return json_reply(told, headers=leader_headers(context, leader))
