"""What a stranger's bytes go through on their way into a node: targets that take bytes and let only refusals out.

The tests beside this file feed them for seconds. For hours, guided by coverage, install atheris and say
`python -m tests.wire.fuzz_targets stream corpus-folder` (or `batches`, `records`): it stops at the first exception that
is no refusal, and leaves the bytes that raised it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import pack_into

import crc32c

from wire.connection import ReceiveBuffers, ServerConnection
from wire.decoding import DecodeError
from wire.errors import RefusedError
from wire.messages.produce import ProduceRequest
from wire.record_batch import check_batches, iterate_batches, read_header
from wire.records import parse_records

FRAME_BYTES_MAX = 1 << 20
CRC_AT, CRC_COVERS_FROM = 17, 21


def stream(data: bytes, *, piece_bytes: int = 700) -> None:
    """One connection: what it sends is cut into requests, those are decoded, and what a Produce carries is checked."""
    buffers = ReceiveBuffers(FRAME_BYTES_MAX)
    connection = ServerConnection(FRAME_BYTES_MAX, buffers)
    taken_bytes = 0
    with suppress(DecodeError):
        while taken_bytes < len(data):
            piece = data[taken_bytes : taken_bytes + piece_bytes]
            space = connection.space()
            space[: len(piece)] = piece
            taken_bytes += len(piece)
            for frame in connection.received(len(piece)):
                assert frame.size_bytes <= taken_bytes
                if frame.has_known_version:
                    request = frame.request()
                    if isinstance(request, ProduceRequest):
                        _produce(request)
            assert connection.pending_bytes <= taken_bytes
    connection.close()


def _produce(request: ProduceRequest) -> None:
    for topic in request.topic_data or ():
        for partition in topic.partition_data or ():
            if isinstance(partition.records, bytes | bytearray | memoryview):
                batches(bytes(partition.records))


def batches(data: bytes) -> None:
    """What a leader and a follower make of record batches; their records, as a reader would see them."""
    with suppress(RefusedError):
        for batch in check_batches(bytearray(data), max_batch_bytes=FRAME_BYTES_MAX):
            batch.records()
    with suppress(RefusedError):
        for batch in iterate_batches(data):
            if batch.crc_is_valid():
                batch.records()


def records(data: bytes) -> None:
    """The records of a batch whose header is believed."""
    count = 1 + data[0] % 8 if data else 1
    with suppress(RefusedError):
        parse_records(data[1:], count=count, base_offset=0, last_offset_delta=count - 1, base_timestamp=0)


def with_valid_crcs(data: bytes) -> bytes:
    """Whoever wants to hurt computes a CRC too."""
    changed = bytearray(data)
    for position, end in _batches_at(data):
        pack_into(">I", changed, position + CRC_AT, crc32c.crc32c(bytes(changed[position + CRC_COVERS_FROM : end])))
    return bytes(changed)


def _batches_at(data: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    with suppress(RefusedError):
        while (batch := read_header(data, position)) is not None and position + batch.size_bytes <= len(data):
            yield position, position + batch.size_bytes
            position += batch.size_bytes


def _with_crcs(data: bytes) -> None:
    batches(with_valid_crcs(data))


TARGETS: dict[str, Callable[[bytes], None]] = {"stream": stream, "batches": _with_crcs, "records": records}


def main() -> None:
    import atheris  # noqa: PLC0415 - installed by hand

    for name in [name for name in sys.modules if name.partition(".")[0] == "wire"]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["wire"]):
        again = importlib.import_module("tests.wire.fuzz_targets")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], again.TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
