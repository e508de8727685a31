"""What one node was told: a `NodeConfig`, read from `--set`, environment, file and defaults, the first of them wins.

Refuses, with one line that names key, value, source and what is allowed: unknown keys, wrong values, and (by
`broker/config_rules.py`) settings that contradict each other. Imports nothing slow: the command line checks a
configuration before it starts a process.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from broker.config_file import Setting, read_config_file, refuse
from broker.config_keys import KAFKA_ONLY_KEYS, KAFKA_ONLY_PREFIXES, KAFKA_SCRIPT_VARIABLES, KEYS, PATH_KEYS
from broker.config_rules import assemble
from broker.config_values import ConfigError, Listener
from broker.node_config import KafkaTlsFiles, NodeConfig, PeerTlsFiles, TlsFiles

__all__ = ["ConfigError", "KafkaTlsFiles", "Listener", "NodeConfig", "PeerTlsFiles", "TlsFiles", "load_config"]

ENVIRONMENT_PREFIX: Final = "KAFKA_"


def load_config(
    file: str | Path | None, environ: Mapping[str, str], overrides: Iterable[str]
) -> tuple[NodeConfig, list[str]]:
    """Read and check a node's configuration; returns it with warnings, one line each; raises ConfigError.

    `overrides` are the `key=value` of `--set`. Relative paths of a file count from that file's folder, others from the
    working directory, so that a data directory can be moved as a whole.
    """
    warnings: list[str] = []
    settings: dict[str, Setting] = {}
    layers = [
        *(_from_file(Path(file)) if file is not None else []),
        *_from_environment(environ, warnings),
        *(_from_override(text) for text in overrides),
    ]
    for setting in layers:
        if _is_ours(setting, warnings):
            settings[setting.key] = setting
    values, topic_defaults = _parse(settings)
    config = assemble(values, topic_defaults, settings, warnings)
    return replace(config, stated={key: setting.value for key, setting in settings.items()}), warnings


def _from_file(path: Path) -> list[Setting]:
    folder = path.absolute().parent
    found = []
    for setting in read_config_file(path):
        value = setting.value
        if setting.key in PATH_KEYS and value:
            value = ",".join(os.path.normpath(folder / item.strip()) for item in value.split(",") if item.strip())
        found.append(setting._replace(value=value))
    return found


def _from_environment(environ: Mapping[str, str], warnings: list[str]) -> list[Setting]:
    names = {_variable(key): key for key in (*KAFKA_ONLY_KEYS, *KEYS)}
    found = []
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in KAFKA_SCRIPT_VARIABLES:
            continue
        if (key := names.get(variable)) is not None:
            found.append(Setting(key, value, f"environment, {variable}"))
        else:
            # others share this prefix, so it is no reason to stop; a typo must still not pass in silence
            meant = _did_you_mean(variable, names)
            warnings.append(f"{variable} in the environment is no setting of a node and is ignored{meant}")
    return found


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "_").replace("-", "_")


def _from_override(text: str) -> Setting:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected key=value")
    return Setting(key.strip(), value.strip(), "--set")


def _is_ours(setting: Setting, warnings: list[str]) -> bool:
    if setting.key in KEYS:
        return True
    if setting.key in KAFKA_ONLY_KEYS or setting.key.startswith(KAFKA_ONLY_PREFIXES):
        warnings.append(f"{setting.key} ({setting.source}) is a setting of Kafka that has no effect here")
        return False
    meant = _did_you_mean(setting.key, KEYS)
    raise ConfigError(f"{setting.key} ({setting.source}): no such setting{meant}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only a typo pays for it

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _parse(settings: Mapping[str, Setting]) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of NodeConfig by name, and topic defaults as text, both only for what was set."""
    values: dict[str, Any] = {}
    topic_defaults: dict[str, str] = {}
    for name, key in KEYS.items():
        if (setting := settings.get(name)) is None:
            continue
        try:
            value: Any = key.parse(setting.value)
        except ValueError as error:
            raise refuse(setting, f"expected {error}") from None
        if not key.topic_key:
            values[key.field] = value
        elif isinstance(value, bool):
            topic_defaults[key.topic_key] = str(value).lower()
        elif isinstance(value, int):
            topic_defaults[key.topic_key] = str(value * key.factor if value > 0 else value)
        else:
            topic_defaults[key.topic_key] = value
    return values, topic_defaults
