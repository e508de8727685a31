"""What a consumer instance is made with: Confluent's names and defaults, and bounds of ours.

Refuses (422, 42204) what it does not know or cannot be. Numbers and flags may come as strings, as clients of the REST
proxy send them.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from api.http.group_errors import consumer_config
from api.http.json_guard import explain

NAME_LENGTH_MAX: Final = 249
FORMATS: Final = ("binary", "json")
RESETS: Final = ("earliest", "latest", "none")
INSTANCE_TIMEOUT_MS: Final = 300_000
INSTANCE_TIMEOUT_MS_MIN: Final = 1_000
INSTANCE_TIMEOUT_MS_MAX: Final = 3_600_000
REQUEST_TIMEOUT_MS: Final = 1_000
REQUEST_TIMEOUT_MS_MAX: Final = 60_000


class _Wanted(Struct, forbid_unknown_fields=True):
    name: str | None = None
    format: str = "binary"
    auto_offset_reset: str = field(default="latest", name="auto.offset.reset")
    auto_commit: bool | str = field(default=False, name="auto.commit.enable")
    fetch_min_bytes: int | str = field(default=1, name="fetch.min.bytes")
    request_timeout_ms: int | str = field(default=REQUEST_TIMEOUT_MS, name="consumer.request.timeout.ms")
    instance_timeout_ms: int | str = field(default=INSTANCE_TIMEOUT_MS, name="consumer.instance.timeout.ms")


class InstanceSettings(Struct, frozen=True):
    """Of one instance; times are milliseconds."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)] | None
    """None: it gets one."""
    format: str
    """In which records are given to whoever does not say what it accepts."""
    auto_offset_reset: str
    """Where to begin where nothing was committed, or what was is gone: `earliest`, `latest`, `none` (an error)."""
    auto_commit: bool
    fetch_min_bytes: int
    request_timeout_ms: int
    instance_timeout_ms: int
    """An instance that nobody uses for so long is deleted, and its partitions go to the other members."""


_decoder: Final = msgspec.json.Decoder(_Wanted)


def instance_settings(body: bytes) -> InstanceSettings:
    try:
        wanted = _decoder.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise consumer_config(explain(str(error))) from None
    name = wanted.name
    if name is not None and not (0 < len(name) <= NAME_LENGTH_MAX and name.isprintable() and "/" not in name):
        raise consumer_config(f"name must have 1 to {NAME_LENGTH_MAX} printable characters and no slash")
    return InstanceSettings(
        name,
        _choice("format", wanted.format, FORMATS),
        _choice("auto.offset.reset", wanted.auto_offset_reset, RESETS),
        _flag("auto.commit.enable", wanted.auto_commit),
        _number("fetch.min.bytes", wanted.fetch_min_bytes, -1, 8 << 20),
        _number("consumer.request.timeout.ms", wanted.request_timeout_ms, 0, REQUEST_TIMEOUT_MS_MAX),
        _number(
            "consumer.instance.timeout.ms",
            wanted.instance_timeout_ms,
            INSTANCE_TIMEOUT_MS_MIN,
            INSTANCE_TIMEOUT_MS_MAX,
        ),
    )


def _choice(name: str, value: str, known: tuple[str, ...]) -> str:
    if value.lower() in known:
        return value.lower()
    if name == "format" and value.lower() in ("avro", "protobuf", "jsonschema"):
        raise consumer_config(f"format {value!r} needs a schema registry, which there is not: use {' or '.join(known)}")
    raise consumer_config(f"{name} must be one of {', '.join(known)}, not {value[:64]!r}")


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value.lower() in ("true", "false"):
        return bool(value.lower() == "true")
    raise consumer_config(f"{name} must be true or false, not {value[:64]!r}")


def _number(name: str, value: int | str, minimum: int, maximum: int) -> int:
    try:
        number = int(value) if isinstance(value, int) or len(value) < 20 else maximum + 1
    except ValueError:
        raise consumer_config(f"{name} must be a number, not {str(value)[:64]!r}") from None
    if not minimum <= number <= maximum:
        raise consumer_config(f"{name} must be between {minimum} and {maximum}")
    return number
