"""Mutual TLS between nodes: both ends show a certificate of the cluster's authority that carries the node's name.

Owns the two TLS contexts and the rule that binds a certificate to a node id. A certificate speaks for node 3 when
its subject alternative names hold the DNS name `node-3`, or, where it has no alternative names at all, when its
common name is `node-3`. Host names play no part: a node may move to another address with its certificate.

Refuses: TLS below 1.3, a peer without a certificate, a certificate of another authority or of another node's name.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from kraft.quorum_config import PeerTls


def server_context(tls: PeerTls) -> ssl.SSLContext:
    """For accepted connections; OSError (ssl.SSLError) where a file is missing or not what it should be."""
    return _context(tls, ssl.PROTOCOL_TLS_SERVER)


def client_context(tls: PeerTls) -> ssl.SSLContext:
    """For dialed connections; the name is checked by `names_of` against the node id, not against the host."""
    return _context(tls, ssl.PROTOCOL_TLS_CLIENT)


def certificate_speaks_for(certificate: Mapping[str, Any] | None, node_id: int) -> bool:
    """Whether a verified certificate (as `ssl.getpeercert` gives it) carries the name of this node."""
    return certificate is not None and f"node-{node_id}" in names_of(certificate)


def names_of(certificate: Mapping[str, Any]) -> list[str]:
    """The names that count: DNS alternative names, else the common name (RFC 6125, 6.4.4)."""
    alternative_names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if certificate.get("subjectAltName"):
        return alternative_names
    return [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]


def _context(tls: PeerTls, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate_file, tls.key_file)
    context.load_verify_locations(tls.ca_file)
    return context
