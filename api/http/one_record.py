"""A request that is one record: written, and answered with its receipt or with the status of its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.http.context import now_ms
from api.http.errors import bad_request
from api.http.producing import write
from api.http.records_v3 import fields_of, receipt_of
from api.http.replies import json_reply

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.producing import Produce
    from api.http.records_v3 import RecordV3
    from wire.record_batch import RecordFields


def named_partition(of_path: int | None, of_record: int | None) -> int | None:
    """The partition that path and record agree on."""
    if of_path is not None and of_record not in (None, of_path):
        raise bad_request(f"partition_id is {of_record}, but the path says {of_path}: leave it out of the record")
    return of_record if of_path is None else of_path


async def write_one(produce: Produce, partition: int | None, record: RecordV3, *, body_bytes: int) -> web.Response:
    """One v3 record."""
    wanted = named_partition(partition, record.partition_id)
    return await write_fields(produce, wanted, fields_of(record, now_ms()), body_bytes=body_bytes, record=record)


async def write_fields(
    produce: Produce, partition: int | None, fields: RecordFields, *, body_bytes: int, record: RecordV3 | None = None
) -> web.Response:
    """One record in the log's own terms; `record` is what it was made from, if that was JSON."""
    written = await write(produce, [fields], None if partition is None else [partition], body_bytes=body_bytes)
    if written.errors:
        raise written.errors[0]
    receipt = receipt_of(produce, written, 0, record, fields)
    return json_reply(receipt, headers=written.headers(produce.context))
