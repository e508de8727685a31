"""One node's process: reads its configuration, assembles the node and its listeners, runs until told to stop.

Owns the process: signals, exit codes, the order of start (quorum first, since elections take a while; listeners last)
and of stop (not ready, hand over, answer what waits, flush). Refuses, with one line on stderr: a configuration or a
data directory that can't be right (exit 2), a port in use or a disk that fails (exit 1).
"""

import argparse
import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from api.connection_count import ConnectionCount
from api.kafka.context import KafkaContext
from api.kafka.listener import KafkaListener
from api.kafka.settings import KafkaSettings
from api.node_tls import NodeTls, read_node_tls
from broker import descriptors, event_log
from broker.config import load_config
from broker.config_values import ConfigError, format_endpoint
from broker.errors import ForeignMetadataError
from broker.meta_properties import (
    Formation,
    MetaProperties,
    check_meta_properties,
    forget_formation,
    format_directory,
    new_cluster_id,
    read_formation,
    read_meta_properties,
    write_meta_properties,
)
from broker.node import Node
from broker.node_config import NodeConfig
from broker.partition_fetches import LOOK_AT_ALL_S
from kraft.errors import DamagedError
from metadata.image import Endpoint
from wire.errors import RefusedError

if TYPE_CHECKING:
    from api.http.listener import HttpListener
    from api.http.settings import HttpSettings

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
READY_POLL_S: Final = 0.01
NOT_READY_TOLD_S: Final = 10.0
DRAIN_S: Final = 5.0
KAFKA_IDLE_S: Final = 600.0
"""As Kafka's; its clients close their own side after 9 minutes."""
HTTP_IDLE_S: Final = 75.0
"""Above the 15 to 60 s for which HTTP clients and proxies keep an idle connection in their pools."""


class StartError(Exception):
    """This node can't start; one line that says what to do."""


def main(arguments: Sequence[str]) -> int:
    """Run one node in the foreground; returns its exit code."""
    options = _parse(arguments)
    try:
        config, warnings = load_config(options.config, os.environ, _overrides(options))
        config = descriptors.fitted(config, descriptors.raise_limit(), warnings)
        tls = read_node_tls(config, warnings)
        if options.format_directory:
            _format(config)
        identity, formation = _identity(config, may_be_empty=options.format_directory)
    except ConfigError as error:
        return _refuse(error, EXIT_USAGE)
    event_log.configure(node_id=config.node_id, level=config.log_level, log_format=config.log_format, stream=sys.stderr)
    log = event_log.logger()
    for warning in warnings:
        log.warning("configuration", warning=warning)
    if config.insecure_listeners:
        log.warning(
            "insecure.listeners=true: anyone who can reach this node's listeners can read and delete everything"
        )
    try:
        return asyncio.run(_serve(config, tls, identity, formation))
    except ConfigError as error:
        return _refuse(error, EXIT_USAGE)
    except (StartError, DamagedError, ForeignMetadataError, RefusedError, OSError) as error:
        return _refuse(error, EXIT_FAILURE)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kraft node", description="Run one node in the foreground.")
    parser.add_argument("-c", "--config", metavar="FILE", help="server.properties or node.toml")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override one setting")
    parser.add_argument("--format-directory", action="store_true", help="make an empty data directory this node's own")
    parser.add_argument("--insecure-listeners", action="store_true", help="allow listeners beyond this machine")
    return parser.parse_args(arguments)


def _overrides(options: argparse.Namespace) -> list[str]:
    insecure = ["insecure.listeners=true"] if options.insecure_listeners else []
    return [*options.set, *insecure]


def _refuse(error: Exception, exit_code: int) -> int:
    sys.stderr.write(f"kraft node: {error}\n")
    return exit_code


# -- who this data directory belongs to -----------------------------------------------------------------------------


def _format(config: NodeConfig) -> None:
    """`--format`: an identity for a directory that has none, and leave to start for a voter that lost its journal.

    The only voter of a cluster forms it. A voter among others gets a new directory id and no say in the quorum until
    they have let it catch up (S16): the first formation of several voters is `kraft up`'s.
    """
    directory = config.node_directory
    alone = set(config.voters) == {config.node_id}
    if read_meta_properties(directory) is not None:
        return
    if alone:
        cluster_id = config.cluster_id or new_cluster_id()
        format_directory(
            directory, cluster_id=cluster_id, node_id=config.node_id, voter_directories={config.node_id: uuid.uuid4()}
        )
    elif config.cluster_id is None:
        raise ConfigError(
            "cluster.id is not set: --format must know which cluster this node belongs to; `kraft status` on another "
            "node prints it"
        )
    else:
        directory.mkdir(parents=True, exist_ok=True)
        write_meta_properties(directory, MetaProperties(config.cluster_id, config.node_id, uuid.uuid4()))


