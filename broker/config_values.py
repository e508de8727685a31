"""The text of one setting becomes a value, or a sentence that says what was expected.

Owns the grammar of values: whole numbers within bounds, booleans, choices, listener lists, voter lists, paths.
Refuses by `ValueError` whose text completes "expected ..."; `broker/config.py` adds key, value and where it stood.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

type_of_value = Callable[[str], object]

_LISTENER: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_-]*)://(?P<host>\[[^\]]*\]|[^:/\[\]]*):(?P<port>\d{1,5})/?")
_VOTER: Final = re.compile(r"(?P<id>\d{1,9})@(?P<host>\[[^\]]+\]|[^:/@\[\]]+):(?P<port>\d{1,5})")
_ENDPOINT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:/@\[\]]*):(?P<port>\d{1,5})")
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class ConfigError(Exception):
    """A setting, a configuration file or a data directory that a node can't start with: one line that names the fix."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One place to listen: `name` is the scheme (`http`, `https`) or Kafka's listener name, an empty host means all."""

    name: str
    host: str
    port: int
    tls: bool = False

    @property
    def is_loopback(self) -> bool:
        """Only programs on this machine can reach it."""
        return is_loopback(self.host)

    def renamed(self, name: str) -> "Listener":
        return replace(self, name=name)

    def at_port(self, port: int) -> "Listener":
        return replace(self, port=port)

    def with_tls(self, *, tls: bool) -> "Listener":
        return replace(self, tls=tls)

    def __str__(self) -> str:
        return f"{self.name}://{format_endpoint(self.host, self.port)}"


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses; a name that would need a look-up counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def format_endpoint(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Integer:
    """Reads a whole number within bounds, both included."""

    minimum: int
    maximum: int

    def __call__(self, text: str) -> int:
        if re.fullmatch(r"[+-]?\d{1,19}", text) and self.minimum <= (number := int(text)) <= self.maximum:
            return number
        raise ValueError(f"a whole number from {self.minimum} to {self.maximum}")


def integer(minimum: int, maximum: int) -> Integer:
    """A whole number within bounds, both included."""
    return Integer(minimum, maximum)


def boolean(text: str) -> bool:
    """Kafka's booleans: `true` and `false` in any case."""
    match text.lower():
        case "true":
            return True
        case "false":
            return False
    raise ValueError("true or false")


def fraction(text: str) -> float:
    """A decimal number from 0 to 1."""
    if re.fullmatch(r"\d{1,19}(\.\d{1,19})?|\.\d{1,19}", text, re.ASCII) and 0 <= (number := float(text)) <= 1:
        return number
    raise ValueError("a number from 0 to 1, such as 0.5")


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(text: str) -> str:
        if text in allowed:
            return text
        raise ValueError("one of " + ", ".join(allowed))

    return parse


def choices(*allowed: str) -> Callable[[str], str]:
    """A comma-separated list, each item one of a few words; the text stays as it is."""

    def parse(text: str) -> str:
        if (items := split_list(text)) and all(item in allowed for item in items):
            return ",".join(items)
        raise ValueError("a comma-separated list of " + ", ".join(allowed))

    return parse


def word(text: str) -> str:
    """Any text but none."""
    if text:
        return text
    raise ValueError("a value; it is empty")


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list, without blanks around them."""
    return [item.strip() for item in text.split(",") if item.strip()]


def listeners(*schemes: str) -> Callable[[str], tuple[Listener, ...]]:
    """`NAME://host:port,...`; with `schemes` given, only those names (in lower case) are allowed."""
    example = f"{schemes[0]}://127.0.0.1:8082" if schemes else "PLAINTEXT://127.0.0.1:9092"

    def parse(text: str) -> tuple[Listener, ...]:
        found: list[Listener] = []
        for item in split_list(text):
            match = _LISTENER.fullmatch(item)
            name = match["name"].lower() if match and schemes else match["name"] if match else ""
            if match is None or int(match["port"]) > 65535 or (schemes and name not in schemes):
                raise ValueError(f"{' or '.join(f'{s}://host:port' for s in schemes or ('NAME',))}, such as {example}")
            found.append(Listener(name, match["host"].strip("[]"), int(match["port"]), tls=name == "https"))
        if not found:
            raise ValueError(f"at least one listener, such as {example}")
        return tuple(found)

    return parse


def listener_protocols(text: str) -> dict[str, str]:
    """Kafka's `listener.security.protocol.map`: `NAME:PROTOCOL,...`; both in capitals in the answer."""
    found: dict[str, str] = {}
    for item in split_list(text):
        name, colon, protocol = (part.strip().upper() for part in item.partition(":"))
        if not colon or not name or protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise ValueError("NAME:PLAINTEXT or NAME:SSL for each name, such as CLIENTS:PLAINTEXT,BROKERS:SSL")
        if name in found:
            raise ValueError(f"each name once; {name} stands there twice")
        found[name] = protocol
    return found


def endpoint(text: str) -> tuple[str, int]:
    """`host:port`; an empty host means every address of the machine. A `peer://` before it is allowed."""
    match = _ENDPOINT.fullmatch(text.removeprefix("peer://"))
    if match is None or int(match["port"]) > 65535:
        raise ValueError("host:port, such as 127.0.0.1:9093")
    return match["host"].strip("[]"), int(match["port"])


def voters(text: str) -> dict[int, tuple[str, int]]:
    """Kafka's `controller.quorum.voters`: `id@host:port,...`, 1, 3 or 5 of them, each id and each address once."""
    found: dict[int, tuple[str, int]] = {}
    for item in split_list(text):
        match = _VOTER.fullmatch(item)
        if match is None or not 0 < int(match["port"]) <= 65535:
            raise ValueError(f"id@host:port for each voter, such as 1@127.0.0.1:9093; this one is not: {item}")
        node_id = int(match["id"])
        if node_id in found:
            raise ValueError(f"each voter once; id {node_id} stands there twice")
        found[node_id] = (match["host"].strip("[]"), int(match["port"]))
    if len(set(found.values())) != len(found):
        raise ValueError("an address of its own for each voter; two share one")
    if len(found) not in (1, 3, 5):
        raise ValueError(f"1, 3 or 5 voters, not {len(found)}")
    return found
