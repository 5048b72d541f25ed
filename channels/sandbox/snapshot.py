"""Dataclasses to JSON and back, so that a sandbox can be stopped and started again with its state."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any


def dump(value: Any) -> Any:
    """Plain JSON values of a dataclass tree; fields marked volatile are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: dump(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not f.metadata.get("volatile")
        }
    if isinstance(value, dict):
        return {str(key): dump(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump(inner) for inner in value]
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, localns={"World": Any})


def load(kind: Any, data: Any) -> Any:
    """The dataclass tree that `dump` wrote."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        names = {f.name for f in dataclasses.fields(kind) if not f.metadata.get("volatile")}
        return kind(**{name: load(hints[name], inner) for name, inner in data.items() if name in names})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [load(arguments[0], inner) for inner in data]
    if origin is dict:
        return {key: load(arguments[1], inner) for key, inner in data.items()}
    if origin in (types.UnionType, typing.Union):
        return None if data is None else load(next(a for a in arguments if a is not type(None)), data)
    return data
