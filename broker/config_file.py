"""Configuration files as text: Kafka's `.properties` and `.toml`, both as a flat list of settings with their source.

Owns the two grammars; knows no key. A TOML table `[log.segment]` with `bytes = 1` is the setting `log.segment.bytes=1`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from broker.config_values import ConfigError

_ASSIGNMENT = re.compile(r"(?P<key>[^\s=:]+)\s*[=:\s]\s*(?P<value>.*)")


class Setting(NamedTuple):
    """One setting as text and where it stood, for the message that refuses it."""

    key: str
    value: str
    source: str


def refuse(setting: Setting, reason: str) -> ConfigError:
    """The one line for a setting that can't stand."""
    return ConfigError(f"{setting.key}={setting.value} ({setting.source}): {reason}")


def read_config_file(path: Path) -> list[Setting]:
    """Every setting of a file in its order; raises ConfigError where it is missing or no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    return list(_toml_settings(text, path) if path.suffix == ".toml" else properties_settings(text, path))


def properties_settings(text: str, path: Path) -> Iterator[Setting]:
    """Java's properties: `key=value`, `key: value`, `#` and `!` comments, a line that ends in a backslash goes on."""
    pending, first_line = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        piece = line.strip() if not pending else line.lstrip()
        if not pending and (not piece or piece[0] in "#!"):
            continue
        first_line = first_line if pending else number
        if piece.endswith("\\") and not piece.endswith("\\\\"):
            pending += piece[:-1]
            continue
        statement, pending = (pending + piece).strip(), ""
        match = _ASSIGNMENT.fullmatch(statement)
        if match is None:
            raise ConfigError(f"{path}, line {first_line}: expected key=value, found {statement!r}")
        yield Setting(match["key"], match["value"].strip(), f"{path.name}, line {first_line}")
    if pending:
        raise ConfigError(f"{path}, line {first_line}: the file ends in the middle of a continued line")


def _toml_settings(text: str, path: Path) -> Iterator[Setting]:
    import tomllib  # noqa: PLC0415 - only those who write TOML pay for its parser

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    yield from _flatten(tables, "", path)


def _flatten(table: Mapping[str, object], prefix: str, path: Path) -> Iterator[Setting]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.", path)
        else:
            yield Setting(prefix + name, _toml_text(value), path.name)


def _toml_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_toml_text(item) for item in value)
    return str(value)
