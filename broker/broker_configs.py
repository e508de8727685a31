"""A broker's settings as they are shown to whoever asks (DescribeConfigs): what was said, where, and what is in force.

Owns the text of each value in the words of the configuration file, and which value is in force where several could be:
one that was set while running (for this broker, then for all), the node's own configuration, the default. Pure.
Which settings can be changed while running is said by `metadata.broker_settings`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Final

from broker.config_keys import KEYS
from broker.config_values import LONG_MAX, Integer, boolean, format_endpoint
from broker.node_config import NodeConfig
from metadata.broker_settings import CLUSTER_WIDE, DYNAMIC_SETTINGS
from metadata.image import Configs
from metadata.topic_configs import TOPIC_CONFIGS, ConfigSource, ConfigSynonym, ConfigType

_DEFAULTS: Final[Mapping[str, object]] = {
    one.name: one.default for one in fields(NodeConfig) if one.default is not MISSING
}
_TOPIC_KEYS: Final = {config.broker_key: config for config in TOPIC_CONFIGS.values()}
_LISTS: Final = ("log.dirs", "log.dir", "listeners", "advertised.listeners", "process.roles", "http.listeners")
_OF_THE_WHOLE: Final = {
    "node.id": "node_id",
    "broker.id": "node_id",
    "process.roles": "roles",
    "log.dirs": "log_directories",
    "node.directory": "node_directory",
    "metadata.log.dir": "metadata_directory",
    "controller.quorum.voters": "voters",
    "listeners": "kafka_listeners",
    "advertised.listeners": "advertised_kafka",
    "http.listeners": "http_listeners",
    "advertised.http.listeners": "advertised_http",
    "peer.listeners": "peer_listener",
    "advertised.peer.listeners": "advertised_peer",
    "inter.broker.listener.name": "replication_listener",
}
"""Settings that always have a value, made of others where nobody gave them one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfigEntry:
    """One setting as it is in force. `value` None: there is none, or the key is another's synonym."""

    name: str
    value: str | None
    type: ConfigType
    source: ConfigSource
    synonyms: tuple[ConfigSynonym, ...]
    is_read_only: bool
    documentation: str | None


def describe_broker(config: NodeConfig, broker_configs: Mapping[int, Configs]) -> list[BrokerConfigEntry]:
    """Every setting of this broker, by name."""
    names = sorted({*KEYS, *DYNAMIC_SETTINGS})
    return [_entry(name, config, broker_configs) for name in names]


def describe_cluster_wide(broker_configs: Mapping[int, Configs]) -> list[BrokerConfigEntry]:
    """What was set for all brokers while they run."""
    configs = broker_configs.get(CLUSTER_WIDE, {})
    found = []
    for name, value in sorted(configs.items()):
        synonym = ConfigSynonym(name=name, value=value, source=ConfigSource.DYNAMIC_DEFAULT_BROKER)
        found.append(_made(name, (synonym,)))
    return found


def _entry(name: str, config: NodeConfig, broker_configs: Mapping[int, Configs]) -> BrokerConfigEntry:
    synonyms = []
    places = (
        (broker_configs.get(config.node_id, {}), ConfigSource.DYNAMIC_BROKER),
        (broker_configs.get(CLUSTER_WIDE, {}), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (config.stated, ConfigSource.BROKER),
    )
    for configs, source in places:
        if name in configs:
            synonyms.append(ConfigSynonym(name=name, value=configs[name], source=source))
    default = _default(name, config)
    if default is not None:
        synonyms.append(ConfigSynonym(name=name, value=default, source=ConfigSource.DEFAULT))
    return _made(name, tuple(synonyms))


def _made(name: str, synonyms: tuple[ConfigSynonym, ...]) -> BrokerConfigEntry:
    of_topic = _TOPIC_KEYS.get(name)
    dynamic = DYNAMIC_SETTINGS.get(name)
    documentation = of_topic.documentation if of_topic else dynamic.documentation if dynamic else None
    return BrokerConfigEntry(
        name=name,
        value=synonyms[0].value if synonyms else None,
        type=_type(name),
        source=synonyms[0].source if synonyms else ConfigSource.DEFAULT,
        synonyms=synonyms,
        is_read_only=dynamic is None,
        documentation=documentation,
    )


def _type(name: str) -> ConfigType:
    if name in _TOPIC_KEYS:
        return _TOPIC_KEYS[name].type
    if name in DYNAMIC_SETTINGS:
        return DYNAMIC_SETTINGS[name].type
    parse = KEYS[name].parse
    if isinstance(parse, Integer):
        return ConfigType.LONG if parse.maximum == LONG_MAX else ConfigType.INT
    if parse is boolean:
        return ConfigType.BOOLEAN
    return ConfigType.LIST if name in _LISTS else ConfigType.STRING


def _default(name: str, config: NodeConfig) -> str | None:
    """What is in force where nobody says anything."""
    if name in _OF_THE_WHOLE:
        return _text(getattr(config, _OF_THE_WHOLE[name]))
    if name in _TOPIC_KEYS:
        return _TOPIC_KEYS[name].default
    if name not in KEYS:
        return DYNAMIC_SETTINGS[name].default
    return _text(_DEFAULTS.get(KEYS[name].field))


def _text(value: object) -> str | None:
    """As it would stand in the file."""
    match value:
        case None:
            text = None
        case bool():
            text = str(value).lower()
        case (str(host), int(port)):
            text = format_endpoint(host, port)
        case Mapping():
            text = ",".join(f"{node_id}@{format_endpoint(*at)}" for node_id, at in sorted(value.items()))
        case frozenset():
            text = ",".join(sorted(value))
        case tuple():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    return text
