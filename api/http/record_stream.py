"""A stream of v3 records: receipts flow while the request is still open, in the order of the records.

Owns the moment at which an answer becomes a stream: as long as the first document may be the only one, its outcome is
the HTTP status; afterwards every failure is a receipt of its own, with its code. Whatever has arrived together is
appended together. Memory is bounded by one document and one read, and counts as bytes in flight.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from api.http import json_guard
from api.http.bodies import stream_body
from api.http.context import now_ms
from api.http.document_stream import DocumentStream
from api.http.errors import ApiError, Outcome, bad_request
from api.http.in_flight import held_by_request
from api.http.one_record import named_partition, write_one
from api.http.producing import Produce, write
from api.http.records_v3 import fields_of, receipt_of, record_decoder
from api.http.replies import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from api.http.records_v3 import RecordV3
    from wire.record_batch import RecordFields

_encode = msgspec.json.Encoder().encode


def split_documents(body: bytes) -> list[bytes]:
    """The documents of a whole body; empty where it is not a row of JSON objects."""
    documents = DocumentStream(document_bytes_max=len(body))
    try:
        found = documents.feed(body)
        documents.finish()
    except ApiError:
        return []
    return found


async def receipts_of(produce: Produce, partition: int | None, documents: Sequence[bytes]) -> bytes:
    """Write the records of `documents`; a line of JSON for each."""
    outcomes: list[Any] = [None] * len(documents)
    good: list[tuple[int, RecordV3, RecordFields]] = []
    named: list[int | None] = []
    now = now_ms()
    for index, document in enumerate(documents):
        try:
            record = json_guard.decode(record_decoder, document)
            wanted = named_partition(partition, record.partition_id)
        except ApiError as error:
            outcomes[index] = error.with_outcome(Outcome.NOT_WRITTEN).body()
            continue
        good.append((index, record, fields_of(record, now)))
        named.append(wanted)
    if good:
        await _write_good(produce, good, named, sum(map(len, documents)), outcomes)
    return b"".join(_encode(outcome) + b"\n" for outcome in outcomes)


async def _write_good(
    produce: Produce,
    good: list[tuple[int, RecordV3, RecordFields]],
    named: list[int | None],
    body_bytes: int,
    outcomes: list[Any],
) -> None:
    records = [fields for _, _, fields in good]
    any_named = any(wanted is not None for wanted in named)
    try:
        written = await write(produce, records, named if any_named else None, body_bytes=body_bytes)
    except ApiError as error:
        failed = error.with_outcome(Outcome.NOT_WRITTEN).body()
        for index, _, _ in good:
            outcomes[index] = failed
        return
    for position, (index, record, fields) in enumerate(good):
        refused = written.errors.get(position)
        outcomes[index] = receipt_of(produce, written, position, record, fields) if refused is None else refused.body()


async def post_stream(produce: Produce, partition: int | None) -> web.StreamResponse:
    """A chunked body."""
    request, settings = produce.request, produce.context.settings
    documents = DocumentStream(document_bytes_max=settings.body_bytes_max)
    held = held_by_request()
    pieces = stream_body(request, settings)
    first = await _first_documents(documents, pieces, held.hold)
    if len(first) == 1 and await _ends_with(request, first, documents, pieces, settings.first_receipt_wait_s):
        record = json_guard.decode(record_decoder, first[0])
        return await write_one(produce, partition, record, body_bytes=len(first[0]))
    answer = web.StreamResponse(headers={"Content-Type": JSON})
    await answer.prepare(request)
    found = first
    try:
        while True:
            if found:
                receipts = await receipts_of(produce, partition, found)
                async with asyncio.timeout(settings.response_deadline_s):
                    await answer.write(receipts)
            piece = await anext(pieces, None)
            if piece is None:
                documents.finish()
                break
            found = documents.feed(piece)
            held.hold(documents.pending_bytes)
    except ApiError as error:  # what follows a broken document cannot be told apart: the stream ends here
        await answer.write(_encode(error.with_outcome(Outcome.NOT_WRITTEN).body()) + b"\n")
    except TimeoutError:
        raise ConnectionResetError("the client does not read its receipts") from None
    await answer.write_eof()
    return answer


async def _first_documents(documents: DocumentStream, pieces: AsyncIterator[bytes], hold: Any) -> list[bytes]:
    async for piece in pieces:
        found = documents.feed(piece)
        hold(documents.pending_bytes + sum(map(len, found)))
        if found:
            return found
    documents.finish()
    raise bad_request("the body is empty: send a JSON document")


async def _ends_with(
    request: web.Request, first: list[bytes], documents: DocumentStream, pieces: AsyncIterator[bytes], wait_s: float
) -> bool:
    """Whether the first document is the only one; what has come by then is added to `first`."""
    try:
        async with asyncio.timeout(wait_s):
            await request.content.wait_eof()
    except TimeoutError:
        return False
    try:
        async for piece in pieces:
            first += documents.feed(piece)
        documents.finish()
    except ApiError as error:  # the first document is still good: what follows it fails by itself
        documents.fail(error)
        return False
    return len(first) == 1
