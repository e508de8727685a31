"""Random messages out of their own declarations: what a version does not have keeps its default."""

from random import Random
from uuid import UUID

from wire.schema import (
    NO_UUID,
    Array,
    Blob,
    Fixed,
    Nested,
    RecordBatches,
    Text,
    fields_in,
    fields_of,
)

BITS = {"b": 8, "h": 16, "i": 32, "q": 64}
ALPHABET = "abcdefghijklmnopqrstuvwxyz.-_0123456789 äß中\N{GRINNING FACE}\x00"


def random_message(message, version, chance: Random, *, plain=False):
    """`plain` leaves out what kio can't express: error codes that it does not know, times that are no whole seconds of
    its calendar (it reads them through a float, some a millisecond off), durations beyond a timedelta."""
    values = {}
    for field in fields_in(message, version):
        if chance.random() < 0.15:
            continue  # keeps its default
        if field.is_nullable(version) and chance.random() < 0.25:
            values[field.name] = None
        else:
            values[field.name] = random_value(field.kind, version, chance, name=field.name, plain=plain)
    return message(**values)


def random_value(kind, version, chance: Random, *, name, plain):
    match kind:
        case Fixed("?"):
            return chance.random() < 0.5
        case Fixed("16s"):
            return chance.choice((NO_UUID, UUID(int=chance.getrandbits(128)), UUID(int=7)))
        case Fixed(code):
            return random_integer(BITS[code], chance, name=name, plain=plain)
        case Text():
            return "".join(chance.choices(ALPHABET, k=random_size(chance)))
        case Blob() | RecordBatches():
            return chance.randbytes(random_size(chance))
        case Array(element):
            size = chance.choice((0, 1, 1, 2, 3)) if isinstance(element, Nested | Array) else random_size(chance) % 200
            return [random_value(element, version, chance, name=name, plain=plain) for _ in range(size)]
        case Nested(message):
            return random_message(message, version, chance, plain=plain)


def random_integer(bits, chance: Random, *, name, plain):
    if plain and name.endswith("error_code"):
        return chance.randint(-1, 119)
    if plain and name == "log_append_time_ms":
        return chance.choice((-1, 0, chance.randint(0, 1 << 35) * 1000))
    if plain and name == "retention_time_ms":
        return chance.choice((-1, 0, chance.randint(0, 1 << 35)))
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return chance.choice((low, high, -1, 0, 1, chance.randint(-200, 200) if bits > 8 else 5, chance.randint(low, high)))


def random_size(chance: Random):
    """Mostly small, and on both sides of where a length takes another byte."""
    dice = chance.random()
    if dice < 0.9:
        return chance.choice((0, 1, 3, 9))
    if dice < 0.995:
        return chance.randint(125, 130)
    return chance.randint(16380, 16390)


def clipped(message, version):
    """The message with everything that `version` does not have at its default: what comes back from the wire."""
    values = {}
    for field in fields_of(type(message)):
        if field.is_present(version):
            values[field.name] = clipped_value(field.kind, getattr(message, field.name), version)
    return type(message)(**values)


def clipped_value(kind, value, version):
    if value is None:
        return None
    match kind:
        case Array(element):
            return [clipped_value(element, one, version) for one in value]
        case Nested():
            return clipped(value, version)
        case RecordBatches() if isinstance(value, (list, tuple)):
            return b"".join(value)
        case _:
            return value
