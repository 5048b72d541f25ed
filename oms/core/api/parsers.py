"""Reading JSON bodies."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from typing import Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.utils.json import strict_constant


class Encoded(APIException):
    status_code = 415
    default_code = "unsupported_media_type"
    default_detail = "Content-Encoding: compressed bodies are not read; send the JSON as it is."


class PlainJSONParser(JSONParser):
    """JSON, where a text nested beyond all sense is a wrong request and not a failure of ours."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        request = (parser_context or {}).get("request")
        encoding = request.headers.get("Content-Encoding", "") if request is not None else ""
        if encoding.lower() not in ("", "identity"):
            raise Encoded
        text = codecs.getreader((parser_context or {}).get("encoding", "utf-8"))(stream)
        try:
            return json.load(text, parse_constant=strict_constant, object_pairs_hook=_once)
        except RecursionError:
            raise ParseError("The JSON is nested too deep.") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a member given twice one would count and nobody knows which (RFC 8259, 4): so neither does."""
    members = dict(pairs)
    if len(members) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ParseError(
            f"{twice[:60].encode(errors='replace').decode()}: this member is given twice in one object."
        )
    return members
