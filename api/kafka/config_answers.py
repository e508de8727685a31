"""Settings as DescribeConfigs and CreateTopics tell them: Kafka's numbers for where a value comes from and its type."""

from collections.abc import Iterable
from typing import Final

from broker.broker_configs import BrokerConfigEntry
from metadata.topic_configs import ConfigEntry, ConfigSource, ConfigSynonym, ConfigType
from wire.messages.describe_configs import DescribeConfigsResourceResult, DescribeConfigsSynonym

_SOURCES: Final = {
    ConfigSource.TOPIC: 1,
    ConfigSource.DYNAMIC_BROKER: 2,
    ConfigSource.DYNAMIC_DEFAULT_BROKER: 3,
    ConfigSource.BROKER: 4,
    ConfigSource.DEFAULT: 5,
    ConfigSource.LOGGER: 6,
}
_TYPES: Final = {
    ConfigType.BOOLEAN: 1,
    ConfigType.STRING: 2,
    ConfigType.INT: 3,
    ConfigType.LONG: 5,
    ConfigType.DOUBLE: 6,
    ConfigType.LIST: 7,
}


def source_of(source: ConfigSource) -> int:
    return _SOURCES[source]


def of_topic(entry: ConfigEntry, *, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult:
    """One setting of a topic; every one can be changed and none is a secret."""
    return DescribeConfigsResourceResult(
        entry.config.name,
        entry.value,
        config_source=_SOURCES[entry.source],
        synonyms=_synonyms(entry.synonyms) if with_synonyms else [],
        config_type=_TYPES[entry.config.type],
        documentation=entry.config.documentation if with_documentation else None,
    )


def of_broker(
    entry: BrokerConfigEntry, *, with_synonyms: bool, with_documentation: bool
) -> DescribeConfigsResourceResult:
    """One setting of a broker. Secrets lie in files of which only the paths are settings."""
    return DescribeConfigsResourceResult(
        entry.name,
        entry.value,
        read_only=entry.is_read_only,
        config_source=_SOURCES[entry.source],
        synonyms=_synonyms(entry.synonyms) if with_synonyms else [],
        config_type=_TYPES[entry.type],
        documentation=entry.documentation if with_documentation else None,
    )


def of_logger(level: str, *, with_synonyms: bool) -> DescribeConfigsResourceResult:
    """The one logger of a node; its level is `log.level` of the node's configuration."""
    source, value = _SOURCES[ConfigSource.LOGGER], level.upper()
    return DescribeConfigsResourceResult(
        "root",
        value,
        read_only=True,
        config_source=source,
        synonyms=[DescribeConfigsSynonym("root", value, source)] if with_synonyms else [],
        config_type=_TYPES[ConfigType.STRING],
        documentation=None,
    )


def _synonyms(synonyms: Iterable[ConfigSynonym]) -> list[DescribeConfigsSynonym]:
    return [DescribeConfigsSynonym(one.name, one.value, _SOURCES[one.source]) for one in synonyms]
