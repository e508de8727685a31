"""Records into a partition, wherever its leader is: batches built here, appended here or sent to the leader.

Owns the cutting into batches of at most `max.message.bytes` and the two ways of appending them. Refuses a record that
no batch can hold (413), and an idempotent request that one batch cannot hold (400).
Invariants: S15: what is answered `not_written` was refused before the append. A batch whose bytes may have reached a
leader is sent again only where the log would know it again (S13: it carries a producer id); any other one never.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from api.http.errors import RETRIABLE, ApiError, Outcome, bad_request, too_large
from api.http.idempotence import PRODUCER_SEQ
from api.http.leading import Target, Write, at_leader, while_it_leads
from metadata.topic_configs import in_force
from wire.record_batch import HEADER_BYTES, Compression, build_batch, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.http.context import Context
    from api.http.forwarding import Forwarded
    from api.http.idempotence import ProducerStamp
    from broker.replication.replica import Replica
    from metadata.image import Broker, Topic
    from wire.record_batch import RecordFields

ACKS: Final = {"all": -1, "-1": -1, "0": 0, "1": 1}
ASK_NEXT_LEADER_S: Final = 0.25
RECORD_OVERHEAD_BYTES: Final = 40
"""The most that a record without headers adds to its key and value: seven varints and an attribute byte, rounded up."""

_COMPRESSION: Final = {
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


class ProduceOptions(NamedTuple):
    """What the query says about a produce."""

    acks: int
    timeout_ms: int
    expected_offset: int | None
    may_forward: bool
    """False for a request that another node forwarded: this node leads, or nobody here does."""
    producer: ProducerStamp | None = None
    """Of an idempotent produce: what its one batch carries."""


class Placed(NamedTuple):
    """Where one partition's records landed; `timestamp_ms` -1: each kept its own."""

    base_offset: int
    last_offset: int
    timestamp_ms: int
    leader: Broker
    is_duplicate: bool
    """They were in the log before, at these offsets (S13)."""


class ForwardedReceipt(msgspec.Struct):
    base_offset: int
    last_offset: int
    timestamp: int
    duplicate: bool = False


_receipt_decoder: Final = msgspec.json.Decoder(ForwardedReceipt)


def message_bytes_max(context: Context, topic: Topic) -> int:
    """The largest batch that the topic takes."""
    return int(in_force("max.message.bytes", topic.configs, context.node.topic_defaults))


def record_bytes(record: RecordFields) -> int:
    """At least what the record takes in a batch."""
    key, value, headers, _ = record
    size = RECORD_OVERHEAD_BYTES + (len(key) if key else 0) + (len(value) if value else 0)
    for name, content in headers:
        size += 10 + 4 * len(name) + (len(content) if content else 0)
    return size


def cut(records: Sequence[RecordFields], limit_bytes: int) -> list[Sequence[RecordFields]]:
    """The records in runs that fit into one batch each; a run of one may not."""
    runs: list[Sequence[RecordFields]] = []
    start, size = 0, HEADER_BYTES
    for index, record in enumerate(records):
        added = record_bytes(record)
        if size + added > limit_bytes and index > start:
            runs.append(records[start:index])
            start, size = index, HEADER_BYTES
        size += added
    runs.append(records[start:])
    return runs


def build_batches(
    context: Context, topic: Topic, records: Sequence[RecordFields], *, records_bytes_max: int
) -> bytearray:
    """The records as one or more batches in a row; `records_bytes_max` is more than their keys and values can hold."""
    limit_bytes = message_bytes_max(context, topic)
    compression = _compression(context, topic)
    bound = records_bytes_max + HEADER_BYTES + RECORD_OVERHEAD_BYTES * len(records)
    if bound <= limit_bytes:
        return build_batch(records, compression=compression)
    batches = bytearray()
    for run in cut(records, limit_bytes):
        batch = build_batch(run, compression=compression)
        if len(batch) > limit_bytes:
            raise _record_too_large(batch, limit_bytes)
        batches += batch
    return batches


def build_idempotent_batch(
    context: Context, topic: Topic, records: Sequence[RecordFields], producer: ProducerStamp
) -> bytearray:
    """The records as the one batch that carries their producer's id, epoch and sequence."""
    limit_bytes = message_bytes_max(context, topic)
    batch = build_batch(records, compression=_compression(context, topic), **producer._asdict())
    if len(batch) <= limit_bytes:
        return batch
    if len(records) == 1:
        raise _record_too_large(batch, limit_bytes)
    raise bad_request(
        f"with {PRODUCER_SEQ} the records must fit into one batch, but they make {len(batch)} bytes, above "
        f"max.message.bytes={limit_bytes}: send fewer at once"
    )


def _compression(context: Context, topic: Topic) -> Compression:
    wanted = in_force("compression.type", topic.configs, context.node.topic_defaults)
    return _COMPRESSION.get(wanted, Compression.NONE)


def _record_too_large(batch: bytearray, limit_bytes: int) -> ApiError:
    return too_large(
        f"the record (a batch of {len(batch)} bytes)",
        limit_bytes=limit_bytes,
        fix="send a smaller record, or raise the topic's max.message.bytes",
    )


async def append_batches(
    context: Context, topic: Topic, partition: int, batches: bytearray, options: ProduceOptions
) -> Placed:
    """Append at the leader, whoever that becomes, within `options.timeout_ms`."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + options.timeout_ms / 1000
    target = Target(context, topic, partition, options.may_forward)
    header = read_header(batches)
    is_idempotent = header is not None and header.producer_id >= 0

    def left_ms() -> int:
        return max(1, int((deadline - clock()) * 1000))

    async def here(replica: Replica, leader: Broker) -> Placed:
        # An append stamps the bytes, and those that may be sent again must be as they came.
        buffer = bytearray(batches) if is_idempotent else batches
        appended = await replica.append(
            buffer, acks=options.acks, timeout_ms=left_ms(), expected_offset=options.expected_offset
        )
        return Placed(appended.base_offset, appended.last_offset, appended.timestamp_ms, leader, appended.is_duplicate)

    async def there(leader: Broker) -> Placed:
        query = {"acks": str(options.acks), "timeout": str(left_ms())}
        if options.expected_offset is not None:
            query["expected_offset"] = str(options.expected_offset)
        try:
            # Of an idempotent write the next leader can tell what became; of another one only the old leader can.
            longer_s = ASK_NEXT_LEADER_S if is_idempotent else context.settings.former_leader_wait_s
            async with while_it_leads(target, leader, longer_s=longer_s):
                answer = await context.forwarder.append(leader, topic, partition, batches, query)
        except TimeoutError:
            message = f"broker {leader.broker_id} took records as the leader, leads no longer, and has not answered"
            raise ApiError(503, RETRIABLE, message, outcome=Outcome.UNKNOWN) from None
        return _placed(answer, leader)

    return await at_leader(
        target,
        here=here,
        there=there,
        wait_s=options.timeout_ms / 1000,
        write=Write.IDEMPOTENT if is_idempotent else Write.PLAIN,
    )


def _placed(answer: Forwarded, leader: Broker) -> Placed:
    try:
        receipt = _receipt_decoder.decode(answer.body)
    except msgspec.DecodeError:
        message = f"broker {leader.broker_id} took the records, but its answer cannot be read"
        raise ApiError(503, RETRIABLE, message, outcome=Outcome.UNKNOWN) from None
    return Placed(receipt.base_offset, receipt.last_offset, receipt.timestamp, leader, receipt.duplicate)
