"""Bytes <-> values: proposals, requests, answers and snapshots, in MessagePack with a version in front.

Everything that is decoded is checked against the bounds of its type; nothing else of this room sees bytes. A command
is at most 512 KiB (it must fit one append of the quorum's log).
"""

import struct
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from metadata import bounds
from metadata.answers import AdminAnswer, AnswerWindow
from metadata.commands import Proposal
from metadata.image import Broker, Configs, Image, Topic
from metadata.requests import Envelope
from wire.errors import ErrorCode, RefusedError

FORMAT_VERSION: Final = 1
SNAPSHOT_MAGIC: Final = b"KMSN"
SNAPSHOT_FORMAT_VERSION: Final = 1
SNAPSHOT_HEADER: Final = struct.Struct(">4sHQ")
"""Magic, format version, length of the body in bytes. The quorum's snapshot file adds a checksum around it."""

_T = TypeVar("_T")


class MalformedMetadataError(ValueError):
    """Bytes that are no value of this room: of another version, cut short, or out of bounds."""


class _Snapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image without what can be derived."""

    cluster_id: bounds.ClusterIdField
    cluster_metadata_version: bounds.VersionField
    applied_index: bounds.LogIndexField
    topics: tuple[Topic, ...]
    brokers: tuple[Broker, ...]
    answers: dict[bounds.BrokerIdField, AnswerWindow]
    next_producer_id: bounds.ProducerIdField
    replication_throttle_bytes_per_s: bounds.BytesPerSecondField | None
    broker_configs: dict[bounds.OptionalBrokerIdField, Configs] = {}


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_proposals = msgspec.msgpack.Decoder(Proposal)
_envelopes = msgspec.msgpack.Decoder(Envelope)
_answers: msgspec.msgpack.Decoder[AdminAnswer] = msgspec.msgpack.Decoder(AdminAnswer)
_snapshots = msgspec.msgpack.Decoder(_Snapshot)


def encode_proposal(proposal: Proposal) -> bytes:
    """A log entry; raises RefusedError(POLICY_VIOLATION) where it is larger than one command may be."""
    data = _encode(proposal)
    if len(data) > bounds.MAX_COMMAND_BYTES:
        raise RefusedError(
            ErrorCode.POLICY_VIOLATION,
            f"the change is {len(data)} bytes as one atomic command of the metadata log, more than the limit of "
            f"{bounds.MAX_COMMAND_BYTES} bytes: ask for fewer partitions at a time",
        )
    return data


def decode_proposal(data: bytes) -> Proposal:
    """A log entry back; raises MalformedMetadataError, which is fatal for a node: the log is shared."""
    return _decode(_proposals, data, "proposal")


def encode_request(envelope: Envelope) -> bytes:
    """A request as one peer-link payload."""
    return _encode(envelope)


def decode_request(data: bytes) -> Envelope:
    """A peer-link payload back; raises RefusedError(INVALID_REQUEST), since it came from outside."""
    try:
        return _decode(_envelopes, data, "request")
    except MalformedMetadataError as error:
        raise RefusedError(ErrorCode.INVALID_REQUEST, str(error)) from None


def encode_answer(answer: AdminAnswer) -> bytes:
    """An answer as one peer-link payload."""
    return _encode(answer)


def decode_answer(data: bytes) -> AdminAnswer:
    """An answer back; raises MalformedMetadataError."""
    return _decode(_answers, data, "answer")


def encode_snapshot(image: Image) -> bytes:
    """The whole image, without the indexes that are derived from it."""
    body = _encoder.encode(
        _Snapshot(
            cluster_id=image.cluster_id,
            cluster_metadata_version=image.cluster_metadata_version,
            applied_index=image.applied_index,
            topics=tuple(image.topics.values()),
            brokers=tuple(image.brokers.values()),
            answers=dict(image.answers),
            next_producer_id=image.next_producer_id,
            replication_throttle_bytes_per_s=image.replication_throttle_bytes_per_s,
            broker_configs=dict(image.broker_configs),
        )
    )
    return SNAPSHOT_HEADER.pack(SNAPSHOT_MAGIC, SNAPSHOT_FORMAT_VERSION, len(body)) + body


def decode_snapshot(data: bytes) -> Image:
    """The image back; raises MalformedMetadataError that says whether the format, the length or a value is wrong."""
    if len(data) < SNAPSHOT_HEADER.size:
        raise MalformedMetadataError(f"a metadata snapshot has at least {SNAPSHOT_HEADER.size} bytes, not {len(data)}")
    magic, version, length = SNAPSHOT_HEADER.unpack_from(data)
    if magic != SNAPSHOT_MAGIC or version != SNAPSHOT_FORMAT_VERSION:
        raise MalformedMetadataError(
            f"not a metadata snapshot of format {SNAPSHOT_FORMAT_VERSION} (magic {magic!r}, format {version}): "
            "written by another version of this program"
        )
    body = memoryview(data)[SNAPSHOT_HEADER.size :]
    if len(body) != length:
        raise MalformedMetadataError(f"a metadata snapshot of {length} bytes, of which {len(body)} are there")
    parts = _typed(_snapshots, body, "snapshot")
    return Image.of(
        parts.cluster_id,
        parts.cluster_metadata_version,
        applied_index=parts.applied_index,
        topics=parts.topics,
        brokers=parts.brokers,
        answers=parts.answers,
        next_producer_id=parts.next_producer_id,
        replication_throttle_bytes_per_s=parts.replication_throttle_bytes_per_s,
        broker_configs=parts.broker_configs,
    )


def _encode(value: Struct) -> bytes:
    return bytes((FORMAT_VERSION,)) + _encoder.encode(value)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    if not data or data[0] != FORMAT_VERSION:
        raise MalformedMetadataError(f"not a {what} of format {FORMAT_VERSION}, but {bytes(data[:1])!r}")
    return _typed(decoder, memoryview(data)[1:], what)


def _typed(decoder: msgspec.msgpack.Decoder[_T], data: memoryview, what: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
        raise MalformedMetadataError(f"malformed {what}: {error}") from None
