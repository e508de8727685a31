"""What the controller makes of a wish to change settings, of a topic or of brokers: what to set and what to delete.

Pure. Refuses (RefusedError, INVALID_CONFIG unless it says otherwise) names that nobody knows, values that are not
allowed, a name twice, and adding to what is no list. Invariant: whatever is to be set is canonical text, within bounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from metadata import broker_settings, topic_configs
from metadata.answers import AdminAnswer, Done
from metadata.bounds import MAX_CONFIGS
from metadata.circumstances import Circumstances
from metadata.commands import AlterBrokerConfigs, AlterTopicConfigs
from metadata.image import CLUSTER_WIDE
from metadata.named_partitions import topic_named
from metadata.requests import AlterBrokerConfigsRequest, AlterConfigsRequest, ConfigChange
from metadata.topic_configs import ConfigType
from wire.errors import ErrorCode, RefusedError

Validate = Callable[[str, str], str]
NOTHING: Final[Mapping[str, str]] = {}


class ConfigChanges(NamedTuple):
    """A name is in one of them at most."""

    to_set: dict[str, str]
    to_delete: tuple[str, ...]

    def after(self, configs: Mapping[str, str]) -> dict[str, str]:
        """What is set when they have been made."""
        return {name: value for name, value in configs.items() if name not in self.to_delete} | self.to_set


def alter_topic_configs(request: AlterConfigsRequest, at: Circumstances) -> AlterTopicConfigs | AdminAnswer:
    """The command, or the answer where nothing changes."""
    topic = topic_named(at.image, request.name)
    defaults = at.policy.broker_defaults
    with_dynamic = {**defaults, **broker_settings.dynamic_topic_defaults(at.image.broker_configs)}
    changes = of_topic(request.changes, lambda name: topic_configs.in_force(name, topic.configs, with_dynamic))
    if request.replaces:
        changes = _replacing(changes, topic.configs)
    after = changes.after(topic.configs)
    if request.validate_only or after == topic.configs:
        return Done(index=at.image.applied_index)
    touched = "min.insync.replicas" in changes.to_set or "min.insync.replicas" in changes.to_delete
    return AlterTopicConfigs(
        topic_id=topic.topic_id,
        set_configs=changes.to_set,
        deleted_configs=changes.to_delete,
        min_in_sync_replicas=topic_configs.min_in_sync_replicas(after, defaults) if touched else None,
    )


def alter_broker_configs(request: AlterBrokerConfigsRequest, at: Circumstances) -> AlterBrokerConfigs | AdminAnswer:
    """The command, or the answer where nothing changes."""
    broker_id = request.broker_id
    if broker_id != CLUSTER_WIDE and broker_id not in at.image.brokers:
        raise RefusedError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker_id {broker_id} is not registered")
    configs = at.image.broker_configs.get(broker_id, NOTHING)

    def type_of(name: str) -> ConfigType | None:
        if name in configs or name in broker_settings.KAFKA_ONLY:  # what is there may always go
            return None
        return broker_settings.known(name, broker_id=broker_id).type

    changes = _changes(
        request.changes,
        type_of=type_of,
        validate=lambda name, text: broker_settings.validated(name, text, broker_id=broker_id),
        in_force=lambda name: configs.get(name, broker_settings.DYNAMIC_SETTINGS[name].default),
    )
    if request.replaces:
        changes = _replacing(changes, configs)
    if request.validate_only or changes.after(configs) == configs:
        return Done(index=at.image.applied_index)
    return AlterBrokerConfigs(broker_id=broker_id, set_configs=changes.to_set, deleted_configs=changes.to_delete)


def of_topic(changes: Sequence[ConfigChange], in_force: Callable[[str], str]) -> ConfigChanges:
    """Changes of a topic's settings; `in_force` gives what a list is added to."""

    def type_of(name: str) -> ConfigType | None:
        return None if topic_configs.is_kafkas(name) else topic_configs.known(name).type

    return _changes(changes, type_of=type_of, validate=topic_configs.validated, in_force=in_force)


def _replacing(changes: ConfigChanges, configs: Mapping[str, str]) -> ConfigChanges:
    return ConfigChanges(changes.to_set, tuple(name for name in configs if name not in changes.to_set))


def _changes(
    changes: Sequence[ConfigChange],
    *,
    type_of: Callable[[str], ConfigType | None],
    validate: Validate,
    in_force: Callable[[str], str],
) -> ConfigChanges:
    """`type_of` None: a name of which nothing is set by itself; deleting it does no harm (Kafka's tools do)."""
    if len(changes) > MAX_CONFIGS:
        raise RefusedError(ErrorCode.INVALID_CONFIG, f"{len(changes)} configs in one request: at most {MAX_CONFIGS}")
    to_set: dict[str, str] = {}
    to_delete: dict[str, None] = {}
    for change in changes:
        kind = type_of(change.name)
        if change.name in to_set or change.name in to_delete:
            raise RefusedError(ErrorCode.INVALID_CONFIG, f"config {change.name!r} is named twice: name it once")
        if change.operation == "DELETE" or change.value is None:
            to_delete[change.name] = None
            continue
        text = change.value
        if change.operation != "SET":
            validate(change.name, change.value)
            text = _list_after(change, kind, in_force)
        to_set[change.name] = validate(change.name, text)
    return ConfigChanges(to_set, tuple(to_delete))


def _list_after(change: ConfigChange, kind: ConfigType | None, in_force: Callable[[str], str]) -> str:
    if kind is not ConfigType.LIST:
        raise RefusedError(
            ErrorCode.INVALID_CONFIG, f"config {change.name!r} is no list: set it, {change.operation} is for lists"
        )
    assert change.value is not None
    items = [item for item in in_force(change.name).split(",") if item]
    given = [item.strip() for item in change.value.split(",")]
    if change.operation == "APPEND":
        return ",".join([*items, *(item for item in given if item not in items)])
    return ",".join(item for item in items if item not in given)
