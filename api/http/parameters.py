"""Query parameters: read by name and kind, and refused where nobody reads them.

A handler opens `Parameters(request)`, takes what it knows and calls `done()`. Refuses (400, naming the parameter)
unknown names, repeated names, and values of the wrong kind or outside their bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api.http.errors import bad_request

if TYPE_CHECKING:
    from aiohttp import web

INT64_MAX: Final = 2**63 - 1
INTEGER_DIGITS_MAX: Final = 20
SHOWN_MAX: Final = 64


class Parameters:
    """The query of one request; each `take` consumes a name."""

    __slots__ = ("_known", "_values")

    def __init__(self, request: web.Request) -> None:
        self._values: dict[str, str] = {}
        self._known: list[str] = []
        # No query at all is the common case, and parsing one costs microseconds.
        if request.rel_url.raw_query_string:
            for name, value in request.query.items():
                if name in self._values:
                    raise bad_request(f"the query parameter {name[:SHOWN_MAX]!r} is given twice: give it once")
                self._values[name] = value

    def text(self, name: str) -> str | None:
        self._known.append(name)
        return self._values.pop(name, None)

    def integer(self, name: str, default: int, *, minimum: int = 0, maximum: int = INT64_MAX) -> int:
        value = self.optional_integer(name, minimum=minimum, maximum=maximum)
        return default if value is None else value

    def optional_integer(self, name: str, *, minimum: int = 0, maximum: int = INT64_MAX) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        value = parse_integer(text)
        if value is None:
            raise bad_request(f"{name} must be an integer, not {text[:SHOWN_MAX]!r}")
        if not minimum <= value <= maximum:
            raise bad_request(f"{name} is {value}: it must be between {minimum} and {maximum}")
        return value

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text is None or text in ("0", "false"):
            return False
        if text in ("1", "true", ""):
            return True
        raise bad_request(f"{name} must be 1 or 0, not {text[:SHOWN_MAX]!r}")

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name)
        if text is None:
            return default
        if text not in allowed:
            raise bad_request(f"{name} must be one of {', '.join(allowed)}, not {text[:SHOWN_MAX]!r}")
        return text

    def done(self) -> None:
        """Refuse what nobody took."""
        for name in self._values:
            known = f"this route takes {', '.join(self._known)}" if self._known else "this route takes none"
            raise bad_request(f"unknown query parameter {name[:SHOWN_MAX]!r}: {known}")


def parse_integer(text: str) -> int | None:
    """A decimal integer of at most 20 ASCII digits, else None: int() alone takes `1_0`, ` 1` and other scripts."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > INTEGER_DIGITS_MAX:
        return None
    return int(text)
