"""Each declaration is Kafka's schema: names, order, versions, nullability, tags, defaults. Random messages can't tell a
field that may be null from one that happens not to be; this can.
"""

import re
import warnings

import pytest

from wire.messages import API
from wire.schema import EVER, NO_UUID, Array, Blob, Fixed, Nested, RecordBatches, Text, fields_of, min_bytes

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.protocol.schemas.load_json import load_json  # Kafka's own files lie in kafka-python

MESSAGES = [(api, cls) for _, api in sorted(API.items()) for cls in (api.request, api.response)]
TYPES = {
    "bool": Fixed("?"),
    "int8": Fixed("b"),
    "int16": Fixed("h"),
    "int32": Fixed("i"),
    "int64": Fixed("q"),
    "uuid": Fixed("16s"),
    "string": Text(),
    "bytes": Blob(),
    "records": RecordBatches(),
}
# Structs whose name we changed: Kafka has two EpochEndOffset of different fields.
RENAMED = {"OffsetForLeaderPartitionResult": "EpochEndOffset"}


def schema_of(cls):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return load_json(cls.__name__, "kafka.protocol.schemas.resources")


def snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def parsed_versions(text):
    """'3+', '2-5', '4' or 'none' as a pair."""
    if text == "none":
        return EVER, EVER
    first, _, last = text.partition("-")
    if text.endswith("+"):
        return int(text[:-1]), EVER
    return int(first), int(last or first)


def among(versions, first, last):
    return {version for version in versions if first <= version <= last}


def expected_default(described, kind):
    given = described.get("default")
    if given == "null":
        return None
    match kind:
        case Fixed("?"):
            return str(given).lower() == "true"
        case Fixed("16s"):
            return NO_UUID
        case Fixed():
            return int(str(given), 0) if given is not None else 0
        case Text():
            return given or ""
        case Blob():
            return b""
        case RecordBatches():
            return None
        case Array():
            return []
        case Nested(message):
            return message()


def check_kind(described, kind, versions, path):
    type_name = described["type"]
    if type_name.startswith("[]"):
        assert isinstance(kind, Array), path
        kind, type_name = kind.element, type_name[2:]
    if type_name in TYPES:
        assert TYPES[type_name] == kind, path
        return
    assert isinstance(kind, Nested), path
    name = kind.message.__name__
    assert type_name == RENAMED.get(name, name), path
    check_fields(described["fields"], kind.message, versions, path)


def check_fields(described, cls, versions, path):
    """`versions` are those in which the struct is on the wire."""
    present = [one for one in described if among(versions, *parsed_versions(one["versions"]))]
    assert [snake_case(one["name"]) for one in present] == [field.name for field in fields_of(cls)], path
    for theirs, ours in zip(present, fields_of(cls), strict=True):
        where = f"{path}.{ours.name}"
        on_wire = among(versions, *parsed_versions(theirs["versions"]))
        assert on_wire == among(versions, ours.first, ours.last), where
        nullable = among(on_wire, *parsed_versions(theirs.get("nullableVersions", "none")))
        assert nullable == {version for version in on_wire if ours.is_nullable(version)}, where
        assert theirs.get("tag") == ours.tag, where
        if ours.tag is not None:
            assert on_wire == among(versions, *parsed_versions(theirs["taggedVersions"])), where
        assert expected_default(theirs, ours.kind) == ours.default, where
        assert "flexibleVersions" not in theirs, where
        check_kind(theirs, ours.kind, on_wire, where)


@pytest.mark.parametrize(("api", "cls"), MESSAGES, ids=[cls.__name__ for _, cls in MESSAGES])
def test_a_declaration_is_kafkas_schema(api, cls):
    schema = schema_of(cls)
    assert schema["apiKey"] == api.key
    first, last = parsed_versions(schema["validVersions"])
    declared = set(api.versions)
    extra = {0, 1, 2} if api.name == "Produce" else set()  # declared to be answered UNSUPPORTED_VERSION (KAFKA-18659)
    assert declared - extra == among(range(first, last + 1), first, max(declared))
    flexible_first, flexible_last = parsed_versions(schema["flexibleVersions"])
    assert among(declared, flexible_first, flexible_last) == {v for v in declared if v >= api.flexible_from}
    check_fields(schema["fields"], cls, declared, cls.__name__)


@pytest.mark.parametrize(("api", "cls"), MESSAGES, ids=[cls.__name__ for _, cls in MESSAGES])
def test_every_element_takes_a_byte(api, cls):
    """What keeps an array's count below the bytes that were received."""
    for version in api.versions:
        for kind in elements_of(cls):
            assert min_bytes(kind, version, flexible=version >= api.flexible_from) >= 1


def elements_of(cls):
    for field in fields_of(cls):
        kind = field.kind
        if isinstance(kind, Array):
            yield kind.element
            kind = kind.element
        if isinstance(kind, Nested):
            yield from elements_of(kind.message)
