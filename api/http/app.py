"""The routes, and the one place where every failure becomes an answer.

Owns the middleware: errors as JSON with a code and a message, 404 and 405 too; a bug is logged and answered 500;
answers are compressed for who takes it; bytes in flight are given back when the answer has been sent. Refuses nothing
itself.
Invariants: no request is answered 200 for a failure, none 500 for bad input.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.http import (
    brokers,
    cluster_health,
    clusters,
    consume,
    consumer_groups,
    consumer_instances,
    elections,
    fetch,
    group_lags,
    group_listing,
    group_offsets,
    instance_records,
    partition_listing,
    partitions,
    producers,
    reassignments,
    record_deletion,
    records,
    records_batch,
    replication_throttle,
    topic_configs,
    topics,
    v2_topics,
)
from api.http.context import CONTEXT, Context, context_of
from api.http.errors import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    SERVER_ERROR,
    ApiError,
    StaleRouteError,
    bad_request,
    from_refusal,
    from_unknown_outcome,
)
from api.http.in_flight import begin_holding
from api.http.instances import INSTANCES, Instances
from api.http.replies import compress, error_reply
from api.http.routing import is_forwarded
from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from wire.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.http.settings import HttpSettings
    from broker.node import Node

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log: Final = logger(room="http")

BROKEN_ROOMS: Final = ("broker", "logstore")
"""Whose broken invariants stop the node."""

CLUSTER: Final = "/v3/clusters/{cluster_id}"
TOPIC: Final = CLUSTER + "/topics/{topic}"
PARTITION: Final = TOPIC + "/partitions/{partition}"
GROUP: Final = CLUSTER + "/consumer-groups/{group}"


def create_app(node: Node, settings: HttpSettings) -> web.Application:
    """One node's door, to be served by one `HttpListener` or several."""
    app = web.Application(middlewares=[_answer], client_max_size=settings.body_bytes_max)
    context = app[CONTEXT] = Context(node, settings)
    instances = app[INSTANCES] = Instances(context)
    app.add_routes(_hot_routes())
    app.add_routes(_v3_routes())
    app.add_routes(_replication_routes())
    app.add_routes(_group_routes())
    app.add_routes(_instance_routes())
    app.add_routes(_v2_routes())

    async def close(_app: web.Application) -> None:
        context.drain()
        await instances.close()
        await context.close()

    app.on_cleanup.append(close)
    return app


def _hot_routes() -> list[web.RouteDef]:
    """First, because routes are tried in order."""
    return [
        web.post(TOPIC + "/records:batch", records_batch.post_records_batch),
        web.get(PARTITION + "/records", fetch.get_records),
        web.post(PARTITION + "/records", records.post_records),
        web.post(TOPIC + "/records", records.post_records),
        web.post(PARTITION + "/records:consume", consume.post_consume),
        web.post(PARTITION + "/records:trim", record_deletion.post_trim),
        web.get(PARTITION + "/offset", partitions.get_offset),
    ]


def _v3_routes() -> list[web.RouteDef]:
    return [
        web.get("/v3/clusters", clusters.list_clusters),
        web.get(CLUSTER, clusters.get_cluster),
        web.get(CLUSTER + "/brokers", brokers.list_brokers),
        web.get(CLUSTER + "/brokers/{broker_id}", brokers.get_broker),
        web.delete(CLUSTER + "/brokers/{broker_id}", brokers.delete_broker),
        web.get(CLUSTER + "/quorum", cluster_health.get_quorum),
        web.get(CLUSTER + "/health", cluster_health.get_health),
        web.get(CLUSTER + "/topics", topics.list_topics),
        web.post(CLUSTER + "/topics", topics.create_topic),
        web.get(TOPIC, topics.get_topic),
        web.patch(TOPIC, topics.grow_topic),
        web.delete(TOPIC, topics.delete_topic),
        web.get(TOPIC + "/configs", topic_configs.list_configs),
        web.post(TOPIC + "/configs:alter", topic_configs.alter_configs),
        web.get(TOPIC + "/configs/{config}", topic_configs.get_config),
        web.put(TOPIC + "/configs/{config}", topic_configs.put_config),
        web.delete(TOPIC + "/configs/{config}", topic_configs.delete_config),
        web.get(TOPIC + "/partitions", partitions.list_partitions),
        web.get(PARTITION, partitions.get_partition),
        web.get(PARTITION + "/replicas", partitions.list_replicas),
        web.get(PARTITION + "/replicas/{broker_id}", partitions.get_replica),
        web.get("/healthz", cluster_health.get_alive),
        web.get("/readyz", cluster_health.get_ready),
    ]


def _replication_routes() -> list[web.RouteDef]:
    return [
        web.get(CLUSTER + "/partitions", partition_listing.list_partitions),
        web.post(CLUSTER + "/producers", producers.post_producers),
        web.post(CLUSTER + "/partitions:reassign", reassignments.post_reassign),
        web.post(CLUSTER + "/partitions:elect-leaders", elections.post_elect_leaders),
        web.get(PARTITION + "/reassignment", reassignments.get_reassignment),
        web.put(PARTITION + "/reassignment", reassignments.put_reassignment),
        web.delete(PARTITION + "/reassignment", reassignments.delete_reassignment),
        web.get(CLUSTER + "/replication-throttle", replication_throttle.get_throttle),
        web.put(CLUSTER + "/replication-throttle", replication_throttle.put_throttle),
    ]


