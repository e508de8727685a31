"""What settings mean together: fills a `NodeConfig` from single values and refuses contradictions.

Owns the rules that need more than one key: roles and voters, where a node's folders lie, which certificate belongs to
which listener, and that nothing listens beyond this machine by accident.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from broker.config_file import Setting, refuse
from broker.config_listeners import ALL_ADDRESSES, check_kafka_reach, check_kafka_tls, kafka_listeners, read_kafka_tls
from broker.config_values import ConfigError, Listener, format_endpoint, is_loopback
from broker.node_config import NodeConfig, PeerTlsFiles, TlsFiles

DEFAULT_PEER: Final = ("127.0.0.1", 9093)
DEFAULT_HTTP: Final = Listener("http", "127.0.0.1", 8082)
KAFKA_SSL_KEYS: Final = ("kafka.ssl.certificate", "kafka.ssl.key", "kafka.ssl.authorities")
_CONSUMED: Final = (  # read here in their combination; every other field passes through as it is
    "roles", "controller_listener_names", "kafka_listeners", "advertised_kafka", "listener_protocols",
    "replication_listener", "kafka_ssl_certificate", "kafka_ssl_key", "kafka_ssl_authorities", "http_ssl_certificate",
    "http_ssl_key", "http_ssl_authorities", "peer_ssl_certificate", "peer_ssl_key", "peer_ssl_authorities",
)  # fmt: skip


def assemble(
    values: Mapping[str, Any], topic_defaults: Mapping[str, str], settings: Mapping[str, Setting], warnings: list[str]
) -> NodeConfig:
    """The checked configuration; `values` by field name and only for what was set, `settings` by key for messages."""
    node_id: int = values.get("node_id", 1)
    _check_one_id(settings)
    voters: dict[int, tuple[str, int]] = values.get("voters") or {node_id: values.get("peer_listener", DEFAULT_PEER)}
    roles = _roles(values.get("roles"), node_id, voters, settings)
    kafka = kafka_listeners(values, settings)
    fields = {name: value for name, value in values.items() if name not in _CONSUMED}
    fields |= _directories(values, node_id)
    fields |= _peer(values, kafka.controllers, node_id, voters)
    fields |= _http(values)
    config = NodeConfig(
        **fields
        | {
            "node_id": node_id,
            "roles": roles,
            "voters": voters,
            "kafka_listeners": kafka.clients,
            "advertised_kafka": kafka.advertised,
            "replication_listener": kafka.replication,
            "topic_defaults": dict(topic_defaults),
            "http_tls": _http_tls(values, settings),
            "http_authorities": _existing(values, settings, "http.ssl.authorities"),
            "peer_tls": _peer_tls(values, settings),
            "kafka_tls": read_kafka_tls([_existing(values, settings, name) for name in KAFKA_SSL_KEYS]),
        }
    )
    _check_tls(config, warnings)
    check_kafka_tls(config, warnings)
    _check_reach(config)
    _check_advertised(config, settings)
    _check_ports(config)
    _check_times(config, settings)
    _check_bounds(config, settings)
    return config


def _check_one_id(settings: Mapping[str, Setting]) -> None:
    old, new = settings.get("broker.id"), settings.get("node.id")
    if old is not None and new is not None and old.value != new.value:
        raise refuse(old, f"node.id={new.value} ({new.source}) says something else; drop broker.id")


def _roles(
    text: str | None, node_id: int, voters: Mapping[int, tuple[str, int]], settings: Mapping[str, Setting]
) -> frozenset[str]:
    listed = ", ".join(str(voter) for voter in sorted(voters))
    if text is None:
        return frozenset({"broker", "controller"} if node_id in voters else {"broker"})
    setting = settings["process.roles"]
    roles = frozenset(text.split(","))
    if "broker" not in roles:
        raise refuse(setting, "every node is a broker here; write broker,controller")
    if "controller" in roles and node_id not in voters:
        raise refuse(
            setting, f"node {node_id} is not in controller.quorum.voters ({listed}); add it or drop controller"
        )
    if "controller" not in roles and node_id in voters:
        raise refuse(setting, f"controller.quorum.voters lists node {node_id}; write broker,controller")
    return roles


def _directories(values: Mapping[str, Any], node_id: int) -> dict[str, Any]:
    """Everything below one folder unless told otherwise; with only Kafka's log.dirs set, beside its partitions."""
    logs = tuple(Path(path).absolute() for path in values.get("log_directories", ()))
    default = logs[0] / "__cluster_metadata" if logs else Path("kraft-data", f"node-{node_id}")
    node = Path(values.get("node_directory", default)).absolute()
    metadata = Path(values.get("metadata_directory", node / "metadata")).absolute()
    if len(set(logs)) != len(logs):
        raise ConfigError(f"log.dirs={','.join(map(str, logs))}: names a directory twice")
    return {"node_directory": node, "metadata_directory": metadata, "log_directories": logs or (node / "data",)}


def _peer(
    values: Mapping[str, Any], controllers: Sequence[Listener], node_id: int, voters: Mapping[int, tuple[str, int]]
) -> dict[str, Any]:
    own = voters.get(node_id)
    listens: tuple[str, int] | None = values.get("peer_listener")
    if listens is None:
        listens = (controllers[0].host, controllers[0].port) if controllers else own
    if listens is None:
        raise ConfigError(
            f"peer.listeners is not set: node {node_id} is no voter (controller.quorum.voters lists "
            f"{', '.join(str(voter) for voter in sorted(voters))}), so it needs peer.listeners=host:port"
        )
    advertised = own or values.get("advertised_peer") or listens
    return {"peer_listener": listens, "advertised_peer": advertised}


