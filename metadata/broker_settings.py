"""The settings of brokers that can be changed while they run, for all brokers at once or for one (KIP-226).

Owns which these are, their bounds, and what is in force of them. Most are the broker-wide defaults of topic settings;
those hold for the whole cluster, so that a partition's replicas agree whoever holds them. Refuses to change what
elections are decided by (`min.insync.replicas`, unclean elections, unsynced acknowledgements): that is a topic's own
setting or the nodes' configuration, so that no change of a default can break what leaders promised (S2, S3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from metadata import topic_configs
from metadata.bounds import MAX_INT64
from metadata.image import CLUSTER_WIDE, Configs, Image
from metadata.topic_configs import TOPIC_CONFIGS, ConfigType, TopicConfig
from wire.errors import ErrorCode, RefusedError

__all__ = ["CLUSTER_WIDE", "DYNAMIC_SETTINGS", "DynamicSetting", "dynamic_topic_defaults", "known", "validated"]

OF_ELECTIONS: Final = frozenset({"min.insync.replicas", "unclean.leader.election.enable", "flush.messages"})
OF_REPLICAS: Final = frozenset({"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"})
KAFKA_ONLY: Final = frozenset({"replica.alter.log.dirs.io.max.bytes.per.second"})
"""Kafka's tools clear it after every reassignment; nothing moves between log directories here."""
FOLLOWER_RATE: Final = "follower.replication.throttled.rate"
LEADER_RATE: Final = "leader.replication.throttled.rate"


@dataclass(frozen=True, slots=True)
class DynamicSetting:
    """One of them, by its broker key; `topic_key`: of the topic setting for which it is the default."""

    config: TopicConfig
    topic_key: str | None
    is_of_one_broker: bool

    @property
    def type(self) -> ConfigType:
        return self.config.type

    @property
    def default(self) -> str:
        return self.config.default

    @property
    def documentation(self) -> str:
        return self.config.documentation


def _rate(name: str, documentation: str) -> DynamicSetting:
    config = TopicConfig(
        name=name,
        type=ConfigType.LONG,
        default=str(MAX_INT64),
        broker_key=name,
        documentation=documentation,
        minimum=1,
    )
    return DynamicSetting(config, None, is_of_one_broker=True)


def _of_topics(config: TopicConfig) -> DynamicSetting:
    return DynamicSetting(replace(config, name=config.broker_key), config.name, is_of_one_broker=False)


_ALL: Final = (
    *(_of_topics(config) for config in TOPIC_CONFIGS.values() if config.name not in OF_ELECTIONS | OF_REPLICAS),
    _rate(FOLLOWER_RATE, "What this broker fetches a second for the replicas that are being added to it."),
    _rate(LEADER_RATE, "Kept for Kafka's tools, which set it with the followers' rate: that one holds back."),
)
DYNAMIC_SETTINGS: Final[Mapping[str, DynamicSetting]] = {setting.config.name: setting for setting in _ALL}


def known(name: str, *, broker_id: int) -> DynamicSetting:
    """The setting of that name; RefusedError(INVALID_REQUEST | INVALID_CONFIG) where it can't be changed so."""
    setting = DYNAMIC_SETTINGS.get(name)
    if setting is None:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"config {name!r} can't be changed while brokers run: set it in the nodes' configuration; those that can "
            f"are {', '.join(sorted(DYNAMIC_SETTINGS))}",
        )
    if broker_id != CLUSTER_WIDE and not setting.is_of_one_broker:
        raise RefusedError(
            ErrorCode.INVALID_CONFIG,
            f"config {name!r} holds for the whole cluster: set it for the default broker (--entity-default), not for "
            f"broker {broker_id} alone",
        )
    return setting


def validated(name: str, text: str, *, broker_id: int) -> str:
    """The value in canonical text; raises RefusedError."""
    return topic_configs.checked(known(name, broker_id=broker_id).config, text)


def dynamic_topic_defaults(broker_configs: Mapping[int, Configs]) -> dict[str, str]:
    """The defaults of topic settings that were set while brokers run, by topic key."""
    found = {}
    for name, value in broker_configs.get(CLUSTER_WIDE, {}).items():
        setting = DYNAMIC_SETTINGS.get(name)
        if setting is not None and setting.topic_key is not None:
            found[setting.topic_key] = value
    return found


def throttle_bytes_per_s(image: Image, broker_id: int) -> int | None:
    """What this broker may fetch for the replicas that are being added to it; None: no limit."""
    own = image.broker_configs.get(broker_id, {}).get(FOLLOWER_RATE)
    rate = image.broker_configs.get(CLUSTER_WIDE, {}).get(FOLLOWER_RATE) if own is None else own
    limits = [limit for limit in (image.replication_throttle_bytes_per_s, rate) if limit is not None]
    return min(map(int, limits), default=None)
