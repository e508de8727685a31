"""Whose settings are asked for or changed over the Kafka protocol: which broker a name means, and each named once."""

from collections.abc import Iterable
from typing import Final

from api.kafka.admin_calls import AdminCall
from metadata.image import CLUSTER_WIDE
from metadata.requests import AlterBrokerConfigsRequest, AlterConfigsRequest, ConfigChange
from wire.errors import ErrorCode, RefusedError
from wire.messages.config_resources import BROKER, TOPIC

NUMBER_MAX: Final = 2**31 - 1
Resource = tuple[int, str]
"""Its type and its name."""


def broker_id_of(name: str) -> int:
    """The broker that a name means, -1 (`CLUSTER_WIDE`) for the empty one; RefusedError(INVALID_REQUEST)."""
    if not name:
        return CLUSTER_WIDE
    if not (name.isascii() and name.isdigit() and int(name[:11]) <= NUMBER_MAX):
        raise RefusedError(ErrorCode.INVALID_REQUEST, f"broker id must be an integer, but it is {name[:64]!r}")
    return int(name)


def own_broker_id(call: AdminCall, name: str) -> int:
    """As `broker_id_of`, where only this broker can answer; RefusedError(INVALID_REQUEST)."""
    broker_id = broker_id_of(name)
    if broker_id not in (CLUSTER_WIDE, call.node.broker_id):
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"unexpected broker id: expected {call.node.broker_id} or an empty string, but received {name}; each "
            "broker knows its own configuration",
        )
    return broker_id


def alteration(
    resource: Resource,
    changes: Iterable[ConfigChange],
    *,
    replaces: bool,
    validate_only: bool,
) -> AlterConfigsRequest | AlterBrokerConfigsRequest:
    """The same wish in the words of the metadata; RefusedError(INVALID_REQUEST)."""
    kind, name = resource
    changes = tuple(changes)
    for change in changes:
        if change.value is None and change.operation != "DELETE":
            raise RefusedError(ErrorCode.INVALID_REQUEST, f"config {change.name!r} has no value: give it one")
    if len({change.name for change in changes}) < len(changes):
        raise RefusedError(ErrorCode.INVALID_REQUEST, "a config is named twice: name each once")
    if kind == TOPIC:
        if not name:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "default topic resources are not allowed: name a topic")
        return AlterConfigsRequest(name=name, changes=changes, replaces=replaces, validate_only=validate_only)
    if kind == BROKER:
        return AlterBrokerConfigsRequest(
            broker_id=broker_id_of(name), changes=changes, replaces=replaces, validate_only=validate_only
        )
    raise RefusedError(
        ErrorCode.INVALID_REQUEST,
        f"settings of resource_type {kind} can't be changed here: topics (2), brokers (4) can",
    )


def check_named_once(resource: Resource, twice: set[Resource]) -> None:
    """RefusedError(INVALID_REQUEST)."""
    if resource in twice:
        raise RefusedError(ErrorCode.INVALID_REQUEST, "each resource must appear at most once")
