"""Shapes that all resources share: money as text with its currency, chosen fields, versions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from oms.core.access import can, principal_of
from oms.core.api.problems import PreconditionFailed, pointers
from oms.core.money import quantize


@extend_schema_field(
    {
        "type": "object",
        "nullable": True,
        "required": ["amount", "currency"],
        "properties": {
            "amount": {"type": "string", "example": "19.90"},
            "currency": {"type": "string", "minLength": 3, "maxLength": 3, "example": "USD"},
        },
    }
)
class MoneyField(serializers.Field):
    """`{"amount": "19.90", "currency": "USD"}` from an amount column and the currency column beside it. Read only.

    `needs` names rights of which the caller must hold one to see the amount; null without.
    """

    def __init__(
        self, amount: str, currency: str = "currency", *, needs: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init__(source="*", read_only=True, **kwargs)
        self.amount, self.currency, self.needs = amount, currency, needs

    def to_representation(self, row: Any) -> dict[str, str] | None:
        if self.needs:
            principal = principal_of(self.context["request"])
            if not any(can(principal, right) for right in self.needs):
                return None
        amount = _follow(row, self.amount)
        if amount is None:
            return None
        currency = _follow(row, self.currency)
        return {"amount": _written(Decimal(amount), currency), "currency": currency}


def _written(amount: Decimal, currency: str) -> str:
    """With the currency's decimals, and with more where a price per unit is finer than a coin."""
    coins = quantize(amount, currency)
    return str(coins) if coins == amount else format(amount.normalize(), "f")


def _follow(row: Any, path: str) -> Any:
    for part in path.split("."):
        if row is None:
            return None
        row = getattr(row, part)
    return row


class DerivedOnceMixin:
    # no docstring: the schema would take it for the description of each serializer
    #
    # DRF derives the fields of a model anew for each serializer it makes, and asks each field of each row how to
    # find its value; both cost milliseconds in each request. Here fields are derived once per class and copied, and
    # how they are read is settled once per serializer.

    def get_fields(self) -> dict[str, Any]:
        own = type(self).__dict__
        if "_derived" not in own:
            type(self)._derived = super().get_fields()  # type: ignore[attr-defined,misc]
        derived: dict[str, Any] = copy.deepcopy(own["_derived"])
        return derived

    def to_representation(self, row: Any) -> dict[str, Any]:
        steps = self.__dict__.get("_steps")
        if steps is None:
            readable = self._readable_fields  # type: ignore[attr-defined]
            steps = self._steps = [
                (field.field_name, _reader(field, type(row)), field.to_representation) for field in readable
            ]
        answer: dict[str, Any] = {}
        for name, read, represent in steps:
            try:
                value = read(row)
            except serializers.SkipField:
                continue
            answer[name] = None if value is None else represent(value)
        return answer


def _reader(field: serializers.Field[Any, Any, Any, Any], kind: type) -> Callable[[Any], Any]:
    """How a field finds its value in a row: as DRF does, but without asking each row anew what the value is."""
    source = field.source or ""
    if source == "*":
        return lambda row: row
    of_its_own = (
        type(field).get_attribute is not serializers.Field.get_attribute
    )  # a relation, a computed column
    if of_its_own or callable(getattr(kind, source.split(".")[0], None)):
        return field.get_attribute
    quick = attrgetter(source)

    def read(row: Any) -> Any:
        try:
            return quick(row)
        except (AttributeError, ObjectDoesNotExist):  # an optional relation that is not there
            return field.get_attribute(row)

    return read


class SparseFieldsMixin(DerivedOnceMixin):
    """`?fields=id,number`: only these members in the answer of a GET."""

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        request = self.context.get("request")  # type: ignore[attr-defined]
        parent = getattr(self, "parent", None)
        outermost = parent is None or (
            isinstance(parent, serializers.ListSerializer) and parent.parent is None
        )
        if (
            not outermost
            or request is None
            or request.method != "GET"
            or "fields" not in request.query_params
        ):
            return fields
        return {name: fields[name] for name in chosen_fields(request, list(fields))}


def chosen_fields(request: Request, known: Sequence[str]) -> list[str]:
    """The names in `?fields=`; raises `ValidationError` for none and for an unknown one."""
    chosen = [name.strip() for name in request.query_params["fields"].split(",")]
    if not set(chosen) <= set(known):
        raise ValidationError({"fields": f"Choose from {', '.join(known)}."})
    return chosen


class CountsField(serializers.DictField):
    """`{"<name>": units}`, 1 to 1,000,000 each. Names follow the rules of a text field."""

    child = serializers.IntegerField(min_value=1, max_value=1_000_000)

    def __init__(self, name: serializers.Field[Any, Any, Any, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name or serializers.CharField(max_length=80)

    def to_internal_value(self, data: Any) -> dict[Any, int]:
        units = super().to_internal_value(data)
        return {self._named(key): units[key] for key in units}

    def _named(self, key: Any) -> Any:
        try:
            return self.name.run_validation(key)
        except ValidationError as error:
            # a description of version 3.0 cannot say what names a map may have
            sentence = next(pointers(error.detail))["message"]
            raise ValidationError({str(key)[:80]: [ErrorDetail(sentence, code="name")]}) from None


def expect_version(version: int, given: int | None) -> None:
    """Optimistic lock by a body member `version`, beside `If-Match`: 412 when the row has moved on."""
    if given is not None and given != version:
        raise PreconditionFailed
