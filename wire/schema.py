"""How a Kafka message is declared: one class a message, and on each field the versions in which it is on the wire.

    class FetchPartition(Message, frozen=True):
        partition: Int32 = 0
        current_leader_epoch: Annotated[Int32, since(9)] = -1
        replica_directory_id: Annotated[UUID, since(17), tag(0)] = NO_UUID

Owns the words of that language and the reading of it into `Field`s. The order of the fields is their order on the
wire; names are Kafka's in snake_case; a default is Kafka's and is what a version without the field decodes to.
`str`, `bytes`, `bool`, `UUID`, `list[...]` and other messages mean themselves; integers need a width (`Int8` ...);
`X | None` is nullable in all versions of its field unless `nullable(since=...)` says from which on.
Refuses, when a message is first used, whatever it cannot read in a declaration (TypeError: a bug).
Invariant: a message is a value. Its class is frozen; whoever puts a list into it does not change that list any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from msgspec import Struct, structs
from msgspec import field as msgspec_field

NO_UUID: Final = UUID(int=0)  # Kafka's "no topic id" and "no directory id"

Buffer = bytes | bytearray | memoryview

_Word = TypeVar("_Word")


class Versions(NamedTuple):
    """The versions of a top-level message, both ends inclusive, and the first flexible one (KIP-482)."""

    first: int
    last: int
    flexible_from: int

    def is_flexible(self, version: int) -> bool:
        return version >= self.flexible_from


class Message(Struct, frozen=True, gc=False):
    """A request, a response, a header, or a struct inside one; a top-level one sets `wire_versions`."""

    wire_versions: ClassVar[Versions]


# ---- the words of a declaration


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value of constant size; `code` is that of module `struct`."""

    code: str


@dataclass(frozen=True, slots=True)
class Text:
    """A UTF-8 string."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Opaque bytes, copied when decoded: they outlive the frame."""


@dataclass(frozen=True, slots=True)
class RecordBatches:
    """Record batches: decoded as a view into the frame, never copied in either direction."""


@dataclass(frozen=True, slots=True)
class Array:
    element: "Kind"


@dataclass(frozen=True, slots=True)
class Nested:
    message: type[Message]


Kind = Fixed | Text | Blob | RecordBatches | Array | Nested


@dataclass(frozen=True, slots=True)
class Legacy:
    """The field keeps the encoding of inflexible versions in flexible ones too (client_id of the request header)."""


@dataclass(frozen=True, slots=True)
class Present:
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Tag:
    number: int


@dataclass(frozen=True, slots=True)
class NullableFrom:
    version: int


EVER: Final = 1 << 15  # versions are int16: no message reaches this one
NEVER: Final = EVER

Int8 = Annotated[int, Fixed("b")]
Int16 = Annotated[int, Fixed("h")]
Int32 = Annotated[int, Fixed("i")]
Int64 = Annotated[int, Fixed("q")]
Float64 = Annotated[float, Fixed("d")]
Records = Annotated[Buffer, RecordBatches()]
RecordsInParts = Annotated[Buffer | Sequence[Buffer], RecordBatches()]  # decodes to one memoryview

LEGACY: Final = Legacy()


def since(version: int) -> Present:
    """Present from `version` on."""
    return Present(version, EVER)


def until(version: int) -> Present:
    """Present up to and including `version`."""
    return Present(0, version)


def between(first: int, last: int) -> Present:
    """Present from `first` to `last`, both included."""
    return Present(first, last)


def tag(number: int) -> Tag:
    """A tagged field (KIP-482): absent where it has its default."""
    return Tag(number)


def nullable(*, since: int) -> NullableFrom:
    """May be null from version `since` on only; before, None is a bug to encode and an error to decode."""
    return NullableFrom(since)


def empty() -> Any:
    """The default of an array: a new empty list for each message."""
    return msgspec_field(default_factory=list)


# ---- reading a declaration


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind
    first: int
    last: int
    nullable_from: int
    tag: int | None
    is_legacy: bool
    default: object

    def is_present(self, version: int) -> bool:
        return self.first <= version <= self.last

    def is_nullable(self, version: int) -> bool:
        return version >= self.nullable_from


@cache
def fields_of(message: type[Message]) -> tuple[Field, ...]:
    """All fields of all versions in wire order."""
    hints = get_type_hints(message, include_extras=True)
    return tuple(_field(info, hints[info.name]) for info in structs.fields(message))


def fields_in(message: type[Message], version: int) -> tuple[Field, ...]:
    """The fields in wire order that `version` has."""
    return tuple(field for field in fields_of(message) if field.is_present(version))


def min_bytes(kind: Kind, version: int, *, flexible: bool, is_nullable: bool = False) -> int:
    """The fewest bytes that a value of `kind` takes: what an array's count is held against."""
    match kind:
        case Fixed(code):
            return FIXED_BYTES[code]
        case Text():
            return 1 if flexible else 2
        case Blob() | RecordBatches() | Array():
            return 1 if flexible else 4
        case Nested(message):
            if is_nullable:
                return 1
            present = [field for field in fields_in(message, version) if field.tag is None]
            return flexible + sum(
                min_bytes(field.kind, version, flexible=flexible, is_nullable=field.is_nullable(version))
                for field in present
            )


NUMBERS: Final = "bhiqd"  # the codes of `struct` whose arrays are packed at once
FIXED_BYTES: Final = {"b": 1, "?": 1, "h": 2, "i": 4, "q": 8, "d": 8, "16s": 16}

_PLAIN: Final[dict[object, Kind]] = {str: Text(), bytes: Blob(), bool: Fixed("?"), UUID: Fixed("16s")}


def _field(info: structs.FieldInfo, hint: object) -> Field:
    base, words = _unwrapped(hint)
    present = _word(words, Present) or Present(0, EVER)
    nullable_from = EVER + 1
    if get_origin(base) in {Union, UnionType} and NoneType in get_args(base) and not _has_kind(words):
        rest = [one for one in get_args(base) if one is not NoneType]
        narrowed = _word(words, NullableFrom)
        nullable_from = narrowed.version if narrowed else 0
        base, more = _unwrapped(Union[tuple(rest)])  # noqa: UP007 - the members are known only here
        words = (*words, *more)
    tagged = _word(words, Tag)
    return Field(
        name=info.name,
        kind=_kind(base, words, info.name),
        first=present.first,
        last=present.last,
        nullable_from=nullable_from,
        tag=tagged.number if tagged else None,
        is_legacy=_word(words, Legacy) is not None,
        default=[] if info.default_factory is list else info.default,
    )


def _unwrapped(hint: object) -> tuple[Any, tuple[object, ...]]:
    if get_origin(hint) is Annotated:
        base, *words = get_args(hint)
        return base, tuple(words)
    return hint, ()


def _kind(base: Any, words: tuple[object, ...], name: str) -> Kind:
    for word in words:
        if isinstance(word, (Fixed, RecordBatches)):
            return word
    if base in _PLAIN:
        return _PLAIN[base]
    if get_origin(base) is list:
        (element,) = get_args(base)
        return Array(_kind(*_unwrapped(element), name))
    if isinstance(base, type) and issubclass(base, Message):
        return Nested(base)
    raise TypeError(f"{name}: {base!r} is no type of the Kafka protocol")


def _has_kind(words: tuple[object, ...]) -> bool:
    return any(isinstance(word, (Fixed, RecordBatches)) for word in words)


def _word(words: tuple[object, ...], cls: type[_Word]) -> _Word | None:
    return next((word for word in words if isinstance(word, cls)), None)
