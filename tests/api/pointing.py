"""Every `pointer` of a problem document names a place: in the body that was sent, a member that the description
knows and that was left out, a parameter of the query or of the address, or a header.

The check stands around each request that a test sends (`tests/conftest.py`) or draws (`tests/api/drawing.py`), so each
refusal of the whole suite passes it. It reads the written description, not the code that made the pointer.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

#: headers that each resource reads, described or not
HEADERS = {"Idempotency-Key", "If-Match"}
ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _description() -> dict[str, Any]:
    text = (ROOT / "docs" / "openapi.yaml").read_text()
    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


@functools.cache
def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    found = []
    # an address without an argument before the one whose argument it would fit: /stock/adjust/, then /stock/{id}/
    for path, operations in sorted(_description()["paths"].items(), key=lambda one: one[0].count("{")):
        found.append((re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), operations))
    return found


def _resolve(schema: Any) -> dict[str, Any]:
    while "$ref" in schema or "allOf" in schema:
        reference = schema.get("$ref") or schema["allOf"][0]["$ref"]
        schema = _description()["components"]["schemas"][reference.rpartition("/")[2]]
    return dict(schema)


def _described(operation: Mapping[str, Any], parts: list[str]) -> bool:
    """Does the description of the body know this member, wherever the lists' places are?"""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return False
    schema = _resolve(content["schema"])
    for part in parts:
        if schema.get("type") == "array" and part.isdecimal():
            schema = _resolve(schema["items"])
        elif part in schema.get("properties", {}):
            schema = _resolve(schema["properties"][part])
        elif isinstance(schema.get("additionalProperties"), dict):
            schema = _resolve(schema["additionalProperties"])
        else:
            return False
    return True


def _is_there(body: Any, parts: list[str]) -> bool:
    for part in parts:
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        elif isinstance(body, str) and part.isdecimal() and 0 < int(part) <= len(rows := body.splitlines()):
            body = dict.fromkeys(
                next(csv.reader(rows[:1]))
            )  # a row of a file's text; its head names the columns
        else:
            return False
    return True


def leads_nowhere(method: str, path: str, query: Mapping[str, Any], body: Any, pointer: str) -> bool:
    if pointer == "":
        return False  # the whole request
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if _is_there(body, parts):
        return False
    operation = _description()["paths"].get(path) or next(
        (known for pattern, known in _operations() if pattern.fullmatch(path)), {}
    )
    operation = operation.get(method.lower(), {})
    parameters = {one["name"] for one in operation.get("parameters", ())}
    if len(parts) == 1 and (parts[0] in query or parts[0] in parameters):
        return False
    # a member that was left out stands in something that is there
    if len(parts) == 1 and parts[0] in HEADERS:
        return False
    return not (_described(operation, parts) and _is_there(body, parts[:-1]))


def lost_pointers(method: str, path: str, query: Mapping[str, Any], sent: bytes, answer: bytes) -> list[str]:
    """Pointers of an answer that name no place of the request."""
    try:
        told = json.loads(answer)
        body = json.loads(sent) if sent else None
    except (ValueError, RecursionError):
        return []
    if not isinstance(told, dict):
        return []
    listed = told.get("errors") or told.get("results") or ()
    pointers = [one.get("pointer", "") for one in listed if isinstance(one, dict)]
    return [
        f"{method} {path}: {pointer!r} names nothing in {sent[:300]!r} ({told.get('detail')})"
        for pointer in pointers
        if leads_nowhere(method, path, query, body, pointer)
    ]