def _http(values: Mapping[str, Any]) -> dict[str, Any]:
    listeners: tuple[Listener, ...] = values.get("http_listeners", (DEFAULT_HTTP,))
    return {"http_listeners": listeners, "advertised_http": (values.get("advertised_http") or listeners)[0]}


def _existing(values: Mapping[str, Any], settings: Mapping[str, Setting], key: str) -> Path | None:
    text = values.get(key.replace(".", "_"))
    if text is None:
        return None
    path = Path(text).absolute()
    if not path.is_file():
        raise refuse(settings[key], "there is no such file")
    return path


def _http_tls(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> TlsFiles | None:
    certificate, key = (_existing(values, settings, name) for name in ("http.ssl.certificate", "http.ssl.key"))
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "http.ssl.certificate" if certificate is None else "http.ssl.key"
        raise ConfigError(f"{missing} is not set: TLS needs both http.ssl.certificate and http.ssl.key")
    return TlsFiles(certificate, key)


def _peer_tls(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> PeerTlsFiles | None:
    names = ("peer.ssl.certificate", "peer.ssl.key", "peer.ssl.authorities")
    files = [_existing(values, settings, name) for name in names]
    if not any(files):
        return None
    certificate, key, authorities = files
    if certificate is None or key is None or authorities is None:
        missing = next(name for name, file in zip(names, files, strict=True) if file is None)
        raise ConfigError(f"{missing} is not set: TLS between nodes needs all of {', '.join(names)}")
    return PeerTlsFiles(certificate, key, authorities)


def _check_tls(config: NodeConfig, warnings: list[str]) -> None:
    encrypted = [listener for listener in config.http_listeners if listener.tls]
    if encrypted and config.http_tls is None:
        raise ConfigError(f"http.ssl.certificate is not set: {encrypted[0]} needs it and http.ssl.key")
    if config.http_tls is not None and not encrypted:
        warnings.append("http.ssl.certificate has no effect: http.listeners names no https:// listener")
    if config.http_authorities is not None and not config.advertised_http.tls:
        warnings.append("http.ssl.authorities has no effect: the first of http.listeners is not https://")


def _check_reach(config: NodeConfig) -> None:
    """A bind that others can reach needs TLS and authentication; over HTTP there is no authentication yet."""
    if config.insecure_listeners:
        return
    way_out = "bind 127.0.0.1, or accept the risk with --insecure-listeners (insecure.listeners=true)"
    for listener in config.http_listeners:
        if not listener.is_loopback:
            raise ConfigError(f"http.listeners={listener}: anybody who reaches it could do anything; {way_out}")
    check_kafka_reach(config, way_out)
    if not is_loopback(config.peer_listener[0]) and config.peer_tls is None:
        peer = format_endpoint(*config.peer_listener)
        raise ConfigError(f"the peer listener {peer} is reachable from elsewhere; set peer.ssl.*, {way_out}")


def _check_advertised(config: NodeConfig, settings: Mapping[str, Setting]) -> None:
    """Other nodes and clients need one address to reach this node, not "all of them"."""
    for name, host in (("http", config.advertised_http.host), ("peer", config.advertised_peer[0])):
        key = f"advertised.{name}.listeners"
        if host not in ALL_ADDRESSES:
            continue
        if key in settings:
            raise refuse(settings[key], "others need one address that reaches this node, not all of them")
        raise ConfigError(f"{key} is not set: {name}.listeners names every address, others need one to reach this node")


def _check_ports(config: NodeConfig) -> None:
    used: dict[tuple[str, int], str] = {}
    places = [("the peer listener", *config.peer_listener)]
    places += [(f"http.listeners={listener}", listener.host, listener.port) for listener in config.http_listeners]
    places += [(f"listeners={listener}", listener.host, listener.port) for listener in config.kafka_listeners]
    for name, host, port in places:
        if port and (other := used.setdefault((host, port), name)) != name:
            raise ConfigError(f"{name}: the address is already used by {other}; give it another port")


def _check_times(config: NodeConfig, settings: Mapping[str, Setting]) -> None:
    if config.broker_session_timeout_ms < 2 * config.broker_heartbeat_interval_ms:
        setting = settings.get("broker.session.timeout.ms") or settings["broker.heartbeat.interval.ms"]
        raise refuse(setting, "the session timeout must be at least twice broker.heartbeat.interval.ms")
    if config.group_session_timeout_ms_min > config.group_session_timeout_ms_max:
        setting = settings.get("group.min.session.timeout.ms") or settings["group.max.session.timeout.ms"]
        raise refuse(setting, f"at most group.max.session.timeout.ms, {config.group_session_timeout_ms_max}")


def _check_bounds(config: NodeConfig, settings: Mapping[str, Setting]) -> None:
    """The largest request must fit into what all of them may take together, or it would never be read to its end."""
    if config.queued_max_request_bytes < config.socket_request_max_bytes:
        setting = settings.get("queued.max.request.bytes") or settings["socket.request.max.bytes"]
        raise refuse(setting, "queued.max.request.bytes must be at least socket.request.max.bytes")
