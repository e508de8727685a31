"""Concatenated JSON documents in a stream of bytes: where one ends and the next begins.

Owns the bytes of the document that is not complete yet and a scanner that never looks at a byte twice, so a large
document that comes in small pieces costs time in proportion to its length. Refuses anything but objects (with white
space or commas-free separation between them) and a document above the cap. Knows nothing of what is in a document: a
string, a brace, a backslash.
"""

from __future__ import annotations

import re
from typing import Final

from api.http.errors import ApiError, bad_request, too_large

_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_INSIDE: Final = re.compile(rb'["\\]')
_CONTENT: Final = re.compile(rb"[^ \t\r\n\x1e]")  # 0x1e separates records in application/json-seq (RFC 7464)

_QUOTE, _OPEN, _BACKSLASH = ord('"'), b"{[", ord("\\")


class DocumentStream:
    """Feed it pieces; it gives back whole documents."""

    def __init__(self, *, document_bytes_max: int) -> None:
        self._document_bytes_max = document_bytes_max
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False
        self._failure: ApiError | None = None

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, piece: bytes) -> list[bytes]:
        """The documents that `piece` completes, in order."""
        self._raise_failure()
        self._buffer += piece
        documents: list[bytes] = []
        start = 0
        try:
            while (end := self._document_end(start)) is not None:
                self._check_size(end - start)
                documents.append(bytes(memoryview(self._buffer)[start:end]).strip(b" \t\r\n\x1e"))
                start = end
            self._check_size(len(self._buffer) - start)
        except ApiError as error:  # what was whole before it is not lost; the next call tells
            self._failure = error
            if not documents:
                raise
        if start:
            del self._buffer[:start]
            self._scanned -= start
        return documents

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._document_bytes_max:
            raise too_large("a record of the stream", limit_bytes=self._document_bytes_max, fix="send a smaller one")

    def fail(self, error: ApiError) -> None:
        """Let the next call raise `error`."""
        self._failure = error

    def finish(self) -> None:
        """The stream ended: 400 where it ended inside a document."""
        self._raise_failure()
        if _CONTENT.search(self._buffer):
            raise bad_request("the stream ends inside a JSON document: send it whole")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _document_end(self, start: int) -> int | None:
        """Where the document that begins at or after `start` ends; None where more bytes are needed."""
        buffer = self._buffer
        if self._depth == 0:
            content = _CONTENT.search(buffer, max(start, self._scanned))
            if content is None:
                self._scanned = len(buffer)
                return None
            if buffer[content.start()] != ord("{"):
                shown = bytes(buffer[content.start() : content.start() + 20]).decode(errors="replace")
                raise bad_request(f"a record must be a JSON object, but the stream goes on with {shown!r}")
            self._scanned = content.start()
        return self._scan()

    def _scan(self) -> int | None:
        buffer, position = self._buffer, self._scanned
        while True:
            found = (_INSIDE if self._in_string else _OUTSIDE).search(buffer, position)
            if found is None:
                self._scanned = max(position, len(buffer))
                return None
            position = found.end()
            byte = buffer[position - 1]
            if self._in_string:
                if byte == _QUOTE:
                    self._in_string = False
                elif position < len(buffer):
                    position += 1
                else:  # the escaped byte has not come yet
                    self._scanned = position - 1
                    return None
            elif byte == _QUOTE:
                self._in_string = True
            elif byte in _OPEN:
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self._scanned = position
                    return position
