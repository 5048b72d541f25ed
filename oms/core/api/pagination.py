"""`?limit=` 1–250 and an opaque `cursor`; the view names its order in `keyset_order`.

Asked for `updated_since` it takes `updated_order`, where the view has one.
"""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.serializer_helpers import ReturnList
from rest_framework.utils.urls import replace_query_param

from oms.core.paging import keyset_page

MAX_LIMIT, DEFAULT_LIMIT = 250, 50


class KeysetPagination(BasePagination):
    next_link: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_LIMIT):
            raise ValidationError({"limit": f"Give a number from 1 to {MAX_LIMIT}."})
        order = getattr(view, "keyset_order", ("-id",))
        if "updated_since" in request.query_params:
            # what changes while the pages are read moves behind them: seen again, never passed over
            order = getattr(view, "updated_order", order)
        cursor = request.query_params.get("cursor", "")
        page = keyset_page(queryset, order=order, cursor=cursor, limit=int(text))
        if page.next_cursor:
            self.next_link = replace_query_param(request.build_absolute_uri(), "cursor", page.next_cursor)
        return page.items

    def get_paginated_response(self, data: Any) -> Response:
        if isinstance(data, ReturnList):
            _let_go(data.serializer)
        return Response({"results": data, "next": self.next_link})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["results", "next"],
            "properties": {
                "results": schema,
                "next": {"type": "string", "nullable": True, "format": "uri", "description": "the next page"},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {
                "name": "limit",
                "in": "query",
                "required": False,
                "description": "Rows per page",
                "schema": limit,
            },
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where the page begins: taken from `next`",
                "schema": {"type": "string"},
            },
        ]


def _let_go(serializer: Any) -> None:
    """Serializers and their fields point at each other, and what was fetched for a row points back at the row: such
    rings keep the whole page until the collector comes, so the rows are taken out of them."""
    for row in serializer.instance:
        getattr(row, "_prefetched_objects_cache", {}).clear()
    for one in (serializer, serializer.child):
        one.instance, one._args = None, ()