def _identity(config: NodeConfig, *, may_be_empty: bool) -> tuple[MetaProperties, Formation | None]:
    directory = config.node_directory
    identity = read_meta_properties(directory)
    if identity is None:
        raise ConfigError(
            f"{directory} is not formatted: start a new cluster with `kraft up`, or add --format to make this directory"
            " that of a node which joins a cluster (or, as its only voter, begins one)"
        )
    check_meta_properties(directory, identity, node_id=config.node_id, cluster_id=config.cluster_id)
    formation = read_formation(directory)
    if set(config.voters) == {config.node_id} and formation is None and not _has_journal(config):
        raise ConfigError(
            f"{config.metadata_directory} is empty, and this node was the only voter: what the cluster was is lost. "
            "Bring the directory back from where it went or from a backup; `kraft purge` ends the cluster"
        )
    if config.is_voter and formation is None and not may_be_empty and not _has_journal(config):
        raise ConfigError(
            f"{config.metadata_directory} is empty, but this voter was formatted before: what it promised to the quorum"
            " is lost. With a majority of the other voters up, add --format: it catches up before it votes again"
        )
    return identity, formation


def _has_journal(config: NodeConfig) -> bool:
    directory = config.metadata_directory
    return directory.is_dir() and any(directory.iterdir())


# -- from start to stop ---------------------------------------------------------------------------------------------


async def _serve(config: NodeConfig, tls: NodeTls, identity: MetaProperties, formation: Formation | None) -> int:
    process = _Process(config, tls, identity, formation)
    try:
        await process.start()
        return await process.run()
    finally:
        await process.stop()


