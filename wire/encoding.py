"""Making the function that encodes one message in one version.

`encoder(message, version)` is `encode(message) -> list of buffers`, at least one. Record batches are buffers of their
own, never copied; everything between two of them is one, and the first is never records. Fields of constant size that
follow each other, with the length after them, are written by one pack. On a value that does not fit its field it raises
struct.error, TypeError or AttributeError; `wire.codec` makes one error of them.
"""

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from wire.schema import (
    NUMBERS,
    Array,
    Blob,
    Buffer,
    Field,
    Fixed,
    Kind,
    Message,
    Nested,
    RecordBatches,
    Text,
    fields_in,
)
from wire.source import Source

Encoder = Callable[[Any], list[Buffer]]


def encoder(message: type[Message], version: int, *, flexible: bool) -> Encoder:
    writer = _EncoderWriter(version, flexible=flexible)
    writer.source.line("buffers = []")
    writer.source.line("parts = []")
    writer.source.line("append = parts.append")
    writer.message(message, "message")
    writer.flush()
    with writer.source.block("if parts or not buffers"):
        writer.source.line('buffers.append(b"".join(parts))')
    writer.source.line("return buffers")
    return writer.source.compiled("encode(message)", title=f"encode {message.__name__} v{version}")


class _EncoderWriter:
    """Writes in wire order; values of constant size wait in `_run` until something of unknown size comes."""

    def __init__(self, version: int, *, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = Source()
        self._run: list[tuple[str, str]] = []  # (code, expression)
        self.source.names.update(varint=varint, pack=struct.pack)

    def message(self, message: type[Message], expression: str) -> None:
        present = fields_in(message, self.version)
        for field in present:
            if field.tag is None:
                self.field(field, f"{expression}.{field.name}")
        if self.flexible:
            self.tagged(sorted((f for f in present if f.tag is not None), key=lambda f: f.tag or 0), expression)

    def field(self, field: Field, expression: str) -> None:
        flexible = self.flexible and not field.is_legacy
        self.value(field.kind, field.name, expression, flexible=flexible, is_nullable=field.is_nullable(self.version))

    def value(self, kind: Kind, name: str, expression: str, *, flexible: bool, is_nullable: bool = False) -> None:
        if isinstance(kind, Fixed):
            self._run.append((kind.code, f"{expression}.bytes" if kind.code == "16s" else expression))
            return
        if isinstance(kind, Nested) and not is_nullable:
            self.message(kind.message, expression)
            return
        target = self.source.local(name)
        self.source.line(f"{target} = {expression}")
        if not is_nullable:
            self._whole(kind, name, target, flexible=flexible)
            return
        before = list(self._run)
        with self.source.block(f"if {target} is None"):
            self._run.append(_null(kind, flexible=flexible))
            self.flush()
        self._run = before
        with self.source.block("else"):
            self._whole(kind, name, target, flexible=flexible)
            self.flush()

    def _whole(self, kind: Kind, name: str, target: str, *, flexible: bool) -> None:
        match kind:
            case Text():
                self.source.line(f"{target} = {target}.encode()")
                self.length(f"len({target})", flexible=flexible, code="h")
                self.source.line(f"append({target})")
            case Blob():
                self.length(f"len({target})", flexible=flexible, code="i")
                self.source.line(f"append({target})")
            case RecordBatches():
                self.records(target, flexible=flexible)
            case Array(element):
                self.length(f"len({target})", flexible=flexible, code="i")
                self._elements(element, name, target)
            case Nested(message):
                self._run.append(("b", "1"))  # KIP-893
                self.message(message, target)
            case Fixed():
                raise AssertionError("written by value()")

    def records(self, target: str, *, flexible: bool) -> None:
        """Close the buffer before the records, then the records as they are."""
        line, block = self.source.line, self.source.block
        size, is_in_parts = self.source.local("size"), self.source.local("is_in_parts")
        line(f"{is_in_parts} = isinstance({target}, (list, tuple))")
        line(f"{size} = sum(map(len, {target})) if {is_in_parts} else len({target})")
        self.length(size, flexible=flexible, code="i")
        with block(f"if {size}"):
            line('buffers.append(b"".join(parts))')
            line("parts.clear()")
            with block(f"if {is_in_parts}"):
                line(f"buffers.extend({target})")
            with block("else"):
                line(f"buffers.append({target})")

    def _elements(self, element: Kind, name: str, target: str) -> None:
        if isinstance(element, Fixed) and element.code in NUMBERS:
            packers = self.source.bind("packers", _PACKERS[element.code])
            with self.source.block(f"if len({target}) < {len(_PACKERS[element.code])}"):
                self.source.line(f"append({packers}[len({target})](*{target}))")
            with self.source.block("else"):
                self.source.line(f'append(pack(f">{{len({target})}}{element.code}", *{target}))')
            return
        item = self.source.local(name)
        with self.source.block(f"for {item} in {target}"):
            self.value(element, name, item, flexible=self.flexible)
            self.flush()

    def length(self, size: str, *, flexible: bool, code: str) -> None:
        """Write a length or count and all that waits before it."""
        if not flexible:
            self._run.append((code, size))
            self.flush()
            return
        counted = self.source.local("size")
        self.source.line(f"{counted} = {size} + 1")
        before = list(self._run)
        with self.source.block(f"if {counted} < 128"):
            self._run.append(("B", counted))
            self.flush()
        self._run = before
        with self.source.block("else"):
            self.flush()
            self.source.line(f"append(varint({counted}))")

    def flush(self) -> None:
        if self._run:
            layout = struct.Struct(">" + "".join(code for code, _ in self._run))
            pack = self.source.bind("pack", layout.pack)
            self.source.line(f"append({pack}({', '.join(expression for _, expression in self._run)}))")
        self._run = []

    def tagged(self, fields: list[Field], expression: str) -> None:
        """Write the tagged fields that end a struct: those that differ from their default."""
        if not fields:
            self._run.append(("B", "0"))
            return
        differing = " or ".join(self.differs(field, expression) for field in fields)
        before = self._run
        with self.source.block(f"if {differing}"):
            self._run = list(before)
            self.flush()
            section = self.source.bind("tag_section", _tag_section(fields, self.version))
            self.source.line(f"append({section}({expression}))")
        with self.source.block("else"):
            self._run = [*before, ("B", "0")]
            self.flush()

    def differs(self, field: Field, expression: str) -> str:
        value = f"{expression}.{field.name}"
        if field.default == [] or field.default is False:
            return value
        if field.default is None:
            return f"{value} is not None"
        default = self.source.bind("default", field.default)
        if isinstance(field.default, (Message, UUID)):  # mostly the very object that is the default
            return f"({value} is not {default} and {value} != {default})"
        return f"{value} != {default}"


def _tag_section(fields: list[Field], version: int) -> Callable[[Any], bytes]:
    """A function that writes the count and the fields of `fields` that differ from their default."""
    writer = _EncoderWriter(version, flexible=True)
    source = writer.source
    source.line("tags = []")
    for field in fields:
        with source.block(f"if {writer.differs(field, 'message')}"):
            source.line("parts = []")
            source.line("append = parts.append")
            source.line("buffers = []")
            assert not isinstance(field.kind, RecordBatches), "there are none in Kafka, and these buffers are dropped"
            writer.field(field, f"message.{field.name}")
            writer.flush()
            source.line('body = b"".join(parts)')
            source.line(f"tags.append({varint(field.tag or 0)!r} + varint(len(body)) + body)")
    source.line('return varint(len(tags)) + b"".join(tags)')
    return source.compiled("tag_section(message)", title=f"tagged fields v{version}")


def _null(kind: Kind, *, flexible: bool) -> tuple[str, str]:
    if isinstance(kind, Nested):
        return "b", "-1"
    if flexible:
        return "B", "0"
    return ("h" if isinstance(kind, Text) else "i"), "-1"


# ---- what the written functions call


# For each code of `struct` the packers of that many, from none on. Most arrays are the few replicas of a partition, for
# which making a format and looking it up would take longer than all the rest: a Metadata response takes half the time.
_PACKERS: Final = {code: [struct.Struct(f">{count}{code}").pack for count in range(16)] for code in NUMBERS}
_ONE_BYTE: Final = [bytes([value]) for value in range(128)]


def varint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 1 << 7:
        return _ONE_BYTE[value]
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 1 << 21:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return bytes((value & 0x7F | 0x80,)) + varint(value >> 7)
