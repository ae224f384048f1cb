"""JSON as types: the alias `JSON`, and dataclasses read strictly from it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    JSON: TypeAlias = Mapping[str, "JSON"] | Sequence["JSON"] | str | int | float | bool | None
else:

    class JSON:
        """A JSON value; a class at run time, so that `decode_as` recognises it among type hints of a dataclass."""


__all__ = ["JSON", "JsonObject", "ReadError", "decode_as", "encode"]

JsonObject: TypeAlias = Mapping[str, JSON]
"""A JSON object."""

T = TypeVar("T")
LIMIT = 1 << 63


class ReadError(ValueError):
    """A part of a file is not what eqcompile writes; the message says which."""


def encode(value: DataclassInstance) -> dict[str, JSON]:
    """A dataclass as a JSON object, one key a field; `decode_as` reads it back."""
    return cast("dict[str, JSON]", asdict(value))


def decode_as(hint: type[T], value: object, where: str) -> T:
    """`value` (JSON) as the annotated type `hint`: a dataclass, tuple, mapping by name, union of simple types, Literal,
    str, bool, int, float, or `JSON` as it stands.

    Raises ReadError on any other type, on unknown or missing fields, and on integers beyond 64 bits.
    """
    return cast("T", _decode(hint, value, where))


def _decode(hint: object, value: object, where: str) -> object:
    if hint is JSON:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        return _decode(next((a for a in kinds if a is type(value)), kinds[0]), value, where)
    if origin is Literal:
        if value not in arguments:
            raise ReadError(f"{where} is {value!r}, must be one of {arguments}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ReadError(f"{where} is a {type(value).__name__}, must be a list")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ReadError(f"{where} has {len(value)} entries, must have {len(arguments)}")
        return tuple(_decode(arguments[0], v, f"{where}[{k}]") for k, v in enumerate(value))
    if origin is Mapping:
        entries = _object(value, where)
        return {name: _decode(arguments[1], v, f"{where}.{name}") for name, v in entries.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return _decode_fields(hint, value, where)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise ReadError(f"{where} is {type(value).__name__} {value!r:.60}, must be {getattr(hint, '__name__', hint)}")
    if isinstance(value, int) and not -LIMIT <= value < LIMIT:
        raise ReadError(f"{where} is beyond 64 bits")
    return value


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ReadError(f"{where} is a {type(value).__name__}, must be an object")
    return value


def _decode_fields(cls: type[DataclassInstance], value: object, where: str) -> DataclassInstance:
    entries = _object(value, where)
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(entries) - set(known))
    required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - set(entries))
    if unknown or missing:
        raise ReadError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    return cls(**{n: _decode(hints[n], v, f"{where}.{n}") for n, v in entries.items()})
