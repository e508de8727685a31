"""`POST .../records:batch`: up to 10,000 entries, each with the caller's own id, each with its own outcome (207)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import UNSET

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import context_of, now_ms
from api.http.errors import BATCH, ApiError
from api.http.parameters import Parameters
from api.http.producing import check_count, open_produce, produce_route, write
from api.http.records_v3 import EntryReceiptV3, batch_decoder, data_receipt, failure, fields_of
from api.http.replies import json_reply
from api.http.routing import find_topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from api.http.producing import Produce, Written
    from api.http.records_v3 import EntryV3
    from wire.record_batch import RecordFields


@produce_route
async def post_records_batch(request: web.Request) -> web.StreamResponse:
    context = context_of(request)
    topic = await find_topic(context, request)
    parameters = Parameters(request)
    produce = open_produce(context, request, topic, parameters)
    parameters.done()
    body = await read_body(request, context.settings)
    entries = json_guard.decode(batch_decoder, body).entries
    _check_entries(produce, entries)
    now = now_ms()
    records = [fields_of(entry, now) for entry in entries]
    named = [entry.partition_id for entry in entries]
    any_named = any(partition is not None for partition in named)
    written = await write(produce, records, named if any_named else None, body_bytes=len(body))
    successes = _successes(produce, entries, records, written)
    failures = [failure(entries[index].id, error) for index, error in sorted(written.errors.items())]
    answer = {"successes": successes, "failures": failures}
    return json_reply(answer, status=207, headers=written.headers(context))


def _check_entries(produce: Produce, entries: list[EntryV3]) -> None:
    check_count(produce, len(entries), "entries")
    limit = produce.context.settings.batch_entries_max
    if len(entries) > limit:
        raise ApiError(422, BATCH, f"entries has {len(entries)} items, at most {limit} are taken: send smaller batches")
    if len({entry.id for entry in entries}) != len(entries):
        twice, _ = Counter(entry.id for entry in entries).most_common(1)[0]
        raise ApiError(422, BATCH, f"the id {twice!r} is given to two entries: each needs its own")


def _successes(
    produce: Produce, entries: list[EntryV3], records: list[RecordFields], written: Written
) -> list[EntryReceiptV3]:
    cluster_id, topic, errors = produce.context.node.cluster_id, produce.topic.name, written.errors
    duplicate = written.is_duplicate or UNSET
    rows: Iterable[tuple[EntryV3, RecordFields, int, int, int]] = zip(
        entries, records, written.partitions, written.offsets, written.append_times_ms, strict=True
    )
    if errors:
        rows = (row for index, row in enumerate(rows) if index not in errors)
    return [
        EntryReceiptV3(
            entry.id,
            200,
            cluster_id,
            topic,
            partition,
            offset,
            timestamp if appended_ms < 0 else appended_ms,
            None if entry.key is None else data_receipt(entry.key, key),
            None if entry.value is None else data_receipt(entry.value, value),
            duplicate,
        )
        for entry, (key, value, _, timestamp), partition, offset, appended_ms in rows
    ]
