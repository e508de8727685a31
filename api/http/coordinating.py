"""Work that only a group's coordinator can do: here if this node coordinates the group, else there.

Owns the way to the coordinator: which broker it is in the committed image, the making of the offsets topic on first
use, the wait while the coordinator is being elected or reads its log, and the handing on of the whole request. A
request that another node handed on is done here or not at all: no loops. Invariant: only a `StaleRouteError`, after
which nothing was done (or what does no harm twice), leads to another try.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from api.http.bodies import read_body
from api.http.context import context_of
from api.http.errors import ApiError, Outcome, StaleRouteError, bad_request
from api.http.forwarding import Relayed
from api.http.group_errors import coordinator_away, group_not_found
from api.http.in_flight import held_by_request
from api.http.replies import body_reply, no_content
from api.http.routing import check_cluster, is_forwarded
from wire.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from aiohttp import web

    from api.http.context import Context
    from metadata.image import Broker

T = TypeVar("T")

CLIENT_HOST: Final = "Kraft-Client-Host"
"""Whose request it is that another node hands on."""
WORK_S: Final = 8.0
"""What a coordinator may take beyond the caller's own wait: it writes to its log with acks=all, and asks leaders."""
WAIT_FIRST_S: Final = 0.02
WAIT_MAX_S: Final = 0.2
LOOK_S: Final = 0.25
"""How often it is looked whether whoever waits is still there."""
GROUP_ID_LENGTH_MAX: Final = 1024
_HANDED_ON: Final = ("Accept", "Content-Type")


class AtCoordinator(NamedTuple):
    """One request, where it can be done."""

    request: web.Request
    context: Context
    group_id: str
    body: bytes


async def at_coordinator(
    request: web.Request,
    work: Callable[[AtCoordinator], Awaitable[web.StreamResponse]],
    *,
    is_repeatable: bool = True,
    makes_topic: bool = False,
    wait_s: float = 0.0,
    no_such: Callable[[str], ApiError] = group_not_found,
) -> web.StreamResponse:
    """The answer of `work`, which is done by the group's coordinator.

    `is_repeatable`: twice done, it does no harm. `makes_topic`: it is the first that a group may do; where not, and no
    group has ever been, the answer is `no_such`. `wait_s`: how long the caller asked to wait.
    """
    context = context_of(request)
    check_cluster(context, request)
    group_id = group_of(request)
    asked = AtCoordinator(request, context, group_id, await read_body(request, context.settings))
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + context.settings.leader_wait_s
    pause_s = WAIT_FIRST_S
    while True:
        try:
            if makes_topic and not context.node.groups.has_topic:
                await _make_topic(context)
            return await _try(asked, work, is_repeatable=is_repeatable, wait_s=wait_s, no_such=no_such)
        except StaleRouteError:
            if is_forwarded(request) or context.is_draining or loop.time() + pause_s > give_up_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, WAIT_MAX_S)


def group_of(request: web.Request) -> str:
    """The group that the path names."""
    group_id: str = request.match_info["group"]
    if len(group_id) > GROUP_ID_LENGTH_MAX:
        raise bad_request(f"a group's name has at most {GROUP_ID_LENGTH_MAX} characters, not {len(group_id)}")
    return group_id


def client_host(request: web.Request) -> str:
    """The address of whoever asked, as Kafka shows it."""
    said = request.headers.get(CLIENT_HOST) if is_forwarded(request) else None
    return said or f"/{request.remote or 'unknown'}"


async def while_client_listens(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """ConnectionResetError soon after the client has gone: nothing is to be given out that nobody hears."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait((task,), timeout=LOOK_S)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client has gone: what it would have got stays where it is")
            if done:
                return task.result()
    finally:
        task.cancel()


async def _make_topic(context: Context) -> None:
    try:
        await context.node.groups.make_topic()
    except RefusedError as refused:
        raise coordinator_away(refused.message) from None


async def _try(
    asked: AtCoordinator,
    work: Callable[[AtCoordinator], Awaitable[web.StreamResponse]],
    *,
    is_repeatable: bool,
    wait_s: float,
    no_such: Callable[[str], ApiError],
) -> web.StreamResponse:
    request, context, group_id, _ = asked
    groups = context.node.groups
    if not groups.has_topic:
        raise no_such(group_id)
    try:
        coordinator = groups.coordinator_of(group_id)
        is_here = coordinator.broker_id == context.node.broker_id
        if is_here:
            groups.shard(group_id)
    except RefusedError as refused:
        raise coordinator_away(refused.message) from None
    if is_here:
        return await work(asked)
    if is_forwarded(request):
        raise coordinator_away(f"broker {coordinator.broker_id} coordinates the group, not this one")
    return await _hand_on(asked, coordinator, is_repeatable=is_repeatable, timeout_s=wait_s + WORK_S)


async def _hand_on(
    asked: AtCoordinator, coordinator: Broker, *, is_repeatable: bool, timeout_s: float
) -> web.StreamResponse:
    request, context, _, body = asked
    headers = {name: request.headers[name] for name in _HANDED_ON if name in request.headers}
    headers |= {"Host": request.host, CLIENT_HOST: client_host(request)}  # links begin as the caller's request did
    path = request.rel_url.raw_path_qs
    relayed = Relayed(request.method, path, headers, body, timeout_s, is_repeatable)
    asking = context.forwarder.relay(coordinator, relayed)
    answer = await (asking if is_repeatable else while_client_listens(request, asking))
    if not answer.body:
        return no_content()
    try:
        held_by_request().take(len(answer.body))
    except ApiError as error:
        if not is_repeatable:
            error.outcome = Outcome.UNKNOWN  # it was done: what it gave out was for an answer that nobody gets
        raise
    return body_reply(answer.body, content_type=answer.headers["Content-Type"], status=answer.status)
