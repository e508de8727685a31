"""The certificates of a node, read before anything starts: what its HTTPS listeners show and what its proxy trusts.

Owns the TLS contexts of HTTP and the check of all certificate files, those of the peer link too (whose contexts are
kraft/peer_tls.py's): that link is tried here against itself, with the rules that the other nodes will apply.
Refuses, with one line that names the key: a file that can't be read or does not hold what it should, a key of another
certificate or behind a passphrase, a peer certificate that does not carry this node's name.
"""

import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.config_values import ConfigError
from broker.node_config import KafkaTlsFiles, NodeConfig, PeerTlsFiles, TlsFiles
from kraft.peer_tls import certificate_speaks_for, client_context, names_of, server_context
from kraft.quorum_config import PeerTls

FLIGHTS_MAX: Final = 4
"""A handshake of TLS 1.3 is over after three flights of messages, one more carries the session tickets."""


class NodeTls(NamedTuple):
    """`listener` for https:// listeners, `proxy` for requests to other nodes (None: plain, or as the system trusts).

    `kafka` for the SSL entries of `listeners` that clients come to, `replication` for the one where brokers must show
    who they are, `fetcher` for what this broker shows and trusts there itself.
    """

    listener: ssl.SSLContext | None = None
    proxy: ssl.SSLContext | None = None
    kafka: ssl.SSLContext | None = None
    replication: ssl.SSLContext | None = None
    fetcher: ssl.SSLContext | None = None


def read_node_tls(config: NodeConfig, warnings: list[str]) -> NodeTls:
    """Read and check every file; raises ConfigError. A peer certificate that others may turn away is a warning."""
    listener = None
    if config.http_tls is not None and any(at.tls for at in config.http_listeners):
        listener = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load_chain(listener, config.http_tls, "http.ssl")
    if config.peer_tls is not None:
        _check_peer_files(config.peer_tls)
        _check_peer_link(config.peer_tls, config.node_id, warnings)
    return NodeTls(listener, _proxy_context(config), *_kafka_contexts(config, warnings))


def _kafka_contexts(
    config: NodeConfig, warnings: list[str]
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None, ssl.SSLContext | None]:
    """For clients, for the other brokers, and for this broker among the others.

    A broker is known by the name node-<id> in its certificate (S9); that of the host is not asked for, so that a node
    may move to another address with its certificate.
    """
    files = config.kafka_tls
    if files is None or not any(at.tls for at in config.kafka_listeners):
        return None, None, None
    clients = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_chain(clients, files, "kafka.ssl")
    if not any(at.tls and at.name == config.replication_listener for at in config.kafka_listeners):
        return clients, None, None
    assert files.authorities is not None, "broker.config_listeners demands it"
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files.authorities, "kafka.ssl.authorities")
    replication = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    replication.verify_mode = ssl.CERT_REQUIRED
    replication.load_verify_locations(files.authorities)
    _load_chain(replication, files, "kafka.ssl")
    fetcher = client_context(PeerTls(str(files.certificate), str(files.key), str(files.authorities)))
    subject = f"kafka.ssl.certificate={files.certificate}"
    _check_among_brokers(replication, fetcher, subject, config.node_id, warnings)
    return clients, replication, fetcher


def _proxy_context(config: NodeConfig) -> ssl.SSLContext | None:
    """Trusts http.ssl.authorities alone where they are set.

    Otherwise this machine's authorities, those of the peer link, and whatever stands in this node's own chain: with
    certificates of one authority, private or not, the nodes of a cluster then trust each other without a further key.
    """
    if not config.advertised_http.tls:
        return None
    if config.http_authorities is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_certificates(context, config.http_authorities, "http.ssl.authorities")
        return context
    context = ssl.create_default_context()
    if config.http_tls is not None:
        _load_certificates(context, config.http_tls.certificate, "http.ssl.certificate")
    if config.peer_tls is not None:
        _load_certificates(context, config.peer_tls.authorities, "peer.ssl.authorities")
    return context


# -- files -----------------------------------------------------------------------------------------------------------


def _load_chain(context: ssl.SSLContext, files: TlsFiles | PeerTlsFiles | KafkaTlsFiles, keys: str) -> None:
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files.certificate, f"{keys}.certificate")
    _check_readable(files.key, f"{keys}.key")
    try:
        # Without an answer at hand OpenSSL would ask the terminal for the passphrase.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            reason = f"is not the key of {keys}.certificate={files.certificate}"
        else:
            reason = f"can't be used; expected a private key in PEM without a passphrase{_detail(error)}"
        raise ConfigError(f"{keys}.key={files.key}: {reason}") from None


def _detail(error: OSError) -> str:
    """OpenSSL's word for it, where it has one (EE_KEY_TOO_SMALL)."""
    reason = getattr(error, "reason", None)
    return f" ({reason})" if reason else ""


def _load_certificates(context: ssl.SSLContext, file: Path, key: str) -> None:
    _check_readable(file, key)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise ConfigError(f"{key}={file}: holds no certificate that can be read; expected PEM") from None


def _check_readable(file: Path, key: str) -> None:
    """OpenSSL does not say which file it could not open."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{key}={file}: can't be read: {error.strerror}") from None


# -- the peer link ---------------------------------------------------------------------------------------------------


def _check_peer_files(files: PeerTlsFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load_chain(context, files, "peer.ssl")
    _load_certificates(context, files.authorities, "peer.ssl.authorities")


def _check_peer_link(files: PeerTlsFiles, node_id: int, warnings: list[str]) -> None:
    """Meet oneself as the other nodes will.

    A certificate without this node's name is of use nowhere. One that these authorities did not sign, or that is out
    of its time, may still be good in the middle of a change of authorities, or where nobody else is there.
    """
    tls = PeerTls(str(files.certificate), str(files.key), str(files.authorities))
    subject = f"peer.ssl.certificate={files.certificate}"
    _check_among_brokers(server_context(tls), client_context(tls), subject, node_id, warnings)


def _check_among_brokers(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext, subject: str, node_id: int, warnings: list[str]
) -> None:
    """`subject` begins with the keys of the files, as `peer.ssl`."""
    keys = subject.partition(".certificate")[0]
    try:
        shown = _meet(server_side, client_side)
    except ssl.SSLCertVerificationError as error:
        warnings.append(
            f"{subject}: a node with these {keys}.authorities turns it away: {error.verify_message}; the link to "
            "other nodes needs a certificate that they trust"
        )
        return
    except ssl.SSLError as error:
        raise ConfigError(f"{subject}: can't be used for TLS 1.3{_detail(error)}") from None
    _check_speaks_for(shown, node_id, subject)


def _check_speaks_for(shown: dict[str, Any], node_id: int, subject: str) -> None:
    if not certificate_speaks_for(shown, node_id):
        names = ", ".join(names_of(shown)) or "none"
        raise ConfigError(
            f"{subject}: does not carry the name node-{node_id} (its names: {names}); use this node's own"
        )


def _meet(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> dict[str, Any]:
    """A handshake in memory: the server's certificate, as the client sees it; SSLError where either refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = {client, server}
    for _ in range(FLIGHTS_MAX):
        for side in (client, server):
            if side not in waiting:
                continue
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting, "every flight was delivered"
    shown: dict[str, Any] | None = client.getpeercert()
    assert shown, "the client demands a certificate"
    return shown
