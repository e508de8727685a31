"""The grammar of `-o`: where to begin, and where to end.

start  end  47  +2 (from the start)  -3 (before the end)
10:20  :end  +2:  (a range; the end is not included)
@1735689600000  @2025-01-01T00:00:00Z  @-1h  @-1h:end  (by timestamp)
"""

import datetime as dt
import re
from typing import Final, NamedTuple

_DURATION: Final = re.compile(r"-(?P<number>\d{1,9}(?:\.\d{1,3})?)(?P<unit>ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SECONDS_MAX: Final = 100_000_000_000  # a larger number is milliseconds: as seconds it would be the year 5138


class Point(NamedTuple):
    """A place in every partition: `kind` is start, end, offset (absolute) or timestamp (milliseconds)."""

    kind: str
    value: int = 0


class Span(NamedTuple):
    """From here to there; `until` None where it goes on."""

    start: Point
    until: Point | None = None


START: Final = Point("start")
END: Final = Point("end")


def parse_span(text: str, *, now_ms: int) -> Span:
    """Read the text of `-o`; raises ValueError with what was expected."""
    if text.startswith("@"):
        return _parse_times(text[1:], now_ms)
    first, colon, last = text.partition(":")
    if not colon:
        return Span(_parse_point(first))
    return Span(_parse_point(first) if first else START, _parse_point(last) if last else None)


def _parse_point(text: str) -> Point:
    if text in ("start", "beginning", "earliest"):
        return START
    if text in ("end", "latest"):
        return END
    if re.fullmatch(r"[+-]?\d{1,19}", text):
        number = int(text)
        return (
            Point("start", number)
            if text[0] == "+"
            else Point("end", number)
            if text[0] == "-"
            else Point("offset", number)
        )
    raise ValueError(f"{text!r} is no offset: start, end, 47, +2, -3, a range such as 10:20, or @ and a time")


def _parse_times(text: str, now_ms: int) -> Span:
    """A time may hold colons itself: the range is cut where both sides are times."""
    for position in [len(text), *(match.start() for match in re.finditer(":", text))]:
        first, last = text[:position], text[position + 1 :]
        start = _parse_time(first, now_ms)
        until = _parse_time(last.removeprefix("@"), now_ms) if last else None
        if start is not None and (until is not None or not last):
            return Span(start, until)
    raise ValueError(f"@{text} is no time: @1735689600000, @2025-01-01T00:00:00Z, @-1h, or a range such as @-1h:end")


def _parse_time(text: str, now_ms: int) -> Point | None:
    if text in ("start", "end"):
        return Point(text)
    if text.isdecimal() and len(text) <= 18:
        number = int(text)
        return Point("timestamp", number if number >= _SECONDS_MAX else number * 1000)
    if match := _DURATION.fullmatch(text):
        return Point("timestamp", now_ms - int(float(match["number"]) * _UNIT_MS[match["unit"]]))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return Point("timestamp", int((moment if moment.tzinfo else moment.astimezone()).timestamp() * 1000))
