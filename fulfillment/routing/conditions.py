"""Conditions of routing rules: a field, an operator, values; nested with all / any / not.

Fields of lines are judged on every line or on any line, and the condition says which: `"lines": "any"` or
`"all"`. Nothing skips an order because it has more than one line (pain 8).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from fulfillment.routing.model import OrderView

ORDER_FIELDS: dict[str, Callable[[OrderView], Any]] = {
    "channel": lambda order: order.channel,
    "country": lambda order: order.country,
    "region": lambda order: order.region,
    "postal": lambda order: order.postal,
    "value": lambda order: order.value,
    "weight_g": lambda order: order.weight_g,
    "service": lambda order: order.service,
    "risk": lambda order: order.risk,
    "units": lambda order: sum(line.quantity for line in order.lines),
    "tags": lambda order: order.tags,
}
LINE_FIELDS: dict[str, Callable[[Any], Any]] = {
    "sku": lambda line: line.sku,
    "quantity": lambda line: line.quantity,
    "is_kit": lambda line: line.is_kit,
}
OPERATORS = ("in", "not_in", "eq", "ne", "lt", "le", "gt", "ge", "starts", "between", "contains")


def validate(rule: str, when: dict[str, Any]) -> None:
    """Raise ValueError naming the rule and the word that is wrong."""
    if not when:
        return
    for group in ("all", "any"):
        if group in when:
            for inner in when[group]:
                validate(rule, inner)
            return
    if "not" in when:
        validate(rule, when["not"])
        return
    name, operator = when.get("field"), when.get("op")
    if name not in ORDER_FIELDS and name not in LINE_FIELDS:
        raise ValueError(f"{rule}: unknown field '{name}'; use {', '.join([*ORDER_FIELDS, *LINE_FIELDS])}")
    if operator not in OPERATORS:
        raise ValueError(f"{rule}: unknown operator '{operator}'; use {', '.join(OPERATORS)}")
    if "value" not in when:
        raise ValueError(f"{rule}: the condition on '{name}' has no value")
    if name in LINE_FIELDS and when.get("lines") not in ("any", "all"):
        raise ValueError(f"{rule}: say whether '{name}' must hold for any line or for all lines")


def failing(when: dict[str, Any], order: OrderView) -> str:
    """Empty when the condition holds, else the first part that fails, as people read it."""
    if not when:
        return ""
    if "all" in when:
        return next((why for inner in when["all"] if (why := failing(inner, order))), "")
    if "any" in when:
        reasons = [failing(inner, order) for inner in when["any"]]
        return "" if not reasons or "" in reasons else " and ".join(reasons)
    if "not" in when:
        return "" if failing(when["not"], order) else f"it is excluded that {describe(when['not'])}"
    name, operator, value = when["field"], when["op"], when["value"]
    if name in ORDER_FIELDS:
        found = ORDER_FIELDS[name](order)
        return "" if _holds(found, operator, value) else f"{name} is {_show(found)}"
    read = LINE_FIELDS[name]
    verdicts = [_holds(read(line), operator, value) for line in order.lines]
    if when["lines"] == "any":
        return "" if any(verdicts) else f"no line has {describe(when)}"
    odd = next((line for line, good in zip(order.lines, verdicts, strict=True) if not good), None)
    return "" if odd is None else f"{name} of {odd.sku} is {_show(read(odd))}"


def describe(when: dict[str, Any]) -> str:
    """The condition as a short sentence."""
    if not when:
        return "always"
    for group, word in (("all", " and "), ("any", " or ")):
        if group in when:
            return word.join(describe(inner) for inner in when[group])
    if "not" in when:
        return f"not ({describe(when['not'])})"
    words = {"eq": "is", "ne": "is not", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "is one of", "not_in": "is none of"}
    return f"{when['field']} {words.get(when['op'], when['op'])} {_show(when['value'])}"


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return str(value) if value not in ("", None) else "empty"


def _number(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _holds(found: Any, operator: str, value: Any) -> bool:
    if operator == "contains":
        return value in found
    if operator in ("in", "not_in"):
        values = [str(item).lower() for item in (value if isinstance(value, list) else [value])]
        many = [str(item).lower() for item in found] if isinstance(found, tuple) else [str(found).lower()]
        return bool(set(many) & set(values)) == (operator == "in")
    if operator == "starts":
        return any(str(found).lower().startswith(str(item).lower()) for item in (value if isinstance(value, list) else [value]))
    if operator in ("eq", "ne"):
        left, right = _number(found), _number(value)
        same = left == right if left is not None and right is not None else str(found).lower() == str(value).lower()
        return same == (operator == "eq")
    left = _number(found)
    if operator == "between":
        low, high = value
        if left is not None and _number(low) is not None:
            return _number(low) <= left <= _number(high)  # type: ignore[operator]
        return str(low) <= str(found) <= str(high)
    right = _number(value)
    if left is None or right is None:
        return False
    return {"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right}[operator]
