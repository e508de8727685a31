"""The settings that a topic may have: Kafka's names, types and bounds, and our defaults.

Owns validation and the reading of what is in force (the topic's own value, else the broker-wide one, else the default).
Refuses what this version does not act upon, so that nobody relies on a setting that does nothing.
Invariant: a value that `validated` has returned is canonical text that every reader may parse without checking.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from metadata.bounds import MAX_CONFIG_VALUE, MAX_INT32, MAX_INT64
from wire.errors import ErrorCode, RefusedError


class ConfigType(StrEnum):
    """Kafka's type names."""

    BOOLEAN = "BOOLEAN"
    INT = "INT"
    LONG = "LONG"
    DOUBLE = "DOUBLE"
    STRING = "STRING"
    LIST = "LIST"


class ConfigSource(StrEnum):
    """Where a value in force comes from, in Kafka's words."""

    TOPIC = "DYNAMIC_TOPIC_CONFIG"
    DYNAMIC_BROKER = "DYNAMIC_BROKER_CONFIG"
    DYNAMIC_DEFAULT_BROKER = "DYNAMIC_DEFAULT_BROKER_CONFIG"
    LOGGER = "DYNAMIC_BROKER_LOGGER_CONFIG"
    BROKER = "STATIC_BROKER_CONFIG"
    DEFAULT = "DEFAULT_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """One setting; `broker_key` is the broker-wide setting that stands in where a topic has none (Kafka's synonym)."""

    name: str
    type: ConfigType
    default: str
    broker_key: str
    documentation: str
    minimum: int = -MAX_INT64 - 1
    maximum: int = MAX_INT64
    choices: tuple[str, ...] = ()
    items: str = ""
    """Of a list without `choices`: what its items look like, as a pattern; `*` stands for all, and it may be empty."""

    @property
    def allowed(self) -> str:
        """The allowed values, for a person."""
        if self.type is ConfigType.BOOLEAN:
            return "true or false"
        if self.items:
            return "a comma-separated list of PARTITION:BROKER, or *, or empty"
        if self.type is ConfigType.LIST:
            return f"a comma-separated list of {', '.join(self.choices)}"
        if self.type is ConfigType.STRING:
            return f"one of {', '.join(self.choices)}"
        if self.type is ConfigType.DOUBLE:
            return f"a number from {self.minimum} to {self.maximum}"
        return f"a whole number from {self.minimum} to {self.maximum}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSynonym:
    """One of the values that could be in force, most specific first."""

    name: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """One setting as it is in force for a topic."""

    config: TopicConfig
    value: str
    source: ConfigSource
    synonyms: tuple[ConfigSynonym, ...]

    @property
    def is_default(self) -> bool:
        """Whether the topic itself says nothing."""
        return self.source is not ConfigSource.TOPIC


_FOREVER: Final = str(MAX_INT64)
_DAY_MS: Final = str(24 * 3_600_000)
_WEEK_MS: Final = str(7 * 24 * 3_600_000)


def _number(name: str, default: str, broker_key: str, bounds: tuple[int, int], documentation: str) -> TopicConfig:
    minimum, maximum = bounds
    return TopicConfig(
        name=name,
        type=ConfigType.INT if maximum == MAX_INT32 else ConfigType.LONG,
        default=default,
        broker_key=broker_key,
        minimum=minimum,
        maximum=maximum,
        documentation=documentation,
    )


def _choice(name: str, default: str, broker_key: str, choices: str, documentation: str) -> TopicConfig:
    return TopicConfig(
        name=name,
        type=ConfigType.LIST if name == "cleanup.policy" else ConfigType.STRING,
        default=default,
        broker_key=broker_key,
        choices=tuple(choices.split()),
        documentation=documentation,
    )


def _throttled(side: str) -> TopicConfig:
    name = f"{side}.replication.throttled.replicas"
    return TopicConfig(
        name=name,
        type=ConfigType.LIST,
        default="",
        broker_key=name,
        items=r"[0-9]{1,10}:[0-9]{1,10}",
        documentation="Kept for Kafka's tools, which name here what they move: whatever is added is throttled anyway.",
    )


# fmt: off
_CONFIGS: Final = (
    _choice("cleanup.policy", "delete", "log.cleanup.policy", "compact delete",
            "delete: drop whole segments by age and size. compact: keep the last record of each key. Or both."),
    _choice("compression.type", "producer", "compression.type", "producer uncompressed gzip snappy lz4 zstd",
            "The codec of batches that the broker builds itself, from HTTP; what a producer batched stays as it came."),
    _number("delete.retention.ms", _DAY_MS, "log.cleaner.delete.retention.ms", (0, MAX_INT64),
            "So long a compacted log tells of deletions (null values) after it has dropped what they delete."),
    _number("flush.messages", "1", "log.flush.interval.messages", (1, MAX_INT64),
            "Sync to disk after so many records. 1, unlike Kafka's never: what was acknowledged survives a power cut."),
    _number("flush.ms", _FOREVER, "log.flush.interval.ms", (0, MAX_INT64),
            "Sync to disk after so long at the latest, where flush.messages is above 1."),
    _throttled("follower"),
    _number("index.interval.bytes", "4096", "log.index.interval.bytes", (0, MAX_INT32),
            "One entry of the offset index for so many bytes of log."),
    _throttled("leader"),
    _number("max.compaction.lag.ms", _FOREVER, "log.cleaner.max.compaction.lag.ms", (1, MAX_INT64),
            "Compact what is older, however little of the log is superseded."),
    _number("max.message.bytes", "1048588", "message.max.bytes", (0, MAX_INT32),
            "The largest record batch that is accepted, after compression."),
    _choice("message.timestamp.type", "CreateTime", "log.message.timestamp.type", "CreateTime LogAppendTime",
            "Whether a record's timestamp is its producer's or that of its append."),
    TopicConfig(name="min.cleanable.dirty.ratio", type=ConfigType.DOUBLE, default="0.5", minimum=0, maximum=1,
                broker_key="log.cleaner.min.cleanable.ratio",
                documentation="Compact a log when more than this part of it is not compacted yet."),
    _number("min.compaction.lag.ms", "0", "log.cleaner.min.compaction.lag.ms", (0, MAX_INT64),
            "Leave what is younger as it is."),
    _number("min.insync.replicas", "1", "min.insync.replicas", (1, MAX_INT32),
            "How many in-sync replicas an acks=all write needs, capped at the number of replicas."),
    _number("retention.bytes", "-1", "log.retention.bytes", (-1, MAX_INT64),
            "Drop the oldest segments of a partition above this size; -1: no limit."),
    _number("retention.ms", _WEEK_MS, "log.retention.ms", (-1, MAX_INT64),
            "Drop segments whose newest record is older; -1: no limit."),
    _number("segment.bytes", str(1 << 30), "log.segment.bytes", (14, MAX_INT32),
            "Begin a new segment file at this size."),
    _number("segment.index.bytes", str(10 << 20), "log.index.size.max.bytes", (12, MAX_INT32),
            "Begin a new segment when an index has this size."),
    _number("segment.ms", _WEEK_MS, "log.roll.ms", (1, MAX_INT64),
            "Begin a new segment at this age, so that retention can drop the old one."),
    TopicConfig(name="unclean.leader.election.enable", type=ConfigType.BOOLEAN, default="false",
                broker_key="unclean.leader.election.enable",
                documentation="Let a replica lead that may lack acknowledged records, rather than nobody."),
)
# fmt: on

TOPIC_CONFIGS: Final[Mapping[str, TopicConfig]] = {config.name: config for config in _CONFIGS}
"""Every setting that this version acts upon, by name, in alphabetical order."""

_KAFKA_ONLY: Final = """
    compression.gzip.level compression.lz4.level compression.zstd.level file.delete.delay.ms
    local.retention.bytes
    local.retention.ms message.downconversion.enable message.format.version
    message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.difference.max.ms
    preallocate remote.log.copy.disable remote.log.delete.on.disable
    remote.storage.enable segment.jitter.ms
"""
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19})?|\.[0-9]{1,19}")


