"""The bounds of the HTTP door: how long it waits, how much it holds. One frozen value, read by every handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Bounds and deadlines; every field says why its default."""

    header_deadline_s: float = 10.0
    """A request head that is not whole by then is a slow-loris; people and their clients need milliseconds."""
    body_deadline_s: float = 60.0
    """A whole body; 16 MiB in a minute is a bad mobile connection."""
    stream_idle_s: float = 300.0
    """A chunked produce stream may rest between records; without any byte for this long it is closed."""
    response_deadline_s: float = 60.0
    """A reader that takes nothing for so long holds memory that others need."""
    linger_s: float = 2.0
    """After an answer that did not wait for the whole body: how long the rest is read and thrown away, so that the
    client gets to read the answer instead of a reset."""
    drain_kept_s: float = 0.3
    """How long a stopping node goes on answering on kept connections: by then every node knows who leads instead."""
    keepalive_s: float = 75.0
    """Longer than the idle time that common clients and proxies keep a pooled connection (15 to 60 s)."""
    body_bytes_max: int = 16 * MIB
    """One body (or one document of a stream), also after gunzip: 10,000 records of 1 KiB and their JSON fit."""
    in_flight_bytes_max: int = 256 * MIB
    """All bodies that are held at one time; beyond it the answer is 429. Sixteen of the largest bodies."""
    connections_per_address_max: int = 2048
    """More than any pooled client opens; a bench of 1,000 connections from one host passes."""
    connections_max: int = 10_000
    """Each costs about 10 KiB idle."""
    fetch_bytes_max: int = 8 * MIB
    """A larger max_bytes is answered with this much: encoding more at once would hold up everyone else."""
    poll_timeout_ms_max: int = 60_000
    """The longest long poll: proxies cut idle requests at about a minute."""
    fetch_timeout_s: float = 1.5
    """How much later than its own timeout a fetch is answered at most, whatever becomes of the leader (L1)."""
    produce_timeout_ms: int = 30_000
    """Kafka's request.timeout.ms."""
    produce_timeout_ms_max: int = 120_000
    """The longest that a caller may wait for acks: Kafka's delivery.timeout.ms."""
    admin_timeout_s: float = 30.0
    """Kafka's request.timeout.ms; an election of the quorum takes a second or two of it."""
    leader_wait_s: float = 2.0
    """How long a request waits for a leader that is just being elected or made known, within its own timeout."""
    former_leader_wait_s: float = 2.0
    """How long the answer of a broker that leads no longer is waited for: after that it is paused, cut off or gone."""
    unknown_topic_wait_s: float = 0.25
    """A topic created on one node is known to the others some milliseconds later; so long it is not called unknown."""
    first_receipt_wait_s: float = 0.025
    """After the first document of a chunked body: how long to wait for its end before the answer becomes a stream."""
    batch_entries_max: int = 10_000
    """Entries of one records:batch."""
    batch_records_max: int = 50_000
    """Records of any one request: what a loop can take in about a quarter of a second."""
    scheme: str = "http"
    """Of the advertised listeners of every node: what X-Leader-Url and the proxy use."""
    proxy_ssl: SSLContext | None = None
    """What the proxy trusts where `scheme` is https."""
    backlog: int = 1024
    """1,000 clients that connect at once wait 1.5 s behind a shorter queue."""
