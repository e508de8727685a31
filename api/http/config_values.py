"""Config values as people write them in JSON: text, or a number or truth value that means the same text."""

from __future__ import annotations

from typing import Final

from api.http.errors import bad_request

MAX_VALUE_CHARACTERS: Final = 4096
"""As the metadata allows."""

ConfigText = str | int | float | bool | None
"""`float` only so that the refusal can name the field."""


def config_text(field: str, value: ConfigText) -> str | None:
    """`true` for True, `604800000` for the number; None stays: it asks for the default."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if len(text) > MAX_VALUE_CHARACTERS:
        raise bad_request(f"{field} has {len(text)} characters: at most {MAX_VALUE_CHARACTERS} are allowed")
    return text
