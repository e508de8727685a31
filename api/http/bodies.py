"""Request bodies: read under a deadline, a cap and the node's account of bytes in flight, and inflated under the same
cap.

Refuses 413 above the cap (before reading where Content-Length says so, and while inflating), 408 at the deadline, 400
for a broken gzip stream, 415 for another encoding, 429 where the node holds enough already.
Invariant: memory follows the bytes received and inflated, never the length announced.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

from api.http.errors import REQUEST_TIMEOUT, UNSUPPORTED_MEDIA_TYPE, ApiError, bad_request, too_large
from api.http.in_flight import held_by_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from api.http.in_flight import Held
    from api.http.settings import HttpSettings

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
INFLATE_SLICE_BYTES: Final = 256 * 1024


class Inflater:
    """A gzip (or zlib) stream, inflated slice by slice; several gzip members in a row are one stream (RFC 1952)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._started = False

    def inflate(self, data: bytes, *, limit_bytes: int) -> bytes:
        """What `data` inflates to; 413 as soon as that passes `limit_bytes`."""
        pieces: list[bytes] = []
        left = limit_bytes
        while data:
            self._started = True
            try:
                piece = self._stream.decompress(data, min(left + 1, INFLATE_SLICE_BYTES))
            except zlib.error as error:
                raise bad_request(f"the body is not valid gzip: {error}") from None
            left -= len(piece)
            if left < 0:
                raise too_large("the inflated body", limit_bytes=limit_bytes, fix="send smaller batches")
            pieces.append(piece)
            if self._stream.eof:
                data = self._stream.unused_data
                if data:
                    self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            else:
                data = self._stream.unconsumed_tail
        return b"".join(pieces)

    def finish(self) -> None:
        if self._started and not self._stream.eof:
            raise bad_request("the gzip body is cut short: send the whole stream")


def _inflater(request: web.Request) -> Inflater | None:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Inflater()
    raise ApiError(
        415, UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {encoding[:64]!r} is not supported: use gzip or none"
    )


def _timed_out(deadline_s: float) -> ApiError:
    message = f"the request body was not complete within {deadline_s:g} s: send it faster, or in smaller pieces"
    return ApiError(408, REQUEST_TIMEOUT, message, headers={"Connection": "close"})


async def read_body(request: web.Request, settings: HttpSettings, *, extra_bytes: int = 0) -> bytes:
    """The whole body, inflated; `extra_bytes` beyond the usual cap are allowed."""
    limit_bytes = settings.body_bytes_max + extra_bytes
    announced = request.content_length
    if announced is not None and announced > limit_bytes:
        raise too_large("the body", limit_bytes=limit_bytes, fix="send smaller batches, or a chunked stream of records")
    inflater = _inflater(request)
    held = held_by_request()
    if request.content.is_eof():  # it came with the head, as small ones do
        body = request.content.read_nowait()
        held.take(len(body))
    else:
        try:
            async with asyncio.timeout(settings.body_deadline_s):
                body = await _collect(request, limit_bytes, held)
        except TimeoutError:
            raise _timed_out(settings.body_deadline_s) from None
    if len(body) > limit_bytes:
        raise too_large("the body", limit_bytes=limit_bytes, fix="send smaller batches")
    if inflater is None:
        return body
    inflated = inflater.inflate(body, limit_bytes=limit_bytes)
    inflater.finish()
    held.take(len(inflated))
    return inflated


async def _collect(request: web.Request, limit_bytes: int, held: Held) -> bytes:
    content = request.content
    pieces: list[bytes] = []
    length = 0
    while piece := await content.readany():
        length += len(piece)
        if length > limit_bytes:
            raise too_large("the body", limit_bytes=limit_bytes, fix="send smaller batches")
        held.take(len(piece))
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def stream_body(request: web.Request, settings: HttpSettings) -> AsyncIterator[bytes]:
    """A chunked body as it comes, inflated, in pieces of bounded size; the caller bounds what it keeps of them."""
    inflater = _inflater(request)
    content = request.content
    while True:
        try:
            async with asyncio.timeout(settings.stream_idle_s):
                piece = await content.readany()
        except TimeoutError:
            raise _timed_out(settings.stream_idle_s) from None
        if not piece:
            break
        yield piece if inflater is None else inflater.inflate(piece, limit_bytes=settings.body_bytes_max)
    if inflater is not None:
        inflater.finish()
