"""The codecs of Kafka's record batches, with caps that hold before any memory is taken.

Owns the five codecs of the batch attributes and both forms of snappy: Java frames it as the xerial library does (a
header, then blocks of at most 32 KiB), librdkafka sends one raw block; both are read, the xerial form is written, for
every client reads it. zstd frames carry no content size when they come from Java, so sizes are found by trying.
Refuses (INVALID_RECORD) whatever does not decode, and whatever would decode to more than `decompressed_bytes_max`.
Invariant: no output buffer is ever made larger than that cap, however the input lies about itself.
"""

import struct
from enum import IntEnum
from typing import Final

import cramjam

from wire.errors import ErrorCode, RefusedError


class Compression(IntEnum):
    """The codec in bits 0-2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


# A batch may grow 256-fold, up to 64 MiB; small ones always to 8 MiB (runs of zeros), and where a topic allows batches
# of many MiB, 16-fold whatever that comes to. Real logs shrink 5 to 30-fold.
RATIO_MAX: Final = 256
RATIO_ALWAYS_ALLOWED: Final = 16
DECOMPRESSED_BYTES_MAX: Final = 64 * 1024 * 1024
DECOMPRESSED_BYTES_ALWAYS_ALLOWED: Final = 8 * 1024 * 1024
_FIRST_GUESS_BYTES: Final = 64 * 1024
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES: Final = 32 * 1024
_LENGTH: Final = struct.Struct(">i")


def decompressed_bytes_cap(compressed_bytes: int) -> int:
    """The most bytes that `compressed_bytes` may become."""
    by_ratio = max(DECOMPRESSED_BYTES_ALWAYS_ALLOWED, compressed_bytes * RATIO_MAX)
    return max(min(by_ratio, DECOMPRESSED_BYTES_MAX), compressed_bytes * RATIO_ALWAYS_ALLOWED)


def compress(codec: Compression, data: bytes) -> bytes:
    """Compress as Kafka's own clients do: lz4 frames with independent blocks (KIP-57), snappy in xerial framing."""
    if codec is Compression.NONE:
        return data
    if codec is Compression.GZIP:
        return bytes(cramjam.gzip.compress(data))
    if codec is Compression.SNAPPY:
        return _compress_xerial(data)
    if codec is Compression.LZ4:
        compressor = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
        compressor.compress(data)
        return bytes(compressor.finish())
    return bytes(cramjam.zstd.compress(data, level=3))


def decompress(codec: Compression, data: bytes, *, decompressed_bytes_max: int | None = None) -> bytes:
    """Decompress at most `decompressed_bytes_max` bytes (default: `decompressed_bytes_cap`); RefusedError otherwise."""
    limit = decompressed_bytes_cap(len(data)) if decompressed_bytes_max is None else decompressed_bytes_max
    if codec is Compression.NONE:
        return data
    try:
        if codec is Compression.SNAPPY:
            return _decompress_snappy(data, limit)
        return _decompress_frames(codec, data, limit)
    except cramjam.DecompressionError as error:
        raise RefusedError(
            ErrorCode.INVALID_RECORD, f"the records of the batch do not decompress as {codec.name.lower()}: {error}"
        ) from error


def _too_large(codec: Compression, limit: int) -> RefusedError:
    return RefusedError(
        ErrorCode.INVALID_RECORD,
        f"the records of the batch decompress ({codec.name.lower()}) to more than the allowed {limit} bytes",
    )


def _decompress_frames(codec: Compression, data: bytes, limit: int) -> bytes:
    """gzip, lz4 and zstd into a buffer that grows until it fits or the cap is reached."""
    decompress_into = getattr(cramjam, codec.name.lower()).decompress_into
    size = min(limit, max(_FIRST_GUESS_BYTES, len(data) * 4))
    while True:
        output = bytearray(size)
        try:
            written = decompress_into(data, output)
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
            if size >= limit:
                raise _too_large(codec, limit) from None
            size = min(limit, size * 4)
        else:
            return bytes(memoryview(output)[:written])


def _compress_xerial(data: bytes) -> bytes:
    view = memoryview(data)
    parts = [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _decompress_snappy(data: bytes, limit: int) -> bytes:
    if not data.startswith(_XERIAL_MAGIC):
        return _decompress_raw_snappy(data, left=limit, limit=limit)
    parts: list[bytes] = []
    position, end, left = len(_XERIAL_HEADER), len(data), limit
    while position < end:
        if end - position < _LENGTH.size:
            raise RefusedError(ErrorCode.INVALID_RECORD, "a xerial snappy stream ends inside a block length")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if length < 0 or length > end - position:
            raise RefusedError(ErrorCode.INVALID_RECORD, f"a xerial snappy block claims {length} bytes, too many")
        part = _decompress_raw_snappy(data[position : position + length], left=left, limit=limit)
        left -= len(part)
        position += length
        parts.append(part)
    return b"".join(parts)


def _decompress_raw_snappy(data: bytes, *, left: int, limit: int) -> bytes:
    """Snappy states its size first, so the cap is checked before anything is allocated."""
    size = cramjam.snappy.decompress_raw_len(data)
    if size > left:
        raise _too_large(Compression.SNAPPY, limit)
    output = bytearray(size)
    written = cramjam.snappy.decompress_raw_into(data, output)
    return bytes(memoryview(output)[:written])
