"""Hypothesis strategies for every struct of the room, read off its types: a new field or kind is covered by itself."""

import uuid
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect


def values_of(kind: Any) -> st.SearchStrategy:
    """Any value within the bounds that the type declares; collections stay small."""
    return _strategy(inspect.type_info(kind))


def _strategy(info: inspect.Type) -> st.SearchStrategy:
    match info:
        case inspect.Metadata(type=inner):
            return _strategy(inner)
        case inspect.IntType(ge=low, le=high, lt=below):
            return st.integers(low, high if below is None else below - 1)
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 5, (low or 0) + 5))
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.UnionType(types=types):
            return st.one_of([_strategy(one) for one in types])
        case inspect.VarTupleType(item_type=item, min_length=low):
            return st.lists(_strategy(item), min_size=low or 0, max_size=(low or 0) + 2).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(_strategy, items))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_strategy(key), _strategy(value), max_size=2)
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _strategy(field.type) for field in fields})
    return _SCALARS[type(info)]


_SCALARS = {
    inspect.BoolType: st.booleans(),
    inspect.NoneType: st.none(),
    inspect.UUIDType: st.builds(uuid.UUID, int=st.integers(0, 2**128 - 1)),
}
