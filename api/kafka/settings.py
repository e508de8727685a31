"""The bounds of the Kafka door: how long it waits, how much it holds. One frozen value, read by every connection."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Bounds and deadlines; every field says why its default."""

    request_bytes_max: int = 16 * MIB
    """One frame. Clients send up to 1 MiB (`max.request.size`) unless told otherwise."""
    in_flight_bytes_max: int = 256 * MIB
    """All requests that were received and not answered yet; beyond it nothing more is read."""
    pipelined_bytes_max: int = 16 * MIB
    """The same for one connection; one frame of the largest size always passes."""
    pipelined_requests_max: int = 64
    """Of one connection: more than any client has in flight (Java: 5; librdkafka: thousands, which then wait)."""
    connections_max: int = 10_000
    connections_per_address_max: int = 2_000
    idle_s: float = 600.0
    """Kafka's connections.max.idle.ms: clients close their own side after 9 minutes."""
    frame_deadline_s: float = 30.0
    """A frame that has begun must be whole by then; 16 MiB in 30 s is a bad mobile connection."""
    write_deadline_s: float = 60.0
    """A reader that takes nothing for so long holds memory that others need."""
    write_buffer_bytes: int = 1 * MIB
    """With more than this unsent, a connection's further requests wait: most fetch answers leave without a pause."""
    fetch_bytes_max: int = 8 * MIB
    """A larger max_bytes is answered with this much: reading more at once would hold up everyone else."""
    fetch_wait_ms_max: int = 60_000
    """The longest long poll."""
    produce_timeout_ms_max: int = 120_000
    """The longest wait for acks: Kafka's delivery.timeout.ms."""
    admin_timeout_s: float = 30.0
    """Kafka's request.timeout.ms."""
    look_at_all_s: float = 5.0
    """How often at least a fetch session looks at all of its partitions."""
    fetch_session_slots: int = 1_000
    creates_topics: bool = False
    """`auto.create.topics.enable`"""
    backlog: int = 1024
    """1,000 clients that connect at once wait 1.5 s behind a shorter queue."""
