"""Brokers: where they listen, whether they are in service, what they hold, how far behind they are; and forgetting one
that is gone for good.

How far a broker's replicas are behind is known by the leaders of the partitions: with `?lag=1` each broker in service
is asked once, for one figure a broker, however many partitions there are.
"""

import asyncio
from collections import Counter
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Struct

from api.http.context import Context, context_of
from api.http.errors import NOT_FOUND, ApiError, bad_request
from api.http.parameters import Parameters, parse_integer
from api.http.partition_states import ASK_TIMEOUT_S, followers_of
from api.http.replies import json_reply, no_content
from api.http.resources import Links
from api.http.routing import check_cluster, is_forwarded
from metadata.image import Broker, Endpoint, Image
from metadata.requests import UnregisterBrokerRequest
from wire.errors import RefusedError


class Holdings(NamedTuple):
    """By broker id: replicas, leaderships, replicas that are not in sync."""

    replicas: Counter[int]
    leaders: Counter[int]
    out_of_sync: Counter[int]


class Lag(Struct):
    """How far a broker's replicas are behind their leaders, in offsets, over those whose leader could tell."""

    broker_id: int = -1
    lag_offsets_max: int | None = None
    lag_offsets_total: int | None = None


class _Listing(Struct):
    data: list[Lag]


_decoder: Final = msgspec.json.Decoder(_Listing)
Lags = dict[int, Lag]


async def list_brokers(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    parameters = Parameters(request)
    with_lag = parameters.flag("lag")
    parameters.done()
    links, image = Links(request), context.node.image
    holdings = _holdings(image)
    lags = await _lags(request, context) if with_lag else None
    brokers = [_broker(links, broker, holdings, lags) for _, broker in sorted(image.brokers.items())]
    return json_reply(links.listing("KafkaBrokerList", "/brokers", brokers))


async def get_broker(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    parameters = Parameters(request)
    with_lag = parameters.flag("lag")
    parameters.done()
    broker = _named(request, context)
    lags = await _lags(request, context) if with_lag else None
    return json_reply(_broker(Links(request), broker, _holdings(context.node.image), lags))


async def delete_broker(request: web.Request) -> web.Response:
    """Forget a broker that is stopped, empty and not coming back; the controller checks that it is."""
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    broker = _named(request, context)
    await context.admin(UnregisterBrokerRequest(broker_id=broker.broker_id))
    return no_content()


async def list_brokers_v2(request: web.Request) -> web.Response:
    Parameters(request).done()
    return json_reply({"brokers": sorted(context_of(request).node.image.brokers)})


def _named(request: web.Request, context: Context) -> Broker:
    text = request.match_info["broker_id"]
    broker_id = parse_integer(text)
    if broker_id is None:
        raise bad_request(f"broker_id must be an integer, not {text[:64]!r}")
    broker = context.node.image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(404, NOT_FOUND, f"broker {broker_id} is not registered: GET .../brokers lists those that are")
    return broker


def _broker(links: Links, broker: Broker, holdings: Holdings, lags: Lags | None) -> dict[str, Any]:
    broker_id = broker.broker_id
    reached = next(iter(broker.listeners.values()), broker.http)
    resource = links.resource(
        "KafkaBroker",
        f"/brokers/{broker_id}",
        broker_id=broker_id,
        host=reached.host,
        port=reached.port,
        rack=broker.rack,
        broker_epoch=broker.epoch,
        is_fenced=broker.fenced,
        is_draining=broker.in_controlled_shutdown,
        replicas_count=holdings.replicas[broker_id],
        leaders_count=holdings.leaders[broker_id],
        out_of_sync_replicas_count=holdings.out_of_sync[broker_id],
        listeners={name: _endpoint(at) for name, at in sorted(broker.listeners.items())},
        replication_listener=broker.replication_listener,
        http=_endpoint(broker.http),
        peer=_endpoint(broker.peer),
    )
    if lags is not None:
        lag = lags.get(broker_id) or Lag()
        resource |= {"lag_offsets_max": lag.lag_offsets_max, "lag_offsets_total": lag.lag_offsets_total}
    return resource


def _endpoint(at: Endpoint) -> dict[str, str | int]:
    return {"host": at.host, "port": at.port}


def _holdings(image: Image) -> Holdings:
    held = Holdings(Counter(), Counter(), Counter())
    for topic in image.topics.values():
        for index, partition in enumerate(topic.partitions):
            held.replicas.update(partition.replicas)
            held.out_of_sync.update([b for b in partition.replicas if b not in partition.in_sync_replicas])
            if (leader := image.leader_of(topic, index)) is not None:
                held.leaders[leader.broker_id] += 1
    return held


async def _lags(request: web.Request, context: Context) -> Lags:
    node = context.node
    found = [_lags_here(context)]
    if not is_forwarded(request):
        others = [b for b in node.image.brokers.values() if b.broker_id != node.broker_id and not b.fenced]
        found += await asyncio.gather(*(_ask(context, broker) for broker in others))
    merged: Lags = {}
    for lags in found:
        for broker_id, lag in lags.items():
            merged[broker_id] = _merged(merged.get(broker_id), lag)
    return merged


def _lags_here(context: Context) -> Lags:
    """Of the followers of what this broker leads."""
    node, lags = context.node, dict[int, Lag]()
    for topic in node.image.topics.values():
        for index, partition in enumerate(topic.partitions):
            if partition.leader != node.broker_id:
                continue
            try:
                followers = followers_of(node.replica(topic.topic_id, index))
            except RefusedError:
                continue
            for follower in followers:
                if follower.lag is not None:
                    lag = Lag(follower.broker_id, follower.lag, follower.lag)
                    lags[follower.broker_id] = _merged(lags.get(follower.broker_id), lag)
    return lags


def _merged(one: Lag | None, other: Lag) -> Lag:
    if one is None or one.lag_offsets_max is None or one.lag_offsets_total is None:
        return other
    if other.lag_offsets_max is None or other.lag_offsets_total is None:
        return one
    return Lag(
        one.broker_id,
        max(one.lag_offsets_max, other.lag_offsets_max),
        one.lag_offsets_total + other.lag_offsets_total,
    )


async def _ask(context: Context, broker: Broker) -> Lags:
    try:
        answer = await context.forwarder.get(broker, "/brokers", query={"lag": "1"}, timeout_s=ASK_TIMEOUT_S)
        return {lag.broker_id: lag for lag in _decoder.decode(answer.body).data}
    except (ApiError, msgspec.DecodeError):
        return {}
