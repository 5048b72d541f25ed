"""What a request's body may be: exactly the members that are described, each of the type that is described."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from oms.core.api.filters import WITH_ZONE, choose_from, without_zone

_TEXTS = (
    serializers.CharField, serializers.ChoiceField, serializers.DateField, serializers.DateTimeField,
    serializers.DecimalField, serializers.UUIDField,
)  # fmt: skip


def mistyped(field: Any, value: Any) -> str:
    """A sentence when a JSON value is not of the field's type, else empty.

    DRF alone takes 5 for "5", "yes" for true and "7" for 7, and a wrong program goes on unnoticed.
    """
    if value is None:
        return ""  # the field itself says whether null is allowed
    if isinstance(field, serializers.BooleanField):
        return "" if isinstance(value, bool) else "Give true or false."
    if isinstance(field, serializers.IntegerField | serializers.PrimaryKeyRelatedField):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return "" if whole and not isinstance(value, bool) else "A valid integer is required."
    if isinstance(field, serializers.DecimalField):
        return "" if isinstance(value, str) else 'Give the number as text, such as "19.90".'
    if isinstance(field, _TEXTS) and not isinstance(value, str):
        return "Give text."
    if isinstance(field, serializers.DateTimeField):
        return WITH_ZONE if without_zone(value) else ""
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        return next(filter(None, (mistyped(field.child, one) for one in value)), "")
    if isinstance(field, serializers.DictField) and isinstance(value, dict):
        return next(filter(None, (mistyped(field.child, one) for one in value.values())), "")
    return ""


def unoffered(field: Any, value: Any) -> Any:
    """Errors naming what may be chosen when a value of the right type is none of it, in a list or map by its place."""
    inside: Any = ()
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        inside = enumerate(value)
    elif isinstance(field, serializers.DictField) and isinstance(value, dict):
        inside = value.items()
    if inside:
        return {place: wrong for place, one in inside if (wrong := unoffered(field.child, one))}
    if not isinstance(field, serializers.ChoiceField) or value is None or value in field.choices:
        return None
    if value == "" and field.allow_blank:
        return None
    return [ErrorDetail(choose_from(field.choices), code="invalid_choice")]


_ONLY_READ = "It is part of answers only; leave it out."


class StrictMixin:
    """For serializers that read a body: refuses values of another type than described, and members that nobody reads.

    A misspelt option must not be taken for one left out, nor one that only answers have for one that was changed.
    """

    def to_internal_value(self, data: Any) -> Any:
        fields: dict[str, Any] = self.fields  # type: ignore[attr-defined]
        if self.parent is None and (request := self.context.get("request")) is not None:  # type: ignore[attr-defined]
            request.described_by = self  # so that a refusal can point at a member that was left out
        if isinstance(data, dict):
            read = [name for name, field in fields.items() if not field.read_only]
            if unknown := [name for name in data if name not in read]:
                sentence = f"Unknown member. Known are {', '.join(read)}."
                raise ValidationError(
                    {
                        name: [ErrorDetail(_ONLY_READ if name in fields else sentence, code="unknown_member")]
                        for name in unknown[:20]
                    }
                )
            given = {name: field for name, field in fields.items() if name in data and not field.read_only}
            wrong: dict[str, Any] = {
                name: [ErrorDetail(sentence, code="type")]
                for name, field in given.items()
                if (sentence := mistyped(field, data[name]))
            }
            wrong |= {
                name: found
                for name, field in given.items()
                if name not in wrong and (found := unoffered(field, data[name]))
            }
            if wrong:
                raise ValidationError(wrong)
        return super().to_internal_value(data)  # type: ignore[misc]


class Form(StrictMixin, serializers.Serializer[Any]):
    """A body. A member that nobody knows is an error: a misspelt option must not be taken for one left out."""

    @classmethod
    def read(cls, request: Request) -> dict[str, Any]:
        """The checked members of the request's body; raises DRF's `ValidationError`."""
        form = cls(data=request.data, context={"request": request})
        form.is_valid(raise_exception=True)
        return dict(form.validated_data)
