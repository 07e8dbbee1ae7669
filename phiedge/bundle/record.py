"""Strict JSON for frozen dataclasses: every key known, every key there, every value of its declared type.

It reads what `json.loads` gives into the dataclass and back, for the types that a manifest is made of: str, int,
float, bool, `X | None`, `Literal`, tuples, `Mapping[str, X]` and dataclasses of these. Nothing is converted,
defaulted or ignored, but that an int may stand where a float is declared.
"""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from phiedge.errors import BundleError, nearest

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Record = TypeVar("Record")


def decode(kind: type[Record], value: object, where: str) -> Record:
    """Read `value` (from `json.loads`) as the dataclass `kind`; `where` names it in errors. Raises `BundleError`."""
    return cast(Record, _decode_record(kind, value, where))


def encode(value: object) -> Json:
    """Turn a dataclass, mapping, tuple or scalar into what `json.dumps` takes."""
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    assert value is None or isinstance(value, str | int | float), f"not a manifest value: {value!r}"
    return value


def _decode_record(kind: Any, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise _wrong_type(where, "an object", value)
    known = get_type_hints(kind)
    for key in value:
        if key not in known:
            close = nearest(key, known, count=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise BundleError(f"{where} has an unknown key {key!r}{hint}", remedy="export the bundle again")
    for key in known:
        if key not in value:
            raise BundleError(f"{where} lacks the key {key!r}", remedy="export the bundle again")
    return kind(**{key: _decode(known[key], item, f"{where}.{key}") for key, item in value.items()})


def _decode(kind: Any, value: object, where: str) -> object:
    if is_dataclass(kind):
        return _decode_record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union or origin is types.UnionType:
        return _decode_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise _wrong_type(where, f"one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin is tuple:
        return _decode_tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong_type(where, "an object", value)
        return {key: _decode(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    return _decode_scalar(kind, value, where)


def _decode_union(members: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and type(None) in members:
        return None
    present = [member for member in members if member is not type(None)]
    if len(present) == 1:
        return _decode(present[0], value, where)
    if type(value) in present:
        return value
    raise _wrong_type(where, " or ".join(member.__name__ for member in present), value)


def _decode_tuple(items: tuple[Any, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise _wrong_type(where, "a list", value)
    kinds = [items[0]] * len(value) if items[-1] is Ellipsis else list(items)
    if len(kinds) != len(value):
        raise BundleError(f"{where} has {len(value)} items instead of {len(kinds)}", remedy="export the bundle again")
    return tuple(
        _decode(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _decode_scalar(kind: Any, value: object, where: str) -> object:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _wrong_type(where, f"of type {kind.__name__}", value)
    return value


def _wrong_type(where: str, wanted: str, found: object) -> BundleError:
    shown = repr(found)
    return BundleError(f"{where} must be {wanted}, not {shown[:60]}", remedy="export the bundle again")
