"""Lines from a file descriptor as records, in runs: as large as worth a batch, as soon as the writer pauses.

Invariant: a record's value is the line's bytes without its newline, nothing more is added or taken; a last line without
one counts too. Line numbers begin at 1 and name the line in every message.
"""

import os
import select
from collections.abc import Iterator
from typing import Final, NamedTuple

from cli.failure import Failure

READ_BYTES: Final = 1 << 20
RUN_BYTES: Final = 512 * 1024  # well below Kafka's default max.message.bytes of 1 MiB
RUN_RECORDS: Final = 10_000
LINE_BYTES_MAX: Final = 64 << 20  # no topic takes such a record; more of it need not be read to know that
LINGER_S: Final = 0.005


class Line(NamedTuple):
    """One record to write."""

    number: int
    key: bytes | None
    value: bytes | None


class LineFormat(NamedTuple):
    """How a line becomes key and value."""

    key: bytes | None = None
    key_separator: bytes | None = None
    null_marker: bytes | None = None

    def parse(self, number: int, text: bytes) -> Line:
        """The record of one line; ends the command where it has no key although it must."""
        key, value = self.key, text
        if self.key_separator is not None:
            key, found, value = text.partition(self.key_separator)
            if not found:
                separator = self.key_separator.decode(errors="replace")
                raise Failure(f"line {number} has no key separator {separator!r}: {text[:60].decode(errors='replace')}")
        if self.null_marker is not None:
            return Line(number, None if key == self.null_marker else key, None if value == self.null_marker else value)
        return Line(number, key, value)


def runs(descriptor: int, line_format: LineFormat) -> Iterator[list[Line]]:
    """The input's records in order, cut where a batch is full and where the input has nothing more at the moment."""
    number, waiting, waiting_bytes = 0, list[Line](), 0
    rest, rest_bytes = list[bytes](), 0  # the pieces of a line whose end has not come yet
    parse = line_format.parse
    while piece := os.read(descriptor, READ_BYTES):
        rest.append(piece)
        rest_bytes += len(piece)
        if b"\n" in piece:
            *texts, last = b"".join(rest).split(b"\n")
            rest, rest_bytes = [last], len(last)
            for text in texts:
                number += 1
                waiting.append(parse(number, text))
                waiting_bytes += len(text)
                if waiting_bytes >= RUN_BYTES or len(waiting) >= RUN_RECORDS:
                    yield waiting
                    waiting, waiting_bytes = [], 0
        if rest_bytes > LINE_BYTES_MAX:
            raise Failure(f"line {number + 1} is longer than {LINE_BYTES_MAX >> 20} MiB")
        if waiting and not _has_more(descriptor):
            yield waiting
            waiting, waiting_bytes = [], 0
    if rest_bytes:
        waiting.append(parse(number + 1, b"".join(rest)))
    if waiting:
        yield waiting


def _has_more(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], LINGER_S)[0])
