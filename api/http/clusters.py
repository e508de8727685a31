"""`/v3/clusters`, the cluster, its brokers; `/brokers` of v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.http.context import context_of
from api.http.errors import NOT_FOUND, ApiError, bad_request
from api.http.parameters import Parameters, parse_integer
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_cluster

if TYPE_CHECKING:
    from aiohttp import web

    from metadata.image import Broker


async def list_clusters(request: web.Request) -> web.Response:
    Parameters(request).done()
    links = Links(request)
    listing = {"self": links.clusters_url, "next": None}
    return json_reply({"kind": "KafkaClusterList", "metadata": listing, "data": [_cluster(request, links)]})


async def get_cluster(request: web.Request) -> web.Response:
    check_cluster(context_of(request), request)
    Parameters(request).done()
    return json_reply(_cluster(request, Links(request)))


def _cluster(request: web.Request, links: Links) -> dict[str, Any]:
    leader_id = context_of(request).node.quorum.leader_id
    return links.resource(
        "KafkaCluster",
        "",
        controller_id=leader_id,
        controller=None if leader_id is None else links.related(f"/brokers/{leader_id}"),
        brokers=links.related("/brokers"),
        topics=links.related("/topics"),
        quorum=links.related("/quorum"),
        health=links.related("/health"),
    )


async def list_brokers(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    links = Links(request)
    brokers = [_broker(links, broker) for _, broker in sorted(context.node.image.brokers.items())]
    return json_reply(links.listing("KafkaBrokerList", "/brokers", brokers))


async def get_broker(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    text = request.match_info["broker_id"]
    broker_id = parse_integer(text)
    if broker_id is None:
        raise bad_request(f"broker_id must be an integer, not {text[:64]!r}")
    broker = context.node.image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(404, NOT_FOUND, f"broker {broker_id} is not registered: GET .../brokers lists those that are")
    return json_reply(_broker(Links(request), broker))


def _broker(links: Links, broker: Broker) -> dict[str, Any]:
    kafka = next(iter(broker.listeners.values()), None)
    reached = kafka or broker.http
    return links.resource(
        "KafkaBroker",
        f"/brokers/{broker.broker_id}",
        broker_id=broker.broker_id,
        host=reached.host,
        port=reached.port,
        rack=broker.rack,
        broker_epoch=broker.epoch,
        is_fenced=broker.fenced,
        http={"host": broker.http.host, "port": broker.http.port},
        peer={"host": broker.peer.host, "port": broker.peer.port},
        kafka=None if kafka is None else {"host": kafka.host, "port": kafka.port},
    )


async def list_brokers_v2(request: web.Request) -> web.Response:
    Parameters(request).done()
    return json_reply({"brokers": sorted(context_of(request).node.image.brokers)})
