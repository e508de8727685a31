"""Two other implementations of Kafka's messages, each behind `encode` and `decode` that take and give our messages.

They are led by our declarations; where a name is unknown to them they fail.
"""

import importlib
import pkgutil
import warnings
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from types import NoneType
from typing import get_args

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import Records, i32Timedelta, i64Timedelta

from wire.messages import API
from wire.schema import NO_UUID, Array, Fixed, Nested, fields_in

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it reads its schemas in a way that Python 3.11 deprecates
    import kafka.protocol
    from kafka.protocol.api_message import ApiMessage

    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        if ".old" not in module.name and "generate" not in module.name:
            importlib.import_module(module.name)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


class Kio:
    """kio: generated from Kafka's schemas, one class a version."""

    name = "kio"

    def has(self, api, version):
        """All but those that Kafka itself refuses: they are declared for one answer only."""
        return api.name != "Produce" or version >= 3

    def encode(self, message, version):
        buffer = BytesIO()
        theirs = kio_class(type(message), version)
        entity_writer(theirs)(buffer, to_kio(message, theirs, version))
        return buffer.getvalue()

    def decode(self, cls, data, version):
        theirs, size = entity_reader(kio_class(cls, version))(data, 0)
        assert len(data) == size
        return from_kio(theirs, cls, version)


@cache
def kio_class(cls, version):
    api = next(api for api in API.values() if cls in {api.request, api.response})
    return (load_request_schema if cls is api.request else load_response_schema)(api.key, version)


@cache
def paired(cls, theirs, version):
    """Our fields of `version` beside theirs, in wire order; the names agree but for their leaving out the unit."""
    pairs = list(zip(fields_in(cls, version), dataclass_fields(theirs), strict=True))
    for ours, other in pairs:
        assert other.name == ours.name or other.name + "_ms" == ours.name
    return pairs


def nested_class(hint):
    if is_dataclass(hint):
        return hint
    return next(nested_class(one) for one in get_args(hint) if one not in {NoneType, Ellipsis})


def to_kio(message, theirs, version):
    values = {}
    for ours, other in paired(type(message), theirs, version):
        values[other.name] = value_to_kio(ours.kind, getattr(message, ours.name), other, version)
    return theirs(**values)


def value_to_kio(kind, value, other, version):
    if isinstance(kind, Array):
        return value if value is None else tuple(value_to_kio(kind.element, one, other, version) for one in value)
    if isinstance(kind, Nested):
        return value if value is None else to_kio(value, nested_class(other.type), version)
    match other.metadata["kafka_type"]:
        case "error_code":
            return ErrorCode(value)
        case "timedelta_i32":
            return i32Timedelta.parse(timedelta(milliseconds=value))
        case "timedelta_i64":
            return i64Timedelta.parse(timedelta(milliseconds=value))
        case "datetime_i64":
            return None if value == -1 else EPOCH + timedelta(milliseconds=value)
        case "uuid":
            return None if value == NO_UUID else value
        case "records":
            return value if value is None else Records(value)
    return value


def from_kio(theirs, cls, version):
    pairs = paired(cls, type(theirs), version)
    return cls(**{ours.name: value_from_kio(ours.kind, getattr(theirs, other.name), version) for ours, other in pairs})


def value_from_kio(kind, value, version):
    match kind, value:
        case Fixed("q"), None:
            return -1
        case Fixed("16s"), None:
            return NO_UUID
        case _, None:
            return None
        case Array(element), _:
            return [value_from_kio(element, one, version) for one in value]
        case Nested(message), _:
            return from_kio(value, message, version)
        case _, timedelta():
            return value // MILLISECOND
        case _, datetime():
            return (value - EPOCH) // MILLISECOND
    return value


class KafkaPython:
    """kafka-python: reads Kafka's schemas when it starts.

    It differs from them in three things. Authorized operations are sets of bits under a name of their own. A tagged
    struct that is not on the wire is None, where the schema has its default. A failed ApiVersions is read as version 0.
    """

    name = "kafka-python"

    def has(self, api, version):
        del api, version
        return True

    def encode(self, message, version):
        theirs = kafka_classes()[type(message).__name__]
        return bytes(to_kafka(message, theirs._struct, theirs, version).encode(version=version))

    def decode(self, cls, data, version):
        theirs = kafka_classes()[cls.__name__]
        read = ApiMessage.decode.__func__  # not what ApiVersionsResponse makes of it
        return from_kafka(read(theirs, data, version=version), cls, version)


@cache
def kafka_classes():
    return {cls.__name__: cls for cls in subclasses(ApiMessage)}


def subclasses(cls):
    for one in cls.__subclasses__():
        yield one
        yield from subclasses(one)


def kafka_field(struct, name):
    renamed = "authorized_operations" if name.endswith("_authorized_operations") else name
    return struct.fields.get(name) or struct.fields[renamed]


def operations_from_kafka(bits):
    value = sum(1 << bit for bit in ({31} if bits is None else bits))
    return value - (1 << 32) if value >> 31 else value


def to_kafka(message, struct, data_class, version):
    values = {}
    for ours in fields_in(type(message), version):
        value = getattr(message, ours.name)
        field = kafka_field(struct, ours.name)
        if field._type_str == "bitfield":
            values[field.name] = {bit for bit in range(32) if value >> bit & 1}
        elif ours.tag is None or value != ours.default:  # what it is given as a tagged field it always writes
            values[ours.name] = value_to_kafka(ours.kind, value, field, version)
    return data_class(**values)


def value_to_kafka(kind, value, field, version):
    match kind:
        case _ if value is None:
            return None
        case Array(Nested()):
            return [to_kafka(one, field, field.data_class, version) for one in value]
        case Nested():
            return to_kafka(value, field, field.data_class, version)
    return value


def from_kafka(theirs, cls, version):
    values = {}
    for ours in fields_in(cls, version):
        field = kafka_field(theirs._struct, ours.name)
        value = getattr(theirs, field.name)
        if field._type_str == "bitfield":
            values[ours.name] = operations_from_kafka(value)
        elif not (value is None and ours.tag is not None):
            values[ours.name] = value_from_kafka(ours.kind, value, version)
    return cls(**values)


def value_from_kafka(kind, value, version):
    match kind, value:
        case Fixed("16s"), None:
            return NO_UUID
        case _, None:
            return None
        case Array(Nested(message)), _:
            return [from_kafka(one, message, version) for one in value]
        case Nested(message), _:
            return from_kafka(value, message, version)
    return value
