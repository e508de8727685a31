"""What other clients compressed is read; what lies about its size costs no memory."""

import resource
import struct

import aiokafka.codec
import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.compression import (
    DECOMPRESSED_BYTES_ALWAYS_ALLOWED,
    DECOMPRESSED_BYTES_MAX,
    Compression,
    compress,
    decompress,
    decompressed_bytes_cap,
)
from wire.errors import ErrorCode, RefusedError

REAL_CODECS = [Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD]
KIB = 1024


def zstd_without_content_size(data: bytes) -> bytes:
    compressor = cramjam.zstd.Compressor()
    compressor.compress(data)
    return bytes(compressor.finish())


OTHERS = {
    "gzip": (Compression.GZIP, aiokafka.codec.gzip_encode, aiokafka.codec.gzip_decode),
    "xerial snappy": (Compression.SNAPPY, aiokafka.codec.snappy_encode, aiokafka.codec.snappy_decode),
    "raw snappy": (Compression.SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data)), None),
    "lz4": (Compression.LZ4, aiokafka.codec.lz4_encode, aiokafka.codec.lz4_decode),
    "zstd": (Compression.ZSTD, aiokafka.codec.zstd_encode, aiokafka.codec.zstd_decode),
    "zstd as Java writes it": (Compression.ZSTD, zstd_without_content_size, None),
}


@pytest.mark.parametrize("name", OTHERS)
@given(
    data=st.one_of(st.binary(max_size=300), st.integers(0, 300_000).map(lambda size: b"0123456789abc" * (size // 13)))
)
def test_what_another_client_compressed_is_read_and_the_other_way_round(name, data):
    codec, encode, decode = OTHERS[name]
    assert data == decompress(codec, encode(data))
    assert data == decompress(codec, compress(codec, data))
    if decode is not None and data:  # their reader takes a xerial stream of no blocks for a raw one
        assert data == decode(compress(codec, data))


def test_no_compression_is_the_bytes_themselves():
    data = b"as it is"
    assert data is compress(Compression.NONE, data)
    assert data is decompress(Compression.NONE, data)


@pytest.mark.parametrize("codec", REAL_CODECS)
def test_the_cap_is_exact(codec):
    data = bytes(300 * KIB)
    assert data == decompress(codec, compress(codec, data), decompressed_bytes_max=len(data))
    with pytest.raises(RefusedError, match=f"more than the allowed {len(data) - 1} bytes") as refusal:
        decompress(codec, compress(codec, data), decompressed_bytes_max=len(data) - 1)
    assert ErrorCode.INVALID_RECORD == refusal.value.code


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD])
def test_a_bomb_is_refused_before_it_takes_memory(codec):
    bomb = compress(codec, bytes(300 * KIB * KIB))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError, match="more than the allowed"):
        decompress(codec, bomb)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) * KIB
    assert grown_bytes < 2 * decompressed_bytes_cap(len(bomb)) + 16 * KIB * KIB


def test_a_snappy_block_that_claims_four_gigabytes_is_refused_at_its_first_bytes():
    claim = b"\xff\xff\xff\xff\x0f" + b"\0" * 20
    with pytest.raises(RefusedError, match="more than the allowed"):
        decompress(Compression.SNAPPY, claim)
    framed = b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, len(claim)) + claim
    with pytest.raises(RefusedError, match="more than the allowed"):
        decompress(Compression.SNAPPY, framed)


def test_the_cap_of_many_snappy_blocks_is_that_of_their_sum():
    framed = compress(Compression.SNAPPY, bytes(320 * KIB))
    with pytest.raises(RefusedError, match="more than the allowed"):
        decompress(Compression.SNAPPY, framed, decompressed_bytes_max=319 * KIB)


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31 - 1, 1000])
def test_a_xerial_block_length_is_compared_with_the_bytes_that_are_there(length):
    framed = b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, length) + b"abc"
    with pytest.raises(RefusedError, match="xerial snappy block claims"):
        decompress(Compression.SNAPPY, framed)


@pytest.mark.parametrize("codec", REAL_CODECS)
@given(noise=st.binary(max_size=200), cut=st.integers(0, 400))
def test_noise_and_cut_streams_are_refusals(codec, noise, cut):
    for data in (noise, compress(codec, b"some text, some more text" * 30)[:cut]):
        try:
            decompressed = decompress(codec, data)
        except RefusedError:
            continue
        assert len(decompressed) <= decompressed_bytes_cap(len(data))


def test_the_default_cap_lets_real_batches_through_and_stops_at_its_ceiling():
    assert DECOMPRESSED_BYTES_ALWAYS_ALLOWED == decompressed_bytes_cap(10)
    assert DECOMPRESSED_BYTES_MAX == decompressed_bytes_cap(KIB * KIB)
    assert 16 * 100 * KIB * KIB == decompressed_bytes_cap(100 * KIB * KIB)