class _Process:
    """The node and its listeners, between start and stop."""

    def __init__(self, config: NodeConfig, tls: NodeTls, identity: MetaProperties, formation: Formation | None) -> None:
        self._config = config
        self._tls = tls
        self._log = event_log.logger()
        self._loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        self._connections = ConnectionCount(
            connections_max=config.max_connections, per_address_max=config.max_connections_per_ip
        )
        self._listeners: list[HttpListener | KafkaListener] = []
        self._formed = formation is not None
        self._node = Node(config, identity, formation)

    async def start(self) -> None:
        self._loop.set_exception_handler(self._unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)
        config = self._config
        try:
            await self._node.start_quorum()
        except OSError as error:
            raise StartError(_cannot_listen("peer", format_endpoint(*config.peer_listener), error)) from error
        if self._formed:
            forget_formation(config.node_directory)
        self._kafka = KafkaContext(self._node, _kafka_settings(config), connections=self._connections)
        kafka = await self._open_kafka_listeners()
        await self._open_http_listeners()
        http = Endpoint(config.advertised_http.host, config.advertised_http.port)
        await self._node.start(http=http, listeners=kafka, replication_tls=self._tls.fetcher)
        self._node.listeners_open = True

    async def _open_kafka_listeners(self) -> dict[str, Endpoint]:
        """As advertised, by name. What comes waits until `_serve_when_ready`."""
        config, advertised = self._config, {}
        for at, told in zip(config.kafka_listeners, config.advertised_kafka, strict=True):
            is_replication = at.name == config.replication_listener
            tls = (self._tls.replication if is_replication else self._tls.kafka) if at.tls else None
            listener = KafkaListener(self._kafka, at, is_replication=is_replication, tls=tls)
            try:
                await listener.start()
            except OSError as error:
                raise StartError(_cannot_listen("Kafka", str(at), error)) from error
            self._listeners.append(listener)
            advertised[at.name] = Endpoint(told.host, told.port or listener.port)
        return advertised

    async def _open_http_listeners(self) -> None:
        """To import aiohttp takes a good part of a second: the quorum elects its leader meanwhile."""
        from api.http.app import create_app  # noqa: PLC0415 - see above
        from api.http.listener import HttpListener  # noqa: PLC0415 - see above

        app = create_app(self._node, _http_settings(self._config, self._tls))
        for at in self._config.http_listeners:
            listener = HttpListener(
                app,
                at.host,
                at.port,
                ssl_context=self._tls.listener if at.tls else None,
                connections=self._connections,
            )
            try:
                await listener.start()
            except OSError as error:
                raise StartError(_cannot_listen("HTTP", str(at), error)) from error
            self._listeners.append(listener)

    async def run(self) -> int:
        """Until a signal or a failure; the exit code."""
        ready = self._loop.create_task(self._serve_when_ready())
        stop = self._loop.create_task(self._stop_asked.wait())
        failed = self._loop.create_task(self._node.failed.wait())
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ready, stop, failed):
            task.cancel()
        if (error := self._node.failure) is not None:
            if isinstance(error, ForeignMetadataError):
                _refuse(error, EXIT_FAILURE)
            else:
                self._log.error("node failed", exc_info=error)
                _refuse(StartError(f"node {self._config.node_id} stops: {error!r}"), EXIT_FAILURE)
            os._exit(EXIT_FAILURE)  # what is under way is unknown to its callers; waiting for it would not help them
        self._log.info("stopping")
        await self._node.hand_over()
        await asyncio.gather(*(listener.drain(DRAIN_S) for listener in self._listeners))
        return EXIT_OK

    async def stop(self) -> None:
        for listener in self._listeners:
            await listener.stop()
        await self._node.stop()
        self._log.info("stopped")

    async def _serve_when_ready(self) -> None:
        """Kafka is answered once this broker is registered: before, it could only mislead who asks it."""
        tell_at_s = self._loop.time() + NOT_READY_TOLD_S
        while reasons := self._node.readiness():
            if self._node.broker_epoch is not None:
                self._kafka.serve()
            if self._loop.time() >= tell_at_s:
                self._log.warning("not ready yet", reasons=reasons)
                tell_at_s += NOT_READY_TOLD_S
            await asyncio.sleep(READY_POLL_S)
        self._kafka.serve()
        self._log.info(
            "ready",
            http=[str(at) for at in self._config.http_listeners],
            kafka=[str(at) for at in self._config.kafka_listeners],
            cluster_id=self._node.cluster_id,
        )

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What no task and no caller caught: a broken invariant stops the node, anything else is logged."""
        error = context.get("exception")
        if isinstance(error, AssertionError):
            self._node.fail(error)
        loop.default_exception_handler(context)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop_asked.is_set():
            os._exit(128 + number)  # a second signal is immediate
        self._stop_asked.set()


def _cannot_listen(what: str, where: str, error: OSError) -> str:
    return (
        f"can't open the {what} listener {where}: {error.strerror or error}; stop what uses the port or choose another"
    )


def _kafka_settings(config: NodeConfig) -> KafkaSettings:
    idle_ms = config.connections_max_idle_ms
    return KafkaSettings(
        request_bytes_max=config.socket_request_max_bytes,
        in_flight_bytes_max=config.queued_max_request_bytes,
        pipelined_bytes_max=config.socket_request_max_bytes,
        connections_max=config.max_connections,
        connections_per_address_max=config.max_connections_per_ip,
        idle_s=KAFKA_IDLE_S if idle_ms is None else idle_ms / 1000,
        frame_deadline_s=config.http_body_timeout_ms / 1000,
        fetch_bytes_max=config.fetch_max_bytes,
        look_at_all_s=min(LOOK_AT_ALL_S, config.replica_lag_time_max_ms / 4000),
        fetch_session_slots=config.fetch_session_slots,
        creates_topics=config.auto_create_topics_enable,
    )


def _http_settings(config: NodeConfig, tls: NodeTls) -> "HttpSettings":
    from api.http.settings import HttpSettings  # noqa: PLC0415 - see _open_listeners

    return HttpSettings(
        header_deadline_s=config.http_header_timeout_ms / 1000,
        body_deadline_s=config.http_body_timeout_ms / 1000,
        body_bytes_max=config.socket_request_max_bytes,
        in_flight_bytes_max=config.queued_max_request_bytes,
        connections_per_address_max=config.max_connections_per_ip,
        connections_max=config.max_connections,
        keepalive_s=HTTP_IDLE_S if config.connections_max_idle_ms is None else config.connections_max_idle_ms / 1000,
        fetch_bytes_max=config.fetch_max_bytes,
        scheme=config.advertised_http.name,
        proxy_ssl=tls.proxy,
    )
