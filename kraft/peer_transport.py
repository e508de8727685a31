"""Every link of a node to its peers: who dials whom, one live connection a peer, and the core's messages over it.

Owns the listener, the dialers, the table of connections by node id, and the outbox of raft messages. It is pysyncobj's
`Transport`, so the core sends through it; it lives on the quorum's loop and is used on that loop only.

Refuses: hellos of another cluster, of another voter list, of its own id, or whose certificate does not carry the
name `node-<id>`; raft messages from anybody who is no voter.

Invariants: no raft message leaves before the journal holds what it promises (S16): `send` only queues, and only the
core calls `flush`, after its sync. Nothing is delivered to the core from inside either.
One connection a peer: a new one closes the one that it replaces. The dialer of a pair is fixed (a non-voter dials
voters, otherwise the greater id dials), so two nodes never race for two connections. A full descriptor table,
a refused bind of one attempt or a slow peer costs a delay, never the listener and never unbounded memory.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import structlog
from pysyncobj.transport import Transport

from kraft.peer_connection import MAX_QUEUED_BYTES, SLOW_PEER_BYTES, PeerConnection
from kraft.peer_frames import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    FrameError,
    FrameKind,
    Hello,
    encode_frame,
    why_refused,
)
from kraft.peer_requests import PeerRequests
from kraft.peer_tls import certificate_speaks_for, client_context, server_context
from kraft.quorum_config import QuorumConfig
from kraft.voters import Voter

DIAL_TIMEOUT_S: Final = 2.0
FIRST_RETRY_S: Final = 0.02
LAST_RETRY_S: Final = 0.5
REFUSED_RETRY_S: Final = 2.0
SETTLED_S: Final = 1.0
MAX_UNIDENTIFIED: Final = 128
LISTEN_BACKLOG: Final = 128

_log = structlog.get_logger("kraft.peer")


class PeerTransport(Transport):  # type: ignore[misc]  # pysyncobj carries no types
    """`wake` is called whenever the core has something new to look at: a message, a link more, a link less."""

    ready = True

    def __init__(self, config: QuorumConfig, *, wake: Callable[[], None]) -> None:
        super().__init__(None, None, [])
        self.requests = PeerRequests(self.connection_of)
        self.directory_ids: dict[int, UUID] = {}
        self._config = config
        self._wake = wake
        self._voters = {node_id: Voter(node_id) for node_id in config.voters if node_id != config.node_id}
        self._connections: dict[int, PeerConnection] = {}
        self._open: set[PeerConnection] = set()
        self._outbox: dict[PeerConnection, list[bytearray]] = {}
        self._outbox_bytes: dict[PeerConnection, int] = {}
        self._endpoints: dict[int, tuple[str, int]] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._refusals: dict[int | None, str] = {}
        self._server: asyncio.Server | None = None
        self._server_tls = server_context(config.tls) if config.tls else None
        self._client_tls = client_context(config.tls) if config.tls else None
        self._stopping = False

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind exactly the configured address and start to dial; OSError where it cannot be bound."""
        host, port = self._config.listen
        self._server = await asyncio.get_running_loop().create_server(
            lambda: PeerConnection(self, expected_node_id=None),
            host,
            port,
            ssl=self._server_tls,
            ssl_handshake_timeout=DIAL_TIMEOUT_S if self._server_tls else None,
            backlog=LISTEN_BACKLOG,
        )
        for node_id, (voter_host, voter_port) in self._config.voters.items():
            self.set_peer_endpoint(node_id, voter_host, voter_port)

    @property
    def listen_address(self) -> tuple[str, int]:
        """The bound address, with the real port where 0 was configured."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Close the listener, the dialers and every connection, and wait until their sockets are gone."""
        self.destroy()
        dialers, connections = list(self._dialers.values()), list(self._open)
        self._dialers.clear()
        await asyncio.gather(*dialers, return_exceptions=True)
        await asyncio.gather(*(connection.finished for connection in connections))
        if self._server is not None:
            await self._server.wait_closed()

    def destroy(self) -> None:
        """What pysyncobj calls at its end: nothing is sent or delivered after this."""
        self._stopping = True
        self._outbox.clear()
        self._outbox_bytes.clear()
        if self._server is not None:
            self._server.close()
        for dialer in self._dialers.values():
            dialer.cancel()
        for connection in list(self._open):
            connection.close()

    # -- the core's side (pysyncobj's Transport) ----------------------------------------------------------------

    def send(self, node: Voter, message: dict[str, Any]) -> bool:
        """Queue a raft message for the next `flush`; False: no link, or the peer is too slow for more entries."""
        connection = self._connections.get(node.id)
        if connection is None:
            return False
        waiting = self._outbox_bytes.get(connection, 0) + connection.queued_bytes
        if waiting >= (SLOW_PEER_BYTES if message["type"] == "append_entries" else MAX_QUEUED_BYTES):
            return False
        frame = encode_frame(FrameKind.RAFT, message)
        self._outbox.setdefault(connection, []).append(frame)
        self._outbox_bytes[connection] = self._outbox_bytes.get(connection, 0) + len(frame)
        return True

    def flush(self) -> None:
        """Let the queued messages leave; only the core calls it, when what they promise is on disk (S16)."""
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        self._outbox_bytes.clear()
        for connection, frames in outbox.items():
            connection.send(frames[0] if len(frames) == 1 else b"".join(frames))

    # -- peers --------------------------------------------------------------------------------------------------

    def connection_of(self, node_id: int) -> PeerConnection | None:
        """The established link to a node."""
        return self._connections.get(node_id)

    def connected_ids(self) -> set[int]:
        """The nodes with an established link."""
        return set(self._connections)

    def set_peer_endpoint(self, node_id: int, host: str, port: int) -> None:
        """Where a node listens; it is dialed from now on if dialing it is this side's part."""
        if node_id == self._config.node_id or self._endpoints.get(node_id) == (host, port):
            return
        self._endpoints[node_id] = (host, port)
        if node_id not in self._dialers and self._dials(node_id) and not self._stopping:
            dialer = asyncio.get_running_loop().create_task(self._keep_connected(node_id))
            self._dialers[node_id] = dialer

    def forget_peer(self, node_id: int) -> None:
        """Stop dialing a node that left the cluster; voters are never forgotten."""
        if node_id in self._config.voters:
            return
        self._endpoints.pop(node_id, None)
        dialer = self._dialers.pop(node_id, None)
        if dialer is not None:
            dialer.cancel()

    def _dials(self, node_id: int) -> bool:
        own_is_voter, other_is_voter = (each in self._config.voters for each in (self._config.node_id, node_id))
        if own_is_voter != other_is_voter:
            return other_is_voter
        return self._config.node_id > node_id

    async def _keep_connected(self, node_id: int) -> None:
        loop, retry_s = asyncio.get_running_loop(), FIRST_RETRY_S
        while True:
            begun_s = loop.time()
            connection = await self._dial(node_id, *self._endpoints[node_id])
            if connection is not None and connection.hello is not None:
                # Two processes with one node id replace each other's links: that must not become a tight loop.
                retry_s = FIRST_RETRY_S if loop.time() - begun_s > SETTLED_S else retry_s
            elif connection is not None and connection.refused:
                retry_s = REFUSED_RETRY_S
            elif connection is not None:
                self._note_refusal(node_id, "it closed the connection before its hello")
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _dial(self, node_id: int, host: str, port: int) -> PeerConnection | None:
        """One connection from its first byte to its last."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: PeerConnection(self, expected_node_id=node_id),
                    host,
                    port,
                    ssl=self._client_tls,
                )
        except (
            OSError,
            ValueError,
            OverflowError,
        ) as error:  # what is no host's name or no port
            self._note_refusal(node_id, f"cannot reach {host}:{port}: {error or type(error).__name__}")
            return None
        try:
            await asyncio.shield(connection.finished)
        finally:
            connection.close()
        return connection

    # -- what connections report --------------------------------------------------------------------------------

    def opened(self, connection: PeerConnection) -> bool:
        """A socket is connected (and its TLS done); False where there are too many that have not said who they are."""
        unidentified = sum(each.hello is None for each in self._open)
        if self._stopping or (unidentified >= MAX_UNIDENTIFIED and not connection.is_dialer):
            return False
        self._open.add(connection)
        connection.finished.add_done_callback(lambda _: self._open.discard(connection))
        return True

    def own_hello(self) -> Hello:
        """Who this node is."""
        return Hello(
            protocol="kraft-peer",
            version=PROTOCOL_VERSION,
            oldest_version=OLDEST_PROTOCOL_VERSION,
            cluster_id=self._config.cluster_id,
            node_id=self._config.node_id,
            directory_id=self._config.directory_id.bytes,
            voters=tuple(sorted(self._config.voters)),
        )

    def refusal_of(self, connection: PeerConnection, hello: Hello) -> str | None:
        """Why this hello is not acceptable, said so that an operator knows what to change; None where it is."""
        reason = why_refused(hello, own=self.own_hello(), dialed=connection.expected_node_id)
        if reason is None and self._config.tls and not certificate_speaks_for(connection.certificate, hello.node_id):
            return f"the certificate does not carry the name node-{hello.node_id}"
        return reason

    def established(self, connection: PeerConnection) -> None:
        """A peer said who it is: its link replaces an older one."""
        assert connection.hello is not None
        node_id = connection.node_id
        replaced = self._connections.get(node_id)
        if replaced is not None:
            replaced.close()
        self._connections[node_id] = connection
        self._refusals.pop(node_id, None)
        self.directory_ids[node_id] = UUID(bytes=connection.hello.directory_id)
        _log.info("peer connected", peer_id=node_id, address=connection.address, replaced=replaced is not None)
        if node_id in self._voters:
            self._onNodeConnected(self._voters[node_id])
            self._wake()

    def received(self, connection: PeerConnection, kind: FrameKind, value: Any) -> None:
        """A frame of an established link, already of its declared shape."""
        if kind is FrameKind.RAFT:
            voter = self._voters.get(connection.node_id)
            if voter is None:
                raise FrameError(f"node {connection.node_id} is no voter and sent a raft message")
            self._onMessageReceived(voter, value)
            self._wake()
        elif kind is FrameKind.REQUEST:
            self.requests.received_request(connection, value)
        elif kind is FrameKind.ANSWER:
            self.requests.received_answer(connection, value)
        else:
            raise FrameError(f"a second {kind.name}")

    def refused(self, connection: PeerConnection, reason: str) -> None:
        """One side refused the other; said once, not at every retry."""
        self._note_refusal(connection.expected_node_id, reason)

    def lost(self, connection: PeerConnection) -> None:
        """An established link is gone."""
        node_id = connection.node_id
        if self._connections.get(node_id) is connection:
            del self._connections[node_id]
        self._outbox.pop(connection, None)
        self._outbox_bytes.pop(connection, None)
        self.requests.lost(connection)
        if self._stopping:
            return
        _log.info("peer disconnected", peer_id=node_id, address=connection.address)
        if node_id in self._voters:
            self._onNodeDisconnected(self._voters[node_id])
            self._wake()

    def _note_refusal(self, node_id: int | None, reason: str) -> None:
        if self._refusals.get(node_id) == reason:
            return
        if len(self._refusals) >= MAX_UNIDENTIFIED:
            self._refusals.clear()
        self._refusals[node_id] = reason
        _log.warning("peer not connected", peer_id=node_id, reason=reason)
