"""Whose settings are asked for or changed over the Kafka protocol: which broker a name means, and each named once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from api.kafka.admin_calls import AdminCall, Failure, repeated
from metadata.image import CLUSTER_WIDE
from metadata.requests import AlterBrokerConfigsRequest, AlterConfigsRequest, ConfigChange
from wire.errors import ErrorCode, RefusedError
from wire.messages.config_resources import BROKER, TOPIC

NUMBER_MAX: Final = 2**31 - 1
Resource = tuple[int, str]
"""Its type and its name."""


class Alteration(Protocol):
    """What both APIs that change settings say of one resource."""

    @property
    def resource_type(self) -> int: ...
    @property
    def resource_name(self) -> str: ...


Wish = TypeVar("Wish", bound=Alteration)


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


async def alter_each(
    call: AdminCall,
    wishes: Sequence[Wish],
    changes_of: Callable[[Wish], Iterable[ConfigChange]],
    *,
    replaces: bool,
    validate_only: bool,
) -> list[tuple[int, str | None, int, str]]:
    """(error code, message, resource type, resource name) of each resource; all of one is changed, or none of it."""
    named = {(one.resource_type, one.resource_name): one for one in wishes}
    twice = repeated((one.resource_type, one.resource_name) for one in wishes)

    async def alter(wish: Wish) -> None:
        resource = (wish.resource_type, wish.resource_name)
        if resource in twice:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "each resource must appear at most once")
        await call.ask(_alteration(resource, changes_of(wish), replaces=replaces, validate_only=validate_only))

    results: list[Failure | None] = await call.each(named.values(), alter)
    told = ((0, None) if result is None else result for result in results)
    return [(*outcome, *resource) for outcome, resource in zip(told, named, strict=True)]


def _alteration(
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
