"""What an operator asks: the quorum, the cluster's health, and whether this node is alive and ready."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.http.context import context_of
from api.http.errors import RETRIABLE, ApiError
from api.http.parameters import Parameters
from api.http.replies import json_reply
from api.http.routing import FORWARDED, check_cluster

if TYPE_CHECKING:
    from aiohttp import web

    from broker.health import Health, NamedPartition


LEADER_TIMEOUT_S: Final = 1.0
NAMED_DEFAULT: Final = 100
NAMED_MAX: Final = 10_000


async def get_quorum(request: web.Request) -> web.Response:
    """As the leader sees it, who alone knows how far each voter is; while it can't be asked, as this node does."""
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    node = context.node
    leader_id = node.quorum.leader_id
    leader = None if leader_id is None else node.image.brokers.get(leader_id)
    if leader is not None and leader_id != node.broker_id and FORWARDED not in request.headers:
        with contextlib.suppress(ApiError):
            answer = await context.forwarder.get(leader, "/quorum", timeout_s=LEADER_TIMEOUT_S)
            return json_reply(msgspec.Raw(answer.body))
    status = dataclasses.asdict(node.quorum.status())
    return json_reply({"kind": "KraftQuorum", "cluster_id": node.cluster_id, **status})


async def get_health(request: web.Request) -> web.Response:
    """Counts of all, names of the first `limit` of each kind: `GET C/partitions?state=` lists them page by page."""
    context = context_of(request)
    check_cluster(context, request)
    parameters = Parameters(request)
    limit = parameters.integer("limit", NAMED_DEFAULT, maximum=NAMED_MAX)
    parameters.done()
    node = context.node
    health, image = node.health(), node.image
    answer: dict[str, Any] = {
        "kind": "KraftHealth",
        "cluster_id": node.cluster_id,
        "healthy": health.healthy,
        "reasons": health.reasons,
        "brokers_count": len(image.brokers),
        "fenced_brokers": health.fenced_brokers,
        "draining_brokers": sorted(b.broker_id for b in image.brokers.values() if b.in_controlled_shutdown),
        "topics_count": len(image.topics),
        "partitions_count": sum(len(topic.partitions) for topic in image.topics.values()),
    }
    for kind, partitions in _unwell(health).items():
        answer[f"{kind}_partitions_count"] = len(partitions)
        answer[f"{kind}_partitions"] = [_named(*partition) for partition in partitions[:limit]]
    answer["offline_replicas_count"] = len(health.offline_replicas)
    return json_reply(answer)


def _unwell(health: Health) -> dict[str, list[NamedPartition]]:
    return {
        "leaderless": health.leaderless,
        "under_replicated": health.under_replicated,
        "under_min_isr": health.under_min_in_sync,
        "at_min_isr": health.at_min_in_sync,
        "reassigning": health.reassigning,
    }


def _named(topic: str, partition: int) -> dict[str, str | int]:
    return {"topic_name": topic, "partition_id": partition}


async def get_alive(_request: web.Request) -> web.Response:
    """The event loop turns; nothing else is asked, so that nobody restarts a node that only waits for others."""
    return json_reply({"status": "alive"})


async def get_ready(request: web.Request) -> web.Response:
    reasons = context_of(request).node.readiness()
    if not reasons:
        return json_reply({"ready": True, "reasons": []})
    message = f"not ready: {'; '.join(reasons)}"
    body = {"error_code": RETRIABLE, "message": message, "ready": False, "reasons": reasons}
    return json_reply(body, status=503, headers={"Retry-After": "1"})
