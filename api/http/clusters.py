"""`/v3/clusters` and the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.http.context import context_of
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_cluster

if TYPE_CHECKING:
    from aiohttp import web


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
