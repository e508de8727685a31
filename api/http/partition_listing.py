"""`GET C/partitions`: the partitions of all topics, by page and by what is the matter with them.

A page walks the topics by name and asks each leader once; however many partitions there are, an answer holds at most
2,000: what it costs the loop is felt by others. A page goes on after a partition, not at a number: what is created or
deleted meanwhile moves nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlencode

from api.http.context import context_of
from api.http.errors import bad_request, topic_not_found
from api.http.parameters import SHOWN_MAX, Parameters, parse_integer
from api.http.partition_resources import Condition, condition_of
from api.http.partition_states import Asked, partition_states, states_reply
from api.http.partitions import described
from api.http.replies import json_reply
from api.http.resources import Links
from api.http.routing import check_cluster, is_forwarded
from metadata.bounds import MAX_INT32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from api.http.context import Context
    from metadata.image import Image, Topic

PAGE_DEFAULT: Final = 1000
PAGE_MAX: Final = 2000
"""A larger limit is answered with this much, and where to go on."""

STATES: Final[dict[str, Callable[[Condition], bool]]] = {
    "under-replicated": lambda condition: condition.is_under_replicated,
    "under-min-isr": lambda condition: condition.is_under_min_isr,
    "unavailable": lambda condition: condition.leader_id is None,
    "reassigning": lambda condition: condition.is_reassigning,
    "not-preferred-leader": lambda condition: condition.leader_id is not None and not condition.is_preferred_leader,
}


class Page(NamedTuple):
    """Which part of a list of partitions is wanted."""

    limit: int
    after: tuple[str, int]
    """Topic name and partition that came last; ("", -1): from the beginning."""


Found = list[tuple["Topic", int]]


def page_of(parameters: Parameters) -> Page:
    limit = min(parameters.integer("limit", PAGE_DEFAULT, minimum=1), PAGE_MAX)
    text = parameters.text("after")
    if text is None:
        return Page(limit, ("", -1))
    topic, _, partition = text.rpartition("/")
    number = parse_integer(partition)
    if not topic or number is None:
        raise bad_request(f"after must be a topic and a partition, as in orders/7, not {text[:SHOWN_MAX]!r}")
    return Page(limit, (topic, number))


def partitions_of(image: Image, page: Page, topic: Topic | None = None) -> Iterator[tuple[Topic, int]]:
    """All that come after the page's beginning, by topic name and number."""
    name, last = page.after
    topics = image.topics.values() if topic is None else (topic,)
    for found in sorted((t for t in topics if t.name >= name), key=lambda t: t.name):
        first = last + 1 if found.name == name else 0
        yield from ((found, index) for index in range(max(first, 0), len(found.partitions)))


def cut(partitions: Iterator[tuple[Topic, int]], page: Page) -> tuple[Found, str | None]:
    """One page, and the `after` of the next one where there is one."""
    found: Found = []
    for one in partitions:
        if len(found) == page.limit:
            topic, index = found[-1]
            return found, f"{topic.name}/{index}"
        found.append(one)
    return found, None


async def list_partitions(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    parameters = Parameters(request)
    page = page_of(parameters)
    wanted = _wanted(context, parameters)
    parameters.done()
    image = context.node.image
    topic_name = request.query.get("topic")
    topic = None if topic_name is None else image.topic(topic_name)
    if topic_name is not None and topic is None:
        raise topic_not_found(topic_name[:SHOWN_MAX])
    found, after = cut((one for one in partitions_of(image, page, topic) if wanted(*one)), page)
    asked = Asked("/partitions", dict(request.query))
    states = await partition_states(context, found, asked, may_forward=not is_forwarded(request))
    if is_forwarded(request):
        return states_reply(states)
    links = Links(request)
    data = [described(context, links, topic, index, states) for topic, index in found]
    following = None if after is None else next_path("/partitions", request, after)
    return json_reply(links.listing("KafkaPartitionList", "/partitions", data, following=following))


def next_path(path: str, request: web.Request, after: str) -> str:
    return f"{path}?{urlencode({**request.query, 'after': after}, quote_via=quote, safe='/')}"


def _wanted(context: Context, parameters: Parameters) -> Callable[[Topic, int], bool]:
    """What the query asks for."""
    state = parameters.choice("state", "", tuple(STATES))
    broker_id = parameters.optional_integer("broker_id", maximum=MAX_INT32)
    parameters.text("topic")
    image, defaults = context.node.image, context.node.topic_defaults

    def wanted(topic: Topic, index: int) -> bool:
        if broker_id is not None and broker_id not in topic.partitions[index].replicas:
            return False
        return not state or STATES[state](condition_of(image, topic, index, defaults))

    return wanted
