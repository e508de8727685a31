"""The v2 consumers, `/consumers/{group}`: instances that live at the group's coordinator, asked through any node.

Bodies are those of Confluent's REST proxy, Pandaproxy, Karapace and the Strimzi bridge. As there, `POST offsets` with
offset N stores N+1: the record N is done.
"""

from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.consumer_instance import ConsumerInstance
from api.http.context import Context
from api.http.coordinating import AtCoordinator, at_coordinator, client_host
from api.http.errors import ApiError, bad_request
from api.http.group_errors import instance_not_found
from api.http.group_offsets import OFFSETS_MAX, OffsetField, named_topic
from api.http.instance_settings import instance_settings
from api.http.instances import INSTANCES
from api.http.parameters import Parameters
from api.http.records_v3 import PartitionField
from api.http.replies import json_reply, no_content
from api.http.routing import check_partition
from broker.groups.offsets import CommittedOffset, TopicPartition
from metadata.bounds import MAX_INT64
from metadata.topic_names import check_name

TOPICS_MAX: Final = 1_000


class Subscription(Struct, forbid_unknown_fields=True):
    topics: Annotated[list[str], Meta(max_length=TOPICS_MAX)] | None = None
    topic_pattern: str | None = None


class NamedPartition(Struct, forbid_unknown_fields=True):
    topic: str
    partition: PartitionField


class Partitions(Struct, forbid_unknown_fields=True):
    partitions: Annotated[list[NamedPartition], Meta(max_length=OFFSETS_MAX)]


class PartitionOffset(Struct, forbid_unknown_fields=True):
    topic: str
    partition: PartitionField
    offset: OffsetField
    metadata: str | None = None


class Offsets(Struct, forbid_unknown_fields=True):
    offsets: Annotated[list[PartitionOffset], Meta(max_length=OFFSETS_MAX)]


_subscription_decoder: Final = msgspec.json.Decoder(Subscription)
_partitions_decoder: Final = msgspec.json.Decoder(Partitions)
_offsets_decoder: Final = msgspec.json.Decoder(Offsets)


def no_instance(request: web.Request, group_id: str) -> ApiError:
    return instance_not_found(group_id, request.match_info.get("instance", ""))


async def at_instance(request: web.Request, work: Any, **how: Any) -> web.StreamResponse:
    """`work(asked, instance)` at the instance; 404 where there is none."""

    async def found(asked: AtCoordinator) -> web.StreamResponse:
        with asked.request.app[INSTANCES].using(asked.group_id, request.match_info["instance"]) as instance:
            answer: web.StreamResponse = await work(asked, instance)
            return answer

    return await at_coordinator(request, found, no_such=lambda group_id: no_instance(request, group_id), **how)


# -- life -------------------------------------------------------------------------------------------------------------


async def post_instance(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_coordinator(request, _made, makes_topic=True, is_repeatable=False)


async def _made(asked: AtCoordinator) -> web.Response:
    settings = instance_settings(asked.body)
    request = asked.request
    made = asked.request.app[INSTANCES].make(asked.group_id, settings, client_host(request))
    path = f"{request.rel_url.raw_path.rstrip('/')}/instances/{quote(made.instance_id, safe='')}"
    return json_reply(
        {"instance_id": made.instance_id, "base_uri": f"{request.scheme}://{request.host}{path}"},
        headers={"Location": path},
    )


async def delete_instance(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _delete, is_repeatable=False)


async def _delete(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    await asked.request.app[INSTANCES].delete(instance)
    return no_content()


# -- who reads what ---------------------------------------------------------------------------------------------------


async def post_subscription(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _subscribe)


async def _subscribe(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    wanted = json_guard.decode(_subscription_decoder, asked.body)
    if wanted.topic_pattern is not None:
        raise bad_request('topic_pattern is not supported: name the topics, as in {"topics":["orders"]}')
    if not wanted.topics:
        raise bad_request('topics must name at least one, as in {"topics":["orders"]}; DELETE ends a subscription')
    for name in wanted.topics:
        check_name(name)
    instance.subscribe(wanted.topics)
    return no_content()


async def get_subscription(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _subscribed)


async def _subscribed(_: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    return json_reply({"topics": instance.topics})


async def delete_subscription(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _unsubscribe)


async def _unsubscribe(_: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    await instance.unsubscribe()
    return no_content()


async def post_assignments(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _assign)


async def _assign(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    instance.assign(_partitions(asked))
    return no_content()


async def get_assignments(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _assigned)


async def _assigned(_: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    own = [{"topic": topic, "partition": partition} for topic, partition in sorted(instance.assignment)]
    return json_reply({"partitions": own})


# -- positions --------------------------------------------------------------------------------------------------------


async def post_positions(request: web.Request) -> web.StreamResponse:
    """The next offset to give out, as it is."""
    Parameters(request).done()
    return await at_instance(request, _seek)


async def _seek(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    wanted = json_guard.decode(_offsets_decoder, asked.body).offsets
    instance.seek({_existing(asked.context, one.topic, one.partition): one.offset for one in wanted})
    return no_content()


async def post_beginning(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _seek_to_beginning)


async def _seek_to_beginning(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    await instance.seek_to(_partitions(asked), "earliest")
    return no_content()


async def post_end(request: web.Request) -> web.StreamResponse:
    Parameters(request).done()
    return await at_instance(request, _seek_to_end)


async def _seek_to_end(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    await instance.seek_to(_partitions(asked), "latest")
    return no_content()


# -- offsets ----------------------------------------------------------------------------------------------------------


async def post_offsets(request: web.Request) -> web.StreamResponse:
    """These records are done; without a body: all that was given out."""
    Parameters(request).done()
    return await at_instance(request, _commit)


async def _commit(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    if not asked.body.strip():
        await instance.commit(None)
        return no_content()
    offsets = {}
    metadata_bytes_max = asked.context.node.groups.settings.offset_metadata_bytes_max
    for one in json_guard.decode(_offsets_decoder, asked.body).offsets:
        metadata = one.metadata or ""
        if len(metadata.encode()) > metadata_bytes_max:
            raise bad_request(f"metadata of {one.topic}-{one.partition} is above {metadata_bytes_max} bytes")
        following = CommittedOffset(min(one.offset + 1, MAX_INT64), metadata=metadata)
        offsets[_existing(asked.context, one.topic, one.partition)] = following
    await instance.commit(offsets)
    return no_content()


async def get_offsets(request: web.Request) -> web.StreamResponse:
    """The next offset that the group reads, as committed: of the partitions in the body, else of all assigned."""
    Parameters(request).done()
    return await at_instance(request, _committed)


async def _committed(asked: AtCoordinator, instance: ConsumerInstance) -> web.Response:
    partitions = _partitions(asked) if asked.body.strip() else sorted(instance.assignment)
    found = instance.committed(partitions)
    offsets = [
        {"topic": one.topic, "partition": one.partition, "offset": committed.offset, "metadata": committed.metadata}
        for one, committed in found.items()
    ]
    return json_reply({"offsets": offsets})


def _partitions(asked: AtCoordinator) -> list[TopicPartition]:
    wanted = json_guard.decode(_partitions_decoder, asked.body).partitions
    return list(dict.fromkeys(_existing(asked.context, one.topic, one.partition) for one in wanted))


def _existing(context: Context, name: str, partition: int) -> TopicPartition:
    topic = named_topic(context, name)
    return TopicPartition(topic.name, check_partition(topic, partition))
