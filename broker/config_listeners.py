"""Kafka's listeners out of their settings: which there are, how each is secured, advertised, and used for replication.

Owns what `listeners`, `advertised.listeners`, `listener.security.protocol.map`, `inter.broker.listener.name` and
`kafka.ssl.*` mean together. Refuses SASL (not served), names that nothing listens on, addresses that nobody can reach,
and a replication listener beyond this machine on which a broker would not have to show who it is (S9).
Invariants: `advertised` has one entry for each listener, in the same order; the replication listener is one of them.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from broker.config_file import Setting, refuse
from broker.config_values import ConfigError, Listener
from broker.node_config import KafkaTlsFiles, NodeConfig

DEFAULT_KAFKA: Final = Listener("PLAINTEXT", "127.0.0.1", 9092)
SERVED_PROTOCOLS: Final = ("PLAINTEXT", "SSL")
KAFKA_PROTOCOLS: Final = (*SERVED_PROTOCOLS, "SASL_PLAINTEXT", "SASL_SSL")
ALL_ADDRESSES: Final = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound

Settings = Mapping[str, Setting]


class KafkaListeners(NamedTuple):
    """`controllers`: those of `controller.listener.names`, which carry the peer link and no Kafka."""

    controllers: tuple[Listener, ...]
    clients: tuple[Listener, ...]
    advertised: tuple[Listener, ...]
    replication: str | None


def kafka_listeners(values: Mapping[str, Any], settings: Settings) -> KafkaListeners:
    """All of them, from values by field name; `settings` by key for the messages."""
    names = {name.upper() for name in values.get("controller_listener_names", ())}
    given: tuple[Listener, ...] = values.get("kafka_listeners", (DEFAULT_KAFKA,))
    listeners = tuple(listener.renamed(listener.name.upper()) for listener in given)
    _check_each_once("listeners", listeners, settings)
    protocols = {protocol: protocol for protocol in KAFKA_PROTOCOLS} | values.get("listener_protocols", {})
    clients = tuple(_secured(one, protocols, settings) for one in listeners if one.name not in names)
    return KafkaListeners(
        tuple(listener for listener in listeners if listener.name in names),
        clients,
        _advertised(values.get("advertised_kafka", ()), clients, names, settings),
        _replication(values.get("replication_listener"), clients, settings),
    )


def _check_each_once(key: str, listeners: tuple[Listener, ...], settings: Settings) -> None:
    seen: set[str] = set()
    for listener in listeners:
        if listener.name in seen:
            raise refuse(settings[key], f"the name {listener.name} stands there twice; a listener is known by its name")
        seen.add(listener.name)


def _secured(listener: Listener, protocols: Mapping[str, str], settings: Settings) -> Listener:
    protocol = protocols.get(listener.name)
    if protocol is None:
        raise refuse(
            settings["listeners"],
            f"{listener.name} is no protocol; say what it is: listener.security.protocol.map={listener.name}:PLAINTEXT",
        )
    if protocol not in SERVED_PROTOCOLS:
        raise refuse(settings["listeners"], f"{listener.name} is {protocol}; only PLAINTEXT and SSL are served")
    return listener.with_tls(tls=protocol == "SSL")


def _advertised(
    given: tuple[Listener, ...], clients: tuple[Listener, ...], controllers: set[str], settings: Settings
) -> tuple[Listener, ...]:
    """By name; a listener that is not named there is advertised as it listens."""
    told = tuple(listener.renamed(listener.name.upper()) for listener in given)
    _check_each_once("advertised.listeners", told, settings)
    by_name = {listener.name: listener for listener in told if listener.name not in controllers}
    if unknown := by_name.keys() - {listener.name for listener in clients}:
        raise refuse(settings["advertised.listeners"], f"listeners has no {min(unknown)}")
    advertised = tuple(by_name.get(one.name, one).with_tls(tls=one.tls) for one in clients)
    for listener in advertised:
        if listener.host in ALL_ADDRESSES:
            reason = "others need one address that reaches this node, not all of them"
            if listener.name in by_name:
                raise refuse(settings["advertised.listeners"], reason)
            raise ConfigError(f"advertised.listeners has no {listener.name}: {listener} is every address; {reason}")
    return advertised


def _replication(name: str | None, clients: tuple[Listener, ...], settings: Settings) -> str | None:
    """As in Kafka the one called PLAINTEXT where none is named, else the first."""
    names = [listener.name for listener in clients]
    if name is None:
        return "PLAINTEXT" if "PLAINTEXT" in names else names[0] if names else None
    if name.upper() not in names:
        raise refuse(settings["inter.broker.listener.name"], f"listeners has no such name, only {', '.join(names)}")
    return name.upper()


def check_kafka_tls(config: NodeConfig, warnings: list[str]) -> None:
    """Certificates where they are needed; on the replication listener both ends show one."""
    encrypted = [listener for listener in config.kafka_listeners if listener.tls]
    if encrypted and config.kafka_tls is None:
        raise ConfigError(f"kafka.ssl.certificate is not set: {encrypted[0]} is SSL and needs it and kafka.ssl.key")
    if config.kafka_tls is not None and not encrypted:
        warnings.append("kafka.ssl.certificate has no effect: no entry of listeners is SSL")
    if config.kafka_tls is None or config.kafka_tls.authorities is not None:
        return
    for listener in encrypted:
        if listener.name == config.replication_listener:
            raise ConfigError(
                f"kafka.ssl.authorities is not set: brokers replicate over {listener} (inter.broker.listener.name) and "
                "must show there who they are"
            )


def check_kafka_reach(config: NodeConfig, way_out: str) -> None:
    """Beyond this machine only where whoever comes must show a certificate: the replication listener over SSL."""
    for listener in config.kafka_listeners:
        carries_replication = listener.name == config.replication_listener
        if listener.is_loopback or (carries_replication and listener.tls):
            continue
        what, fix = ("pass for a broker", "make it SSL (kafka.ssl.*), ") if carries_replication else ("do anything", "")
        raise ConfigError(f"listeners={listener}: anybody who reaches it could {what}; {fix}{way_out}")


def read_kafka_tls(files: list[Any]) -> KafkaTlsFiles | None:
    """From the existing files of kafka.ssl.certificate, .key and .authorities, in this order."""
    certificate, key, authorities = files
    if not any(files):
        return None
    if certificate is None or key is None:
        missing = "kafka.ssl.certificate" if certificate is None else "kafka.ssl.key"
        raise ConfigError(f"{missing} is not set: SSL needs both kafka.ssl.certificate and kafka.ssl.key")
    return KafkaTlsFiles(certificate, key, authorities)
