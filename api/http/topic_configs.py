"""The configs of a topic: all, one, changed one by one or several at once (all or none)."""

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.config_values import ConfigText, config_text
from api.http.context import context_of
from api.http.errors import NOT_FOUND, ApiError, bad_request
from api.http.parameters import Parameters
from api.http.replies import json_reply, no_content
from api.http.resources import Links
from api.http.routing import find_topic
from metadata.bounds import MAX_CONFIGS
from metadata.broker_settings import dynamic_topic_defaults
from metadata.image import Topic
from metadata.requests import AlterConfigsRequest, ConfigChange
from metadata.topic_configs import ConfigEntry, describe, known
from wire.errors import RefusedError


class AlteredConfig(Struct, forbid_unknown_fields=True):
    name: str
    value: ConfigText = None
    operation: Literal["SET", "DELETE"] = "SET"


class AlteredConfigs(Struct, forbid_unknown_fields=True):
    data: Annotated[list[AlteredConfig], Meta(min_length=1, max_length=MAX_CONFIGS)]
    validate_only: bool = False


class ConfigValue(Struct, forbid_unknown_fields=True):
    value: ConfigText


_alter_decoder: Final = msgspec.json.Decoder(AlteredConfigs)
_value_decoder: Final = msgspec.json.Decoder(ConfigValue)


def _resource(links: Links, topic: Topic, entry: ConfigEntry) -> dict[str, Any]:
    config = entry.config
    return links.resource(
        "KafkaTopicConfig",
        f"/topics/{topic.name}/configs/{config.name}",
        topic_name=topic.name,
        name=config.name,
        value=entry.value,
        type=config.type.value,
        is_default=entry.is_default,
        is_read_only=False,
        is_sensitive=False,
        source=entry.source.value,
        documentation=config.documentation,
        synonyms=[{"name": s.name, "value": s.value, "source": s.source.value} for s in entry.synonyms],
    )


def _entries(request: web.Request, topic: Topic) -> list[ConfigEntry]:
    node = context_of(request).node
    return describe(topic.configs, node.config.topic_defaults, dynamic_topic_defaults(node.image.broker_configs))


async def list_configs(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    links = Links(request)
    data = [_resource(links, topic, entry) for entry in _entries(request, topic)]
    return json_reply(links.listing("KafkaTopicConfigList", f"/topics/{topic.name}/configs", data))


def _config_name(request: web.Request) -> str:
    """The config that the path names; 404, with what it could have been, where there is none."""
    name = request.match_info["config"]
    try:
        return known(name).name
    except RefusedError as refused:
        raise ApiError(404, NOT_FOUND, refused.message) from None


async def get_config(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    name = _config_name(request)
    entry = next(entry for entry in _entries(request, topic) if entry.config.name == name)
    return json_reply(_resource(Links(request), topic, entry))


async def put_config(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    Parameters(request).done()
    name = _config_name(request)
    body = await read_body(request, context.settings)
    value = config_text("value", json_guard.decode(_value_decoder, body).value)
    return await _alter(request, topic, (ConfigChange(name=name, value=value),))


async def delete_config(request: web.Request) -> web.Response:
    topic = await find_topic(context_of(request), request)
    Parameters(request).done()
    return await _alter(request, topic, (ConfigChange(name=_config_name(request), operation="DELETE"),))


async def alter_configs(request: web.Request) -> web.Response:
    context = context_of(request)
    topic = await find_topic(context, request)
    Parameters(request).done()
    body = await read_body(request, context.settings)
    wanted = json_guard.decode(_alter_decoder, body)
    changes = []
    for index, item in enumerate(wanted.data):
        value = config_text(f"data[{index}].value", item.value)
        if item.operation == "SET" and value is None:
            raise bad_request(f"data[{index}].value is missing: give the value to set, or operation DELETE")
        changes.append(ConfigChange(name=item.name, value=value, operation=item.operation))
    return await _alter(request, topic, tuple(changes), validate_only=wanted.validate_only)


async def _alter(
    request: web.Request, topic: Topic, changes: tuple[ConfigChange, ...], *, validate_only: bool = False
) -> web.Response:
    context = context_of(request)
    await context.node.admin(
        AlterConfigsRequest(name=topic.name, changes=changes, validate_only=validate_only),
        timeout_s=context.settings.admin_timeout_s,
    )
    return no_content()
