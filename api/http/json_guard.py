"""The one place where a stranger's JSON becomes values.

Owns the translation of everything that a decoder can throw (depth, digits, broken UTF-8, wrong types) into a 400 that
names the field. Refuses numbers that no reader could take back: more than 1,000 digits in a row outside a string.
Invariant: whatever passes is valid UTF-8, so a value that is stored as its raw JSON text (`msgspec.Raw`, which checks
syntax but not UTF-8) can be given out again inside another JSON document.
"""

import re
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from api.http.errors import bad_request

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DIGITS_MAX: Final = 1000
SAID_BACK_MAX: Final = 200
"""Characters of a name or a value that is refused."""
_TWO_DIGITS: Final = re.compile(rb"[0-9]{2}")
_MANY_DIGITS: Final = re.compile(rb"[0-9]{%d}" % (DIGITS_MAX + 1))
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_AT: Final = re.compile(r" - at `(?P<path>[^`]*)`$")
_EXPECTED: Final = re.compile(r"^Expected `(?P<wanted>[^`]*)`, got `(?P<found>[^`]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_CHOICE: Final = re.compile(r"^Invalid (?:enum )?value (?P<found>'.*')$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`$")


class Decoder(Protocol[T_co]):
    """What a decoder of msgspec is here."""

    def decode(self, body: bytes, /) -> T_co: ...


def decode(decoder: Decoder[T], body: bytes) -> T:
    """The decoded body, or the ApiError (400) that says what is wrong with it and where."""
    try:
        if not body.isascii():
            body.decode()
        value = decoder.decode(body)
        # A run of that many digits shows in every 500th byte, twice in a row: cheap enough to look always.
        if _TWO_DIGITS.search(body[:: DIGITS_MAX // 2]) and _MANY_DIGITS.search(_STRING.sub(b'""', body)):
            raise _too_many_digits()
    except msgspec.ValidationError as error:
        raise bad_request(explain(str(error))) from None
    except UnicodeDecodeError as error:
        raise bad_request(f"the body is not valid UTF-8 at byte {error.start}: send JSON in UTF-8") from None
    except RecursionError:
        raise bad_request("the body is nested too deeply: use fewer levels of objects and arrays") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise bad_request(f"the body is not valid JSON: {_syntax(str(error))}") from None
    return value


def decode_lines(decoder: msgspec.json.Decoder[T], body: bytes) -> list[T]:
    """As `decode`, for a body of many documents (NDJSON)."""
    return decode(_Lines(decoder), body)


class _Lines(Generic[T]):
    """A decoder of many documents, in the shape of one."""

    def __init__(self, decoder: msgspec.json.Decoder[T]) -> None:
        self.decode = decoder.decode_lines


def decode_msgpack(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """As `decode`, for MessagePack."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise bad_request(explain(str(error))) from None
    except RecursionError:
        raise bad_request("the body is nested too deeply: use fewer levels of maps and arrays") from None
    except (msgspec.DecodeError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise bad_request(f"the body is not valid MessagePack: {error}") from None


def _too_many_digits() -> ValueError:
    return ValueError(f"a number has more than {DIGITS_MAX} digits; send it as a string")


def _syntax(message: str) -> str:
    if message == "Input data was truncated":
        return "it ends inside a value, or a string holds half of a surrogate pair"
    return message.removeprefix("JSON is malformed: ")


def explain(message: str) -> str:
    """The account that msgspec gives of a wrong type, in words that name the field and the fix."""
    where = _AT.search(message)
    path = where["path"].removeprefix("$").removeprefix(".") if where else ""
    said = message[: where.start()] if where else message
    if expected := _EXPECTED.match(said):
        return f"{path or 'the body'} must be {_type_words(expected['wanted'])}, not {_type_words(expected['found'])}"
    if missing := _MISSING.match(said):
        return f"{_join(path, missing['field'])} is missing: it is required"
    if unknown := _UNKNOWN.match(said):
        field = _join(path, _shortened(unknown["field"]))
        return f"{field} is not a field of this request: check its spelling or leave it out"
    if (choice := _CHOICE.match(said)) and path.endswith("type"):
        return f"{path} must be BINARY, JSON or STRING, not {choice['found'][:64]}"
    said = _shortened(said[0].lower() + said[1:])
    return f"{path or 'the body'}: {said.replace('`', '')}"


def _shortened(text: str) -> str:
    """No answer is as long as what a stranger sent."""
    return text if len(text) <= SAID_BACK_MAX else f"{text[:SAID_BACK_MAX]}..."


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


_WORDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "an array",
    "bytes": "a base64 string",
}


def _type_words(types: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types.split(" | "))
