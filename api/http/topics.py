"""Topics of v3: list, create, describe, delete, and more partitions."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.config_values import ConfigText, config_text
from api.http.context import context_of
from api.http.errors import bad_request
from api.http.parameters import Parameters
from api.http.replies import json_reply, no_content
from api.http.resources import Links
from api.http.routing import check_cluster, find_topic
from metadata.answers import TopicCreated
from metadata.bounds import MAX_CONFIGS, MAX_INT32, MAX_PARTITIONS_PER_TOPIC, MAX_REPLICAS
from metadata.image import Topic
from metadata.requests import ConfigChange, CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest
from metadata.topic_names import INTERNAL_TOPICS, check_name
from wire.identifiers import uuid_to_text

Int32Field = Annotated[int, Meta(ge=-MAX_INT32 - 1, le=MAX_INT32)]


class ReplicasAssignment(Struct, forbid_unknown_fields=True):
    """The brokers of one partition, the preferred leader first."""

    partition_id: Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS_PER_TOPIC)]
    broker_ids: Annotated[list[Int32Field], Meta(max_length=MAX_REPLICAS)]


class NewConfig(Struct, forbid_unknown_fields=True):
    name: str
    value: ConfigText = None


class NewTopic(Struct, forbid_unknown_fields=True):
    topic_name: str
    partitions_count: Int32Field | None = None
    replication_factor: Int32Field | None = None
    replicas_assignments: Annotated[list[ReplicasAssignment], Meta(max_length=MAX_PARTITIONS_PER_TOPIC)] | None = None
    configs: Annotated[list[NewConfig], Meta(max_length=MAX_CONFIGS)] | None = None
    validate_only: bool = False


class GrownTopic(Struct, forbid_unknown_fields=True):
    partitions_count: Int32Field


_new_decoder: Final = msgspec.json.Decoder(NewTopic)
_grown_decoder: Final = msgspec.json.Decoder(GrownTopic)


def topic_resource(
    links: Links, name: str, *, topic_id: str | None, partitions_count: int, replication_factor: int
) -> dict[str, Any]:
    path = f"/topics/{name}"
    return links.resource(
        "KafkaTopic",
        path,
        topic_name=name,
        topic_id=topic_id,
        is_internal=name in INTERNAL_TOPICS,
        replication_factor=replication_factor,
        partitions_count=partitions_count,
        partitions=links.related(f"{path}/partitions"),
        configs=links.related(f"{path}/configs"),
    )


def _described(links: Links, topic: Topic) -> dict[str, Any]:
    return topic_resource(
        links,
        topic.name,
        topic_id=uuid_to_text(topic.topic_id),
        partitions_count=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
    )


async def list_topics(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    links = Links(request)
    topics = sorted(context.node.image.topics.values(), key=lambda topic: topic.name)
    listing = links.listing("KafkaTopicList", "/topics", [_described(links, topic) for topic in topics])
    return json_reply(listing)


async def get_topic(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    return json_reply(_described(Links(request), topic))


async def create_topic(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    body = await read_body(request, context.settings)
    wanted = json_guard.decode(_new_decoder, body)
    name = wanted.topic_name
    check_name(name)
    configs = tuple(ConfigChange(name=c.name, value=config_text("value", c.value)) for c in wanted.configs or ())
    answer = await context.node.admin(
        CreateTopicRequest(
            name=name,
            partitions_count=wanted.partitions_count,
            replication_factor=wanted.replication_factor,
            replicas_assignments=_assignments(wanted.replicas_assignments),
            configs=configs,
            validate_only=wanted.validate_only,
        ),
        timeout_s=context.settings.admin_timeout_s,
    )
    assert isinstance(answer, TopicCreated), answer
    links = Links(request)
    created = topic_resource(
        links,
        name,
        topic_id=None if wanted.validate_only else uuid_to_text(answer.topic_id),
        partitions_count=answer.partitions_count,
        replication_factor=answer.replication_factor,
    )
    if wanted.validate_only:
        return json_reply(created)
    return json_reply(created, status=201, headers={"Location": links.url(f"/topics/{name}")})


def _assignments(wanted: list[ReplicasAssignment] | None) -> tuple[tuple[int, ...], ...] | None:
    """By partition from 0 without a gap, as the metadata takes them."""
    if wanted is None:
        return None
    by_partition = {item.partition_id: tuple(item.broker_ids) for item in wanted}
    if len(by_partition) != len(wanted) or sorted(by_partition) != list(range(len(wanted))):
        raise bad_request("replicas_assignments must name every partition_id from 0 up once")
    return tuple(by_partition[partition] for partition in range(len(wanted)))


async def grow_topic(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    Parameters(request).done()
    body = await read_body(request, context.settings)
    wanted = json_guard.decode(_grown_decoder, body)
    await context.node.admin(
        CreatePartitionsRequest(name=topic.name, partitions_count=wanted.partitions_count),
        timeout_s=context.settings.admin_timeout_s,
    )
    grown = context.node.image.topics.get(topic.topic_id, topic)
    return json_reply(_described(Links(request), grown))


async def delete_topic(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    Parameters(request).done()
    await context.node.admin(
        DeleteTopicRequest(name=topic.name, topic_id=topic.topic_id), timeout_s=context.settings.admin_timeout_s
    )
    return no_content()