def known(name: str) -> TopicConfig:
    """The setting of that name; raises RefusedError(INVALID_CONFIG) that says what it could have been."""
    config = TOPIC_CONFIGS.get(name)
    if config is not None:
        return config
    if is_kafkas(name):
        raise RefusedError(
            ErrorCode.INVALID_CONFIG,
            f"config {name!r} is one of Kafka's that this version does not act upon: leave it out",
        )
    close = get_close_matches(name[:80], TOPIC_CONFIGS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the known ones are {', '.join(TOPIC_CONFIGS)}"
    raise RefusedError(ErrorCode.INVALID_CONFIG, f"config {name!r} is unknown: {hint}")


def is_kafkas(name: str) -> bool:
    """One of Kafka's that nothing here acts upon."""
    return name in _KAFKA_ONLY.split()


def validated(name: str, text: str) -> str:
    """The value in canonical text; raises RefusedError(INVALID_CONFIG) that names the key and the allowed values."""
    return checked(known(name), text)


def checked(config: TopicConfig, text: str) -> str:
    """As `validated`, for a setting that is known."""
    value = _canonical(config, text.strip())
    if value is None or len(value) > MAX_CONFIG_VALUE:
        shown = text if len(text) <= 60 else text[:60] + "..."
        raise RefusedError(
            ErrorCode.INVALID_CONFIG, f"config {config.name!r} can't be {shown!r}: it must be {config.allowed}"
        )
    return value


def _canonical(config: TopicConfig, text: str) -> str | None:
    """None where the text is not allowed."""
    if config.type is ConfigType.BOOLEAN:
        return text.lower() if text.lower() in ("true", "false") else None
    if config.type is ConfigType.STRING:
        return text if text in config.choices else None
    if config.type is ConfigType.LIST:
        return _canonical_list(config, [part.strip() for part in text.split(",")])
    if config.type is ConfigType.DOUBLE:
        is_allowed = _NUMBER.fullmatch(text) is not None and config.minimum <= float(text) <= config.maximum
        return str(float(text)) if is_allowed else None
    if _WHOLE_NUMBER.fullmatch(text) is None or not config.minimum <= int(text) <= config.maximum:
        return None
    return str(int(text))


def _canonical_list(config: TopicConfig, parts: list[str]) -> str | None:
    if config.items:
        is_allowed = parts in ([""], ["*"]) or all(re.fullmatch(config.items, part) for part in parts)
    else:
        is_allowed = all(part in config.choices for part in parts)
    return ",".join(dict.fromkeys(parts)) if is_allowed else None


def in_force(name: str, configs: Mapping[str, str], broker_defaults: Mapping[str, str]) -> str:
    """The value in force for a topic with these configs. `broker_defaults`: by topic key."""
    value = configs.get(name)
    if value is None:
        value = broker_defaults.get(name)
    return TOPIC_CONFIGS[name].default if value is None else value


def min_in_sync_replicas(configs: Mapping[str, str], broker_defaults: Mapping[str, str]) -> int:
    """Before the cap at the number of replicas (S2)."""
    return int(in_force("min.insync.replicas", configs, broker_defaults))


def allows_unclean_election(configs: Mapping[str, str], broker_defaults: Mapping[str, str]) -> bool:
    """Whether a replica that is neither in sync nor eligible may be elected without an operator (L2)."""
    return in_force("unclean.leader.election.enable", configs, broker_defaults) == "true"


def counts_unsynced_offsets(configs: Mapping[str, str], broker_defaults: Mapping[str, str]) -> bool:
    """Whether flush settings are relaxed: an unclean stop may then lose records that counted (S10)."""
    return int(in_force("flush.messages", configs, broker_defaults)) > 1


def describe(
    configs: Mapping[str, str], broker_defaults: Mapping[str, str], dynamic_defaults: Mapping[str, str] | None = None
) -> list[ConfigEntry]:
    """Every setting as it is in force for a topic, by name. `broker_defaults`: by topic key, as the node's
    configuration has them; `dynamic_defaults`: those that were set for all brokers while they run.
    """
    return [_entry(config, configs, broker_defaults, dynamic_defaults or {}) for config in TOPIC_CONFIGS.values()]


def _entry(
    config: TopicConfig,
    configs: Mapping[str, str],
    broker_defaults: Mapping[str, str],
    dynamic_defaults: Mapping[str, str],
) -> ConfigEntry:
    synonyms = [ConfigSynonym(name=config.broker_key, value=config.default, source=ConfigSource.DEFAULT)]
    if config.name in broker_defaults:
        broker = broker_defaults[config.name]
        synonyms.insert(0, ConfigSynonym(name=config.broker_key, value=broker, source=ConfigSource.BROKER))
    if config.name in dynamic_defaults:
        broker, source = dynamic_defaults[config.name], ConfigSource.DYNAMIC_DEFAULT_BROKER
        synonyms.insert(0, ConfigSynonym(name=config.broker_key, value=broker, source=source))
    if config.name in configs:
        own = configs[config.name]
        synonyms.insert(0, ConfigSynonym(name=config.name, value=own, source=ConfigSource.TOPIC))
    first = synonyms[0]
    return ConfigEntry(config=config, value=first.value, source=first.source, synonyms=tuple(synonyms))
