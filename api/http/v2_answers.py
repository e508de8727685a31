"""The v2 answer to a produce: the offset or the error of every record, in order.

All failed: the status of the first error. Some failed: 200, each failure with its code in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from api.http.records_v2 import OffsetsV2, OffsetV2
from api.http.replies import json_reply

if TYPE_CHECKING:
    from aiohttp import web

    from api.http.errors import ApiError
    from api.http.producing import Produce, Written


async def offsets_reply(produce: Produce, written: Written) -> web.Response:
    errors = written.errors
    if len(errors) == len(written.offsets):
        raise errors[0]
    offsets = [
        OffsetV2(partition, offset) for partition, offset in zip(written.partitions, written.offsets, strict=True)
    ]
    for index, error in errors.items():
        offsets[index] = _failed(written.partitions[index], error)
    answer = OffsetsV2(offsets, duplicate=written.is_duplicate or UNSET)
    return json_reply(answer, headers=written.headers(produce.context))


def _failed(partition: int, error: ApiError) -> OffsetV2:
    outcome = None if error.outcome is None else error.outcome.value
    return OffsetV2(partition, None, error.error_code, error.message, outcome)
