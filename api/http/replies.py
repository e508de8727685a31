"""Answers: JSON (or other bytes) with the right headers, compressed for those who ask for it.

Large bodies are compressed in a thread: a megabyte takes milliseconds, in which the loop serves others.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from api.http.media import RECORD_BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.http.errors import ApiError

JSON: Final = "application/json"
GZIP_BYTES_MIN: Final = 1024
"""Below a packet's size compression saves nothing."""
THREAD_BYTES_MIN: Final = 128 * 1024
"""Above about half a millisecond of compression a thread is cheaper for everyone else than for this request."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS

_encode: Final = msgspec.json.Encoder().encode


def json_reply(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON."""
    return body_reply(_encode(value), status=status, headers=headers)


def body_reply(
    body: bytes, *, content_type: str = JSON, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Type": content_type, **(headers or {})})


async def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Make a whole body smaller where the client takes gzip and it is worth it; record batches are what they are."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return
    body, headers = response.body, response.headers
    if len(body) < GZIP_BYTES_MIN or headers["Content-Type"] == RECORD_BATCH or "Content-Encoding" in headers:
        return
    headers["Vary"] = "Accept-Encoding"
    if not accepts_gzip(request.headers.get("Accept-Encoding")):
        return
    if len(body) >= THREAD_BYTES_MIN:
        response.body = await asyncio.get_running_loop().run_in_executor(None, gzip, body)
    else:
        response.body = gzip(body)
    headers["Content-Encoding"] = "gzip"


def gzip(body: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    return stream.compress(body) + stream.flush()


def accepts_gzip(accept_encoding: str | None) -> bool:
    """RFC 9110, 12.5.3: named and not with q=0; the wildcard is not taken as a wish."""
    if accept_encoding is None:
        return False
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            quality = parameters.replace(" ", "")
            return not (quality.startswith("q=0") and not quality.strip("q=0."))
    return False


def error_reply(error: ApiError) -> web.Response:
    return json_reply(error.body(), status=error.status, headers=error.headers)


def no_content() -> web.Response:
    return web.Response(status=204)
