"""Making the function that decodes one message in one version.

`decoder(message, version)` is `decode(buffer, position, limit) -> (message, position)`. On what is no such message it
raises DecodeError, struct.error, IndexError or UnicodeDecodeError; `wire.codec` makes one error of them.
Everything nested is written inline: no recursion, however the bytes are nested. Fields of constant size that follow
each other, with the length or count after them, are read by one unpack.
Invariants: no length is used before it is compared with the bytes that are left, and no count before it is compared
with the least that so many elements would take and with what is left of ELEMENTS_MAX; an unknown tagged field is
skipped by its size.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NoReturn
from uuid import UUID

from wire.schema import (
    FIXED_BYTES,
    NO_UUID,
    NUMBERS,
    Array,
    Blob,
    Field,
    Fixed,
    Kind,
    Message,
    Nested,
    RecordBatches,
    Text,
    fields_in,
    fields_of,
    min_bytes,
)
from wire.source import Source

Decoder = Callable[[memoryview, int, int], tuple[Any, int]]

# Elements of arrays and tagged fields that one message may have: far more than a broker has partitions. An element may
# take fifty times its bytes, and about half a microsecond: without this bound a frame of 100 MiB takes gigabytes and
# stops the loop for half a minute. Arrays of integers are made at once and don't count.
ELEMENTS_MAX: Final = 250_000


class DecodeError(ValueError):
    """The bytes are not the message that they claim to be; the connection that sent them has no future."""


def decoder(message: type[Message], version: int, *, flexible: bool) -> Decoder:
    writer = _DecoderWriter(version, flexible=flexible)
    writer.source.line(f"elements_left = {ELEMENTS_MAX}")
    writer.source.line(f"return {writer.message(message)}, position")
    return writer.source.compiled("decode(buffer, position, limit)", title=f"decode {message.__name__} v{version}")


class _DecoderWriter:
    """Writes reads in wire order; those of constant size wait in `_run` until something of unknown size comes."""

    def __init__(self, version: int, *, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = Source()
        self._run: list[tuple[str, str]] = []  # (code, local)
        for name, value in (
            ("uuid_of", uuid_of),
            ("longer_varint", longer_varint),
            ("skip_tagged", skip_tagged),
            ("truncated", truncated),
            ("null", null),
            ("miscounted", miscounted),
            ("missized", missized),
            ("overfull", overfull),
            ("unpack_from", struct.unpack_from),
        ):
            self.source.names[name] = value

    def message(self, message: type[Message]) -> str:
        """Read a struct; the expression that makes it."""
        present = fields_in(message, self.version)
        values = {field.name: self.field(field) for field in present if field.tag is None}
        if self.flexible:
            values |= self.tagged([field for field in present if field.tag is not None])
        else:
            self.flush()
        every = fields_of(message)
        while every and every[-1].name not in values:
            every = every[:-1]
        arguments = [values[field.name] if field.name in values else self.default(field) for field in every]
        return f"{self.source.bind(message.__name__, message)}({', '.join(arguments)})"

    def field(self, field: Field) -> str:
        flexible = self.flexible and not field.is_legacy
        is_nullable = field.is_nullable(self.version)
        return self.value(field.kind, field.name, flexible=flexible, is_nullable=is_nullable)

    def default(self, field: Field) -> str:
        return "[]" if field.default == [] else self.source.bind("default", field.default)

    def value(self, kind: Kind, name: str, *, flexible: bool, is_nullable: bool = False) -> str:
        """Read a value of `kind`; the expression that has it, good until the end of its struct."""
        match kind:
            case Fixed(code):
                target = self.take(code, name)
                return f"uuid_of({target})" if code == "16s" else target
            case Text() | Blob() | RecordBatches():
                return self.sized(kind, name, flexible=flexible, is_nullable=is_nullable)
            case Array(element):
                return self.array(element, name, flexible=flexible, is_nullable=is_nullable)
            case Nested(message):
                return self.nested(message, name, is_nullable=is_nullable)

    def take(self, code: str, name: str) -> str:
        target = self.source.local(name)
        self._run.append((code, target))
        return target

    def flush(self) -> None:
        """Read what waits in the run."""
        if [code for code, _ in self._run] == ["B"]:
            self.source.line(f"{self._run[0][1]} = buffer[position]")
            self.source.line("position += 1")
        elif self._run:
            layout = struct.Struct(">" + "".join(code for code, _ in self._run))
            targets = ", ".join(target for _, target in self._run)
            unpack = self.source.bind("unpack", layout.unpack_from)
            self.source.line(f"{targets}, = {unpack}(buffer, position)")
            self.source.line(f"position += {layout.size}")
        self._run.clear()

    def varint(self, name: str) -> str:
        target = self.take("B", name)
        self.flush()
        with self.source.block(f"if {target} > 127"):
            self.source.line(f"{target}, position = longer_varint(buffer, position, {target})")
        return target

    def length(self, name: str, *, flexible: bool, code: str, is_nullable: bool) -> tuple[str, str]:
        """Read a length or count; the local, which is -1 for null, and the local that will hold the value."""
        if flexible:
            size = self.varint(name + "_length")
            self.source.line(f"{size} -= 1")
        else:
            size = self.take(code, name + "_length")
            self.flush()
        if not is_nullable:
            with self.source.block(f"if {size} < 0"):
                self.source.line(f"null({name!r}, {size})")
        elif not flexible:
            with self.source.block(f"if {size} < -1"):
                self.source.line(f"null({name!r}, {size})")
        return size, self.source.local(name)

    def sized(self, kind: Kind, name: str, *, flexible: bool, is_nullable: bool) -> str:
        code = "h" if isinstance(kind, Text) else "i"
        size, target = self.length(name, flexible=flexible, code=code, is_nullable=is_nullable)
        if is_nullable:
            with self.source.block(f"if {size} < 0"):
                self.source.line(f"{target} = None")
            with self.source.block("else"):
                self._octets(kind, name, size, target)
        else:
            self._octets(kind, name, size, target)
        return target

    def _octets(self, kind: Kind, name: str, size: str, target: str) -> None:
        self.source.line(f"end = position + {size}")
        with self.source.block("if end > limit"):
            self.source.line(f"truncated({name!r}, {size}, limit - position)")
        match kind:
            case Text():
                expression = 'str(buffer[position:end], "utf-8")'
            case Blob():
                expression = "bytes(buffer[position:end])"
            case _:
                expression = "buffer[position:end]"
        self.source.line(f"{target} = {expression}")
        self.source.line("position = end")

    def array(self, element: Kind, name: str, *, flexible: bool, is_nullable: bool) -> str:
        size, target = self.length(name, flexible=flexible, code="i", is_nullable=is_nullable)
        if is_nullable:
            with self.source.block(f"if {size} < 0"):
                self.source.line(f"{target} = None")
            with self.source.block("else"):
                self._elements(element, name, size, target)
        else:
            self._elements(element, name, size, target)
        return target

    def _elements(self, element: Kind, name: str, size: str, target: str) -> None:
        least = min_bytes(element, self.version, flexible=self.flexible)
        with self.source.block(f"if {size} * {least} > limit - position"):
            self.source.line(f"miscounted({name!r}, {size}, limit - position)")
        if isinstance(element, Fixed) and element.code in NUMBERS:
            unpackers = self.source.bind("unpackers", _UNPACKERS[element.code])
            with self.source.block(f"if {size} < {len(_UNPACKERS[element.code])}"):
                self.source.line(f"{target} = list({unpackers}[{size}](buffer, position))")
            with self.source.block("else"):
                self.source.line(f'{target} = list(unpack_from(f">{{{size}}}{element.code}", buffer, position))')
            self.source.line(f"position += {size} * {FIXED_BYTES[element.code]}")
            return
        self._spend(size)
        self.source.line(f"{target} = []")
        with self.source.block(f"for _ in range({size})"):
            expression = self.value(element, name, flexible=self.flexible)
            self.flush()
            self.source.line(f"{target}.append({expression})")

    def _spend(self, count: str) -> None:
        self.source.line(f"elements_left -= {count}")
        with self.source.block("if elements_left < 0"):
            self.source.line("overfull()")

    def nested(self, message: type[Message], name: str, *, is_nullable: bool) -> str:
        if not is_nullable:
            return self.message(message)
        marker = self.take("b", name + "_marker")  # KIP-893
        self.flush()
        target = self.source.local(name)
        with self.source.block(f"if {marker} < 0"):
            self.source.line(f"{target} = None")
        with self.source.block("else"):
            expression = self.message(message)
            self.source.line(f"{target} = {expression}")
        return target

    def tagged(self, fields: list[Field]) -> dict[str, str]:
        """Read the tagged fields that end a struct; their locals by field name."""
        source = self.source
        count = self.take("B", "tags")
        self.flush()
        if not fields:
            with source.block(f"if {count}"):
                source.line(f"position, elements_left = skip_tagged(buffer, position, {count}, elements_left)")
            return {}
        values = {field.name: source.local(field.name) for field in fields}
        for field in fields:
            source.line(f"{values[field.name]} = {self.default(field)}")
        with source.block(f"if {count}"):
            with source.block(f"if {count} > 127"):
                source.line(f"{count}, position = longer_varint(buffer, position, {count})")
            self._spend(count)
            with source.block(f"for _ in range({count})"):
                number = self.varint("tag")
                size = self.varint("size")
                end = source.local("end")
                source.line(f"{end} = position + {size}")
                with source.block(f"if {end} > limit"):
                    source.line(f'truncated("a tagged field", {size}, limit - position)')
                self._known_tags(fields, values, number, end)
        return values

    def _known_tags(self, fields: list[Field], values: dict[str, str], number: str, end: str) -> None:
        for position, field in enumerate(fields):
            with self.source.block(f"{'elif' if position else 'if'} {number} == {field.tag}"):
                expression = self.field(field)
                self.flush()
                self.source.line(f"{values[field.name]} = {expression}")
                with self.source.block(f"if position != {end}"):
                    self.source.line(f"missized({field.name!r})")
        with self.source.block("else"):
            self.source.line(f"position = {end}")


# ---- what the written functions call


# As _PACKERS of wire/encoding.py.
_UNPACKERS: Final = {
    code: [struct.Struct(f">{count}{code}").unpack_from for count in range(16)] for code in FIXED_BYTES
}


@lru_cache(maxsize=4096)
def uuid_of(raw: bytes) -> UUID:
    """Remembered: making a UUID costs more than all the rest of a partition, and the same few topics come again."""
    value = UUID(bytes=raw)
    return NO_UUID if value == NO_UUID else value


def longer_varint(buffer: memoryview, position: int, first: int) -> tuple[int, int]:
    """An unsigned varint of 32 bits whose first byte, already read, says that another follows."""
    byte = buffer[position]
    value = first & 0x7F | (byte & 0x7F) << 7
    if byte < 0x80:
        return value, position + 1
    byte = buffer[position + 1]
    value |= (byte & 0x7F) << 14
    if byte < 0x80:
        return value, position + 2
    byte = buffer[position + 2]
    value |= (byte & 0x7F) << 21
    if byte < 0x80:
        return value, position + 3
    byte = buffer[position + 3]
    if byte > 0x0F:
        raise DecodeError("a varint has more than 32 bits")
    return value | byte << 28, position + 4


def skip_tagged(buffer: memoryview, position: int, count: int, elements_left: int) -> tuple[int, int]:
    """Pass tagged fields that nobody knows: where they end, and what is left of the elements.

    `count` is the first byte, already read, of how many there are.
    """
    if count > 127:
        count, position = longer_varint(buffer, position, count)
    elements_left -= count
    if elements_left < 0:
        overfull()
    for _ in range(count):
        tag = buffer[position]
        position += 1
        if tag > 127:
            _, position = longer_varint(buffer, position, tag)
        size = buffer[position]
        position += 1
        if size > 127:
            size, position = longer_varint(buffer, position, size)
        position += size
        if position > len(buffer):
            truncated("a tagged field", size, len(buffer) - position + size)
    return position, elements_left


def truncated(name: str, size: int, left: int) -> NoReturn:
    raise DecodeError(f"{name} says {size} bytes where {left} are left")


def miscounted(name: str, count: int, left: int) -> NoReturn:
    raise DecodeError(f"{name} says {count} elements where {left} bytes are left")


def missized(name: str) -> NoReturn:
    raise DecodeError(f"the tagged field {name} does not end where its size says")


def overfull() -> NoReturn:
    raise DecodeError(f"more than {ELEMENTS_MAX} elements")


def null(name: str, size: int) -> NoReturn:
    raise DecodeError(f"{name} has the length {size} and may not be null")
