"""Kafka's messages to bytes and back: `encode` and `decode`.

Owns the functions compiled for each message and version on first use (wire/decoding.py, wire/encoding.py) and the one
error that each direction has. Messages are declared in the words of wire/schema.py under wire/messages/.
Refuses, with DecodeError, whatever is not the message that it claims to be: a peer's bytes raise nothing else, make
nothing recurse and allocate no more than a small multiple of themselves.
"""

import struct
from typing import Final, TypeVar

from wire.decoding import DecodeError, Decoder, decoder
from wire.encoding import Encoder, encoder
from wire.schema import Buffer, Message

__all__ = ["DecodeError", "EncodeError", "decode", "decode_from", "encode"]

_MessageType = TypeVar("_MessageType", bound=Message)

_DECODERS: Final[dict[tuple[type[Message], int], Decoder]] = {}
_ENCODERS: Final[dict[tuple[type[Message], int], Encoder]] = {}


class EncodeError(ValueError):
    """A value does not fit the field or the version that it was given for: a bug of whoever made the message."""


def encode(message: Message, version: int) -> list[Buffer]:
    """`message` in `version` as buffers for one `writelines`, at least one; record batches are among them, uncopied.

    Fields that the version does not have are left out. EncodeError: no such version, or a value that does not fit.
    """
    compiled = _ENCODERS.get((type(message), version)) or _compiled_encoder(type(message), version)
    try:
        return compiled(message)
    except (struct.error, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise EncodeError(f"{type(message).__name__} v{version}: {error}") from error


def decode(cls: type[_MessageType], buffer: Buffer, version: int, *, exact: bool = False) -> _MessageType:
    """A message of `cls` that begins `buffer`; its records are views into `buffer`.

    Bytes after it are ignored, as Kafka does (librdkafka leaves some), unless `exact`. DecodeError: anything else.
    """
    message, end = decode_from(cls, buffer, 0, version)
    if exact and end != len(buffer):
        raise DecodeError(f"{cls.__name__} v{version}: {len(buffer) - end} bytes too many")
    return message


def decode_from(cls: type[_MessageType], buffer: Buffer, position: int, version: int) -> tuple[_MessageType, int]:
    """The message of `cls` at `position` and where it ends."""
    compiled = _DECODERS.get((cls, version)) or _compiled_decoder(cls, version)
    try:
        return compiled(memoryview(buffer), position, len(buffer))
    except DecodeError as error:
        raise DecodeError(f"{cls.__name__} v{version}: {error}") from None
    except (struct.error, IndexError):
        raise DecodeError(f"{cls.__name__} v{version}: ends before its fields do") from None
    except UnicodeDecodeError as error:
        raise DecodeError(f"{cls.__name__} v{version}: a string is not UTF-8: {error.reason}") from None


def _compiled_encoder(cls: type[Message], version: int) -> Encoder:
    versions = cls.wire_versions
    if not versions.first <= version <= versions.last:
        raise EncodeError(f"{cls.__name__} has no version {version}")
    made = _ENCODERS[cls, version] = encoder(cls, version, flexible=versions.is_flexible(version))
    return made


def _compiled_decoder(cls: type[Message], version: int) -> Decoder:
    versions = cls.wire_versions
    if not versions.first <= version <= versions.last:
        raise DecodeError(f"{cls.__name__} has no version {version}")
    made = _DECODERS[cls, version] = decoder(cls, version, flexible=versions.is_flexible(version))
    return made
