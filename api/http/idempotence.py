"""Idempotent produce: who sends, in which epoch, from which sequence on.

Owns the headers `Producer-Id`, `Producer-Epoch` and `Producer-Seq`, and what they may be said of: a request that names
one partition and becomes one batch, because a sequence counts the records of one producer in one partition, and the log
knows a batch again, not a request. The ids travel in the batch, so that every replica keeps them (S13). Refuses (400)
one header without the others, values out of range, and requests of another shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from api.http.errors import bad_request
from api.http.parameters import SHOWN_MAX, parse_integer
from metadata.bounds import MAX_INT32, MAX_INT64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

MAX_EPOCH: Final = 2**15 - 1
PRODUCER_ID: Final = "Producer-Id"
PRODUCER_EPOCH: Final = "Producer-Epoch"
PRODUCER_SEQ: Final = "Producer-Seq"
_BOUNDS: Final = {PRODUCER_ID: MAX_INT64, PRODUCER_EPOCH: MAX_EPOCH, PRODUCER_SEQ: MAX_INT32}


class ProducerStamp(NamedTuple):
    """What an idempotent batch carries; `base_sequence` is that of its first record."""

    producer_id: int
    producer_epoch: int
    base_sequence: int


def producer_stamp(request: web.Request) -> ProducerStamp | None:
    """What the headers say; None where there are none."""
    headers = request.headers
    given = [name for name in _BOUNDS if name in headers]
    if not given:
        return None
    if len(given) != len(_BOUNDS):
        missing = ", ".join(name for name in _BOUNDS if name not in headers)
        raise bad_request(f"the header {given[0]} is given without {missing}: an idempotent produce needs all three")
    return ProducerStamp(*(_number(name, headers.getall(name), bound) for name, bound in _BOUNDS.items()))


def _number(name: str, values: Sequence[str], bound: int) -> int:
    if len(values) > 1:
        raise bad_request(f"the header {name} is given {len(values)} times: give it once")
    number = parse_integer(values[0].strip())
    if number is None or not 0 <= number <= bound:
        raise bad_request(f"the header {name} must be an integer from 0 to {bound}, not {values[0][:SHOWN_MAX]!r}")
    return number


def one_named_partition(named: Sequence[int | None] | None) -> int:
    """The partition that all records of an idempotent produce name."""
    wanted = set(named or (None,))
    if len(wanted) != 1:
        raise bad_request(
            f"with {PRODUCER_SEQ} all records must name the same partition: send those of others by themselves"
        )
    (partition,) = wanted
    if partition is None:
        raise bad_request(
            f"with {PRODUCER_SEQ} the request must name its partition, since a sequence counts the records of one: "
            "POST to .../partitions/{p}/records, or name it in every record"
        )
    return partition


def not_as_stream() -> Exception:
    return bad_request(
        f"with {PRODUCER_SEQ} a request must become one batch: send one document, or many as records:batch"
    )
