"""The OpenAPI description of what all resources share: problem answers, `Idempotency-Key`, `If-Match`, `fields`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.serializers import ListSerializer

from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form, StrictMixin
from oms.core.api.idempotency import IdempotentMixin
from oms.core.api.problems import CONTENT_TYPE
from oms.core.api.versions import VersionedMixin

_TEXT = {"type": "string"}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem document",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {**_TEXT, "description": "the kind of error, for programs", "example": "urn:lading:invalid"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {**_TEXT, "description": "a sentence that names the field and the fix"},
        "instance": {**_TEXT, "description": "the path that was asked"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "message"],
                "properties": {
                    "pointer": {
                        **_TEXT,
                        "description": "JSON pointer into the body, or /name of a parameter",
                    },
                    "member": {
                        **_TEXT,
                        "description": "JSON pointer into the object that `pointer` names, to what is wrong in it",
                    },
                    "code": _TEXT,
                    "message": _TEXT,
                },
            },
        },
        "request_id": {**_TEXT, "description": "quote it when you ask for help"},
    },
}
WHY = {
    400: "A parameter or the body is wrong; `errors` points at it",
    401: "No token, or one that is unknown, expired, revoked or not allowed from this address",
    403: "The token or its owner lacks the right",
    404: "No such object, or not one that you may see",
    406: "Only JSON is served, labels apart",
    409: "True facts forbid it now: wrong state, not enough left, the same key still running",
    412: "It changed since: `If-Match` or `version` is stale",
    413: "The body is too big",
    415: "The body is not JSON",
    422: "The Idempotency-Key was used with another body, or customs data of the object is missing",
    428: "`If-Match` is missing",
    429: "Too many requests; wait `Retry-After` seconds",
}


class LadingSchema(AutoSchema):
    """drf-spectacular's view inspection plus what this API does on every resource."""

    view: Any  # a view set, which knows its action

    def get_override_parameters(self) -> list[Any]:
        found = list(super().get_override_parameters())
        if self.method == "POST" and isinstance(self.view, IdempotentMixin):
            found.append(_header("Idempotency-Key", "Repeating the request with it has one effect", 120))
        if self._changes_one():
            about = "The ETag that you read (or the `version`, in quotes); 412 when it moved on; * = whatever it is"
            found.append(_header("If-Match", about, 200, required=self.method == "PATCH"))
        if self.view.action == "create" and isinstance(self.view, IdempotentMixin):
            about = "Address of what was made; none where it is several objects"
            found.append(
                OpenApiParameter(
                    "Location", _TEXT, OpenApiParameter.HEADER, description=about, response=[201, 202]
                )
            )
        if self._reads_one():
            about = "The ETag that you have; 304 while nothing changed"
            found.append(OpenApiParameter("If-None-Match", _TEXT, OpenApiParameter.HEADER, description=about))
            about = "What this object looks like now; none when `fields` leaves members out"
            found.append(
                OpenApiParameter("ETag", _TEXT, OpenApiParameter.HEADER, description=about, response=[200])
            )
        if self.view.action in ("list", "retrieve"):
            serializer = self.view.get_serializer_class()
            if issubclass(serializer, SparseFieldsMixin):
                one = {**_TEXT, "enum": list(serializer.Meta.fields)}
                members = {"type": "array", "minItems": 1, "items": one}
                about = "Only these members, by comma"
                found.append(
                    OpenApiParameter("fields", members, style="form", explode=False, description=about)
                )
        return found

    def _reads_one(self) -> bool:
        return isinstance(self.view, VersionedMixin) and self.view.action == "retrieve"

    def _changes_one(self) -> bool:
        return (
            isinstance(self.view, VersionedMixin)
            and self.method != "GET"
            and bool(getattr(self.view, "detail", False))
        )

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if direction == "response" and isinstance(serializer, SparseFieldsMixin):
            schema.pop("required", None)  # `fields` may leave out any member
        if isinstance(serializer, Form) or (direction == "request" and isinstance(serializer, StrictMixin)):
            schema["additionalProperties"] = False
        return schema

    def _map_serializer_field(self, field: Any, *args: Any, **kwargs: Any) -> Any:
        schema = super()._map_serializer_field(field, *args, **kwargs)
        if isinstance(field, serializers.DecimalField) and schema and schema.get("type") == "string":
            part = field.decimal_places or 0
            whole = (field.max_digits or 0) - part
            sign = "" if field.min_value is not None and field.min_value >= 0 else "-?"
            schema["pattern"] = rf"^{sign}\d{{1,{whole}}}(\.\d{{1,{part}}})?$"
        if isinstance(field, ListSerializer) and schema and schema.get("type") == "array":
            # the lengths that a nested list of objects must have
            nested: Any = field  # the published types know neither length
            least = nested.min_length or (0 if nested.allow_empty else 1)
            schema |= {"minItems": least} if least else {}
            schema |= {"maxItems": nested.max_length} if nested.max_length else {}
        return schema

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        component = ResolvedComponent(
            name="Problem", type=ResolvedComponent.SCHEMA, schema=PROBLEM, object="Problem"
        )
        self.registry.register_on_missing(component)
        for status in self.problem_statuses():
            operation["responses"].setdefault(
                str(status),
                {
                    "description": f"{HTTPStatus(status).phrase}. {WHY[status]}.",
                    "content": {CONTENT_TYPE: {"schema": component.ref}},
                },
            )
        if self._reads_one():
            operation["responses"]["304"] = {"description": "It still looks like `If-None-Match` says."}
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def problem_statuses(self) -> set[int]:
        """Errors that this operation can answer with."""
        found = {400, 401, 403, 404, 406, 429}
        if self.method != "GET":
            found |= {409, 413, 415}
        if self.method == "POST" and isinstance(self.view, IdempotentMixin):
            found.add(422)
        if self._changes_one():
            found |= {412, 428} if self.method == "PATCH" else {412}
        if self.view.action in getattr(self.view, "versioned_actions", ()):
            found.add(412)  # by a member `version` of the body
        return found


def _header(name: str, description: str, longest: int, *, required: bool = False) -> OpenApiParameter:
    schema = {**_TEXT, "minLength": 1, "maxLength": longest, "pattern": "^[!-~]+$"}
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, required=required)
