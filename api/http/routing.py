"""From a path to a topic, a partition and its leader.

Refuses a cluster id that is not this cluster's, topic names that cannot exist, unknown topics and partitions, each
with its own code. Tells every caller who leads (`X-Leader-Id`, `X-Leader-Url`), and sends it there if it asked to be
sent (`?redirect=1`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from api.http.errors import (
    NOT_FOUND,
    RETRIABLE,
    ApiError,
    StaleRouteError,
    bad_request,
    partition_not_found,
    topic_not_found,
)
from api.http.parameters import parse_integer
from metadata.topic_names import check_name
from wire.identifiers import uuid_from_text

if TYPE_CHECKING:
    from uuid import UUID

    from aiohttp import web

    from api.http.context import Context
    from metadata.image import Broker, Topic

FORWARDED: Final = "Kraft-Forwarded"
"""The broker id of the node that took the request; whoever carries it is answered here or not at all: no loops."""
WAIT_S: Final = 0.01
TOPIC_ID: Final = "Kraft-Topic-Id"
"""The id of the topic that a forwarding node means: a name may have been deleted and made again (S17)."""


def check_cluster(context: Context, request: web.Request) -> None:
    cluster_id = request.match_info.get("cluster_id", "-")
    if cluster_id not in ("-", context.node.cluster_id):
        raise ApiError(
            404,
            NOT_FOUND,
            f"cluster {cluster_id[:64]!r} is not here: this cluster is {context.node.cluster_id}; '-' stands for it",
        )


async def find_topic(context: Context, request: web.Request) -> Topic:
    """The topic that the path names, in this node's image; one that another node has just created is waited for."""
    check_cluster(context, request)
    name = request.match_info["topic"]
    check_name(name)
    topic = context.node.image.topic(name)
    give_up = 0.0
    while topic is None:
        now = asyncio.get_running_loop().time()
        give_up = give_up or now + context.settings.unknown_topic_wait_s
        if now >= give_up:
            raise topic_not_found(name)
        await asyncio.sleep(WAIT_S)
        topic = context.node.image.topic(name)
    wanted = request.headers.get(TOPIC_ID)
    if wanted is not None and _topic_id(wanted) != topic.topic_id:
        raise StaleRouteError(503, RETRIABLE, f"topic {name!r} has another id here: it was deleted and made again")
    return topic


def _topic_id(text: str) -> UUID:
    try:
        return uuid_from_text(text)
    except ValueError:
        raise bad_request(f"{TOPIC_ID} must be a topic id of 22 characters, not {text[:64]!r}") from None


def find_partition(request: web.Request, topic: Topic) -> int:
    """The partition index that the path names."""
    text = request.match_info["partition"]
    partition = parse_integer(text)
    if partition is None:
        raise bad_request(f"partition_id must be an integer, not {text[:64]!r}")
    return check_partition(topic, partition)


def check_partition(topic: Topic, partition: int) -> int:
    if not 0 <= partition < len(topic.partitions):
        raise partition_not_found(topic.name, partition, len(topic.partitions))
    return partition


def url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def broker_url(context: Context, broker: Broker) -> str:
    return f"{context.settings.scheme}://{url_host(broker.http.host)}:{broker.http.port}"


def leader_headers(context: Context, leader: Broker | None) -> dict[str, str]:
    if leader is None:
        return {}
    return {"X-Leader-Id": str(leader.broker_id), "X-Leader-Url": broker_url(context, leader)}


def is_forwarded(request: web.Request) -> bool:
    return FORWARDED in request.headers


def redirect_to_leader(context: Context, request: web.Request, topic: Topic, partition: int) -> None:
    """Raise the 307 to the leader where that is another node; the path and query stay, but for `redirect`."""
    leader = context.node.image.leader_of(topic, partition)
    if leader is None or leader.broker_id == context.node.broker_id:
        return
    query = "&".join(part for part in request.rel_url.raw_query_string.split("&") if part.split("=")[0] != "redirect")
    location = f"{broker_url(context, leader)}{request.rel_url.raw_path}{'?' + query if query else ''}"
    raise ApiError(
        307,
        307,
        f"broker {leader.broker_id} leads partition {partition} of topic {topic.name!r}",
        headers={"Location": location, **leader_headers(context, leader)},
    )