def _group_routes() -> list[web.RouteDef]:
    consumer = GROUP + "/consumers/{consumer}"
    return [
        web.get(CLUSTER + "/consumer-groups", group_listing.list_groups),
        web.get(GROUP, consumer_groups.get_group),
        web.delete(GROUP, consumer_groups.delete_group),
        web.get(GROUP + "/consumers", consumer_groups.list_consumers),
        web.get(consumer, consumer_groups.get_consumer),
        web.get(consumer + "/assignments", consumer_groups.list_assignments),
        web.get(GROUP + "/lags", group_lags.list_lags),
        web.get(GROUP + "/lags/{topic}/partitions/{partition}", group_lags.get_lag),
        web.get(GROUP + "/lag-summary", group_lags.get_lag_summary),
        web.get(GROUP + "/offsets", group_offsets.list_offsets),
        web.post(GROUP + "/offsets:commit", group_offsets.post_commit),
        web.post(GROUP + "/offsets:reset", group_offsets.post_reset),
        web.post(GROUP + "/offsets:delete", group_offsets.post_delete),
    ]


def _instance_routes() -> list[web.RouteDef]:
    instance = "/consumers/{group}/instances/{instance}"
    return [
        web.get(instance + "/records", instance_records.get_records),
        web.post("/consumers/{group}", consumer_instances.post_instance),
        web.delete(instance, consumer_instances.delete_instance),
        web.get(instance + "/subscription", consumer_instances.get_subscription),
        web.post(instance + "/subscription", consumer_instances.post_subscription),
        web.delete(instance + "/subscription", consumer_instances.delete_subscription),
        web.get(instance + "/assignments", consumer_instances.get_assignments),
        web.post(instance + "/assignments", consumer_instances.post_assignments),
        web.post(instance + "/positions", consumer_instances.post_positions),
        web.post(instance + "/positions/beginning", consumer_instances.post_beginning),
        web.post(instance + "/positions/end", consumer_instances.post_end),
        web.get(instance + "/offsets", consumer_instances.get_offsets),
        web.post(instance + "/offsets", consumer_instances.post_offsets),
    ]


def _v2_routes() -> list[web.RouteDef]:
    topic, partition = "/topics/{topic}", "/topics/{topic}/partitions/{partition}"
    return [
        web.get("/topics", v2_topics.list_topics),
        web.get(topic, v2_topics.get_topic),
        web.post(topic, v2_topics.post_records),
        web.get(topic + "/partitions", v2_topics.list_partitions),
        web.get(partition, v2_topics.get_partition),
        web.post(partition, v2_topics.post_records),
        web.get(partition + "/records", v2_topics.get_records),
        web.get(partition + "/offsets", v2_topics.get_offsets),
        web.get("/brokers", brokers.list_brokers_v2),
    ]


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    held = begin_holding(context_of(request).in_flight)
    try:
        response = await _outcome(request, handler)
        if context_of(request).is_draining and not response.prepared:
            response.force_close()
        if not response.prepared:
            await compress(request, response)
        if held.held_bytes and not response.prepared:
            await _send(request, response)
        return response
    finally:
        held.give_back()


async def _outcome(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or what its failure is told.

    A broken invariant of the broker or of its logs (an AssertionError raised in their code) also stops the node: it can
    no longer say what is true. A bug of this door itself costs one request.
    """
    try:
        return await handler(request)
    except ConnectionError:
        raise  # the client has gone: nobody is left to answer
    except Exception as failure:  # noqa: BLE001 - the door of the process: whatever a handler did ends here, told or logged
        error = _account_of(request, failure)
    if isinstance(error, StaleRouteError) and is_forwarded(request):
        error.details["stale_route"] = True
    return error_reply(error)


def _account_of(request: web.Request, failure: Exception) -> ApiError:
    if isinstance(failure, ApiError):
        return failure
    if isinstance(failure, RefusedError):
        return from_refusal(failure)
    if isinstance(failure, OutcomeUnknownError):
        return from_unknown_outcome(failure)
    if isinstance(failure, web.HTTPException | web.RequestPayloadError):
        return _of_library(request, failure)
    _log.error("a request failed by our own fault", method=request.method, path=request.path[:200], exc_info=failure)
    if isinstance(failure, AssertionError) and _raised_in(failure) in BROKEN_ROOMS:
        context_of(request).node.fail(failure)
    return ApiError(500, SERVER_ERROR, "internal error: the node's log says more")


def _raised_in(failure: Exception) -> str:
    """The top-level package whose code raised it."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _of_library(request: web.Request, error: web.HTTPException | web.RequestPayloadError) -> ApiError:
    """What aiohttp itself refuses, in our words."""
    if isinstance(error, web.RequestPayloadError):
        return bad_request(f"the body cannot be read: {error}")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods - {"HEAD"}))
        message = f"{request.method} is not a method of {request.path[:200]}: use {allowed}"
        return ApiError(405, METHOD_NOT_ALLOWED, message, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ApiError(
            404, NOT_FOUND, f"there is nothing at {request.path[:200]!r}: see the routes under /v3/clusters"
        )
    return ApiError(error.status, error.status, error.text or error.reason)


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Send what holds bytes before they are given back; a reader that takes nothing is cut off."""
    try:
        async with asyncio.timeout(context_of(request).settings.response_deadline_s):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read its answer") from None
