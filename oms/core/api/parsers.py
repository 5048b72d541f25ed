"""Reading JSON bodies."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser


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
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The JSON is nested too deep.") from None
