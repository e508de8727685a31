"""Records of the conversation: plain ones, and those that tell a client that mangles bytes from one that does not."""

import base64
import random
import time
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]


def encoded(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def record(
    value: bytes | None,
    *,
    key: bytes | None = None,
    headers: Iterable[tuple[str, bytes | None]] = (),
    partition: int = 0,
    timestamp: int | None = None,
) -> Record:
    return {
        "p": partition,
        "t": now_ms() if timestamp is None else timestamp,
        "k": encoded(key),
        "v": encoded(value),
        "h": [[name, encoded(content)] for name, content in headers],
    }


def numbered(numbers: Iterable[int], *, partition: int = 0, bulk: int = 40) -> list[Record]:
    """Values that say their number, and compress well."""
    return [record(b"%08d " % number + b"x" * bulk, key=b"%d" % number, partition=partition) for number in numbers]


def odd(*, nulls: bool = True, headers: bool = True, null_headers: bool = True) -> list[Record]:
    """What breaks a client that takes bytes for text, empty for null, or headers for a dictionary."""
    every_byte = bytes(range(256))
    began_ms = now_ms() - 60_000
    some = [("a", b"1"), ("a", b"2"), ("", b""), ("ü", every_byte)] if headers else []
    if headers and null_headers:
        some.append(("null", None))
    told: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
        (every_byte, every_byte, some),
        (b"", b"k", []),
        (b"v", b"", some[:1]),
        ("grüße 🙂\n\t\0".encode(), "schlüssel".encode(), []),
        (b"\xff\xfe\r\n" * 1000, b"k" * 300, []),
    ]
    if nulls:
        told += [(None, b"tombstone", some), (b"without a key", None, [])]
    return [
        record(value, key=key, headers=found, timestamp=began_ms + 1000 * number)
        for number, (value, key, found) in enumerate(told)
    ]


def large(*, seed: int) -> list[Record]:
    """Values of 1 MB that don't compress; with its overhead each is just below Kafka's default bound."""
    chance = random.Random(seed)
    return [record(chance.randbytes(1_000_000), key=b"large") for _ in range(3)]


def contents(records: Iterable[Record], *, times: bool = True, headers: bool = True) -> list[Any]:
    """What must arrive unchanged: time, key, value and headers, in order; without what a client has no way to say."""
    return [
        (found["t"] if times else None, found["k"], found["v"], found["h"] if headers else None) for found in records
    ]


def values(records: Iterable[Record]) -> list[int]:
    """The numbers of `numbered`."""
    return [int(base64.b64decode(found["v"])[:8]) for found in records]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
