"""Rates as a person types them: `50MB`, `10MiB/s`, `500k`; units of 1000, those with an `i` of 1024."""

import re
from typing import Final

_TEXT: Final = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,6})?)\s*(?P<unit>[kmgt]i?)?b?(?:/s)?", re.IGNORECASE)
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes_per_s(text: str) -> int:
    """Bytes a second; raises ValueError with what was expected."""
    match = _TEXT.fullmatch(text.strip())
    if match is None or (number := _bytes(match)) < 1:
        raise ValueError("a rate in bytes a second, such as 50MB, 10MiB/s or 500k")
    return number


def _bytes(match: re.Match[str]) -> int:
    unit = (match["unit"] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    return int(float(match["number"]) * base ** _POWERS.get(unit[:1], 0))
