"""Many items in one request: each is done or refused for itself, and the answer says which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db import transaction
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from oms.core.api.problems import place_of, pointers
from oms.core.errors import UserError

T = TypeVar("T")
MOST = 500


class BulkItem(serializers.Serializer[Any]):
    """One item's outcome, in the order of the request."""

    index = serializers.IntegerField(help_text="place in the request, from 0")
    status = serializers.IntegerField(help_text="what a request for this item alone would have answered")
    detail = serializers.CharField(help_text="what was done, or the sentence of the error")
    pointer = serializers.CharField(help_text="of an error: where in the request; else empty")
    code = serializers.CharField(help_text="kind of the error, for programs; else empty")


class BulkAnswer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    failed = serializers.IntegerField()
    results = BulkItem(many=True)


def each(request: Request, name: str, items: Iterable[T], work: Callable[[T], str]) -> dict[str, Any]:
    """Do `work` for each item in a savepoint of its own; a refused one stops no other.

    `work` returns a word on what was done; `name` is the member of the request's body that holds the items.
    """
    body, described = request.data, getattr(request, "described_by", None)
    results = []
    for index, item in enumerate(items):
        found = {"index": index, "status": 200, "detail": "", "pointer": "", "code": ""}
        try:
            with transaction.atomic():
                found["detail"] = work(item)
        except UserError as error:
            at = f"{name}.{index}"
            where = place_of(f"{at}.{error.field}", body, described)
            if where.count("/") == 2:  # not a member of the item, perhaps one of the whole request
                where = place_of(error.field, body, described) or where
            found |= {"status": error.status, "detail": error.message, "pointer": where, "code": error.code}
        except ValidationError as error:
            first = next(pointers(error.detail), {"pointer": "", "code": "invalid", "message": "not valid"})
            where = f"/{name}/{index}{first['pointer']}"
            found |= {"status": 400, "detail": first["message"], "pointer": where, "code": first["code"]}
        results.append(found)
    failed = sum(1 for one in results if one["status"] != 200)
    return {"done": len(results) - failed, "failed": failed, "results": results}
