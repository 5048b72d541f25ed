"""Closed validation of request bodies: what the platform does not know, it refuses.

A schema is a plain dict with the JSON Schema words used here: type, properties, required, items, enum, minimum,
maximum, minItems, maxItems, minLength, maxLength, pattern, format (date-time). Objects are closed unless they say
`"open": True`.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def problems(value: Any, schema: dict[str, Any], path: str = "body") -> list[str]:
    """Every way in which the value breaks the schema, as sentences that name the field; empty when it fits."""
    kind = schema.get("type")
    if kind:
        fits = isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not fits:
            return [f"{path} must be of type {kind}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path} must be one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{path}.{name} is required" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            if name in known:
                found += problems(inner, known[name], f"{path}.{name}")
            elif not schema.get("open"):
                found.append(f"{path}.{name} is not a known field")
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            found.append(f"{path} needs at least {schema['minItems']} entries")
        if len(value) > schema.get("maxItems", len(value)):
            found.append(f"{path} takes at most {schema['maxItems']} entries")
        for number, inner in enumerate(value):
            found += problems(inner, schema.get("items", {}), f"{path}[{number}]")
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            found.append(f"{path} must have at least {schema['minLength']} characters")
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"{path} must have at most {schema['maxLength']} characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path} does not match {schema['pattern']}")
        if schema.get("format") == "date-time" and parse_time(value) is None:
            found.append(f"{path} must be an ISO 8601 time with a zone")
    elif isinstance(value, (int, float)):
        if value < schema.get("minimum", value):
            found.append(f"{path} must be at least {schema['minimum']}")
        if value > schema.get("maximum", value):
            found.append(f"{path} must be at most {schema['maximum']}")
    return found


@lru_cache(maxsize=4096)
def parse_time(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time that names its zone; None when it is not one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None
